package acceptance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

var fencedShell = regexp.MustCompile("(?ms)^```shell\n(.*?)^```$")

// documented returns the shell commands of a file in docs/, block by block.
func documented(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", file))
	must(t, err)
	var blocks []string
	for _, match := range fencedShell.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, match[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no shell commands", file)
	}
	return blocks
}

// setting replaces the value that documented commands give a variable.
func setting(t *testing.T, script, name, value string) string {
	t.Helper()
	assignment := regexp.MustCompile(`(?m)^` + name + `=.*$`)
	if !assignment.MatchString(script) {
		t.Fatalf("the commands do not set %s", name)
	}
	return assignment.ReplaceAllLiteralString(script, name+"="+value)
}

// shell runs a script with bash in a folder, with vault on the PATH and the root
// token, and returns what it printed. It must succeed.
func shell(t *testing.T, server *testvault.Server, dir, script string) string {
	t.Helper()
	binary, err := testvault.Binary(t.Context(), os.Stderr)
	must(t, err)
	bin := t.TempDir()
	must(t, os.Symlink(binary, filepath.Join(bin, "vault")))

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(server.Env(server.RootToken), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, output.Bytes())
	}
	return output.String()
}

// TestImportDocumentation runs the commands of docs/import.md: once as they are,
// and for each spec, the shortest and the longest key material, both wrapping
// algorithms and all wrapping keys.
func TestImportDocumentation(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "openssl")
	m := documentedMount(t)
	script := strings.Join(documented(t, "import.md"), "\n")
	run := func(t *testing.T, script string) string {
		output := shell(t, m.server, t.TempDir(), script)
		if !strings.Contains(output, "Vault and openssl agree.") {
			t.Errorf("the documented check failed:\n%s", output)
		}
		return output
	}

	t.Run("as it is", func(t *testing.T) {
		t.Parallel()
		output := run(t, script)
		if !strings.Contains(output, "KEY_MATERIAL_EXPIRES") || !lineHas(output, "key_state", "Enabled") {
			t.Errorf("the key at the end:\n%s", output)
		}
	})
	hashes, keys := []string{"sha256", "sha1"}, []string{"RSA_2048", "RSA_3072", "RSA_4096"}
	for i, s := range specs {
		for j, length := range []int{s.bytes, 128} {
			// With the commands as they are, every pair of these comes up.
			hash, wrappingKey := hashes[(i+j)%2], keys[(2*i+j)%3]
			t.Run(fmt.Sprintf("%s with %d bytes, %s, %s", s.name, length, hash, wrappingKey), func(t *testing.T) {
				t.Parallel()
				dir, material := t.TempDir(), random(length)
				must(t, os.WriteFile(filepath.Join(dir, "mine.bin"), material, 0o600))
				script := setting(t, script, "MATERIAL", "mine.bin")
				script = strings.Replace(script, "openssl rand", ": not openssl rand", 1)
				key := fmt.Sprintf("payments/import-%s-%d", s.name, length)
				script = setting(t, script, "KEY", key)
				script = setting(t, script, "KEY_SPEC", s.name)
				script = setting(t, script, "WRAPPING_HASH", hash)
				script = setting(t, script, "WRAPPING_KEY_SPEC", wrappingKey)
				output := shell(t, m.server, dir, script)
				if !strings.Contains(output, "Vault and openssl agree.") {
					t.Errorf("the documented check failed:\n%s", output)
				}
				message := someMessage()
				must(t, m.agrees(t, key, s, message, s.mac(material, message)))
				left, err := os.ReadDir(dir)
				if err != nil || len(left) != 1 {
					t.Errorf("the commands leave %v behind, %v", left, err)
				}
			})
		}
	}
}

// TestRotationDocumentation runs the commands of docs/rotation.md.
func TestRotationDocumentation(t *testing.T) {
	t.Parallel()
	m := documentedMount(t)
	output := shell(t, m.server, t.TempDir(), strings.Join(documented(t, "rotation.md"), "\n"))
	for _, words := range [][]string{
		{"key_id", "payments/tokens-2026"}, {"mac_valid", "true"}, {"previous_keys", "payments/tokens-2026"},
		{"key_last_usage", "VerifyMac"}, {"key_state", "PendingDeletion"},
	} {
		if !lineHas(output, words...) {
			t.Errorf("no line has %v:\n%s", words, output)
		}
	}
}

// TestOperationsDocumentation runs the commands of docs/operations.md on a server
// of its own, one after the other, from the repository's root.
func TestOperationsDocumentation(t *testing.T) {
	t.Parallel()
	server := testvault.Run(t, testvault.Config{})
	state := sys(t, server, "GET", "sys/config/state/sanitized", nil)
	pluginDir, _ := state.Data["plugin_directory"].(string)
	if pluginDir == "" {
		t.Fatal("Vault does not tell its plugin_directory")
	}
	script := strings.Join(documented(t, "operations.md"), "\n")
	script = setting(t, script, "BINARY", testvault.EngineFor(t, kmshmac.Version).Path)
	script = setting(t, script, "VERSION", kmshmac.Version)
	script = setting(t, script, "PLUGIN_DIR", pluginDir)
	script = setting(t, script, "NEW_BINARY", engineOf(t, nextVersion).Path)
	script = setting(t, script, "NEW_VERSION", nextVersion)
	snapshot := filepath.Join(t.TempDir(), "vault.snap")
	script = strings.ReplaceAll(script, "vault.snap", snapshot)

	// Between backup and restore, something happens to the key. Restoring makes
	// Vault start over, for which the commands that follow must wait.
	const save, restore = "snapshot save ", "snapshot restore "
	if strings.Count(script, save) != 1 || strings.Count(script, restore) != 1 {
		t.Fatal("the commands do not back up and restore once")
	}
	script = strings.Replace(script, save+snapshot, save+snapshot+`
vault write -f kms/disable-key/payments/tokens
vault write kms/keys/payments/later key_spec=HMAC_256`, 1)
	script = strings.Replace(script, restore+snapshot, restore+snapshot+`
until vault read kms/keys/payments/tokens >/dev/null 2>&1; do sleep 0.1; done
echo "after the restore: $(vault read -field=key_state kms/keys/payments/tokens) $(vault list -format=json kms/keys/payments | tr -d '[:space:]')"`, 1)

	output := shell(t, server, "..", script)
	for _, words := range [][]string{
		{"kms/", testvault.EngineName, kmshmac.Version}, {"kms/", testvault.EngineName, nextVersion},
		{"after the restore: Enabled", `["tokens"]`}, {"Success! Disabled the secrets engine"},
	} {
		if !lineHas(output, words...) {
			t.Errorf("no line has %q:\n%s", words, output)
		}
	}
}

// TestMetrics finds the timings that docs/operations.md says are there.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.newKey(t, "k", hmac256)
	update, patch := "vault.route.update."+m.path+"-", "vault.route.patch."+m.path+"-"
	eventually(t, update, func() bool {
		m.mac(t, "k", hmac256, []byte("x"))
		m.do(t, "PATCH", "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "message": "eA=="})
		shown := sys(t, m.server, "GET", "sys/metrics", nil).raw
		return strings.Contains(shown, update) && strings.Contains(shown, patch)
	})
}
