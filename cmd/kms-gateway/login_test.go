package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"
)

func TestLoginFlags(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	approle := []string{"-identity", "approle", "-role-id-file", file, "-secret-id-file", file}
	for words, args := range map[string][]string{
		"none of the auth methods":                 {"-login", "ldap"},
		"callers cannot log in by token":           {"-login", "token"},
		"-login cert needs -tls-cert":              {"-login", "cert"},
		"-signed-only needs -login":                {"-signed-only"},
		"exclude each other":                       {"-sealing-key-file", file, "-sealing-key", "k"},
		"need -identity":                           {"-sidecar"},
		"need -identity or -token-file":            {"-sealing-key", "k"},
		"of no use":                                approle,
		"-identity is needed":                      {"-role", "r"},
		"needs -role (":                            {"-sidecar", "-identity", "jwt", "-jwt-file", file},
		"needs -jwt-file":                          {"-sidecar", "-identity", "jwt", "-role", "r"},
		"needs -role-id-file":                      {"-sidecar", "-identity", "approle"},
		"-identity-cert and -identity-key":         {"-sidecar", "-identity", "cert", "-identity-cert", file},
		"-token-file says":                         {"-sidecar", "-identity", "token"},
		"-identity and -token-file":                append([]string{"-sidecar", "-token-file", file}, approle...),
		"excludes -require-token":                  append([]string{"-sidecar", "-require-token"}, approle...),
		"listen on loopback":                       append([]string{"-sidecar", "-listen", "0.0.0.0:0"}, approle...),
		"-dev has no logins":                       {"-dev", "-login", "jwt"},
		"limits on logins":                         {"-login", "jwt", "-max-logins", "0"},
		"each line must be a sealing key of 64 he": {"-login", "jwt", "-sealing-key-file", file},
	} {
		var out bytes.Buffer
		if args[0] != "-dev" {
			args = append(args, "-vault-addr", "http://127.0.0.1:1")
		}
		err := run(t.Context(), args, io.Discard, &out)
		require.Error(t, err, words)
		require.Contains(t, out.String()+err.Error(), words)
	}
	t.Setenv("VAULT_CLIENT_CERT", file)
	err := run(t.Context(), []string{"-login", "cert", "-tls-cert", file, "-tls-key", file}, io.Discard, io.Discard)
	require.ErrorContains(t, err, "-login cert excludes VAULT_CLIENT_CERT")
}

// newLoginVault is a server that lets everybody in, and counts that. It asks for
// client certificates, and remembers whose it got.
func newLoginVault(t *testing.T, logins *atomic.Int64, last *atomic.Pointer[string]) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			body, _ := io.ReadAll(r.Body)
			seen := r.URL.Path + " " + string(body)
			if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
				seen += " " + r.TLS.PeerCertificates[0].Subject.CommonName
			}
			last.Store(&seen)
			fmt.Fprintf(w, `{"auth":{"client_token":"token-%d","lease_duration":3600}}`, logins.Add(1))
			return
		}
		fmt.Fprintf(w, `{"data":{"entity_id":"e-%s","ttl":3600,"expire_time":%q}}`, r.Header.Get("X-Vault-Token"), time.Now().Add(time.Hour).Format(time.RFC3339))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// TestCredentialsOfALogin logs in by each method, and keeps the credentials only
