package acceptance

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// shared is the server of all tests that get along with others: each has a
// mount of its own.
var shared struct {
	sync.Mutex
	server *testvault.Server
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Stop()
	}
	os.Exit(code)
}

// sharedServer returns the shared server, which the first caller starts.
func sharedServer(t *testing.T) *testvault.Server {
	t.Helper()
	plugin := testvault.EngineFor(t, kmshmac.Version) // skips with -short
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		// Not t.Context: the server outlives the test that starts it.
		server, err := testvault.Start(context.Background(), testvault.Config{Plugins: []testvault.Plugin{plugin}})
		must(t, err)
		shared.server = server
	}
	return shared.server
}

// ownServer starts a server for a test that stops or disturbs it.
func ownServer(t *testing.T) *testvault.Server {
	t.Helper()
	return testvault.Run(t, testvault.Config{Plugins: []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)}})
}

// mountOption changes how the engine is mounted.
type mountOption func(*api.MountInput)

var mounts atomic.Int64

// newMount mounts the engine on the shared server, apart from other tests.
func newMount(t *testing.T, options ...mountOption) mount {
	t.Helper()
	return mountAt(t, sharedServer(t), fmt.Sprintf("kms-%d", mounts.Add(1)), options...)
}

var kmsMount sync.Once

// documentedMount returns the mount of the shared server at kms/, which is where
// the documentation and the example policies have it. Tests that use it stay in
// folders of their own.
func documentedMount(t *testing.T) mount {
	t.Helper()
	server := sharedServer(t)
	kmsMount.Do(func() {
		must(t, server.Mount(context.Background(), "kms", api.MountInput{Type: testvault.EngineName}))
	})
	return mount{server, "kms", server.RootToken}
}

func forceNoCache(input *api.MountInput) { input.Config.ForceNoCache = true }

func mountAt(t *testing.T, server *testvault.Server, path string, options ...mountOption) mount {
	t.Helper()
	input := api.MountInput{Type: testvault.EngineName}
	for _, option := range options {
		option(&input)
	}
	must(t, server.Mount(t.Context(), path, input))
	return mount{server, path, server.RootToken}
}

// mount is a mounted engine as the bearer of a token sees it. Its methods take
// paths below the mount.
type mount struct {
	server *testvault.Server
	path   string
	token  string
}

// as returns the mount as the bearer of another token sees it.
func (m mount) as(token string) mount {
	m.token = token
	return m
}

// body is a JSON object.
type body = map[string]any

// answer is what Vault answered to a request.
type answer struct {
	status   int
	raw      string
	Data     body     `json:"data"`
	Errors   []string `json:"errors"`
	Warnings []string `json:"warnings"`
}

// request sends a request to a path below the mount. An answer of whatever
// status is no error.
func (m mount) request(ctx context.Context, method, path string, data any) (answer, error) {
	return call(ctx, m.server, m.token, method, m.path+"/"+path, data)
}

var client = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	Timeout:   2 * time.Minute,
	// Standbys may answer 307 instead of passing a request on. Other redirects
	// would repeat a write as a read.
	CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if req.Response.StatusCode != http.StatusTemporaryRedirect {
			return http.ErrUseLastResponse
		}
		return nil
	},
}

// call sends a request to a path below /v1. data is sent as JSON, but for
// url.Values, which are sent as a form, and a string, which is sent as it is.
func call(ctx context.Context, server *testvault.Server, token, method, path string, data any) (answer, error) {
	var content io.Reader
	contentType := ""
	switch data := data.(type) {
	case nil:
	case string:
		content = strings.NewReader(data)
	case url.Values:
		content, contentType = strings.NewReader(data.Encode()), "application/x-www-form-urlencoded"
	default:
		encoded, err := json.Marshal(data)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(encoded)
		if method == http.MethodPatch {
			contentType = "application/merge-patch+json"
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, server.Address+"/v1/"+path, content)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set(api.RequestHeaderName, "true")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: resp.StatusCode, raw: string(raw)}
	if len(raw) > 0 && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		if err := json.Unmarshal(raw, &a); err != nil {
			return a, fmt.Errorf("%s %s: status %d with an answer that is not JSON: %.200q", method, path, a.status, raw)
		}
	}
	return a, nil
}

