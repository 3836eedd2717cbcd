package acceptance

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// examplePolicy writes a policy of examples/policies to Vault as it is, and
// returns its name.
func examplePolicy(t *testing.T, server *testvault.Server, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", "policies", name+".hcl"))
	must(t, err)
	must(t, server.WritePolicy(t.Context(), name, string(text)))
	return name
}

// exampleToken returns a token with policies of examples/policies and no other.
func exampleToken(t *testing.T, server *testvault.Server, names ...string) string {
	t.Helper()
	for _, name := range names {
		examplePolicy(t, server, name)
	}
	return newToken(t, server, names...)
}

func newToken(t *testing.T, server *testvault.Server, policies ...string) string {
	t.Helper()
	a, err := call(t.Context(), server, server.RootToken, "POST", "auth/token/create", body{
		"policies": policies, "no_default_policy": true, "ttl": "1h",
	})
	must(t, err)
	return tokenOf(t, a)
}

// tokenOf returns the token of a login.
func tokenOf(t *testing.T, a answer) string {
	t.Helper()
	return authOf(t, a)["client_token"].(string)
}

// TestPolicies shows what Vault's policies keep apart, with the example policies.
func TestPolicies(t *testing.T) {
	t.Parallel()
	root := documentedMount(t)
	const key = "payments/policies/tokens"
	alias := "alias/payments/policies/current"
	root.newKey(t, key, hmac256)
	root.newKey(t, "accounts/tokens", hmac256)
	root.write(t, "aliases/payments/policies/current", body{"target_key_id": key})
	root.write(t, "aliases/accounts/current", body{"target_key_id": "accounts/tokens"})

	producer := root.as(exampleToken(t, root.server, "mac-producer"))
	verifier := root.as(exampleToken(t, root.server, "mac-verifier"))
	admin := root.as(exampleToken(t, root.server, "payments-admin"))

	message := []byte("pay 10 EUR")
	generate := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
	for _, name := range []string{key, alias} {
		mac := producer.mac(t, name, hmac256, message)
		if id := verifier.verify(t, name, hmac256, message, mac); id != key {
			t.Errorf("verify-mac/%s answered key_id %q", name, id)
		}
		verifier.wrongMac(t, name, hmac256, []byte("pay 99 EUR"), mac)
		verify := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac}
		producer.denied(t, "POST", "verify-mac/"+name, verify)
		verifier.denied(t, "POST", "generate-mac/"+name, generate)
		for _, m := range []mount{producer, verifier, admin} {
			m.denied(t, "POST", "granted/generate-mac/"+name, generate)
		}
		admin.denied(t, "POST", "generate-mac/"+name, generate)
		admin.denied(t, "POST", "verify-mac/"+name, verify)
	}

	mac := root.mac(t, "accounts/tokens", hmac256, message)
	for _, name := range []string{"accounts/tokens", "alias/accounts/current"} {
		producer.denied(t, "POST", "generate-mac/"+name, generate)
		verifier.denied(t, "POST", "verify-mac/"+name, body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac})
	}

	// Neither may see or change anything.
	for _, m := range []mount{producer, verifier} {
		for _, request := range []struct{ method, path string }{
			{"GET", "keys/" + key}, {"GET", "keys/" + alias}, {"LIST", "keys/"}, {"LIST", "keys/payments/"},
			{"GET", "get-key-last-usage/" + key}, {"GET", "config"}, {"GET", "list-grants/" + key},
			{"LIST", "aliases/"}, {"LIST", "aliases/payments/"}, {"GET", "aliases/payments/policies/current"},
			{"POST", "keys"}, {"POST", "keys/payments/new"}, {"DELETE", "keys/" + key},
			{"POST", "aliases/payments/policies/current"}, {"DELETE", "aliases/payments/policies/current"},
			{"POST", "disable-key/" + key}, {"POST", "enable-key/" + key}, {"POST", "schedule-key-deletion/" + key},
			{"POST", "tag-resource/" + key}, {"POST", "create-grant/" + key}, {"POST", "config"},
			{"POST", "get-parameters-for-import/" + key},
		} {
			m.denied(t, request.method, request.path, body{"key_spec": "HMAC_256", "target_key_id": key})
		}
	}

	// The team's administrator does everything in its folder, and nothing beside.
	admin.newKey(t, "payments/policies/next", hmac256)
	if got := admin.list(t, "keys/payments/policies/"); !slices.Equal(got, []string{"next", "tokens"}) {
		t.Errorf("the administrator lists %v", got)
	}
	admin.write(t, "aliases/payments/policies/current", body{"target_key_id": "payments/policies/next"})
	admin.read(t, "aliases/payments/policies/current")
	admin.write(t, "disable-key/"+key, nil)
	admin.refused(t, "DisabledException", "create-grant/"+key, body{"operations": "GenerateMac", "grantee_principal": "x"})
	admin.write(t, "enable-key/"+key, nil)
	admin.write(t, "tag-resource/"+key, body{"tags": body{"a": "b"}})
	admin.write(t, "schedule-key-deletion/"+key, body{"pending_window_in_days": 7})
	admin.write(t, "cancel-key-deletion/"+key, nil)
	for _, path := range []string{"inventory/payments", "inventory/payments/policies/", "upcoming/payments"} {
		admin.read(t, path)
	}
	admin.write(t, "bulk/disable-key/payments/policies", body{"tag": "a=b", "dry_run": true})
	for _, request := range []struct{ method, path string }{
		{"GET", "inventory"}, {"GET", "inventory/accounts"}, {"LIST", "inventory/accounts"}, {"GET", "upcoming"}, {"GET", "upcoming/accounts"},
		{"POST", "bulk/disable-key/accounts"}, {"POST", "bulk/move-aliases/accounts"}, {"POST", "bulk/schedule-key-deletion/paymentsx"},
		{"GET", "keys/accounts/tokens"}, {"LIST", "keys/"}, {"LIST", "keys/accounts/"}, {"POST", "keys"}, {"POST", "keys/loose"},
		{"POST", "keys/accounts/new"}, {"POST", "disable-key/accounts/tokens"}, {"DELETE", "keys/accounts/tokens"},
		{"GET", "aliases/accounts/current"}, {"POST", "aliases/accounts/current"}, {"LIST", "aliases/"}, {"POST", "config"},
	} {
		admin.denied(t, request.method, request.path, body{"key_spec": "HMAC_256", "target_key_id": "accounts/tokens"})
	}

	// An alias does not borrow another team's key, and its own path is no way
	// around the policy on it.
	admin.refused(t, "ValidationException", "aliases/payments/policies/theirs", body{"target_key_id": "accounts/tokens"})
	admin.denied(t, "GET", "keys/alias/accounts/current", nil)
	for _, path := range []string{
		"generate-mac/payments/../accounts/tokens", "generate-mac/payments/%2e%2e/accounts/tokens",
		"generate-mac/payments/..%2faccounts/tokens", "generate-mac//accounts/tokens",
		"generate-mac/payments/%2e%2e%2faccounts%2ftokens", "generate-mac/alias/payments/../../accounts/tokens",
	} {
		a, err := producer.request(t.Context(), "POST", path, generate)
		must(t, err)
		if a.status < 300 || a.Data["mac"] != nil {
			t.Errorf("%s: status %d, %v", path, a.status, a.Data)
		}
	}
}

