package acceptance

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// loginServer starts a server with the engine at kms/, auth methods registered,
// and a listener that believes an endpoint about certificates.
func loginServer(t *testing.T, methods ...string) *testvault.Server {
	t.Helper()
	plugins := []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)} // skips with -short
	for _, name := range methods {
		method, err := testvault.AuthMethod(t.Context(), name, os.Stderr)
		must(t, err)
		plugins = append(plugins, method)
	}
	server := testvault.Run(t, testvault.Config{Plugins: plugins, TLSListener: `x_forwarded_for_authorized_addrs = ["127.0.0.1/32"]
  x_forwarded_for_reject_not_authorized = true
  x_forwarded_for_client_cert_header = "X-Forwarded-For-Client-Cert"
  x_forwarded_for_client_cert_header_decoders = "BASE64"`})
	must(t, server.Mount(t.Context(), "kms", api.MountInput{Type: testvault.EngineName}))
	return server
}

// writeToken writes the token of a subject, and the public key of who signed it.
func writeToken(t *testing.T, dir, subject string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "issuer.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	part := func(v any) string {
		text, err := json.Marshal(v)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(body{"alg": "EdDSA"}) + "." +
		part(body{"sub": subject, "aud": "vault", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
	token := text + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(text)))
	must(t, os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600))
}

// writePodToken writes the token of a pod, and that of who may have it reviewed,
// and returns the address of their Kubernetes cluster.
func writePodToken(t *testing.T, dir string) (cluster string) {
	t.Helper()
	kubernetes, err := testvault.StartKubernetes()
	must(t, err)
	t.Cleanup(kubernetes.Stop)
	token, err := kubernetes.Token("shop", "payments", time.Hour)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "pod-token"), []byte(token), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "reviewer-token"), []byte(kubernetes.Reviewer), 0o600))
	return kubernetes.URL
}

// writeCertificates writes the certificates of a program and an endpoint, who
// signed them, and who signed that of the server.
func writeCertificates(t *testing.T, dir string, server *testvault.Server) {
	t.Helper()
	authority, err := testvault.NewAuthority("programs")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "programs-ca.pem"), authority.PEM, 0o600))
	for _, name := range []string{"payments", "server"} {
		_, _, err := authority.Issue(dir, name)
		must(t, err)
	}
	ca, err := os.ReadFile(server.CACert)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "vault-ca.pem"), ca, 0o600))
}

// TestLoginDocumentation runs the commands of docs/login.md: logins by web
// identity, as a container and by certificate, the sidecar, logins of kms-gateway
// itself, and both kinds of sealing keys.
func TestLoginDocumentation(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "curl", "openssl")
	server := loginServer(t, "jwt", "kubernetes")
	dir, bin := t.TempDir(), t.TempDir()
	writeToken(t, dir, "payments-service")
	cluster := writePodToken(t, dir)
	writeCertificates(t, dir, server)
	gateway, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	must(t, err)
	must(t, os.Symlink(gateway, filepath.Join(bin, "kms-gateway")))
	example, err := testvault.Build(t.Context(), "./examples/aws-sdk-go")
	must(t, err)

	script := strings.Join(documented(t, "login.md"), "\n")
	script = setting(t, script, "WORK", dir)
	script = setting(t, script, "CLUSTER", cluster)
	script = setting(t, script, "VAULT_TLS", server.TLSAddress)
	script = setting(t, script, "VAULT_FOR_ENDPOINTS", server.TLSAddress)
	for _, name := range []string{"ADDRESS", "SIDECAR", "CERT_ADDRESS"} {
		address, err := testvault.FreeAddress()
		must(t, err)
		script = setting(t, script, name, address)
	}
	script = strings.ReplaceAll(script, "kms-gateway -listen", "kms-gateway -shutdown-delay 0s -listen")
	const run = "go run ./examples/aws-sdk-go"
	runs := strings.Count(script, run)
	script = strings.ReplaceAll(script, run, example)
	output := shell(t, server, "..", `export AWS_EC2_METADATA_DISABLED=true
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
PATH=`+bin+`:$PATH
`+script)
	if n := strings.Count(output, "VerifyMac of a changed message: KMSInvalidMacException"); n != runs || n < 6 {
		t.Errorf("%d of %d runs of the example made a MAC:\n%s", n, runs, output)
	}

	var credentials struct{ AccessKeyID, SecretAccessKey, Token, Expiration string }
	read(t, filepath.Join(dir, "credentials.json"), &credentials)
	if !strings.HasPrefix(credentials.AccessKeyID, "ASIA") || len(credentials.SecretAccessKey) != 40 ||
		!strings.HasPrefix(credentials.Token, "KGS1") || !strings.HasSuffix(credentials.Expiration, "Z") {
		t.Errorf("credentials of a container: %+v", credentials)
	}
	for _, file := range []string{"process.json", "sink.json", "certificate.json", "pod.json"} {
		var process struct {
			Version                               int
			AccessKeyID, SessionToken, Expiration string
		}
		read(t, filepath.Join(dir, file), &process)
		if process.Version != 1 || !strings.HasPrefix(process.SessionToken, "hvs.") || process.Expiration == "" {
			t.Errorf("%s: %+v", file, process)
		}
	}
	for _, file := range []string{"gateway.log", "sidecar.log", "cert-gateway.log"} {
		log, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		for _, secret := range []string{"hvs.", "eyJ", "KGS1"} {
			if bytes.Contains(log, []byte(secret)) {
				t.Errorf("%s has a token:\n%s", file, log)
			}
		}
		if file == "sidecar.log" && !bytes.Contains(log, []byte("sidecar: whoever reaches this address has the identity of the endpoint")) {
			t.Errorf("the sidecar does not say what it is:\n%s", log)
		}
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	must(t, json.Unmarshal(text, into))
}