// do sends a request that must succeed.
func (m mount) do(t *testing.T, method, path string, data any) answer {
	t.Helper()
	a, err := m.request(t.Context(), method, path, data)
	must(t, err)
	if a.status != 200 && a.status != 204 {
		t.Fatalf("%s %s: status %d, %q", method, path, a.status, a.Errors)
	}
	return a
}

func (m mount) write(t *testing.T, path string, data any) body {
	t.Helper()
	return m.do(t, "POST", path, data).Data
}

func (m mount) read(t *testing.T, path string) body {
	t.Helper()
	return m.do(t, "GET", path, nil).Data
}

// list returns the keys of a list; none if the folder is empty.
func (m mount) list(t *testing.T, path string) []string {
	t.Helper()
	a, err := m.request(t.Context(), "LIST", path, nil)
	must(t, err)
	if a.status == 404 {
		return nil
	}
	if a.status != 200 {
		t.Fatalf("LIST %s: status %d, %q", path, a.status, a.Errors)
	}
	return stringsOf(a.Data["keys"])
}

func stringsOf(list any) []string {
	values, _ := list.([]any)
	var out []string
	for _, value := range values {
		s, _ := value.(string)
		out = append(out, s)
	}
	return out
}

// refused sends a write that must fail with a KMS exception, and returns the
// sentence for people.
func (m mount) refused(t *testing.T, exception, path string, data any) string {
	t.Helper()
	a, err := m.request(t.Context(), "POST", path, data)
	must(t, err)
	return a.mustBe(t, exception, path)
}

func (a answer) mustBe(t *testing.T, exception, path string) string {
	t.Helper()
	if a.status != 400 || len(a.Errors) != 1 || !strings.HasPrefix(a.Errors[0], exception+": ") || a.Data["type"] != exception {
		t.Fatalf("%s: want %s, got status %d, %q, type %v", path, exception, a.status, a.Errors, a.Data["type"])
	}
	return a.Errors[0]
}

// denied sends a request that Vault's policies must refuse.
func (m mount) denied(t *testing.T, method, path string, data any) {
	t.Helper()
	a, err := m.request(t.Context(), method, path, data)
	must(t, err)
	if a.status != 403 {
		t.Errorf("%s %s: want status 403, got %d, %q", method, path, a.status, a.Errors)
	}
}

// spec is what a test must know of a key spec, apart from the engine's own
// table.
type spec struct {
	name, algorithm string
	bytes           int
	hash            func() hash.Hash
	digest          string // openssl's name of the hash
}

var specs = []spec{
	{"HMAC_224", "HMAC_SHA_224", 28, sha256.New224, "sha224"},
	{"HMAC_256", "HMAC_SHA_256", 32, sha256.New, "sha256"},
	{"HMAC_384", "HMAC_SHA_384", 48, sha512.New384, "sha384"},
	{"HMAC_512", "HMAC_SHA_512", 64, sha512.New, "sha512"},
}

var hmac256 = specs[1]

// mac computes a MAC without the engine.
func (s spec) mac(key, message []byte) []byte {
	h := hmac.New(s.hash, key)
	h.Write(message)
	return h.Sum(nil)
}

// newKey creates a key with the id.
func (m mount) newKey(t *testing.T, id string, s spec) {
	t.Helper()
	m.write(t, "keys/"+id, body{"key_spec": s.name})
}

// mac has the engine make a MAC; key may be an alias.
func (m mount) mac(t *testing.T, key string, s spec, message []byte) string {
	t.Helper()
	data := m.write(t, "generate-mac/"+key, body{"message": b64(message), "mac_algorithm": s.algorithm})
	mac, _ := data["mac"].(string)
	if len(unb64(t, mac)) != s.bytes {
		t.Fatalf("generate-mac/%s answered %v", key, data)
	}
	return mac
}

