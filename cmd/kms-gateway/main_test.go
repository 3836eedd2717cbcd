package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

var servingAt = regexp.MustCompile(`"msg":"serving","address":"([^"]+)"`)

// program is kms-gateway, run by a test.
type program struct {
	addresses []string
	log       *syncBuffer
	stop      func()
	done      chan error
}

// start runs the program in this process until stop, which is what SIGTERM does.
func start(t *testing.T, listeners int, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &program{log: &syncBuffer{}, stop: cancel, done: make(chan error, 1)}
	go func() {
		p.done <- run(ctx, append([]string{"-listen", "127.0.0.1:0", "-shutdown-delay", "0s"}, args...), io.Discard, p.log)
	}()
	t.Cleanup(cancel)
	require.Eventually(t, func() bool { return len(servingAt.FindAllString(p.log.String(), -1)) == listeners }, time.Minute, 5*time.Millisecond, "%s", p.log)
	for _, match := range servingAt.FindAllStringSubmatch(p.log.String(), -1) {
		p.addresses = append(p.addresses, match[1])
	}
	return p
}

func (p *program) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("the program does not end")
		return nil
	}
}

func enableKey(t *testing.T, client *http.Client, url string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"KeyId":"k"}`))
	require.NoError(t, err)
	request.Header = http.Header{
		"X-Amz-Target":  {"TrentService.EnableKey"},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func TestShutdownFinishesCalls(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		w.WriteHeader(http.StatusNoContent)
	}))
	defer vault.Close()
	p := start(t, 1, "-vault-addr", vault.URL)
	status := make(chan int, 1)
	go func() {
		code, _, err := enableKey(t, http.DefaultClient, "http://"+p.addresses[0])
		if err != nil {
			t.Error(err)
		}
		status <- code
	}()
	<-entered
	p.stop()
	require.Eventually(t, func() bool {
		connection, err := net.Dial("tcp", p.addresses[0])
		if err == nil {
			connection.Close()
		}
		return err != nil
	}, time.Minute, 5*time.Millisecond, "new connections are refused")
	close(release)
	require.Equal(t, 200, <-status)
	require.NoError(t, p.wait(t))
	require.Contains(t, p.log.String(), `"operation":"EnableKey"`, "the last lines of the log are written")
}

// TestShutdownDelay: after SIGTERM, probes are told before connections are
// refused, and calls are served.
func TestShutdownDelay(t *testing.T) {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data":{"secrets_engine":"kms-hmac"}}`)
	}))
	defer vault.Close()
	p := start(t, 1, "-vault-addr", vault.URL, "-shutdown-delay", "1h")
	ready := func() int {
		response, err := http.Get("http://" + p.addresses[0] + "/readyz")
		require.NoError(t, err)
		defer response.Body.Close()
		return response.StatusCode
	}
	require.Equal(t, 200, ready())
	p.stop()
	require.Eventually(t, func() bool { return ready() == 503 }, time.Minute, time.Millisecond)
	status, _, err := enableKey(t, http.DefaultClient, "http://"+p.addresses[0])
	require.NoError(t, err)
	require.Equal(t, 200, status)
}

// TestStartLine: the log begins with what it is in front of, and with warnings.
func TestStartLine(t *testing.T) {
	p := start(t, 1, "-vault-addr", "http://user:s3cret@192.0.2.1:8200", "-mount", "hmac", "-listen", "0.0.0.0:0")
	require.Contains(t, p.log.String(), `"vault":"http://192.0.2.1:8200","namespace":"","mount":"hmac","region":"us-east-1","account":"000000000000",`+
		`"tls":false,"client_certificates":false,"tokens":"calls without a token go to Vault without one","login":"","signed_only":false}`)
	require.Contains(t, p.log.String(), `"level":"WARN","msg":"without TLS, Vault tokens can be read on the way from clients that are not on this machine","listen":"0.0.0.0:0"`)
	require.Contains(t, p.log.String(), `"msg":"without TLS, Vault tokens can be read on the way to Vault","vault":"http://192.0.2.1:8200"`)
	require.NotContains(t, p.log.String(), "s3cret")

	p = start(t, 1, "-vault-addr", "http://127.0.0.1:8200", "-require-token")
	require.Contains(t, p.log.String(), `"tokens":"calls without a token are refused"`)
	require.NotContains(t, p.log.String(), "WARN")
}

