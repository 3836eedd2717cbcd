package acceptance

import (
	"testing"
)

// TestGrants lets identities use keys that no policy of theirs names.
func TestGrants(t *testing.T) {
	t.Parallel()
	root := newMount(t)
	server := root.server
	auth := "userpass-" + root.path
	sys(t, server, "POST", "sys/auth/"+auth, body{"type": "userpass"})
	// The one policy of everybody, and nothing else.
	must(t, server.WritePolicy(t.Context(), auth, `
path "`+root.path+`/granted/*" { capabilities = ["update", "patch"] }
path "`+root.path+`/list-retirable-grants" { capabilities = ["read"] }
path "`+root.path+`/retire-grant" { capabilities = ["update"] }`))
	login := func(name string) (mount, string) {
		sys(t, server, "POST", "auth/"+auth+"/users/"+name, body{"password": "p", "token_policies": auth, "token_no_default_policy": true})
		a, err := call(t.Context(), server, "", "POST", "auth/"+auth+"/login/"+name, body{"password": "p"})
		must(t, err)
		entity, _ := authOf(t, a)["entity_id"].(string)
		return root.as(tokenOf(t, a)), entity
	}
	alice, aliceID := login("alice")
	bob, bobID := login("bob")
	root.newKey(t, "f/k", hmac256)
	root.newKey(t, "f/other", hmac256)
	root.write(t, "aliases/f/a", body{"target_key_id": "f/k"})

	message := []byte("pay 10 EUR")
	generate := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
	mac := root.mac(t, "f/k", hmac256, message)
	verify := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": mac}

	// Without a grant everything is denied alike, also what does not exist.
	for _, path := range []string{
		"granted/generate-mac/f/k", "granted/verify-mac/f/k", "granted/describe-key/f/k", "granted/generate-mac/alias/f/a",
		"granted/generate-mac/f/none", "granted/generate-mac/alias/f/none", "granted/describe-key/f/none",
	} {
		data := generate
		if path == "granted/verify-mac/f/k" {
			data = verify
		}
		if path == "granted/describe-key/f/k" || path == "granted/describe-key/f/none" {
			data = nil
		}
		alice.denied(t, "POST", path, data)
		root.denied(t, "POST", path, data) // a root token has no entity
	}

	granted := root.do(t, "POST", "create-grant/f/k", body{
		"grantee_principal": aliceID, "retiring_principal": bobID, "operations": []string{"GenerateMac", "DescribeKey"}, "name": "alice",
	})
	if len(granted.Warnings) != 0 {
		t.Errorf("warnings %q", granted.Warnings)
	}
	again := root.write(t, "create-grant/f/k", body{
		"grantee_principal": aliceID, "retiring_principal": bobID, "operations": "GenerateMac,DescribeKey", "name": "alice",
	})
	if again["grant_id"] != granted.Data["grant_id"] || again["grant_token"] == granted.Data["grant_token"] {
		t.Errorf("the same grant again: %v, before %v", again, granted.Data)
	}
	for _, path := range []string{"granted/generate-mac/f/k", "granted/generate-mac/alias/f/a"} {
		holds(t, alice.write(t, path, generate), body{"mac": mac, "key_id": "f/k"})
	}
	holds(t, alice.write(t, "granted/describe-key/f/k", nil), body{"key_id": "f/k", "key_state": "Enabled"})
	alice.denied(t, "POST", "granted/verify-mac/f/k", verify)
	alice.denied(t, "POST", "granted/generate-mac/f/other", generate)
	alice.denied(t, "POST", "granted/create-grant/f/k", body{"grantee_principal": bobID, "operations": "GenerateMac"})
	alice.denied(t, "POST", "generate-mac/f/k", generate)
	bob.denied(t, "POST", "granted/generate-mac/f/k", generate)

	// The grant's token works where grant tokens are taken, and for nothing else.
	generate["grant_tokens"] = granted.Data["grant_token"]
	alice.write(t, "granted/generate-mac/f/k", generate)
	bob.denied(t, "POST", "granted/generate-mac/f/k", generate)
	delete(generate, "grant_tokens")

	// A grant may let its grantee make grants.
	root.write(t, "create-grant/f/k", body{"grantee_principal": bobID, "operations": "CreateGrant,VerifyMac,RetireGrant"})
	handed := bob.write(t, "granted/create-grant/f/k", body{"grantee_principal": aliceID, "operations": "VerifyMac"})
	holds(t, alice.write(t, "granted/verify-mac/f/k", verify), body{"mac_valid": true})
	alice.refused(t, "KMSInvalidMacException", "granted/verify-mac/f/k", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "mac": "AAAA"})

	grants, _ := root.read(t, "list-grants/f/k")["grants"].([]any)
	if len(grants) != 3 {
		t.Errorf("grants %v", grants)
	}
	grants, _ = root.do(t, "GET", "list-grants/f/k?grantee_principal="+aliceID, nil).Data["grants"].([]any)
	if len(grants) != 2 {
		t.Errorf("alice's grants %v", grants)
	}
	for who, path := range map[mount]string{bob: "list-retirable-grants?retiring_principal=" + bobID, root: "list-retirable-grants/" + bobID} {
		grants, _ = who.do(t, "GET", path, nil).Data["grants"].([]any)
		if len(grants) != 1 {
			t.Errorf("grants that bob may retire: %v", grants)
		}
	}
	// Others see them only by a policy on the path with the principal in it.
	alice.denied(t, "GET", "list-retirable-grants?retiring_principal="+bobID, nil)
	alice.denied(t, "GET", "list-retirable-grants/"+bobID, nil)
	noEntity := root.as(newToken(t, server, auth))
	noEntity.denied(t, "GET", "list-retirable-grants?retiring_principal="+bobID, nil)

	// The key's state counts for grantees, too.
	root.write(t, "disable-key/f/k", nil)
	alice.refused(t, "DisabledException", "granted/generate-mac/f/k", generate)
	root.write(t, "enable-key/f/k", nil)

	// Alice may not retire her grant, bob may; the one he handed out he may not,
	// since nobody said so, and the manager of the key revokes it.
	alice.denied(t, "POST", "retire-grant", body{"grant_token": granted.Data["grant_token"]})
	noEntity.denied(t, "POST", "retire-grant", body{"grant_token": granted.Data["grant_token"]})
	root.denied(t, "POST", "retire-grant", body{"grant_token": granted.Data["grant_token"]})
	alice.denied(t, "POST", "retire-grant/f/k", body{"grant_token": granted.Data["grant_token"]})
	owner := root.as(newToken(t, server, policy(t, root, "owner", `path "`+root.path+`/retire-grant/f/*" { capabilities = ["update"] }`)))
	owner.refused(t, "DryRunOperationException", "retire-grant/f/k", body{"grant_token": granted.Data["grant_token"], "dry_run": true})
	owner.denied(t, "POST", "retire-grant/g/k", body{"grant_token": granted.Data["grant_token"]})
	bob.refused(t, "DryRunOperationException", "retire-grant", body{"grant_token": granted.Data["grant_token"], "dry_run": true})
	bob.write(t, "retire-grant", body{"grant_token": granted.Data["grant_token"]})
	alice.denied(t, "POST", "granted/generate-mac/f/k", generate)
	bob.denied(t, "POST", "retire-grant", body{"key_id": "f/k", "grant_id": handed["grant_id"]})
	root.write(t, "revoke-grant/f/k", body{"grant_id": handed["grant_id"]})
	alice.denied(t, "POST", "granted/verify-mac/f/k", verify)
	root.refused(t, "NotFoundException", "revoke-grant/f/k", body{"grant_id": handed["grant_id"]})

	if a := root.do(t, "POST", "create-grant/f/k", body{"grantee_principal": "nobody", "operations": "GenerateMac"}); len(a.Warnings) != 1 {
		t.Errorf("a grant to nobody: warnings %q", a.Warnings)
	}
}

// policy writes a policy for a mount, and returns its name.
func policy(t *testing.T, root mount, name, text string) string {
	t.Helper()
	name = root.path + "-" + name
	must(t, root.server.WritePolicy(t.Context(), name, text))
	return name
}
