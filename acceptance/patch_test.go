package acceptance

import (
	"reflect"
	"strings"
	"testing"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestPatch sends MACs as PATCH, which Vault passes to the plugin in one round
// trip, beside POST: the answers are the same, and so is the permission.
func TestPatch(t *testing.T) {
	t.Parallel()
	root := newMount(t)
	root.newKey(t, "f/k", hmac256)
	root.write(t, "aliases/f/a", body{"target_key_id": "f/k"})
	message := []byte("pay 10 EUR")
	mac := root.mac(t, "f/k", hmac256, message)
	generate := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
	verify := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac}
	wrong := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": b64(message)}
	batch := body{"messages": b64(message) + "," + b64(message), "mac_algorithm": "HMAC_SHA_256"}
	requests := []struct {
		path string
		data body
	}{
		{"generate-mac/f/k", generate}, {"generate-mac/alias/f/a", generate}, {"generate-mac/f/k", batch},
		{"generate-mac/f/k", body{"batch_input": []body{{"message": "!"}, {"message": b64(message), "reference": "r"}}, "mac_algorithm": "HMAC_SHA_256"}},
		{"verify-mac/f/k", verify}, {"verify-mac/alias/f/a", verify}, {"verify-mac/f/k", wrong},
		{"generate-mac/f/none", generate}, {"generate-mac/f/k", body{"unknown": 1}}, {"generate-mac/f/k", nil},
		{"granted/generate-mac/f/k", generate}, {"granted/verify-mac/f/none", verify},
	}
	for _, r := range requests {
		post, err := root.request(t.Context(), "POST", r.path, r.data)
		must(t, err)
		patch, err := root.request(t.Context(), "PATCH", r.path, r.data)
		must(t, err)
		if patch.status != post.status || !reflect.DeepEqual(patch.Data, post.Data) || !reflect.DeepEqual(patch.Errors, post.Errors) {
			t.Errorf("PATCH %s %v: %s\nPOST: %s", r.path, r.data, patch.raw, post.raw)
		}
	}
	if a := root.do(t, "PATCH", "generate-mac/f/k", generate); a.Data["mac"] != mac {
		t.Errorf("PATCH answers %v", a.Data)
	}

	// The capabilities are two, and each allows its own verb. Vault's constraints
	// on parameters hold for both.
	token := func(name, capabilities, constraints string) mount {
		name = root.path + "-" + name
		must(t, root.server.WritePolicy(t.Context(), name, `path "`+root.path+`/generate-mac/f/*" { capabilities = [`+capabilities+`] `+constraints+` }`))
		return root.as(newToken(t, root.server, name))
	}
	update, patch := token("update", `"update"`, ""), token("patch", `"patch"`, "")
	update.do(t, "POST", "generate-mac/f/k", generate)
	update.denied(t, "PATCH", "generate-mac/f/k", generate)
	patch.do(t, "PATCH", "generate-mac/f/k", generate)
	patch.denied(t, "POST", "generate-mac/f/k", generate)
	for _, denied := range []mount{
		token("denied", `"update", "patch"`, `denied_parameters = { "messages" = [] }`),
		token("allowed", `"update", "patch"`, `allowed_parameters = { "message" = [], "mac_algorithm" = ["HMAC_SHA_256"] }`),
		token("required", `"update", "patch"`, `required_parameters = ["message"]`),
	} {
		for _, method := range []string{"POST", "PATCH"} {
			denied.do(t, method, "generate-mac/f/k", generate)
			denied.denied(t, method, "generate-mac/f/k", batch)
		}
	}

	// Nothing else answers a PATCH.
	for _, path := range []string{"keys/f/k", "aliases/f/a", "config", "disable-key/f/k", "create-grant/f/k", "granted/create-grant/f/k", "encrypt/f/k"} {
		if a, err := root.request(t.Context(), "PATCH", path, body{}); err != nil || a.status != 405 {
			t.Errorf("PATCH %s: status %d, %v", path, a.status, err)
		}
	}
}

// TestPatchOnTheCommandLine is what docs/api.md shows.
func TestPatchOnTheCommandLine(t *testing.T) {
	t.Parallel()
	testvault.NeedCommands(t, "curl")
	m := newMount(t)
	m.newKey(t, "payments/tokens", hmac256)
	output := shell(t, m.server, t.TempDir(), `
M=$(printf 'pay 10 EUR' | base64)
MAC=$(vault patch -field=mac `+m.path+`/generate-mac/payments/tokens mac_algorithm=HMAC_SHA_256 message=$M)
vault patch `+m.path+`/verify-mac/payments/tokens mac_algorithm=HMAC_SHA_256 message=$M mac=$MAC
curl -sS -X PATCH -H "X-Vault-Token: $VAULT_TOKEN" -H "Content-Type: application/merge-patch+json" \
    -d '{"mac_algorithm": "HMAC_SHA_256", "message": "'$M'"}' $VAULT_ADDR/v1/`+m.path+`/generate-mac/payments/tokens`)
	if !lineHas(output, "mac_valid", "true") || !strings.Contains(output, m.mac(t, "payments/tokens", hmac256, []byte("pay 10 EUR"))) {
		t.Errorf("vault patch printed\n%s", output)
	}
}