// certificate writes a self-signed certificate of a name and its key.
func certificate(t *testing.T, dir, name string) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(certFile, certPEM, 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

func TestCertificateReload(t *testing.T) {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer vault.Close()
	dir := t.TempDir()
	certFile, keyFile, _ := certificate(t, dir, "first")
	p := start(t, 1, "-vault-addr", vault.URL, "-tls-cert", certFile, "-tls-key", keyFile)
	served := func() string {
		connection, err := tls.Dial("tcp", p.addresses[0], &tls.Config{InsecureSkipVerify: true})
		require.NoError(t, err)
		defer connection.Close()
		return connection.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "first", served())
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := trusting.Get("https://" + p.addresses[0] + "/metrics")
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	response.Body.Close()
	require.NoError(t, err)
	expiry := regexp.MustCompile(`(?m)^kms_gateway_certificate_expiry_timestamp_seconds (\S+)$`).FindSubmatch(text)
	require.Len(t, expiry, 2)
	seconds, err := strconv.ParseFloat(string(expiry[1]), 64)
	require.NoError(t, err)
	require.InDelta(t, time.Now().Add(time.Hour).Unix(), seconds, 60)
	_, _, pool := certificate(t, dir, "second")
	require.Equal(t, "first", served())
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool { return served() == "second" }, time.Minute, 10*time.Millisecond)

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	status, _, err := enableKey(t, client, "https://"+p.addresses[0]+"/payments")
	require.NoError(t, err)
	require.Equal(t, 200, status)

	require.NoError(t, os.WriteFile(certFile, []byte("nonsense"), 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), `"msg":"reload failed`) }, time.Minute, 10*time.Millisecond)
	require.Equal(t, "second", served(), "the old certificate stays")
	p.stop()
	require.NoError(t, p.wait(t))
	require.Equal(t, 1, strings.Count(p.log.String(), `"msg":"reloaded"`), "of two, one went well: %s", p.log)
}

