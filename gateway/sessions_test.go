package gateway_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// These tests are about programs that get their credentials by themselves: AWS's
// own SDK, the JWT auth method of a real Vault, and tokens that a key pair of the
// test signs.

// issuer signs JSON Web Tokens.
type issuer struct {
	key    ed25519.PrivateKey
	public string // as PEM
	ids    atomic.Int64
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	return &issuer{key: key, public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// token returns a token of a subject, like no other of it.
func (i *issuer) token(subject string, lifetime time.Duration) string {
	now := time.Now()
	part := func(v any) string {
		text, _ := json.Marshal(v) // of strings and numbers
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "EdDSA", "typ": "JWT"}) + "." + part(map[string]any{
		"sub": subject, "aud": "vault", "iat": now.Unix(), "exp": now.Add(lifetime).Unix(), "jti": fmt.Sprint(i.ids.Add(1)),
	})
	return text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(i.key, []byte(text)))
}

// counter is a proxy before Vault that remembers what goes through it.
type counter struct {
	*httptest.Server
	mu     sync.Mutex
	paths  map[string]int
	tokens map[string]int // of requests for MACs
	macs   int
}

func newCounter(t testing.TB, address string) *counter {
	t.Helper()
	target, err := url.Parse(address)
	require.NoError(t, err)
	c := &counter{paths: map[string]int{}, tokens: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.paths[r.URL.Path]++
		if strings.Contains(r.URL.Path, "/generate-mac/") {
			c.tokens[r.Header.Get("X-Vault-Token")]++
			c.macs++
		}
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *counter) count(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths["/v1/"+path]
}

func (c *counter) all() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, count := range c.paths {
		n += count
	}
	return n
}

// world is a Vault with the JWT auth method.
type world struct {
	vault  *testvault.Server
	issuer *issuer
	// direct says that no counter is between its endpoints and Vault, since that
	// takes time.
	direct bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	engine := testvault.EngineFor(t, kmshmac.Version) // skips with -short
	jwt, err := testvault.AuthMethod(t.Context(), "jwt", os.Stderr)
	require.NoError(t, err)
	w := &world{
		vault:  testvault.Run(t, testvault.Config{Plugins: []testvault.Plugin{engine, jwt}, TLSListener: believing}),
		issuer: newIssuer(t),
	}
	require.NoError(t, w.vault.Mount(t.Context(), "kms", api.MountInput{Type: testvault.EngineName}))
	client := w.vault.Client()
	require.NoError(t, client.Sys().EnableAuthWithOptions("jwt", &api.EnableAuthOptions{Type: "jwt"}))
	require.NoError(t, client.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}))
	w.write(t, "auth/jwt/config", map[string]any{"jwt_validation_pubkeys": w.issuer.public})
	require.NoError(t, w.vault.WritePolicy(t.Context(), "payments", `
path "kms/keys" { capabilities = ["update"] }
path "kms/+/payments/*" { capabilities = ["create", "read", "update", "patch"] }
`))
	w.role(t, "payments", nil)
	return w
}

func (w *world) write(t testing.TB, path string, data map[string]any) {
	t.Helper()
	_, err := w.vault.Client().Logical().Write(path, data)
	require.NoError(t, err)
}

// role makes a role of the JWT auth method.
func (w *world) role(t testing.TB, name string, change map[string]any) {
	t.Helper()
	role := map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": "vault", "token_policies": "payments", "token_ttl": "1h",
	}
	for name, value := range change {
		role[name] = value
	}
	w.write(t, "auth/jwt/role/"+name, role)
}

