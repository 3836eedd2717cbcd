package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestTerraformProvider has Terraform and its Vault provider validate the module
// of examples/terraform, apply it and plan no change, say that its key was
// disabled, and destroy all but the mount. TestTerraformModule does the same
// requests where there is no Terraform.
func TestTerraformProvider(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	command, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed: the module is applied by TestTerraformModule alone")
	}
	tf := newTerraform(t, command, server)
	root := mount{server, "terraform-provider", server.RootToken}

	tf.ok(t, "validate")
	tf.ok(t, "apply", "-auto-approve")
	tf.ok(t, "plan", "-detailed-exitcode") // fails where there are changes
	mac := root.write(t, "generate-mac/alias/payments/tokens", body{"message": "aGk=", "mac_algorithm": "HMAC_SHA_256"})
	requireEqual(t, "payments/tokens-2026", mac["key_id"])

	root.write(t, "disable-key/payments/tokens-2026", nil)
	tf.fails(t, "Key payments/tokens-2026 is Disabled.", "plan")
	root.write(t, "enable-key/payments/tokens-2026", nil)

	tf.fails(t, "prevent_destroy", "destroy", "-auto-approve")
	tf.ok(t, "plan", "-detailed-exitcode")
	tf.ok(t, "state", "rm", "vault_mount.kms")
	tf.ok(t, "destroy", "-auto-approve")
	requireEqual(t, "PendingDeletion", root.read(t, "keys/payments/tokens-2026")["key_state"])
	a, err := root.request(t.Context(), "GET", "aliases/payments/tokens", nil)
	must(t, err)
	requireEqual(t, 404, a.status)
}

// terraform is Terraform in a folder with the module.
type terraform struct {
	command, dir string
	env          []string
}

func newTerraform(t *testing.T, command string, server *testvault.Server) terraform {
	t.Helper()
	// Not t.Context: a build that another test waits for is not given up.
	provider, err := testvault.TerraformProvider(context.Background(), os.Stderr)
	must(t, err)
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("../examples/terraform")))
	// With an override Terraform asks no registry.
	config := filepath.Join(dir, "terraform.rc")
	must(t, os.WriteFile(config, fmt.Appendf(nil,
		"provider_installation {\n  dev_overrides {\n    \"hashicorp/vault\" = %q\n  }\n  direct {}\n}\n", filepath.Dir(provider)), 0o600))
	return terraform{command, dir, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "TF_CLI_ARGS=-no-color",
		"TF_CLI_CONFIG_FILE=" + config, "VAULT_ADDR=" + server.Address, "VAULT_TOKEN=" + server.RootToken,
		"TF_VAR_mount=terraform-provider", "TF_VAR_team=payments",
	}}
}

func (tf terraform) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tf.command, args...)
	cmd.Dir, cmd.Env = tf.dir, tf.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (tf terraform) ok(t *testing.T, args ...string) {
	t.Helper()
	if out, err := tf.run(t, args...); err != nil {
		t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// fails runs Terraform for an error that says want, wherever it breaks lines.
func (tf terraform) fails(t *testing.T, want string, args ...string) {
	t.Helper()
	out, err := tf.run(t, args...)
	text := strings.Join(strings.Fields(strings.ReplaceAll(out, "│", "")), " ")
	if err == nil || !strings.Contains(text, want) {
		t.Fatalf("terraform %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
