package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/gateway/session"
)

// TestTroubleshooting makes every text happen that docs/troubleshooting.md
// explains of the endpoint.
func TestTroubleshooting(t *testing.T) {
	text, err := os.ReadFile("../docs/troubleshooting.md")
	require.NoError(t, err)
	_, part, _ := strings.Cut(string(text), "\n## From the endpoint\n")
	symptoms := regexp.MustCompile("(?m)^### `(.+)`$").FindAllStringSubmatch(part, -1)
	require.NotEmpty(t, symptoms)

	w := newWorld(t)
	i := w.instance(t, byJWT, session.RandomKey())
	environment := i.environment(t, i.container("payments", tokenFile(t, w.issuer.token("ann", time.Hour))))
	good, err := environment.Credentials.Retrieve(t.Context())
	require.NoError(t, err)

	// send sends what no SDK would, and returns the answer.
	send := func(t *testing.T, method, path, body string, header map[string]string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(body))
		require.NoError(t, err)
		for name, value := range header {
			r.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.NotEqual(t, http.StatusOK, answer.StatusCode)
		return string(said)
	}
	asRoot := func(target, token string) map[string]string {
		return map[string]string{
			"X-Amz-Target": target, "X-Amz-Security-Token": token,
			"Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00",
		}
	}
	const describe, key = "TrentService.DescribeKey", `{"KeyId":"orders/x"}`
	post := func(target, token, body string) func(*testing.T) string {
		return func(t *testing.T) string { return send(t, http.MethodPost, "/", body, asRoot(target, token)) }
	}
	failure := func(t *testing.T, client *kms.Client) string {
		id := "orders/x"
		_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		require.Error(t, err)
		return err.Error()
	}

	causes := map[string]func(*testing.T) string{
		"UnrecognizedClientException": post(describe, "no token of this Vault", key),
		"ExpiredTokenException": func(t *testing.T) string {
			i.skew.Store(int64(2 * time.Hour))
			defer i.skew.Store(0)
			return failure(t, i.static(good))
		},
		"InvalidSignatureException": func(t *testing.T) string {
			wrong := good
			wrong.SecretAccessKey = "another"
			return failure(t, i.static(wrong))
		},
		"InvalidIdentityToken": func(t *testing.T) string {
			return send(t, http.MethodGet, "/credentials/payments", "", map[string]string{"Authorization": "something else"})
		},
		"AccessDeniedException": func(t *testing.T) string { return failure(t, i.static(good)) },
		"KMSInternalException": func(t *testing.T) string {
			nobody := &endpoint{url: serve(t, "http://127.0.0.1:1")}
			return failure(t, nobody.client("", "t"))
		},
		"DependencyTimeoutException": func(t *testing.T) string {
			hung := make(chan struct{})
			vault := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hung }))
			t.Cleanup(vault.Close)
			t.Cleanup(func() { close(hung) })
			client, err := gateway.NewVault(vault.URL, "", 50*time.Millisecond)
			require.NoError(t, err)
			server := httptest.NewServer(handler(t, client, "kms"))
			t.Cleanup(server.Close)
			return failure(t, (&endpoint{url: server.URL}).client("", "t"))
		},
		"MissingAuthenticationTokenException": func(t *testing.T) string {
			return send(t, http.MethodPost, "/", key, map[string]string{"X-Amz-Target": describe})
		},
		"Invalid arn us-west-2":     post(describe, w.vault.RootToken, `{"KeyId":"arn:aws:kms:us-west-2:`+account+`:key/x"}`),
		"SerializationException":    post(describe, w.vault.RootToken, `[`),
		"UnknownOperationException": post("DynamoDB_20120810.ListTables", w.vault.RootToken, `{}`),
	}
	for _, symptom := range symptoms {
		t.Run(symptom[1], func(t *testing.T) {
			cause := causes[symptom[1]]
			require.NotNil(t, cause, "nothing here makes this happen")
			require.Contains(t, cause(t), symptom[1])
			delete(causes, symptom[1])
		})
	}
	require.Empty(t, causes, "docs/troubleshooting.md does not explain these")
}