// instance is an endpoint of a world, before a counter, with a clock.
type instance struct {
	url     string
	vault   *counter
	skew    atomic.Int64 // nanoseconds by which its clock is off
	sealer  *session.Sealer
	log     *lockedBuffer
	gateway *gateway.Gateway
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (w *world) instance(t testing.TB, method login.Method, source session.Source, change ...func(*gateway.Config)) *instance {
	t.Helper()
	i := &instance{vault: newCounter(t, w.vault.Address), log: &lockedBuffer{}}
	log := slog.New(slog.NewJSONHandler(i.log, nil))
	address := i.vault.URL
	if w.direct {
		address = w.vault.Address
	}
	vault, err := gateway.NewVault(address, "", time.Minute)
	require.NoError(t, err)
	client, err := login.NewClient(address, "", "", "", time.Minute)
	require.NoError(t, err)
	logins, err := login.NewBroker(login.BrokerConfig{Client: client, Method: method, MaxLogins: 64, MaxPerAddress: 16, Timeout: time.Minute, Log: log})
	require.NoError(t, err)
	i.sealer, err = session.NewSealer(t.Context(), source, "")
	require.NoError(t, err)
	c := gateway.Config{
		Vault: vault, Mount: "kms", MaxBody: 1 << 20, MaxConcurrency: 4096, Log: log,
		ARNs:     gateway.ARNs{Partition: "aws", Region: "us-east-1", Account: account},
		Sessions: i.sealer, Logins: logins,
		Now: func() time.Time { return time.Now().Add(time.Duration(i.skew.Load())) },
	}
	for _, f := range change {
		f(&c)
	}
	i.gateway, err = gateway.New(c)
	require.NoError(t, err)
	server := httptest.NewServer(gateway.Handler(i.gateway, nil))
	t.Cleanup(server.Close)
	i.url = server.URL
	return i
}

var byJWT = login.Method{Kind: login.JWT, Path: "jwt"}

// environment is all that a program gets: t.Setenv does not go with parallel
// tests, so the SDK reads it from here.
func (i *instance) environment(t testing.TB, extra map[string]string) aws.Config {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "VAULT_") {
			t.Setenv(name, "")
			require.NoError(t, os.Unsetenv(name))
		}
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_REGION", "us-east-1")
	t.Setenv("AWS_ENDPOINT_URL", i.url)
	// The Go SDK looks for STS by this name only.
	t.Setenv("AWS_ENDPOINT_URL_STS", i.url)
	for name, value := range extra {
		t.Setenv(name, value)
	}
	c, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	return c
}

func tokenFile(t testing.TB, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte(token), 0o600))
	return path
}

func webIdentity(role, file string) map[string]string {
	return map[string]string{"AWS_ROLE_ARN": "arn:aws:iam::" + account + ":role/" + role, "AWS_WEB_IDENTITY_TOKEN_FILE": file}
}

func (i *instance) container(role, file string) map[string]string {
	return map[string]string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI":     i.url + "/credentials/" + role,
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": file,
	}
}

// use does with credentials what programs do, and returns who they are.
func use(t *testing.T, c aws.Config) (arn string) {
	t.Helper()
	payments := kms.NewFromConfig(c, func(o *kms.Options) { o.BaseEndpoint = aws.String(*o.BaseEndpoint + "/payments") })
	_, keyARN := create(t, payments)
	mac, err := generate(payments, keyARN, []byte("m"))
	require.NoError(t, err)
	_, err = verify(payments, keyARN, []byte("m"), mac.Mac)
	require.NoError(t, err)
	_, err = kms.NewFromConfig(c).ListKeys(t.Context(), nil)
	who, identityErr := sts.NewFromConfig(c).GetCallerIdentity(t.Context(), nil)
	require.NoError(t, identityErr)
	require.Equal(t, account, *who.Account)
	requireCode(t, err, "AccessDeniedException", "User: "+*who.Arn+
		" is not authorized to perform: kms:ListKeys on resource: * because no identity-based policy allows the kms:ListKeys action")
	return *who.Arn
}

func codeOf(err error) string {
	var e smithy.APIError
	if err == nil || !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return e.ErrorCode()
}