func TestMetricsListener(t *testing.T) {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer vault.Close()
	p := start(t, 2, "-vault-addr", vault.URL, "-metrics-listen", "127.0.0.1:0")
	get := func(address, path string) (int, string) {
		response, err := http.Get("http://" + address + path)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	_, _, err := enableKey(t, http.DefaultClient, "http://"+p.addresses[0])
	require.NoError(t, err)
	status, _ := get(p.addresses[0], "/metrics")
	require.Equal(t, http.StatusMethodNotAllowed, status)
	status, text := get(p.addresses[1], "/metrics")
	require.Equal(t, 200, status)
	require.Regexp(t, `kms_gateway_build_info\{go_version="go1[^"]+",version="[^"]+"\} 1`, text)
	require.NotContains(t, text, "kms_gateway_certificate_expiry")
	require.Contains(t, text, `kms_gateway_calls_total{operation="EnableKey",result="ok"} 1`)
	for _, address := range p.addresses {
		status, text = get(address, "/readyz")
		require.Equal(t, 503, status)
		require.Contains(t, text, "No HMAC secrets engine answers at kms/")
	}
}

// TestSlowClients: a client that does not get its request sent is cut off.
func TestSlowClients(t *testing.T) {
	p := start(t, 1, "-vault-addr", "http://127.0.0.1:1", "-read-timeout", "100ms")
	connection, err := net.Dial("tcp", p.addresses[0])
	require.NoError(t, err)
	defer connection.Close()
	_, err = fmt.Fprint(connection, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.EnableKey\r\nContent-Length: 100\r\nAuthorization: AWS4-HMAC-SHA256 Credential=A/x, SignedHeaders=host, Signature=00\r\n\r\n{")
	require.NoError(t, err)
	require.NoError(t, connection.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.ReadAll(connection)
	require.NoError(t, err, "the connection is closed")
}

func TestUsage(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "")
	t.Setenv("HOME", t.TempDir())
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-version"}, &out, io.Discard))
	require.Regexp(t, `^kms-gateway \S+\n$`, out.String())
	for want, args := range map[string][]string{
		"flag provided but not defined: -nonsense (kms-gateway -h shows the flags)":             {"-nonsense"},
		`unexpected argument "nonsense" (kms-gateway -h shows the flags)`:                       {"nonsense"},
		"flag needs an argument: -listen (kms-gateway -h shows the flags)":                      {"-listen"},
		`unexpected argument "nonsense" (kms-gateway credentials -h shows the flags)`:           {"credentials", "nonsense"},
		`"xml" is no format; there are table, csv, json (kms-gateway audit -h shows the flags)`: {"audit", "-format", "xml"},
		"flag provided but not defined: -nonsense (kms-gateway audit -h shows the flags)":       {"audit", "-nonsense"},
		"the flags -dev-... are for -dev (kms-gateway -h shows the flags)":                      {"-dev-keys", "keys.json"},
		"-identity is needed to say how to log in (kms-gateway credentials -h shows the flags)": {"credentials", "-role", "r"},
	} {
		err := run(t.Context(), args, &out, io.Discard)
		require.ErrorAs(t, err, new(*usageError), args)
		require.EqualError(t, err, want)
	}
	ended, end := context.WithCancel(t.Context())
	end() // what is not refused does not serve for long
	for _, args := range [][]string{
		{"-mount", ""}, {"-region", "here"}, {"-account", "1"}, {"-max-body", "0"},
		{"-tls-cert", "only"}, {"-client-ca", "only"}, {"-vault-addr", "://"}, {"-vault-addr", "vault"}, {"-vault-addr", "vault:8200"}, {"-vault-addr", "http:8200"}, {"-listen", "nowhere:x"},
		{"-vault-addr", "ftp://vault"}, {"-vault-addr", "http://"}, {"-mount", "a//b"}, {"-mount", "a/./b"}, {"-mount", "a\nb"},
		{"-namespace", "a\nb"}, {"-namespace", "a b"},
		// Net/http takes these for its own defaults, or for no limit at all.
		{"-timeout", "0"}, {"-timeout", "-1s"}, {"-read-timeout", "0"}, {"-read-timeout", "-1s"}, {"-idle-timeout", "-1s"}, {"-idle-timeout", "0"},
		{"-max-header", "0"}, {"-max-header", "-1"}, {"-max-connections", "-1"}, {"-max-connections-per-address", "-1"},
		{"-max-body", "9223372036854775807"}, {"-max-concurrency", "-1"},
	} {
		require.Error(t, run(ended, append([]string{"-listen", "127.0.0.1:0"}, args...), &out, io.Discard), args)
	}
	require.ErrorContains(t, run(t.Context(), []string{"credentials"}, &out, io.Discard), "vault login")
}

// TestHelp: every flag is in the help of its command, once, and help is no error.
func TestHelp(t *testing.T) {
	for command, flags := range map[string]*commandFlags{
		"":            newOptions(io.Discard).flags,
		"credentials": credentialsFlags(&credentialsOptions{}, io.Discard),
		"audit":       auditFlags(&auditOptions{}, io.Discard),
	} {
		for _, args := range [][]string{{command, "-h"}, {"help", command}} {
			args = slices.DeleteFunc(args, func(arg string) bool { return arg == "" })
			var out, stderr bytes.Buffer
			require.ErrorIs(t, run(t.Context(), args, &out, &stderr), flag.ErrHelp)
			require.Empty(t, stderr.String())
			require.Contains(t, out.String(), "kms-gateway "+command)
			shown := 0
			flags.VisitAll(func(f *flag.Flag) {
				shown++
				require.Len(t, regexp.MustCompile(`(?m)^  -`+f.Name+`( |$)`).FindAllString(out.String(), -1), 1, f.Name)
			})
			require.Len(t, regexp.MustCompile(`(?m)^  -`).FindAllString(out.String(), -1), shown)
		}
	}
}

func TestCredentialsFromTheTokenHelper(t *testing.T) {
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"data":{"entity_id":"e-%s","expire_time":"2026-12-22T10:00:00Z"}}`, r.Header.Get("X-Vault-Token"))
	}))
	defer vault.Close()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("VAULT_TOKEN", "")
	require.NoError(t, os.WriteFile(filepath.Join(home, ".vault-token"), []byte("helped\n"), 0o600))
	for _, token := range []string{"helped", "env"} {
		if token == "env" {
			t.Setenv("VAULT_TOKEN", "env")
		}
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), []string{"credentials", "-vault-addr", vault.URL}, &out, io.Discard))
		var got map[string]any
		require.NoError(t, json.Unmarshal(out.Bytes(), &got))
		require.Equal(t, map[string]any{
			"Version": 1.0, "AccessKeyId": "e-" + token, "SecretAccessKey": "not-verified", "SessionToken": token, "Expiration": "2026-12-22T10:00:00Z",
		}, got)
	}
}

func TestLineBuffer(t *testing.T) {
	var out syncBuffer
	l := newLineBuffer(&out)
	log := slog.New(slog.NewTextHandler(l, nil))
	log.Info("soon")
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "soon") }, time.Minute, time.Millisecond)
	log.Info("last")
	l.Close()
	require.Contains(t, out.String(), "last")
}
