package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
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