func TestProgramsLogInByThemselves(t *testing.T) {
	w := newWorld(t)
	i := w.instance(t, byJWT, session.RandomKey())
	assumed := "arn:aws:sts::" + account + ":assumed-role/payments/"

	t.Run("web identity", func(t *testing.T) {
		arn := use(t, i.environment(t, webIdentity("payments", tokenFile(t, w.issuer.token("ann", time.Hour)))))
		require.Regexp(t, "^"+assumed+"[0-9a-f-]{36}$", arn)
	})
	t.Run("container", func(t *testing.T) {
		before := i.vault.count("auth/jwt/login")
		file := tokenFile(t, w.issuer.token("ben", time.Hour))
		arn := use(t, i.environment(t, i.container("payments", file)))
		require.Regexp(t, "^"+assumed+"[0-9a-f-]{36}$", arn)
		// A program that starts twenty times.
		for range 20 {
			require.Equal(t, arn, use(t, i.environment(t, i.container("payments", file))))
		}
		require.Equal(t, 1, i.vault.count("auth/jwt/login")-before)
		require.Contains(t, i.log.String(), `"principal":"`+arn+`"`)
	})
	t.Run("plain Vault token", func(t *testing.T) {
		c := i.environment(t, map[string]string{"AWS_ACCESS_KEY_ID": "vault", "AWS_SECRET_ACCESS_KEY": "any", "AWS_SESSION_TOKEN": w.vault.RootToken})
		who, err := sts.NewFromConfig(c).GetCallerIdentity(t.Context(), nil)
		require.NoError(t, err)
		require.Equal(t, "arn:aws:iam::"+account+":user/vault-token", *who.Arn)
		_, err = kms.NewFromConfig(c).ListKeys(t.Context(), nil)
		require.NoError(t, err)
	})
	t.Run("across expiries", func(t *testing.T) {
		w.role(t, "short", map[string]any{"token_ttl": "12s", "token_max_ttl": "12s"})
		before := i.vault.count("auth/jwt/login")
		c := i.environment(t, i.container("short", tokenFile(t, w.issuer.token("cid", time.Hour))))
		// The SDK asks for credentials at every call, since they end so soon.
		calls := 0
		for deadline := time.Now().Add(2 * time.Minute); i.vault.count("auth/jwt/login")-before < 3; calls++ {
			_, err := kms.NewFromConfig(c).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("payments/none")})
			require.Equal(t, "NotFoundException", codeOf(err))
			require.True(t, time.Now().Before(deadline))
			time.Sleep(20 * time.Millisecond)
		}
		require.Greater(t, calls, 3, "more calls than logins")
		require.Contains(t, i.log.String(), `"role":"short","ttl":"12s"`)
	})
	t.Run("batch tokens", func(t *testing.T) {
		w.role(t, "batch", map[string]any{"token_type": "batch"})
		file := tokenFile(t, w.issuer.token("dan", time.Hour))
		before := i.vault.count("auth/jwt/login")
		for range 3 {
			use(t, i.environment(t, i.container("batch", file)))
		}
		require.Equal(t, 1, i.vault.count("auth/jwt/login")-before)
	})
	t.Run("revoked", func(t *testing.T) {
		environment := i.container("payments", tokenFile(t, w.issuer.token("eva", time.Hour)))
		c := i.environment(t, environment)
		arn := use(t, c)
		_, err := w.vault.Client().Logical().Write("sys/leases/revoke-prefix/auth/jwt/login", nil)
		require.NoError(t, err)
		_, err = kms.NewFromConfig(c).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("payments/k")})
		requireCode(t, err, "ExpiredTokenException", "The security token included in the request is expired")
		_, err = sts.NewFromConfig(c).GetCallerIdentity(t.Context(), nil)
		require.Error(t, err)
		require.Equal(t, arn, use(t, i.environment(t, environment)), "a new login")
	})
	t.Run("expired", func(t *testing.T) {
		c := i.environment(t, i.container("payments", tokenFile(t, w.issuer.token("fay", time.Hour))))
		use(t, c)
		before := i.vault.all()
		i.skew.Store(int64(61 * time.Minute))
		defer i.skew.Store(0)
		_, err := kms.NewFromConfig(c, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} }).ListKeys(t.Context(), nil)
		requireCode(t, err, "ExpiredTokenException", "The security token included in the request is expired")
		require.Equal(t, before, i.vault.all())
	})
	t.Run("refused", func(t *testing.T) {
		stranger := newIssuer(t)
		for name, row := range map[string]struct {
			role, token, code, words string
			asked                    bool
		}{
			"no such role":      {"nobody", w.issuer.token("a", time.Hour), "AccessDenied", `role "nobody" could not be found`, true},
			"another signature": {"payments", stranger.token("a", time.Hour), "InvalidIdentityToken", "no known key successfully validated", true},
			"expired":           {"payments", w.issuer.token("a", -time.Hour), "ExpiredTokenException", "expired", true},
			"no token":          {"payments", "nonsense", "InvalidIdentityToken", "no JSON Web Token", false},
		} {
			t.Run(name, func(t *testing.T) {
				before := i.vault.all()
				client := sts.NewFromConfig(i.environment(t, nil), func(o *sts.Options) { o.Retryer = aws.NopRetryer{} })
				_, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
					RoleArn: aws.String("arn:aws:iam::" + account + ":role/" + row.role), RoleSessionName: aws.String("test"), WebIdentityToken: &row.token,
				})
				require.Equal(t, row.code, codeOf(err), "%v", err)
				require.ErrorContains(t, err, row.words)
				require.NotContains(t, err.Error(), row.token)
				require.Equal(t, row.asked, i.vault.all() > before)
			})
		}
		for _, call := range []string{"AssumeRole", "GetSessionToken"} {
			response, err := http.PostForm(i.url, url.Values{"Action": {call}, "Version": {"2011-06-15"}})
			require.NoError(t, err)
			text, err := io.ReadAll(response.Body)
			response.Body.Close()
			require.NoError(t, err)
			require.Contains(t, string(text), "<Code>InvalidAction</Code>")
		}
	})
	require.NotContains(t, i.log.String(), "hvs.")
	require.NotContains(t, i.log.String(), "eyJ")

	// The other methods are on the same server.
	t.Run("Kubernetes", func(t *testing.T) { testKubernetes(t, w) })
	t.Run("certificates", func(t *testing.T) { testCertificates(t, w) })
}

