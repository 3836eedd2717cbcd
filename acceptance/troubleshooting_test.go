package acceptance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

var symptomHeading = regexp.MustCompile("(?m)^### `(.+)`$")

// symptoms returns the texts that a part of docs/troubleshooting.md explains.
func symptoms(t *testing.T, part string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "troubleshooting.md"))
	must(t, err)
	_, rest, ok := strings.Cut(string(text), "\n## "+part+"\n")
	if !ok {
		t.Fatalf("docs/troubleshooting.md has no part %q", part)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	var found []string
	for _, match := range symptomHeading.FindAllStringSubmatch(rest, -1) {
		found = append(found, match[1])
	}
	return found
}

// TestTroubleshooting makes every text that docs/troubleshooting.md explains
// happen, but for those of the endpoint, which its own tests make happen.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"payments/good", "payments/tokens", "orders/other"} {
		m.newKey(t, id, hmac256)
	}
	m.write(t, "aliases/payments/current", body{"target_key_id": "payments/good"})
	good := body{"message": b64([]byte("x")), "mac_algorithm": "HMAC_SHA_256"}
	with := func(name string, value any) body {
		changed := body{name: value}
		for other, v := range good {
			if other != name {
				changed[other] = v
			}
		}
		return changed
	}
	generate := func(key string, data body) func(*testing.T) string {
		return func(t *testing.T) string { return m.errorOf(t, "generate-mac/"+key, data) }
	}

	causes := map[string]func(*testing.T) string{
		"KMSInvalidMacException: the MAC does not belong to this message, key and algorithm": func(t *testing.T) string {
			return m.errorOf(t, "verify-mac/payments/good", with("mac", b64([]byte("wrong"))))
		},
		"NotFoundException: Key 'payments/tokns' does not exist":                                   generate("payments/tokns", good),
		"NotFoundException: Alias alias/payments/curent is not found.":                             generate("alias/payments/curent", good),
		"InvalidKeyUsageException: Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256.": generate("payments/good", with("mac_algorithm", "HMAC_SHA_512")),
		"message must be standard base64":                                                          generate("payments/good", with("message", "pay 10 EUR")),
		"Member must have length less than or equal to 4096":                                       generate("payments/good", with("message", b64(random(4097)))),
		`unknown field "algorithm"`:                                                                generate("payments/good", with("algorithm", "HMAC_SHA_256")),
		"InvalidArnException: Key Aliases are not supported for this operation.": func(t *testing.T) string {
			return m.errorOf(t, "disable-key/alias/payments/current", nil)
		},
		"may point only at keys of its own folder": func(t *testing.T) string {
			return m.errorOf(t, "aliases/payments/borrowed", body{"target_key_id": "orders/other"})
		},
		"DisabledException: payments/tokens is disabled.": func(t *testing.T) string {
			m.write(t, "disable-key/payments/tokens", nil)
			return generate("payments/tokens", good)(t)
		},
		"KMSInvalidStateException: payments/tokens is pending deletion.": func(t *testing.T) string {
			m.write(t, "schedule-key-deletion/payments/tokens", nil)
			return generate("payments/tokens", good)(t)
		},
		"KMSInvalidStateException: payments/tokens is pending import.": func(t *testing.T) string {
			other := newMount(t)
			other.write(t, "keys/payments/tokens", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
			return other.errorOf(t, "generate-mac/payments/tokens", good)
		},
		"permission denied": func(t *testing.T) string {
			return m.as("no token of this Vault").errorOf(t, "generate-mac/payments/good", good)
		},
		"no handler for route": func(t *testing.T) string {
			return mount{m.server, "kms-that-is-not-there", m.token}.errorOf(t, "generate-mac/k", good)
		},
	}
	for _, symptom := range symptoms(t, "From the engine") {
		t.Run(symptom, func(t *testing.T) {
			cause := causes[symptom]
			if cause == nil {
				t.Fatal("nothing here makes this happen")
			}
			if text := cause(t); !strings.Contains(text, symptom) {
				t.Errorf("Vault said %q", text)
			}
			delete(causes, symptom)
		})
	}
	for symptom := range causes {
		t.Errorf("docs/troubleshooting.md does not explain %q", symptom)
	}
}

// errorOf sends a write that must fail, and returns what Vault says.
func (m mount) errorOf(t *testing.T, path string, data any) string {
	t.Helper()
	a, err := m.request(t.Context(), "POST", path, data)
	must(t, err)
	if a.status < 400 {
		t.Fatalf("%s: status %d, want a failure", path, a.status)
	}
	return strings.Join(a.Errors, "\n")
}

// TestTroubleshootingPlugin makes happen what docs/troubleshooting.md says of
// Vault and the plugin's program.
func TestTroubleshootingPlugin(t *testing.T) {
	t.Parallel()
	server := testvault.Run(t, testvault.Config{Plugins: []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)}})
	causes := map[string]func(*testing.T) string{
		"plugin version mismatch": func(t *testing.T) string {
			err := registerAgain(t, server, func(p *api.RegisterPluginInput) { p.Version = "v9.9.9" })
			return err.Error()
		},
		"checksums did not match": func(t *testing.T) string {
			// Vault looks at the sum of a version that it knows only when it starts it.
			must(t, registerAgain(t, server, func(p *api.RegisterPluginInput) { p.SHA256 = strings.Repeat("0", 64) }))
			return server.Mount(t.Context(), "kms", api.MountInput{Type: testvault.EngineName}).Error()
		},
	}
	for _, symptom := range symptoms(t, "From Vault about the plugin") {
		t.Run(symptom, func(t *testing.T) {
			cause := causes[symptom]
			if cause == nil {
				t.Fatal("nothing here makes this happen")
			}
			if text := cause(t); !strings.Contains(text, symptom) {
				t.Errorf("Vault said %q", text)
			}
		})
	}
}

// registerAgain registers the engine's program, which the server knows already,
// with something changed.
func registerAgain(t *testing.T, server *testvault.Server, change func(*api.RegisterPluginInput)) error {
	t.Helper()
	known, err := server.Client().Sys().GetPluginWithContext(t.Context(), &api.GetPluginInput{
		Name: testvault.EngineName, Type: api.PluginTypeSecrets, Version: kmshmac.Version,
	})
	must(t, err)
	input := &api.RegisterPluginInput{
		Name: testvault.EngineName, Type: api.PluginTypeSecrets, Command: known.Command, SHA256: known.SHA256,
	}
	change(input)
	return server.Client().Sys().RegisterPluginWithContext(t.Context(), input)
}
