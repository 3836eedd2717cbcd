package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

var fencedBlock = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// TestTestingDocumentation runs the blocks of docs/testing.md, one after the
// other: those for clients that are not installed are left out, and said so.
func TestTestingDocumentation(t *testing.T) {
	testvault.NeedCommands(t, "curl")
	program, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	require.NoError(t, err)
	text, err := os.ReadFile("../../docs/testing.md")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o700))
	require.NoError(t, os.Symlink(program, filepath.Join(dir, "bin", "kms-gateway")))

	script := "trap 'kill $(jobs -p)' EXIT\n"
	for _, block := range fencedBlock.FindAllStringSubmatch(string(text), -1) {
		switch language, code := block[1], block[2]; language {
		case "shell":
			if !strings.Contains(code, "\naws ") || installed(t, "aws", "--version") {
				script += code
			}
		case "python":
			if installed(t, "python3", "-c", "import boto3") {
				script += "python3 - <<'END'\n" + code + "END\n"
			}
		case "javascript":
			if installed(t, "node", "--input-type=module", "-e", `import "@aws-sdk/client-kms"`) {
				script += "node --input-type=module - <<'END'\n" + code + "END\n"
			}
		case "go":
			requireTested(t, code)
		}
	}
	script = strings.ReplaceAll(script, "127.0.0.1:8203", freeAddress(t))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // the commands wait until it is ready
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"),
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1", "AWS_PAGER=")
	output, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", output)

	material, err := base64.StdEncoding.DecodeString("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	require.NoError(t, err)
	h := hmac.New(sha256.New, material)
	h.Write([]byte("pay 10 EUR"))
	mac := h.Sum(nil)
	printed := strings.Count(string(output), base64.StdEncoding.EncodeToString(mac)) + strings.Count(string(output), hex.EncodeToString(mac))
	// By curl twice, and by each of the clients that ran.
	require.Equal(t, 2+strings.Count(script, "\naws ")+strings.Count(script, "\npython3 - ")+strings.Count(script, "\nnode "), printed, "%s", output)
	for _, want := range []string{`{"key_ids":["old","`, `"KeyState":"PendingDeletion"`, `{"__type":"NotFoundException"`, `{"__type":"ThrottlingException"`, `{"faults":[]}`} {
		require.Contains(t, string(output), want)
	}
}

// TestDemo runs what README shows first.
func TestDemo(t *testing.T) {
	testvault.NeedCommands(t, "curl")
	output, err := exec.CommandContext(t.Context(), "../../scripts/demo.sh").CombinedOutput()
	require.NoError(t, err, "%s", output)
}

// installed reports whether a program can be run.
func installed(t *testing.T, name string, args ...string) bool {
	t.Helper()
	if err := exec.CommandContext(t.Context(), name, args...).Run(); err != nil {
		t.Logf("not run, for it is not installed: %s %s", name, strings.Join(args, " "))
		return false
	}
	return true
}

// requireTested checks that Go code of the documentation is that of a test.
func requireTested(t *testing.T, code string) {
	t.Helper()
	tests, err := os.ReadFile("../../kmstest/kmstest_test.go")
	require.NoError(t, err)
	indented := "\t" + strings.ReplaceAll(strings.TrimRight(code, "\n"), "\n", "\n\t") + "\n"
	require.Contains(t, string(tests), indented)
}

// freeAddress returns an address of loopback on which nobody listens.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer listener.Close()
	return fmt.Sprint(listener.Addr())
}
