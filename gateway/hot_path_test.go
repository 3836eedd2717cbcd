package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// cannedVault answers without a network.
type cannedVault string

func (c cannedVault) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(c)), Body: io.NopCloser(strings.NewReader(string(c)))}, nil
}

// BenchmarkGenerateMac is the endpoint's own part of a call, its log included.
func BenchmarkGenerateMac(b *testing.B) {
	vault, err := NewVault("http://127.0.0.1:1", "", 0)
	if err != nil {
		b.Fatal(err)
	}
	vault.timeout = 1 << 40
	vault.http.Transport = cannedVault(`{"request_id":"8f8d0d5f-8d42-4b5e-9a5f-6d5c2f6d7c11","lease_id":"","renewable":false,"lease_duration":0,` +
		`"data":{"key_id":"payments/tokens","mac":"50f8o2xRzJYQ7eRSK6tTWGmXwXFHYE047D5PxIdZWrs=","mac_algorithm":"HMAC_SHA_256"},"wrap_info":null,"warnings":null,"auth":null,"mount_type":""}`)
	g, err := New(Config{
		Vault: vault, Mount: "kms", ARNs: testARNs, MaxBody: 1 << 20, MaxConcurrency: 4096,
		Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	body := `{"KeyId":"payments/tokens","Message":"cGF5IDEwIEVVUg==","MacAlgorithm":"HMAC_SHA_256"}`
	header := http.Header{
		"X-Amz-Target": {"TrentService.GenerateMac"}, "Authorization": {testAuthorization}, "X-Amz-Security-Token": {"t0ken"},
	}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}
