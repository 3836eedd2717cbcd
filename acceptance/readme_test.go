package acceptance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestReadme runs what README.md shows of Vault and of the endpoint, and finds
// the output that it shows. With the profile that it shows, an SDK gets its MAC.
func TestReadme(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "curl")
	text, err := os.ReadFile("../README.md")
	must(t, err)
	_, page, found := strings.Cut(string(text), "## Use it\n")
	page, _, ends := strings.Cut(page, "## Teams and policies\n")
	if !found || !ends {
		t.Fatal("README.md has no part \"Use it\" before \"Teams and policies\"")
	}
	block := func(language string) string {
		match := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$").FindStringSubmatch(page)
		if match == nil {
			t.Fatalf("README.md has no further block of %s", language)
		}
		_, page, _ = strings.Cut(page, match[0])
		return match[1]
	}
	register, session, serve, profile := block("shell"), block("shell-session"), block("shell"), block("ini")

	server := testvault.Run(t, testvault.Config{})
	state := sys(t, server, "GET", "sys/config/state/sanitized", nil)
	pluginDir, _ := state.Data["plugin_directory"].(string)
	program, err := os.ReadFile(testvault.EngineFor(t, kmshmac.Version).Path)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(pluginDir, testvault.EngineName), program, 0o755))
	dir, bin := t.TempDir(), t.TempDir()
	gateway, err := testvault.Build(t.Context(), testvault.GatewayPackage)
	must(t, err)
	must(t, os.Symlink(gateway, filepath.Join(bin, "kms-gateway")))
	example, err := testvault.Build(t.Context(), "./examples/aws-sdk-go")
	must(t, err)
	address, err := testvault.FreeAddress()
	must(t, err)
	const documented = "127.0.0.1:8203"
	must(t, os.WriteFile(filepath.Join(dir, "config"), []byte(strings.ReplaceAll(profile, documented, address)), 0o600))

	register = strings.ReplaceAll(register, "bin/plugins/", pluginDir+"/")
	serve = regexp.MustCompile(`(?m)^export VAULT_ADDR=.*\n`).ReplaceAllString(strings.ReplaceAll(serve, documented, address), "")
	serve = strings.ReplaceAll(serve, "kms-gateway -listen", "kms-gateway -shutdown-delay 0s -listen")
	commands, output := documentedSession(session)
	shown := shell(t, server, dir, "PATH="+bin+`:$PATH
export AWS_EC2_METADATA_DISABLED=true
`+register+"set +e\n"+commands+`echo "exit code $?"
set -e
`+strings.TrimSpace(serve)+` 2>gateway.log &
trap "kill $!" EXIT
until curl -fs "http://`+address+`/healthz" >/dev/null; do sleep 0.1; done
AWS_PROFILE=vault AWS_CONFIG_FILE=config `+example+` payments/tokens 'pay 10 EUR'
`)
	for _, line := range append(output, "exit code 2", "VerifyMac of a changed message: KMSInvalidMacException") {
		if !lineHas(shown, line) {
			t.Errorf("no line has %q:\n%s", line, shown)
		}
	}
}

// documentedSession returns the commands that a block shows after its prompts,
// and the lines of output between them.
func documentedSession(block string) (commands string, output []string) {
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			commands += command
		} else if strings.TrimSpace(line) != "" {
			output = append(output, strings.TrimSuffix(line, "\n"))
		}
	}
	return commands, output
}