// verify has the engine verify a MAC, which must be right, and returns the id
// of the key.
func (m mount) verify(t *testing.T, key string, s spec, message []byte, mac string) string {
	t.Helper()
	data := m.write(t, "verify-mac/"+key, body{"message": b64(message), "mac_algorithm": s.algorithm, "mac": mac})
	if data["mac_valid"] != true || data["mac_algorithm"] != s.algorithm {
		t.Fatalf("verify-mac/%s answered %v", key, data)
	}
	id, _ := data["key_id"].(string)
	return id
}

// wrongMac has the engine refuse a MAC.
func (m mount) wrongMac(t *testing.T, key string, s spec, message []byte, mac string) {
	t.Helper()
	m.refused(t, "KMSInvalidMacException", "verify-mac/"+key, body{"message": b64(message), "mac_algorithm": s.algorithm, "mac": mac})
}

// importKey creates an EXTERNAL key with the id and imports material into it.
func (m mount) importKey(t *testing.T, id string, s spec, material []byte) {
	t.Helper()
	m.write(t, "keys/"+id, body{"key_spec": s.name, "origin": "EXTERNAL"})
	data := m.importMaterial(t, id, material)
	if data["key_state"] != "Enabled" {
		t.Fatalf("importing into %s answered %v", id, data)
	}
}

func (m mount) importMaterial(t *testing.T, id string, material []byte) body {
	t.Helper()
	token, wrapped := m.wrap(t, id, material)
	return m.write(t, "import-key-material/"+id, body{
		"import_token": token, "encrypted_key_material": wrapped, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
	})
}

// wrap encrypts material for an import and returns the import token with it.
func (m mount) wrap(t *testing.T, id string, material []byte) (token, wrapped string) {
	t.Helper()
	params := m.write(t, "get-parameters-for-import/"+id, body{
		"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048",
	})
	public, err := x509.ParsePKIXPublicKey(unb64(t, params["public_key"]))
	must(t, err)
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	must(t, err)
	return params["import_token"].(string), b64(encrypted)
}

func b64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

func unb64(t *testing.T, value any) []byte {
	t.Helper()
	text, _ := value.(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	must(t, err)
	return raw
}

// random returns n bytes that nobody has seen before.
func random(n int) []byte {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return raw
}

// someMessage returns a message of 1 to 4,096 bytes, mostly a short one.
func someMessage() []byte {
	if mathrand.IntN(10) == 0 {
		return random(1 + mathrand.IntN(4096))
	}
	return random(1 + mathrand.IntN(200))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cli runs the vault command, which must exit with the code, and returns what
// it printed.
func cli(t *testing.T, server *testvault.Server, exitCode int, args ...string) testvault.Result {
	t.Helper()
	result, err := server.Vault(t.Context(), args...)
	must(t, err)
	if result.ExitCode != exitCode {
		t.Fatalf("vault %s: exit code %d, want %d\n%s%s",
			strings.Join(args, " "), result.ExitCode, exitCode, result.Stdout, result.Stderr)
	}
	return result
}

// sys sends a request to a path of Vault's own, with the root token.
func sys(t *testing.T, server *testvault.Server, method, path string, data any) answer {
	t.Helper()
	a, err := call(t.Context(), server, server.RootToken, method, path, data)
	must(t, err)
	if a.status != 200 && a.status != 204 {
		t.Fatalf("%s %s: status %d, %q", method, path, a.status, a.Errors)
	}
	return a
}

// inParallel calls work with 0 to n-1, from so many goroutines, and fails the
// test with the first error.
func inParallel(t *testing.T, goroutines, n int, work func(i int) error) {
	t.Helper()
	var next atomic.Int64
	var failed atomic.Bool
	errs := make(chan error, goroutines)
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := work(i); err != nil {
					failed.Store(true)
					errs <- err
				}
			}
		})
	}
	group.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	must(t, errors.Join(all...))
}

// authOf returns the auth part of a login's answer.
func authOf(t *testing.T, a answer) body {
	t.Helper()
	var login struct{ Auth body }
	must(t, json.Unmarshal([]byte(a.raw), &login))
	if login.Auth == nil {
		t.Fatalf("login: status %d, %q", a.status, a.Errors)
	}
	return login.Auth
}