// if told to.
func TestCredentialsOfALogin(t *testing.T) {
	var logins atomic.Int64
	var last atomic.Pointer[string]
	vault := newLoginVault(t, &logins, &last)
	dir, home := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("VAULT_TOKEN", "not this one")
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vault.Certificate().Raw}), 0o600))
	t.Setenv("VAULT_CACERT", ca)
	certFile, keyFile, _ := certificate(t, dir, "payments-vm")
	for name, text := range map[string]string{"role-id": "r1\n", "secret-id": "s1\n", "jwt": "a.b.c\n", "sink": "sunk\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	get := func(args ...string) map[string]any {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), append([]string{"credentials", "-vault-addr", vault.URL}, args...), &out, io.Discard), args)
		var got map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		return got
	}
	approle := []string{"-identity", "approle=apps", "-role-id-file", in("role-id"), "-secret-id-file", in("secret-id")}
	for want, args := range map[string][]string{
		`/v1/auth/apps/login {"role_id":"r1","secret_id":"s1"}`: approle,
		`/v1/auth/jwt/login {"jwt":"a.b.c","role":"r"}`:         {"-identity", "jwt", "-role", "r", "-jwt-file", in("jwt")},
		`/v1/auth/kubernetes/login {"jwt":"a.b.c","role":"r"}`:  {"-identity", "kubernetes", "-role", "r", "-jwt-file", in("jwt")},
		`/v1/auth/cert/login {"name":"r"} payments-vm`:          {"-identity", "cert", "-role", "r", "-identity-cert", certFile, "-identity-key", keyFile},
	} {
		got := get(args...)
		require.Equal(t, want, *last.Load())
		token := fmt.Sprintf("token-%d", logins.Load())
		require.Equal(t, []any{token, "e-" + token}, []any{got["SessionToken"], got["AccessKeyId"]})
	}
	require.Equal(t, "sunk", get("-token-file", in("sink"))["SessionToken"])
	left, err := os.ReadDir(home)
	require.NoError(t, err)
	require.Empty(t, left)

	before := logins.Load()
	cached := append(approle, "-cache-file", in("cache"))
	first := get(cached...)
	require.Equal(t, first, get(cached...))
	require.Equal(t, before+1, logins.Load())
	info, err := os.Stat(in("cache"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	// What is about to end, or is no credentials, is not used.
	for _, text := range []string{`{"SessionToken":"old","Expiration":"` + time.Now().Add(19*time.Minute).Format(time.RFC3339) + `"}`, "nonsense", `{"SessionToken":"x"}`} {
		require.NoError(t, os.WriteFile(in("cache"), []byte(text), 0o600))
		require.NotEqual(t, first, get(cached...))
	}
	require.Equal(t, before+4, logins.Load())

	// Vault's words come through, the credential does not.
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"errors":["invalid role or secret ID"]}`)
	}))
	defer refusing.Close()
	err = run(t.Context(), append([]string{"credentials", "-vault-addr", refusing.URL}, approle...), io.Discard, io.Discard)
	require.ErrorContains(t, err, "logging in by approle at auth/apps: invalid role or secret ID")
	require.NotContains(t, err.Error(), "s1")
}

// TestSessionsAreOfOneEndpoint has endpoints with the same sealing keys: a
// session is good at another one only if it stands for the same keys.
func TestSessionsAreOfOneEndpoint(t *testing.T) {
	var logins atomic.Int64
	var last atomic.Pointer[string]
	vault := newLoginVault(t, &logins, &last)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vault.Certificate().Raw}), 0o600))
	t.Setenv("VAULT_CACERT", ca)
	keys := filepath.Join(dir, "keys")
	require.NoError(t, os.WriteFile(keys, []byte(strings.Repeat("a1", 32)+"\n"), 0o600))
	endpoint := func(args ...string) string {
		p := start(t, 1, append([]string{"-vault-addr", vault.URL, "-login", "jwt", "-sealing-key-file", keys}, args...)...)
		return "http://" + p.addresses[0]
	}
	one := endpoint()
	r, err := http.NewRequest(http.MethodGet, one+"/credentials/r", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "eyJhbGciOiJub25lIn0.eyJleHAiOjQxMDI0NDQ4MDB9.c2lnbmF0dXJl")
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	var c struct{ AccessKeyID, SecretAccessKey, Token string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&c))
	whoAmI := func(at string) string {
		const form = "Action=GetCallerIdentity&Version=2011-06-15"
		r, err := http.NewRequest(http.MethodPost, at, strings.NewReader(form))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		sum := sha256.Sum256([]byte(form))
		credentials := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token}
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), credentials, r, hex.EncodeToString(sum[:]), "sts", "us-east-1", time.Now()))
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.Contains(t, whoAmI(one), "assumed-role/r/")
	require.Contains(t, whoAmI(endpoint()), "assumed-role/r/")
	for _, other := range [][]string{{"-mount", "kms2"}, {"-region", "eu-west-1"}, {"-account", "111122223333"}, {"-partition", "aws-cn"}, {"-namespace", "ns"}} {
		require.Contains(t, whoAmI(endpoint(other...)), "<Code>InvalidClientTokenId</Code>", other)
	}
}
