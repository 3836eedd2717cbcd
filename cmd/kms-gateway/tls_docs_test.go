package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// authority makes certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	dir         string
}

// newAuthority makes an authority, whose own certificate is ca.pem in a folder.
func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	a.certificate, a.key = a.issue(t, "ca.pem", "ca-key.pem", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue makes a certificate of a template, and the files of it and its key.
func (a *authority) issue(t *testing.T, certFile, keyFile string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: certFile}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		require.NoError(t, os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(block), 0o600))
	}
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate, key
}

// tlsSection is the part of docs/endpoint.md about TLS.
func tlsSection(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sourceDir, "../../docs/endpoint.md"))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n### TLS\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n### ")
	return section
}

// TestTLSDocumentation runs what docs/endpoint.md says about private
// authorities, client certificates and probes, against an endpoint that asks for
// a client certificate and one that does not.
func TestTLSDocumentation(t *testing.T) {
	testvault.NeedCommands(t, "curl")
	dir := t.TempDir()
	t.Chdir(dir)
	ca := newAuthority(t, dir)
	ca.issue(t, "tls.crt", "tls.key", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.issue(t, "client.pem", "client-key.pem", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	require.NoError(t, os.WriteFile("keys.json", []byte(`{"keys":[{"key_id":"tokens"}]}`), 0o600))
	args := []string{"-dev", "-dev-keys", "keys.json", "-tls-cert", "tls.crt", "-tls-key", "tls.key"}
	open := start(t, 1, args...)
	closed := start(t, 2, append(args, "-client-ca", "ca.pem", "-metrics-listen", "127.0.0.1:0")...)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "vault", "AWS_SECRET_ACCESS_KEY": "not-verified", "AWS_SESSION_TOKEN": "t", "AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_CA_BUNDLE": "", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "AWS_PAGER": "", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "",
	} {
		t.Setenv(name, value)
	}

	output := runTLSBlocks(t, open.addresses[0], closed.addresses)
	require.Equal(t, 2, strings.Count(output, "ready\n"), output)

	// Without the authority, and without the certificate, nothing works.
	require.Error(t, exec.CommandContext(t.Context(), "curl", "-fsS", "https://"+open.addresses[0]+"/readyz").Run())
	require.Error(t, exec.CommandContext(t.Context(), "curl", "-fsS", "--cacert", "ca.pem", "https://"+closed.addresses[0]+"/readyz").Run())

	t.Setenv("AWS_CA_BUNDLE", "ca.pem")
	require.NoError(t, generateWithCertificate(t, "https://"+closed.addresses[0]))
	source, err := os.ReadFile(filepath.Join(sourceDir, "tls_docs_test.go"))
	require.NoError(t, err)
	for _, block := range fencedBlock.FindAllStringSubmatch(tlsSection(t), -1) {
		if block[1] == "go" {
			require.Contains(t, strings.ReplaceAll(string(source), "\n\t", "\n"), block[2], "what is shown is what this test does")
		}
	}
}

// sourceDir is where the tests were started, before they changed it.
var sourceDir, _ = os.Getwd()

// runTLSBlocks runs the blocks for shells and clients; those for clients that
// are not installed are left out, and said so.
func runTLSBlocks(t *testing.T, open string, closed []string) string {
	t.Helper()
	var script string
	for _, block := range fencedBlock.FindAllStringSubmatch(tlsSection(t), -1) {
		switch language, code := block[1], block[2]; language {
		case "shell":
			script += strings.ReplaceAll(code, "127.0.0.1:8203", closed[0])
		case "sh":
			if installed(t, "aws", "--version") {
				script += strings.ReplaceAll(code, "127.0.0.1:8203", open)
			}
		case "python":
			if installed(t, "python3", "-c", "import boto3") {
				script += "python3 - <<'END'\n" + strings.ReplaceAll(code, "127.0.0.1:8203", closed[0]) + "END\n"
			}
		case "js":
			const end = `console.log((await kms.send(new GenerateMacCommand({ KeyId: "tokens", Message: Buffer.from("m"), MacAlgorithm: "HMAC_SHA_256" }))).Mac);`
			if installed(t, "node", "--input-type=module", "-e", `import "@aws-sdk/client-kms"`) {
				script += "node --input-type=module - <<'END'\n" + strings.ReplaceAll(code, "127.0.0.1:8203", closed[0]) + end + "\nEND\n"
			}
		}
	}
	script = strings.ReplaceAll(script, "127.0.0.1:8204", closed[1])
	output, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script).CombinedOutput()
	require.NoError(t, err, "%s\n%s", script, output)
	return string(output)
}

// generateWithCertificate is what docs/endpoint.md shows of Go, and a call.
func generateWithCertificate(t *testing.T, address string) error {
	ctx := t.Context()
	certificate, err := tls.LoadX509KeyPair("client.pem", "client-key.pem")
	if err != nil {
		return err
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.TLSClientConfig.Certificates = []tls.Certificate{certificate}
	})
	loaded, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(client)) // and AWS_CA_BUNDLE
	if err != nil {
		return err
	}
	_, err = kms.NewFromConfig(loaded, func(o *kms.Options) { o.BaseEndpoint = &address }).GenerateMac(ctx, &kms.GenerateMacInput{
		KeyId: aws.String("tokens"), Message: []byte("pay 10 EUR"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
	})
	return err
}