// signedRequest returns a request for a MAC, signed by AWS's own signer.
func signedRequest(t testing.TB, address, body string, c aws.Credentials, region string, at time.Time, change ...func(*http.Request)) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("X-Amz-Target", "TrentService.GenerateMac")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	for _, f := range change {
		f(r)
	}
	sum := sha256.Sum256([]byte(body))
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), c, r, hex.EncodeToString(sum[:]), "kms", region, at))
	return r
}

// TestWhatIsNotSignedReachesNobody sends requests that are not quite what the
// bearer has signed. Each has its error, and Vault hears of none.
func TestWhatIsNotSignedReachesNobody(t *testing.T) {
	w := newWorld(t)
	i := w.instance(t, byJWT, session.RandomKey(), func(c *gateway.Config) { c.SignedOnly = true })
	c, err := i.environment(t, i.container("payments", tokenFile(t, w.issuer.token("ann", time.Hour)))).Credentials.Retrieve(t.Context())
	require.NoError(t, err)
	w.write(t, "kms/keys/payments/k", map[string]any{"key_spec": "HMAC_256"})

	const body = `{"KeyId":"payments/k","Message":"bQ==","MacAlgorithm":"HMAC_SHA_256"}`
	now := time.Now()
	send := func(r *http.Request) (int, string) {
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	status, text := send(signedRequest(t, i.url, body, c, "us-east-1", now))
	require.Equal(t, 200, status, text)

	otherSecret := c
	otherSecret.SecretAccessKey = strings.Repeat("A", 40)
	otherID := c
	otherID.AccessKeyID = "ASIAAAAAAAAAAAAAAAAA"
	damaged := c
	damaged.SessionToken = c.SessionToken[:len(c.SessionToken)-2] + "AA"
	plain := aws.Credentials{AccessKeyID: "vault", SecretAccessKey: "not-verified", SessionToken: w.vault.RootToken}
	mismatch := "The request signature we calculated does not match the signature you provided."
	for name, row := range map[string]struct {
		request *http.Request
		skew    time.Duration
		kind    string
		words   string
	}{
		"replayed after six minutes": {signedRequest(t, i.url, body, c, "us-east-1", now), 6 * time.Minute, "InvalidSignatureException", "Signature expired: "},
		"from the future":            {signedRequest(t, i.url, body, c, "us-east-1", now.Add(6*time.Minute)), 0, "InvalidSignatureException", "Signature not yet current: "},
		"wrong secret":               {signedRequest(t, i.url, body, otherSecret, "us-east-1", now), 0, "InvalidSignatureException", mismatch},
		"other access key":           {signedRequest(t, i.url, body, otherID, "us-east-1", now), 0, "UnrecognizedClientException", ""},
		"damaged token":              {signedRequest(t, i.url, body, damaged, "us-east-1", now), 0, "UnrecognizedClientException", ""},
		"plain Vault token":          {signedRequest(t, i.url, body, plain, "us-east-1", now), 0, "UnrecognizedClientException", ""},
		"other region":               {signedRequest(t, i.url, body, c, "eu-west-1", now), 0, "InvalidSignatureException", "valid region, not 'eu-west-1'"},
		"presigned":                  {signedRequest(t, i.url+"/?X-Amz-Signature=00", body, c, "us-east-1", now), 0, "IncompleteSignatureException", "presigned"},
		"unsigned payload": {signedRequest(t, i.url, body, c, "us-east-1", now, func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		}), 0, "InvalidSignatureException", "X-Amz-Content-Sha256"},
		"tampered body": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			setBody(r, strings.Replace(body, "bQ==", "bg==", 1))
		}), 0, "InvalidSignatureException", mismatch},
		"other operation": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.Header.Set("X-Amz-Target", "TrentService.VerifyMac")
		}), 0, "InvalidSignatureException", mismatch},
		"other folder": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.URL.Path = "/payments"
		}), 0, "InvalidSignatureException", mismatch},
		"stripped header": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.Header.Del("Content-Type")
		}), 0, "InvalidSignatureException", mismatch},
		"stripped date": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.Header.Del("X-Amz-Date")
		}), 0, "IncompleteSignatureException", "X-Amz-Date"},
		"stripped token": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.Header.Del("X-Amz-Security-Token")
		}), 0, "MissingAuthenticationTokenException", ""},
		"added header": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.Header.Set("X-Amz-Other", "1")
		}), 0, "IncompleteSignatureException", "X-Amz-Other"},
		"chunked": {edited(signedRequest(t, i.url, body, c, "us-east-1", now), func(r *http.Request) {
			r.ContentLength = -1
		}), 0, "IncompleteSignatureException", "chunked"},
	} {
		t.Run(name, func(t *testing.T) {
			before := i.vault.all()
			i.skew.Store(int64(row.skew))
			defer i.skew.Store(0)
			status, text := send(row.request)
			require.Equal(t, 400, status)
			require.Contains(t, text, `{"__type":"`+row.kind+`"`)
			require.Contains(t, text, row.words)
			require.Equal(t, before, i.vault.all())
		})
	}
}