// TestAppRole gives the policies to programs by roles.
func TestAppRole(t *testing.T) {
	t.Parallel()
	root := documentedMount(t)
	server := root.server
	root.newKey(t, "payments/approle", hmac256)
	sys(t, server, "POST", "sys/auth/approle", body{"type": "approle"})
	login := func(policy string) mount {
		examplePolicy(t, server, policy)
		role := "auth/approle/role/" + policy
		sys(t, server, "POST", role, body{"token_policies": policy, "token_ttl": "1h"})
		roleID := sys(t, server, "GET", role+"/role-id", nil).Data["role_id"]
		secretID := sys(t, server, "POST", role+"/secret-id", nil).Data["secret_id"]
		a, err := call(t.Context(), server, "", "POST", "auth/approle/login", body{"role_id": roleID, "secret_id": secretID})
		must(t, err)
		return root.as(tokenOf(t, a))
	}
	producer, verifier := login("mac-producer"), login("mac-verifier")
	message := []byte("pay 10 EUR")
	mac := producer.mac(t, "payments/approle", hmac256, message)
	verifier.verify(t, "payments/approle", hmac256, message, mac)
	producer.denied(t, "POST", "verify-mac/payments/approle", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac})
	verifier.denied(t, "POST", "generate-mac/payments/approle", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
}