// TestSidecarKeepsItsIdentity has a sidecar whose tokens live for seconds and
// are revoked under it: it renews them, and logs in again.
func TestSidecarKeepsItsIdentity(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "curl")
	server := loginServer(t)
	dir := t.TempDir()
	sys(t, server, "POST", "sys/auth/approle", body{"type": "approle"})
	sys(t, server, "PUT", "sys/policies/acl/payments", body{"policy": `path "kms/+/payments/*" { capabilities = ["create", "update", "read"] }`})
	sys(t, server, "POST", "auth/approle/role/payments", body{"token_policies": "payments", "token_ttl": "3s", "token_max_ttl": "9s"})
	for name, method := range map[string]string{"role-id": "GET", "secret-id": "POST"} {
		id := sys(t, server, method, "auth/approle/role/payments/"+name, nil).Data[strings.ReplaceAll(name, "-", "_")]
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(id.(string)), 0o600))
	}
	mount{server, "kms", server.RootToken}.newKey(t, "payments/k", hmac256)
	gateway, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	must(t, err)
	address, err := testvault.FreeAddress()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, gateway, "-listen", address, "-sidecar", "-shutdown-delay", "0s", "-identity", "approle",
		"-role-id-file", filepath.Join(dir, "role-id"), "-secret-id-file", filepath.Join(dir, "secret-id"))
	cmd.Env = append(server.Env(""), "PATH="+os.Getenv("PATH"))
	var log bytes.Buffer
	cmd.Stderr = &log
	must(t, cmd.Start())
	defer func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()
	mac := func() error { return generateMacAt(t, "http://"+address, "payments/k") }
	eventually(t, "the sidecar serves", func() bool { return mac() == nil })
	accessors := func() string { return sys(t, server, "LIST", "auth/token/accessors", nil).raw }
	before := accessors()
	// A second token means that the first one has come to its end.
	eventually(t, "the sidecar logs in again", func() bool {
		_ = mac()
		return accessors() != before
	})
	sys(t, server, "PUT", "sys/leases/revoke-prefix/auth/approle/login", nil)
	eventually(t, "the sidecar logs in after its token is revoked", func() bool { return mac() == nil })
}

// generateMacAt makes a call without a session token.
func generateMacAt(t *testing.T, endpoint, key string) error {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "curl", "-sS", "-o", "-", "-w", "%{http_code}", endpoint,
		"-H", "X-Amz-Target: TrentService.GenerateMac", "-H", "Content-Type: application/x-amz-json-1.1",
		"-H", "Authorization: AWS4-HMAC-SHA256 Credential=any/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00",
		"-d", `{"KeyId":"`+key+`","Message":"bQ==","MacAlgorithm":"HMAC_SHA_256"}`)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.HasSuffix(out, []byte("200")) {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
