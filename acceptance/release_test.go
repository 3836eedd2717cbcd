package acceptance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestRelease makes a release twice, in folders of different names: the sums
// are the same. Then it signs them, and checks what a user would check.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the programs several times; run without -short")
	}
	t.Parallel()
	testvault.NeedCommands(t, "ssh-keygen")
	dirs := []string{filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "another", "folder")}
	var sums []string
	for _, dir := range dirs {
		must(t, testvault.CopySource(dir))
		inside(t, dir, "make", "release", "VERSION=v9.8.7", "PLATFORMS=linux/amd64")
		text, err := os.ReadFile(filepath.Join(dir, "dist", "SHA256SUMS"))
		must(t, err)
		sums = append(sums, string(text))
	}
	if sums[0] != sums[1] || strings.Count(sums[0], "\n") != 2 {
		t.Fatalf("two builds of the same source:\n%s\n%s", sums[0], sums[1])
	}

	key := filepath.Join(t.TempDir(), "key")
	inside(t, dirs[0], "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	inside(t, dirs[0], "make", "sign", "KEY="+key)
	public, err := os.ReadFile(key + ".pub")
	must(t, err)
	signers := filepath.Join(t.TempDir(), "allowed_signers")
	must(t, os.WriteFile(signers, []byte("releases@example.com "+string(public)), 0o600))
	verify := func() (string, error) {
		cmd := exec.Command("scripts/verify-release.sh", "dist", signers, "releases@example.com")
		cmd.Dir = dirs[0]
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err != nil {
		t.Errorf("a good release: %v\n%s", err, out)
	}
	programs, err := filepath.Glob(filepath.Join(dirs[0], "dist", "kms-gateway_*"))
	must(t, err)
	must(t, os.WriteFile(programs[0], []byte("something else"), 0o755))
	if out, err := verify(); err == nil {
		t.Errorf("a program that was exchanged passes:\n%s", out)
	}
	must(t, os.WriteFile(filepath.Join(dirs[0], "dist", "SHA256SUMS"), []byte(strings.ToUpper(sums[0])), 0o644))
	if out, err := verify(); err == nil {
		t.Errorf("sums that were exchanged pass:\n%s", out)
	}
}

// TestKnownVulnerabilities: no module of the programs has a version with
// vulnerabilities that scripts/modules.txt knows, and one that had would be found.
func TestKnownVulnerabilities(t *testing.T) {
	t.Parallel()
	check := func(table ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "scripts/modules.sh", append([]string{"-offline"}, table...)...)
		cmd.Dir = ".."
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := check()
	if err != nil || strings.Contains(out, "take it out") {
		t.Errorf("%v\n%s", err, out)
	}
	table := filepath.Join(t.TempDir(), "table")
	must(t, os.WriteFile(table, []byte("google.golang.org/grpc v99.10.0 CVE-1\ngithub.com/hashicorp/vault/sdk v0.9.0 CVE-2\nexample.com/none v1.0.0 CVE-3\n"), 0o600))
	out, err = check(table)
	if err == nil || strings.Count(out, "KNOWN VULNERABILITIES") != 1 || !strings.Contains(out, "below v99.10.0: CVE-1") ||
		!strings.Contains(out, "example.com/none is not in the programs") {
		t.Errorf("of an old and a newer version: %v\n%s", err, out)
	}
}

// inside runs a command in a folder.
func inside(t *testing.T, dir string, command ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// TestFIPSOnly registers the engine with the setting that makes Go refuse what
// FIPS 140-3 does not approve: it does all its work but for SHA-1.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	plugin := testvault.EngineFor(t, kmshmac.Version)
	plugin.Name, plugin.Env = "kms-fips", []string{"GODEBUG=fips140=only"}
	must(t, server.RegisterPlugin(t.Context(), plugin))
	must(t, server.Mount(t.Context(), "kms-fips", api.MountInput{Type: "kms-fips"}))
	m := mount{server, "kms-fips", server.RootToken}
	stock(t, m)

	m.write(t, "keys/fips/sha1", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	parameters := m.write(t, "get-parameters-for-import/fips/sha1", body{"wrapping_algorithm": "RSAES_OAEP_SHA_1", "wrapping_key_spec": "RSA_2048"})
	public, err := x509.ParsePKIXPublicKey(unb64(t, parameters["public_key"]))
	must(t, err)
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), random(32), nil)
	must(t, err)
	m.refused(t, "InvalidCiphertextException", "import-key-material/fips/sha1", body{
		"import_token": parameters["import_token"], "encrypted_key_material": b64(wrapped), "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
	})
}
