package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// program runs kms-gateway itself, with nothing in its environment but Vault's
// address and what is given.
func (w *world) program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(w.vault.Env(""), env...)
	return cmd
}

// processCredentials are those that kms-gateway credentials prints.
func (w *world) processCredentials(t *testing.T, env []string, args ...string) (c aws.Credentials, err error) {
	t.Helper()
	cmd := w.program(t, env, append([]string{"credentials"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return c, &programError{stderr.String()}
	}
	var printed struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
	require.NoError(t, json.Unmarshal(out, &printed))
	require.NotEmpty(t, printed.Expiration)
	return aws.Credentials{AccessKeyID: printed.AccessKeyID, SecretAccessKey: printed.SecretAccessKey, SessionToken: printed.SessionToken}, nil
}

type programError struct{ text string }

func (e *programError) Error() string { return e.text }

// serve runs an endpoint, and returns its address and its log. tls says that it
// has a certificate.
func (w *world) serve(t *testing.T, client *http.Client, env []string, args ...string) (url string, log *lockedBuffer) {
	t.Helper()
	address, err := testvault.FreeAddress()
	require.NoError(t, err)
	log = &lockedBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := w.program(t, env, append([]string{"-listen", address, "-account", account, "-shutdown-delay", "0s"}, args...)...)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	url = "http://" + address
	if client != http.DefaultClient {
		url = "https://" + address
	}
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			require.Fail(t, "the endpoint has ended", log.String())
		default:
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
		require.NoError(t, err)
		response, err := client.Do(r)
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	return url, log
}

// testKubernetes is about logins with the tokens of service accounts, which a
// Kubernetes API reviews.
func testKubernetes(t *testing.T, w *world) {
	plugin, err := testvault.AuthMethod(t.Context(), "kubernetes", os.Stderr)
	require.NoError(t, err)
	require.NoError(t, w.vault.RegisterPlugin(t.Context(), plugin))
	cluster, err := testvault.StartKubernetes()
	require.NoError(t, err)
	t.Cleanup(cluster.Stop)
	require.NoError(t, w.vault.Client().Sys().EnableAuthWithOptions("clusters/eu", &api.EnableAuthOptions{Type: "kubernetes"}))
	w.write(t, "auth/clusters/eu/config", map[string]any{
		"kubernetes_host": cluster.URL, "token_reviewer_jwt": cluster.Reviewer, "disable_local_ca_jwt": true,
	})
	w.write(t, "auth/clusters/eu/role/payments", map[string]any{
		"bound_service_account_names": "payments", "bound_service_account_namespaces": "shop", "audience": "vault",
		"token_policies": "payments", "token_ttl": "1h",
	})
	i := w.instance(t, login.Method{Kind: login.Kubernetes, Path: "clusters/eu"}, session.RandomKey())
	issue := func(t *testing.T, namespace, name string, lifetime time.Duration) string {
		token, err := cluster.Token(namespace, name, lifetime)
		require.NoError(t, err)
		return token
	}

	t.Run("programs", func(t *testing.T) {
		// Two pods of one service account, in both ways.
		arns := map[string]bool{}
		for _, way := range []func(role, file string) map[string]string{webIdentity, i.container} {
			arns[use(t, i.environment(t, way("payments", tokenFile(t, issue(t, "shop", "payments", time.Hour)))))] = true
		}
		require.Len(t, arns, 1, "they are one entity")
		for arn := range arns {
			require.Regexp(t, "^arn:aws:sts::"+account+":assumed-role/payments/[0-9a-f-]{36}$", arn)
		}
		require.Equal(t, 2, i.vault.count("auth/clusters/eu/login"))
		require.Equal(t, 2, cluster.Reviews())
	})
	t.Run("refused", func(t *testing.T) {
		deleted := issue(t, "shop", "payments", time.Hour)
		cluster.Delete(deleted)
		elsewhere, err := testvault.StartKubernetes()
		require.NoError(t, err)
		defer elsewhere.Stop()
		forged, err := elsewhere.Token("shop", "payments", time.Hour)
		require.NoError(t, err)
		good := issue(t, "shop", "payments", time.Hour)
		rows := map[string]struct{ role, token, code, words string }{
			"a deleted pod":     {"payments", deleted, "InvalidIdentityToken", "Kubernetes does not accept the token"},
			"another cluster":   {"payments", forged, "InvalidIdentityToken", "Kubernetes does not accept the token"},
			"another namespace": {"payments", issue(t, "test", "payments", time.Hour), "AccessDenied", "namespace not authorized"},
			"another account":   {"payments", issue(t, "shop", "orders", time.Hour), "AccessDenied", "service account name not authorized"},
			"expired":           {"payments", issue(t, "shop", "payments", -time.Hour), "ExpiredTokenException", "expired"},
			"no such role":      {"nobody", good, "AccessDenied", `invalid role name "nobody"`},
		}
		logins, all := i.vault.count("auth/clusters/eu/login"), i.vault.all()
		for name, row := range rows {
			t.Run(name, func(t *testing.T) {
				client := sts.NewFromConfig(i.environment(t, nil), func(o *sts.Options) { o.Retryer = aws.NopRetryer{} })
				_, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
					RoleArn: aws.String("arn:aws:iam::" + account + ":role/" + row.role), RoleSessionName: aws.String("test"), WebIdentityToken: &row.token,
				})
				require.Equal(t, row.code, codeOf(err), "%v", err)
				require.ErrorContains(t, err, row.words)
				require.NotContains(t, err.Error(), row.token)
				// As a container: the call of KMS never leaves the SDK.
				c := i.environment(t, i.container(row.role, tokenFile(t, row.token)))
				_, err = kms.NewFromConfig(c, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} }).ListKeys(t.Context(), nil)
				require.ErrorContains(t, err, row.words)
				require.NotContains(t, err.Error(), row.token)
			})
		}
		asked := i.vault.count("auth/clusters/eu/login") - logins
		require.Equal(t, 2*len(rows), asked)
		require.Equal(t, asked, i.vault.all()-all, "nothing but logins reaches Vault")
	})

	// kms-gateway itself logs in, as a credential_process and as a sidecar.
	file := tokenFile(t, issue(t, "shop", "payments", time.Hour))
	own := []string{"-identity", "kubernetes=clusters/eu", "-role", "payments", "-jwt-file", file}
	t.Run("credential process", func(t *testing.T) {
		c, err := w.processCredentials(t, nil, own...)
		require.NoError(t, err)
		require.Regexp(t, "^[0-9a-f-]{36}$", c.AccessKeyID)
		use(t, i.environment(t, map[string]string{
			"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.SecretAccessKey, "AWS_SESSION_TOKEN": c.SessionToken,
		}))
		wrong := tokenFile(t, issue(t, "test", "payments", time.Hour))
		_, err = w.processCredentials(t, nil, "-identity", "kubernetes=clusters/eu", "-role", "payments", "-jwt-file", wrong)
		require.ErrorContains(t, err, "logging in by kubernetes at auth/clusters/eu: namespace not authorized")
	})
	t.Run("sidecar", func(t *testing.T) {
		url, log := w.serve(t, http.DefaultClient, nil, append([]string{"-sidecar"}, own...)...)
		sidecar := &instance{url: url}
		arn := use(t, sidecar.environment(t, map[string]string{"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}))
		require.Regexp(t, "^arn:aws:iam::"+account+":user/[0-9a-f-]{36}$", arn)
		require.NotContains(t, log.String(), "eyJ")
	})
	require.NotContains(t, i.log.String(), "hvs.")
	require.NotContains(t, i.log.String(), "eyJ")
}

// believing is what the listener of Vault has that takes the certificates of an
// endpoint's callers from the endpoint.
const believing = `x_forwarded_for_authorized_addrs = ["127.0.0.1/32"]
  x_forwarded_for_client_cert_header = "X-Forwarded-For-Client-Cert"
  x_forwarded_for_client_cert_header_decoders = "BASE64"`

// pki is an authority for the certificates of programs, and the files of those.
type pki struct {
	*testvault.Authority
	dir string
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	authority, err := testvault.NewAuthority("programs")
	require.NoError(t, err)
	p := &pki{authority, t.TempDir()}
	require.NoError(t, os.WriteFile(p.ca(), authority.PEM, 0o600))
	return p
}

func (p *pki) ca() string { return filepath.Join(p.dir, "ca.pem") }

func (p *pki) issue(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := p.Issue(p.dir, name)
	require.NoError(t, err)
	return certFile, keyFile
}

// client is an HTTP client that trusts the authority, with a certificate if one
// is given, and with no connection of others.
func (p *pki) client(t *testing.T, certFile, keyFile string) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(p.PEM))
	c := &tls.Config{RootCAs: roots}
	if certFile != "" {
		certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
		require.NoError(t, err)
		// Whatever the server asks for.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: c}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// testCertificates is about logins by auth/cert, of kms-gateway itself and of its
// callers. Vault has TLS.
func testCertificates(t *testing.T, w *world) {
	programs, strangers := newPKI(t), newPKI(t)
	require.NoError(t, w.vault.Client().Sys().EnableAuthWithOptions("cert", &api.EnableAuthOptions{Type: "cert"}))
	for role, name := range map[string]string{"payments": "payments", "orders": "orders"} {
		w.write(t, "auth/cert/certs/"+role, map[string]any{
			"certificate": string(programs.PEM), "allowed_common_names": name, "token_policies": "payments", "token_ttl": "1h",
		})
	}
	certFile, keyFile := programs.issue(t, "payments")
	env := []string{"VAULT_ADDR=" + w.vault.TLSAddress, "VAULT_CACERT=" + w.vault.CACert}
	own := []string{"-identity", "cert", "-role", "payments", "-identity-cert", certFile, "-identity-key", keyFile}
	plain := &instance{}

	t.Run("credential process", func(t *testing.T) {
		c, err := w.processCredentials(t, env, own...)
		require.NoError(t, err)
		i := w.instance(t, byJWT, session.RandomKey())
		use(t, i.environment(t, map[string]string{
			"AWS_ACCESS_KEY_ID": c.AccessKeyID, "AWS_SECRET_ACCESS_KEY": c.SecretAccessKey, "AWS_SESSION_TOKEN": c.SessionToken,
		}))
		// As the vault command has it.
		byEnvironment, err := w.processCredentials(t, append(env, "VAULT_CLIENT_CERT="+certFile, "VAULT_CLIENT_KEY="+keyFile), "-identity", "cert")
		require.NoError(t, err)
		require.Equal(t, c.AccessKeyID, byEnvironment.AccessKeyID, "the same entity")
		strangeCert, strangeKey := strangers.issue(t, "payments")
		_, err = w.processCredentials(t, env, "-identity", "cert", "-identity-cert", strangeCert, "-identity-key", strangeKey)
		require.ErrorContains(t, err, "logging in by cert at auth/cert: failed to match all constraints for this login certificate")
		_, err = w.processCredentials(t, env, "-identity", "cert")
		require.ErrorContains(t, err, "client certificate must be supplied")
	})
	t.Run("sidecar", func(t *testing.T) {
		plain.url, _ = w.serve(t, http.DefaultClient, env, append([]string{"-sidecar"}, own...)...)
		arn := use(t, plain.environment(t, map[string]string{"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}))
		require.Regexp(t, "^arn:aws:iam::"+account+":user/[0-9a-f-]{36}$", arn)
	})
	t.Run("callers", func(t *testing.T) { testCertificateCallers(t, w, programs, strangers, env) })
}

// testCertificateCallers has callers log in with the certificates of their
// connections to the endpoint.
func testCertificateCallers(t *testing.T, w *world, programs, strangers *pki, env []string) {
	server, serverKey := programs.issue(t, "endpoint")
	anybody := programs.client(t, "", "")
	args := []string{"-login", "cert", "-tls-cert", server, "-tls-key", serverKey}
	endpoint, log := w.serve(t, anybody, env, args...)
	get := func(client *http.Client, role string, header http.Header) (int, map[string]any) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, endpoint+"/credentials/"+role, nil)
		require.NoError(t, err)
		r.Header = header
		response, err := client.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		var answer map[string]any
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		return response.StatusCode, answer
	}
	certFile, keyFile := programs.issue(t, "payments")
	payments := programs.client(t, certFile, keyFile)

	status, answer := get(payments, "payments", http.Header{})
	require.Equal(t, 200, status, answer)
	require.Equal(t, 1.0, answer["Version"])
	require.Equal(t, answer["Token"], answer["SessionToken"])
	session := func(answer map[string]any) string {
		i := &instance{url: endpoint}
		c := i.environment(t, map[string]string{
			"AWS_ACCESS_KEY_ID": answer["AccessKeyId"].(string), "AWS_SECRET_ACCESS_KEY": answer["SecretAccessKey"].(string),
			"AWS_SESSION_TOKEN": answer["Token"].(string), "AWS_CA_BUNDLE": programs.ca(),
		})
		return use(t, c) // with no certificate: the signature is enough
	}
	arn := session(answer)
	require.Regexp(t, "^arn:aws:sts::"+account+":assumed-role/payments/[0-9a-f-]{36}$", arn)
	// The same login, out of memory.
	_, again := get(payments, "payments", http.Header{})
	require.Equal(t, arn, session(again))
	require.Contains(t, metricsOf(t, anybody, endpoint), `kms_gateway_logins_total{result="remembered"} 1`)

	// Vault renews a token for the certificate that it was given for.
	w.write(t, "auth/cert/certs/short", map[string]any{"certificate": string(programs.PEM), "token_policies": "payments", "token_ttl": "4s", "token_max_ttl": "1h"})
	require.Eventually(t, func() bool {
		status, answer := get(payments, "short", http.Header{})
		require.Equal(t, 200, status, answer)
		return strings.Contains(metricsOf(t, anybody, endpoint), `kms_gateway_logins_total{result="renewal"} 1`)
	}, time.Minute, 50*time.Millisecond)

	// What a caller says of certificates is nobody's word but its own.
	victim, err := os.ReadFile(certFile)
	require.NoError(t, err)
	block, _ := pem.Decode(victim)
	claim := http.Header{"X-Forwarded-For-Client-Cert": {base64.StdEncoding.EncodeToString(block.Bytes)}}
	ordersCert, ordersKey := programs.issue(t, "orders")
	orders := programs.client(t, ordersCert, ordersKey)
	status, answer = get(orders, "orders", claim)
	require.Equal(t, 200, status, answer)
	require.NotEqual(t, strings.TrimPrefix(arn, "assumed-role/payments/"), strings.TrimPrefix(session(answer), "assumed-role/orders/"))
	strangeCert, strangeKey := strangers.issue(t, "payments")
	stranger := programs.client(t, strangeCert, strangeKey)
	token := http.Header{"Authorization": {w.issuer.token("payments", time.Hour)}}
	for name, row := range map[string]struct {
		client *http.Client
		role   string
		header http.Header
		status int
		code   string
		words  string
	}{
		"no certificate":                     {anybody, "payments", http.Header{}, 400, "InvalidRequest", "with a client certificate"},
		"no certificate, but another's text": {anybody, "payments", claim, 400, "InvalidRequest", "with a client certificate"},
		"another role":                       {orders, "payments", http.Header{}, 400, "InvalidIdentityToken", "failed to match all constraints"},
		"another role, with another's text":  {orders, "payments", claim, 400, "InvalidIdentityToken", "failed to match all constraints"},
		"a stranger":                         {stranger, "payments", http.Header{}, 400, "InvalidIdentityToken", "failed to match all constraints"},
		"a stranger, with another's text":    {stranger, "payments", claim, 400, "InvalidIdentityToken", "failed to match all constraints"},
		"no such role":                       {payments, "nobody", http.Header{}, 400, "InvalidIdentityToken", "failed to match all constraints"},
		"a token":                            {anybody, "payments", token, 400, "InvalidRequest", "no Authorization header"},
		"both":                               {payments, "payments", token, 400, "InvalidRequest", "no Authorization header"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := get(row.client, row.role, row.header)
			require.Equal(t, []any{row.status, row.code}, []any{status, answer["code"]}, answer)
			require.Contains(t, answer["message"], row.words)
		})
	}
	// STS takes tokens, and a certificate in text is none.
	i := &instance{url: endpoint}
	c := i.environment(t, map[string]string{"AWS_CA_BUNDLE": programs.ca()})
	for _, text := range []string{base64.StdEncoding.EncodeToString(block.Bytes), token.Get("Authorization")} {
		_, err = sts.NewFromConfig(c).AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String("arn:aws:iam::" + account + ":role/payments"), RoleSessionName: aws.String("test"), WebIdentityToken: &text,
		})
		require.Equal(t, "InvalidIdentityToken", codeOf(err))
		require.ErrorContains(t, err, "certificate of their TLS connection")
	}
	require.NotContains(t, log.String(), "hvs.")

	// Where Vault does not believe the endpoint, or sees other certificates than it
	// is told of, the endpoint does not start.
	target, err := url.Parse(w.vault.TLSAddress)
	require.NoError(t, err)
	vaultCA, err := os.ReadFile(w.vault.CACert)
	require.NoError(t, err)
	trusting := (&pki{Authority: &testvault.Authority{PEM: vaultCA}}).client(t, certFile, keyFile)
	ingress := httptest.NewServer(&httputil.ReverseProxy{Transport: trusting.Transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Header.Del("X-Forwarded-For-Client-Cert")
	}})
	defer ingress.Close()
	for name, row := range map[string]struct{ address, words string }{
		"a listener without TLS":     {w.vault.Address, "tls connection required (its listener needs TLS, x_forwarded_for_client_cert_header"},
		"another address":            {"https://" + relay(t, target.Host), "client certificate must be supplied (its listener needs"},
		"a proxy with a certificate": {ingress.URL, "it sees another certificate than the one it is told of"},
		"no Vault":                   {"https://127.0.0.1:1", "asking Vault whether it takes the certificates of callers"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := w.program(t, []string{"VAULT_ADDR=" + row.address, "VAULT_CACERT=" + w.vault.CACert}, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
			out, err := cmd.CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), row.words)
		})
	}
}

// relay passes connections on from an address of loopback that nobody believes.
func relay(t *testing.T, to string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			into, err := dialer.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				from.Close()
				return
			}
			go func() { _, _ = io.Copy(into, from); into.Close() }()
			go func() { _, _ = io.Copy(from, into); from.Close() }()
		}
	}()
	return listener.Addr().String()
}

func metricsOf(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	response, err := client.Get(url + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}