func edited(r *http.Request, change func(*http.Request)) *http.Request {
	change(r)
	return r
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	r.GetBody = nil
}

// TestPodsShareRequests has 64 pods of one service account, each with a token of
// its own, and beside them another account: its requests are never shared with
// theirs, and the audit log tells who is who.
func TestPodsShareRequests(t *testing.T) {
	w := newWorld(t)
	audit := filepath.Join(t.TempDir(), "audit.log")
	require.NoError(t, w.vault.EnableAudit(t.Context(), audit))
	w.write(t, "kms/keys/payments/k", map[string]any{"key_spec": "HMAC_256"})
	i := w.instance(t, byJWT, session.RandomKey())
	clients := func(subject string, n int) []*kms.Client {
		all := make([]*kms.Client, n)
		for j := range all {
			c, err := i.environment(t, i.container("payments", tokenFile(t, w.issuer.token(subject, time.Hour)))).Credentials.Retrieve(t.Context())
			require.NoError(t, err)
			all[j] = i.static(c)
		}
		return all
	}
	const pods, calls = 64, 20
	run := func(clients []*kms.Client) (requests int) {
		before, start := i.vault.macRequests(), time.Now()
		var group sync.WaitGroup
		var failed atomic.Pointer[error]
		for _, client := range clients {
			group.Go(func() {
				for range calls {
					if _, err := generate(client, "payments/k", []byte("m")); err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
		group.Wait()
		if err := failed.Load(); err != nil {
			require.NoError(t, *err)
		}
		t.Logf("%.0f calls a second", float64(len(clients)*calls)/time.Since(start).Seconds())
		return i.vault.macRequests() - before
	}
	accounts := clients("account", pods)
	require.Len(t, i.vault.macTokens(), 0)
	shared := run(accounts)
	require.Len(t, i.vault.macTokens(), 1, "one token for the account")

	one := make([]*kms.Client, pods)
	for j := range one {
		one[j] = accounts[0]
	}
	alone := run(one)
	t.Logf("%d calls cost %d requests by %d pods, and %d with one token", pods*calls, shared, pods, alone)
	require.Less(t, shared, pods*calls/4, "requests are shared")
	// Fewer requests are more calls a second. What is compared is what the tokens
	// make of it, with room for how the calls happen to meet.
	require.Less(t, shared, 2*alone+pods/2)

	run(append(clients("another", 8), accounts[:8]...))
	tokens := i.vault.macTokens()
	require.Len(t, tokens, 2)
	// Vault's audit log has a request of each, under its own entity.
	text, err := os.ReadFile(audit)
	require.NoError(t, err)
	entities := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Type    string
			Auth    struct{ Entity_ID, Display_Name string }
			Request struct{ Path string }
		}
		require.NoError(t, json.Unmarshal([]byte(line), &entry))
		if entry.Type == "response" && entry.Request.Path == "kms/generate-mac/payments/k" {
			entities[entry.Auth.Entity_ID+" "+entry.Auth.Display_Name] = true
		}
	}
	require.Len(t, entities, 2)
	for entity := range entities {
		require.Regexp(t, "^[0-9a-f-]{36} jwt-(account|another)$", entity)
	}
}

func (i *instance) static(c aws.Credentials) *kms.Client {
	return kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: &i.url,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
	})
}

