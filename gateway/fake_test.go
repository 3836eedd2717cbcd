package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeVault answers requests by their method and path, and remembers them.
type fakeVault struct {
	*httptest.Server
	handle func(r *vaultCall) (status int, body string)
	whoAmI int // the status of the answer to it, if not 200

	mu    sync.Mutex
	calls []*vaultCall
}

// vaultCall is a request that the fake got.
type vaultCall struct {
	method, path, query, token string
	body                       map[string]any
	raw                        []byte
	header                     http.Header
}

func newFakeVault(t *testing.T, handle func(*vaultCall) (int, string)) *fakeVault {
	t.Helper()
	f := &fakeVault{handle: handle}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &vaultCall{
			method: r.Method, path: strings.TrimPrefix(r.URL.Path, "/v1/"), query: r.URL.Query().Encode(), token: r.Header.Get("X-Vault-Token"), header: r.Header.Clone(),
		}
		if c.path == whoAmI && f.whoAmI == 0 {
			return // this server knows all tokens
		}
		c.raw, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(c.raw, &c.body)
		f.mu.Lock()
		f.calls = append(f.calls, c)
		f.mu.Unlock()
		if c.path == whoAmI {
			w.WriteHeader(f.whoAmI)
			return
		}
		status, body := f.handle(c)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeVault) all() []*vaultCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*vaultCall(nil), f.calls...)
}

// last returns the last request; there must have been one.
func (f *fakeVault) last(t *testing.T) *vaultCall {
	t.Helper()
	calls := f.all()
	require.NotEmpty(t, calls, "no request to Vault")
	return calls[len(calls)-1]
}

var testARNs = ARNs{Partition: "aws", Region: "us-east-1", Account: "111122223333"}

func newTestGateway(t *testing.T, address string, change ...func(*Config)) *Gateway {
	t.Helper()
	vault, err := NewVault(address, "", time.Minute)
	require.NoError(t, err)
	c := Config{Vault: vault, Mount: "kms", ARNs: testARNs, MaxBody: 1 << 20, MaxConcurrency: 4096}
	for _, f := range change {
		f(&c)
	}
	g, err := New(c)
	require.NoError(t, err)
	return g
}

const testAuthorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"

// wire is an answer as it is on the wire.
type wire struct {
	status int
	header http.Header
	body   string
}

// post makes a call of KMS the way clients do, signed with a token.
func post(g http.Handler, path, operation, body string, header ...string) wire {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", testAuthorization)
	r.Header.Set("X-Amz-Security-Token", "t0ken")
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return wire{w.Code, w.Header(), w.Body.String()}
}

func (w wire) requestID() string { return first(map[string][]string(w.header)[requestIDHeader]) }

func (w wire) requireException(t *testing.T, status int, kind, message string) {
	t.Helper()
	want := `{"__type":` + quoted(kind) + `}`
	if message != "" {
		want = `{"__type":` + quoted(kind) + `,"message":` + quoted(message) + `}`
	}
	require.Equal(t, want, w.body)
	require.Equal(t, status, w.status)
}

func quoted(text string) string { return string(appendString(nil, text)) }

// refuse answers like the engine.
func refuse(kind, message, keyID string) (int, string) {
	data := object{{"type", kind}, {"message", optional(message)}, {"key_id", optional(keyID)}}
	return 400, string(appendObject(nil, object{{"errors", []string{kind + ": " + message}}, {"data", data}}))
}

func errorsOnly(status int, text string) (int, string) {
	return status, string(appendObject(nil, object{{"errors", []string{text}}}))
}

func testLog(buffer *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(buffer, nil))
}
