package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"vault-plugin-secrets-kms-hmac/gateway/session"
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
		Log: slog.New(NewLogHandler(io.Discard, slog.LevelInfo)),
	})
	if err != nil {
		b.Fatal(err)
	}
	body := `{"KeyId":"payments/tokens","Message":"cGF5IDEwIEVVUg==","MacAlgorithm":"HMAC_SHA_256"}`
	header := http.Header{
		"X-Amz-Target": {"TrentService.GenerateMac"}, "Authorization": {testAuthorization}, "X-Amz-Security-Token": {"t0ken"},
	}
	b.Run("Vault token", func(b *testing.B) { benchmarkCall(b, g, header, body) })
	b.Run("session", func(b *testing.B) {
		if g.sessions, err = session.NewSealer(b.Context(), session.RandomKey(), ""); err != nil {
			b.Fatal(err)
		}
		s := session.New("t0ken", "payments", "e1", false, time.Now().Add(time.Hour))
		token, err := g.sessions.Seal(s)
		if err != nil {
			b.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8203/", strings.NewReader(body))
		r.Header.Set("X-Amz-Target", "TrentService.GenerateMac")
		r.Header.Set("Content-Type", contentType)
		sum := sha256.Sum256([]byte(body))
		credentials := aws.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.Secret, SessionToken: token}
		if err := v4.NewSigner().SignHTTP(b.Context(), credentials, r, hex.EncodeToString(sum[:]), kmsService, testARNs.Region, time.Now()); err != nil {
			b.Fatal(err)
		}
		benchmarkCall(b, g, r.Header, body)
	})
}

func benchmarkCall(b *testing.B, g *Gateway, header http.Header, body string) {
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8203/", strings.NewReader(body))
		r.RequestURI = "/" // as a server gets it
		r.Header = header
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}