func (c *counter) macRequests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.macs
}

func (c *counter) macTokens() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var tokens []string
	for token := range c.tokens {
		tokens = append(tokens, token)
	}
	return tokens
}

// TestSealingKeysAreRotatedUnderLoad has two endpoints that share their keys:
// derived from HMAC keys of the mount, reached by aliases. Sessions of each are
// used at both all the time.
func TestSealingKeysAreRotatedUnderLoad(t *testing.T) {
	w := newWorld(t)
	for _, key := range []string{"sealing-1", "sealing-2", "payments/k"} {
		w.write(t, "kms/keys/"+key, map[string]any{"key_spec": "HMAC_256"})
	}
	w.write(t, "kms/aliases/sealing", map[string]any{"target_key_id": "sealing-1"})
	w.write(t, "kms/aliases/sealing-before", map[string]any{"target_key_id": "sealing-1"})
	source := session.DerivedKeys([]string{"alias/sealing", "alias/sealing-before"}, func(ctx context.Context, name string, message []byte) ([]byte, error) {
		secret, err := w.vault.Client().Logical().WriteWithContext(ctx, "kms/generate-mac/"+name, map[string]any{
			"message": base64.StdEncoding.EncodeToString(message), "mac_algorithm": "HMAC_SHA_256",
		})
		if err != nil {
			return nil, err
		}
		return base64.StdEncoding.DecodeString(secret.Data["mac"].(string))
	})
	one, two := w.instance(t, byJWT, source), w.instance(t, byJWT, source)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var calls atomic.Int64
	var group sync.WaitGroup
	failed := make(chan error, 16)
	load := func(issuer *instance) {
		c, err := issuer.environment(t, issuer.container("payments", tokenFile(t, w.issuer.token("load", time.Hour)))).Credentials.Retrieve(t.Context())
		require.NoError(t, err)
		for _, at := range []*instance{one, two} {
			client := at.static(c)
			group.Go(func() {
				for ctx.Err() == nil {
					if _, err := generate(client, "payments/k", []byte("m")); err != nil {
						failed <- err
						return
					}
					calls.Add(1)
				}
			})
		}
	}
	load(one)
	load(two)
	after := func(n int64) {
		start := calls.Load()
		require.Eventually(t, func() bool { return calls.Load() > start+n || len(failed) > 0 }, time.Minute, time.Millisecond)
	}
	after(50)
	// The alias of the key before is there already; now the key that seals moves.
	w.write(t, "kms/aliases/sealing", map[string]any{"target_key_id": "sealing-2"})
	require.NoError(t, one.sealer.Reload(t.Context()))
	time.Sleep(1100 * time.Millisecond) // the other one may look for keys once a second
	load(one)                           // sealed under the new key, used at both
	after(50)
	require.NoError(t, two.sealer.Reload(t.Context()))
	load(two)
	after(50)
	stop()
	group.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
	// The key before is given up: its sessions end, those of the new one do not.
	w.write(t, "kms/aliases/sealing-before", map[string]any{"target_key_id": "sealing-2"})
	require.NoError(t, one.sealer.Reload(t.Context()))
}