// TestParameterConstraints shows that policies can also bound the fields, by
// POST and by PATCH, with the example policy.
func TestParameterConstraints(t *testing.T) {
	t.Parallel()
	root := documentedMount(t)
	m := root.as(exampleToken(t, root.server, "bounded"))
	hmac512 := specs[3]
	m.newKey(t, "payments/bounded", hmac512)
	m.mac(t, "payments/bounded", hmac512, []byte("x"))
	m.denied(t, "POST", "keys/payments/bounded-2", body{"key_spec": "HMAC_256"})
	// Who may only create may not change what is there.
	m.denied(t, "POST", "keys/payments/bounded", body{"key_spec": "HMAC_512"})
	for _, method := range []string{"POST", "PATCH"} {
		m.denied(t, method, "generate-mac/payments/bounded", body{"messages": "eA==", "mac_algorithm": "HMAC_SHA_512"})
		m.denied(t, method, "generate-mac/payments/bounded", body{"message": "eA==", "mac_algorithm": "HMAC_SHA_256"})
	}
}

// TestPolicyByMetadata shows that one policy serves all teams, with the example
// policy.
func TestPolicyByMetadata(t *testing.T) {
	t.Parallel()
	root := documentedMount(t)
	server := root.server
	policy := examplePolicy(t, server, "team-by-metadata")
	sys(t, server, "POST", "sys/auth/teams", body{"type": "userpass"})
	accessor := sys(t, server, "GET", "sys/auth/teams", nil).Data["accessor"]
	member := func(team string) mount {
		sys(t, server, "POST", "auth/teams/users/"+team, body{"password": "p", "token_policies": policy})
		entity := sys(t, server, "POST", "identity/entity", body{"name": "by-metadata-" + team, "metadata": body{"team": team}}).Data["id"]
		sys(t, server, "POST", "identity/entity-alias", body{"name": team, "canonical_id": entity, "mount_accessor": accessor})
		a, err := call(t.Context(), server, "", "POST", "auth/teams/login/"+team, body{"password": "p"})
		must(t, err)
		return root.as(tokenOf(t, a))
	}
	red, blue := member("red"), member("blue")
	red.newKey(t, "red/tokens", hmac256)
	red.write(t, "aliases/red/current", body{"target_key_id": "red/tokens"})
	message := []byte("pay 10 EUR")
	mac := red.mac(t, "alias/red/current", hmac256, message)
	red.verify(t, "red/tokens", hmac256, message, mac)
	for _, name := range []string{"red/tokens", "alias/red/current"} {
		blue.denied(t, "POST", "verify-mac/"+name, body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac})
		blue.denied(t, "PATCH", "generate-mac/"+name, body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
	}
	blue.denied(t, "GET", "keys/red/tokens", nil)
	blue.denied(t, "POST", "keys/red/other", body{"key_spec": "HMAC_256"})
	blue.denied(t, "LIST", "keys/red/", nil)
}