func TestAppRoleCallers(t *testing.T) {
	w := newWorld(t)
	w.write(t, "auth/approle/role/payments", map[string]any{"token_policies": "payments", "token_ttl": "1h"})
	w.write(t, "auth/approle/role/payments/role-id", map[string]any{"role_id": "payments"})
	secret, err := w.vault.Client().Logical().Write("auth/approle/role/payments/secret-id", nil)
	require.NoError(t, err)
	i := w.instance(t, login.Method{Kind: login.AppRole, Path: "approle"}, session.RandomKey())
	file := tokenFile(t, secret.Data["secret_id"].(string))
	use(t, i.environment(t, webIdentity("payments", file)))
	use(t, i.environment(t, i.container("payments", file)))
	require.Equal(t, 1, i.vault.count("auth/approle/login"))
	client := sts.NewFromConfig(i.environment(t, nil))
	_, err = client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String("arn:aws:iam::" + account + ":role/payments"), RoleSessionName: aws.String("test"), WebIdentityToken: aws.String("nonsense"),
	})
	require.Equal(t, "AccessDenied", codeOf(err))
	require.ErrorContains(t, err, "invalid role or secret ID")

	// Vault locks a role id out of which strangers guess secret ids, unless it is
	// told not to. Who has logged in before is remembered.
	fresh, err := w.vault.Client().Logical().Write("auth/approle/role/payments/secret-id", nil)
	require.NoError(t, err)
	logIn := func(secretID string) error {
		_, err := client.AssumeRoleWithWebIdentity(t.Context(), &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String("arn:aws:iam::" + account + ":role/payments"), RoleSessionName: aws.String("test"), WebIdentityToken: &secretID,
		})
		return err
	}
	for n := range 6 {
		require.Error(t, logIn(fmt.Sprint("guess-", n)))
	}
	require.Equal(t, "AccessDenied", codeOf(logIn(fresh.Data["secret_id"].(string))))
	require.NoError(t, logIn(secret.Data["secret_id"].(string)))
	w.write(t, "sys/auth/approle/tune", map[string]any{"user_lockout_config": map[string]any{"lockout_disable": true}})
	require.NoError(t, logIn(fresh.Data["secret_id"].(string)))
}

// TestGrantsToSessions grants to the ARN that GetCallerIdentity answers, and to a
// group of Vault's identities.
func TestGrantsToSessions(t *testing.T) {
	w := newWorld(t)
	i := w.instance(t, byJWT, session.RandomKey())
	require.NoError(t, w.vault.WritePolicy(t.Context(), "grants-only", `path "kms/granted/*" { capabilities = ["update"] }`))
	w.role(t, "guest", map[string]any{"token_policies": "grants-only"})
	w.write(t, "kms/keys/payments/k", map[string]any{"key_spec": "HMAC_256"})
	guest := i.environment(t, i.container("guest", tokenFile(t, w.issuer.token("guest", time.Hour))))
	who, err := sts.NewFromConfig(guest).GetCallerIdentity(t.Context(), nil)
	require.NoError(t, err)
	require.Regexp(t, "assumed-role/guest/[0-9a-f-]{36}$", *who.Arn)
	_, err = generate(kms.NewFromConfig(guest), "payments/k", []byte("m"))
	require.Equal(t, "AccessDeniedException", codeOf(err))
	require.ErrorContains(t, err, "User: "+*who.Arn+" is not authorized")

	root := i.static(aws.Credentials{AccessKeyID: "vault", SecretAccessKey: "not-verified", SessionToken: w.vault.RootToken})
	grant := &kms.CreateGrantInput{KeyId: aws.String("payments/k"), GranteePrincipal: who.Arn, Operations: []types.GrantOperation{types.GrantOperationGenerateMac}}
	_, err = root.CreateGrant(t.Context(), grant)
	require.NoError(t, err)
	_, err = generate(kms.NewFromConfig(guest), "payments/k", []byte("m"))
	require.NoError(t, err)
	listed, err := root.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: aws.String("payments/k"), GranteePrincipal: who.Arn})
	require.NoError(t, err)
	require.Len(t, listed.Grants, 1)

	// A group, by its name: who is in it has the grant, at that moment.
	group := "arn:aws:iam::" + account + ":role/ops/verifiers"
	toGroup := &kms.CreateGrantInput{KeyId: aws.String("payments/k"), GranteePrincipal: &group, Operations: []types.GrantOperation{types.GrantOperationVerifyMac}}
	_, err = root.CreateGrant(t.Context(), toGroup)
	requireTyped[types.InvalidArnException](t, err, "ARN does not refer to a valid principal: "+group)
	w.write(t, "identity/group", map[string]any{"name": "verifiers"})
	_, err = root.CreateGrant(t.Context(), toGroup)
	require.NoError(t, err)
	mac, err := generate(root, "payments/k", []byte("m"))
	require.NoError(t, err)
	_, err = verify(kms.NewFromConfig(guest), "payments/k", []byte("m"), mac.Mac)
	require.Equal(t, "AccessDeniedException", codeOf(err))
	entity := (*who.Arn)[strings.LastIndexByte(*who.Arn, '/')+1:]
	w.write(t, "identity/group/name/verifiers", map[string]any{"member_entity_ids": entity})
	_, err = verify(kms.NewFromConfig(guest), "payments/k", []byte("m"), mac.Mac)
	require.NoError(t, err)
	listed, err = root.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: aws.String("payments/k"), GranteePrincipal: &group})
	require.NoError(t, err)
	require.Len(t, listed.Grants, 1)
	byID := *listed.Grants[0].GranteePrincipal
	require.Regexp(t, "^arn:aws:iam::"+account+":role/[0-9a-f-]{36}$", byID)
	listed, err = root.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: aws.String("payments/k"), GranteePrincipal: &byID})
	require.NoError(t, err)
	require.Len(t, listed.Grants, 1)
	w.write(t, "identity/group/name/verifiers", map[string]any{"member_entity_ids": ""})
	_, err = verify(kms.NewFromConfig(guest), "payments/k", []byte("m"), mac.Mac)
	require.Equal(t, "AccessDeniedException", codeOf(err))
	// Who may not read groups cannot name them.
	_, err = kms.NewFromConfig(guest).CreateGrant(t.Context(), toGroup)
	require.Equal(t, "AccessDeniedException", codeOf(err))
	require.ErrorContains(t, err, "iam:GetRole on resource: "+group)
}
