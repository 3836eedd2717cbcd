package acceptance

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestMainJob goes through what people do with a key, for every spec, on a
// mount with and without a cache.
func TestMainJob(t *testing.T) {
	t.Parallel()
	t.Run("cached", func(t *testing.T) { t.Parallel(); mainJobs(t, newMount(t)) })
	t.Run("force_no_cache", func(t *testing.T) { t.Parallel(); mainJobs(t, newMount(t, forceNoCache)) })
}

func mainJobs(t *testing.T, m mount) {
	for _, s := range specs {
		t.Run(s.name, func(t *testing.T) { mainJob(t, m, s) })
	}
	t.Run("generated id", func(t *testing.T) { generatedID(t, m) })
	t.Run("aliases", func(t *testing.T) { aliasJob(t, m) })
	t.Run("tags and description", func(t *testing.T) { tagJob(t, m) })
	t.Run("import", func(t *testing.T) { importJob(t, m) })
	t.Run("settings", func(t *testing.T) { settingsJob(t, m) })
}

func mainJob(t *testing.T, m mount, s spec) {
	id := "team/" + s.name
	created := m.write(t, "keys/"+id, body{"key_spec": s.name, "description": "a key"})
	want := body{
		"key_id": id, "key_spec": s.name, "customer_master_key_spec": s.name, "key_usage": "GENERATE_VERIFY_MAC",
		"key_state": "Enabled", "enabled": true, "origin": "AWS_KMS", "key_manager": "CUSTOMER",
		"multi_region": false, "description": "a key", "last_used": nil,
	}
	holds(t, created, want)
	if got := stringsOf(created["mac_algorithms"]); !slices.Equal(got, []string{s.algorithm}) {
		t.Errorf("mac_algorithms %v", got)
	}
	holds(t, m.read(t, "keys/"+id), want)

	// Again changes nothing; another spec is refused.
	again := m.write(t, "keys/"+id, body{"key_spec": s.name})
	holds(t, again, body{"creation_date": created["creation_date"], "description": "a key"})
	other := specs[0]
	if s.name == other.name {
		other = specs[1]
	}
	m.refused(t, "AlreadyExistsException", "keys/"+id, body{"key_spec": other.name})

	message := []byte("pay 10 EUR to " + s.name)
	generated := m.write(t, "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm})
	mac, _ := generated["mac"].(string)
	holds(t, generated, body{"key_id": id, "mac": mac, "mac_algorithm": s.algorithm})
	if len(generated) != 3 || len(unb64(t, mac)) != s.bytes {
		t.Errorf("generate-mac answered %v", generated)
	}
	verified := m.write(t, "verify-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm, "mac": mac})
	holds(t, verified, body{"key_id": id, "mac_valid": true, "mac_algorithm": s.algorithm})
	if len(verified) != 3 {
		t.Errorf("verify-mac answered %v", verified)
	}
	m.wrongMac(t, id, s, []byte("pay 99 EUR"), mac)
	m.wrongMac(t, id, s, message, b64(unb64(t, mac)[:s.bytes-1]))
	m.wrongMac(t, id, s, message, b64(random(s.bytes)))
	m.refused(t, "InvalidKeyUsageException", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": other.algorithm})
	m.refused(t, "DryRunOperationException", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm, "dry_run": true})
	m.refused(t, "InvalidGrantTokenException", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm, "grant_tokens": "none"})
	m.refused(t, "ValidationException", "generate-mac/"+id, body{"message": b64(random(4097)), "mac_algorithm": s.algorithm})
	m.refused(t, "ValidationException", "generate-mac/"+id, body{"message": "", "mac_algorithm": s.algorithm})
	m.refused(t, "NotFoundException", "generate-mac/"+id+"-not", body{"message": b64(message), "mac_algorithm": s.algorithm})

	macOfLongest(t, m, id, s)

	m.write(t, "disable-key/"+id, nil)
	holds(t, m.read(t, "keys/"+id), body{"key_state": "Disabled", "enabled": false})
	m.refused(t, "DisabledException", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm})
	m.refused(t, "DisabledException", "verify-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm, "mac": mac})
	m.write(t, "enable-key/"+id, nil)
	if m.mac(t, id, s, message) != mac {
		t.Error("the MAC changed")
	}

	if got := m.list(t, "keys"); !slices.Contains(got, "team/") {
		t.Errorf("listing keys: %v", got)
	}
	if got := m.list(t, "keys/team/"); !slices.Contains(got, s.name) {
		t.Errorf("listing keys/team: %v", got)
	}
	detailed := m.do(t, "GET", "keys/team/?list=true&detailed=true", nil).Data["key_info"].(body)
	holds(t, detailed[s.name].(body), body{"key_spec": s.name, "key_state": "Enabled", "origin": "AWS_KMS"})

	used := m.read(t, "get-key-last-usage/"+id)["key_last_usage"].(body)
	if used["operation"] != "GenerateMac" || used["timestamp"] == "" {
		t.Errorf("last use %v", used)
	}

	// The deletion, to which Vault's own delete comes down as well.
	holds(t, m.write(t, "schedule-key-deletion/"+id, body{"pending_window_in_days": 7}), body{
		"key_id": id, "key_state": "PendingDeletion", "pending_window_in_days": 7.0,
	})
	m.refused(t, "KMSInvalidStateException", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": s.algorithm})
	holds(t, m.write(t, "cancel-key-deletion/"+id, nil), body{"key_id": id, "key_state": "Disabled"})
	holds(t, m.do(t, "DELETE", "keys/"+id, nil).Data, body{"key_state": "PendingDeletion", "pending_window_in_days": 30.0})
	holds(t, m.write(t, "cancel-key-deletion/"+id, nil), body{"key_state": "Disabled"})
}

func generatedID(t *testing.T, m mount) {
	id, _ := m.write(t, "keys", body{"key_spec": "HMAC_256", "key_usage": "GENERATE_VERIFY_MAC"})["key_id"].(string)
	if len(id) != 36 || !slices.Contains(m.list(t, "keys"), id) {
		t.Fatalf("key id %q", id)
	}
	m.mac(t, id, hmac256, []byte("x"))
	primary := m.write(t, "keys", body{"key_spec": "HMAC_256", "multi_region": true})
	if id, _ := primary["key_id"].(string); !strings.HasPrefix(id, "mrk-") || primary["multi_region"] != true {
		t.Errorf("multi-Region key %v", primary)
	}
	a, err := m.request(t.Context(), "GET", "keys/none", nil)
	must(t, err)
	if a.status != 404 {
		t.Errorf("describing a key that is not there: status %d", a.status)
	}
}

func aliasJob(t *testing.T, m mount) {
	m.newKey(t, "aliased/one", hmac256)
	m.newKey(t, "aliased/two", hmac256)
	created := m.write(t, "aliases/aliased/current", body{"target_key_id": "aliased/one", "must_exist": false})
	holds(t, created, body{"alias_name": "alias/aliased/current", "target_key_id": "aliased/one"})
	m.refused(t, "AlreadyExistsException", "aliases/aliased/current", body{"target_key_id": "aliased/one", "must_exist": false})
	m.refused(t, "NotFoundException", "aliases/aliased/other", body{"target_key_id": "aliased/one", "must_exist": true})
	m.refused(t, "NotFoundException", "aliases/aliased/other", body{"target_key_id": "aliased/none"})
	m.refused(t, "NotAuthorizedException", "aliases/aws/s3", body{"target_key_id": "aliased/one"})
	m.refused(t, "ValidationException", "aliases/elsewhere/x", body{"target_key_id": "aliased/one"})

	message := []byte("hello")
	mac := m.mac(t, "alias/aliased/current", hmac256, message)
	if id := m.verify(t, "alias/aliased/current", hmac256, message, mac); id != "aliased/one" {
		t.Errorf("verified by %q", id)
	}
	holds(t, m.read(t, "keys/alias/aliased/current"), body{"key_id": "aliased/one"})
	m.refused(t, "InvalidArnException", "disable-key/alias/aliased/current", nil)

	m.write(t, "aliases/aliased/current", body{"target_key_id": "aliased/two"})
	if m.mac(t, "alias/aliased/current", hmac256, message) == mac {
		t.Error("the alias has not moved")
	}
	m.wrongMac(t, "alias/aliased/current", hmac256, message, mac)
	if got := m.list(t, "aliases/aliased/"); !slices.Equal(got, []string{"current"}) {
		t.Errorf("aliases %v", got)
	}
	if got := m.do(t, "GET", "aliases/?list=true&target_key_id=aliased/two", nil).Data["keys"]; !slices.Equal(stringsOf(got), []string{"aliased/current"}) {
		t.Errorf("aliases of aliased/two: %v", got)
	}
	m.do(t, "DELETE", "aliases/aliased/current", nil)
	m.refused(t, "NotFoundException", "generate-mac/alias/aliased/current", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
}

func tagJob(t *testing.T, m mount) {
	m.write(t, "keys/tagged", body{"key_spec": "HMAC_256", "tags": body{"env": "prod", "empty": ""}})
	m.write(t, "tag-resource/tagged", body{"tags": body{"team": "payments", "env": "test"}})
	m.write(t, "untag-resource/tagged", body{"tag_keys": "empty,unknown"})
	m.refused(t, "TagException", "tag-resource/tagged", body{"tags": body{"aws:x": "1"}})
	tags := m.read(t, "keys/tagged")["tags"].(body)
	holds(t, tags, body{"team": "payments", "env": "test"})
	if len(tags) != 2 {
		t.Errorf("tags %v", tags)
	}
	holds(t, m.write(t, "keys/tagged", body{"description": "new"}), body{"description": "new", "key_spec": "HMAC_256"})
}

func importJob(t *testing.T, m mount) {
	material, message := random(hmac256.bytes), someMessage()
	m.importKey(t, "imported", hmac256, material)
	mac := b64(hmac256.mac(material, message))
	if got := m.mac(t, "imported", hmac256, message); got != mac {
		t.Errorf("got %s, want %s", got, mac)
	}
	holds(t, m.write(t, "delete-imported-key-material/imported", nil), body{"key_state": "PendingImport"})
	m.refused(t, "KMSInvalidStateException", "generate-mac/imported", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
	token, wrapped := m.wrap(t, "imported", random(32))
	m.refused(t, "IncorrectKeyMaterialException", "import-key-material/imported", body{
		"import_token": token, "encrypted_key_material": wrapped, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
	})
	m.importMaterial(t, "imported", material)
	m.verify(t, "imported", hmac256, message, mac)
}

func settingsJob(t *testing.T, m mount) {
	holds(t, m.read(t, "config"), body{"pending_window_in_days": 30.0, "alias_scope": "folder"})
	m.write(t, "config", body{"pending_window_in_days": 10, "alias_scope": "any"})
	m.refused(t, "ValidationException", "config", body{"pending_window_in_days": 6})
	m.newKey(t, "settings/key", hmac256)
	m.write(t, "aliases/anywhere", body{"target_key_id": "settings/key"})
	holds(t, m.do(t, "DELETE", "keys/settings/key", nil).Data, body{"pending_window_in_days": 10.0})
	m.write(t, "config", body{"pending_window_in_days": 30, "alias_scope": "folder"})
}

// macOfLongest makes and verifies the MAC of the longest message.
func macOfLongest(t *testing.T, m mount, id string, s spec) {
	t.Helper()
	message := random(4096)
	m.verify(t, id, s, message, m.mac(t, id, s, message))
}

// holds expects the data to have these members.
func holds(t *testing.T, data, want body) {
	t.Helper()
	for name, value := range want {
		if data[name] != value {
			t.Errorf("%s is %v, want %v", name, data[name], value)
		}
	}
}

// TestCommandLine does the main job with the vault command.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	server, key, algorithm := m.server, "payments/tokens", "mac_algorithm=HMAC_SHA_256"
	at := func(path string) string { return m.path + "/" + path }
	message, tampered := "message="+b64([]byte("pay 10 EUR")), "message="+b64([]byte("pay 99 EUR"))

	cli(t, server, 0, "write", at("keys/"+key), "key_spec=HMAC_256", "tags=team=payments", "tags=env=prod")
	table := cli(t, server, 0, "read", at("keys/"+key)).Stdout
	for _, want := range []string{"key_spec", "HMAC_256", "key_state", "Enabled", "env:prod"} {
		if !strings.Contains(table, want) {
			t.Errorf("vault read does not show %q:\n%s", want, table)
		}
	}
	if got := cli(t, server, 0, "list", "-format=json", at("keys/payments")).Stdout; strings.Join(strings.Fields(got), "") != `["tokens"]` {
		t.Errorf("vault list printed %s", got)
	}
	if got := cli(t, server, 0, "list", "-detailed", at("keys/payments")).Stdout; !strings.Contains(got, "tokens") {
		t.Errorf("vault list -detailed printed %s", got)
	}

	var envelope struct{ Data body }
	out := cli(t, server, 0, "write", "-format=json", at("generate-mac/"+key), algorithm, message).Stdout
	must(t, json.Unmarshal([]byte(out), &envelope))
	mac := cli(t, server, 0, "write", "-field=mac", at("generate-mac/"+key), algorithm, message).Stdout
	if mac == "" || envelope.Data["mac"] != mac || strings.ContainsAny(mac, "\n ") {
		t.Errorf("-field=mac printed %q, -format=json %v", mac, envelope.Data)
	}
	out = cli(t, server, 0, "write", at("verify-mac/"+key), algorithm, message, "mac="+mac).Stdout
	if !strings.Contains(out, "mac_valid") || !strings.Contains(out, "true") {
		t.Errorf("vault write verify-mac printed %s", out)
	}

	// A wrong MAC is an error for scripts, too.
	wrong := cli(t, server, 2, "write", at("verify-mac/"+key), algorithm, tampered, "mac="+mac)
	if wrong.Stdout != "" || !strings.Contains(wrong.Stderr, "Code: 400") || !strings.Contains(wrong.Stderr, "* KMSInvalidMacException: ") {
		t.Errorf("a wrong MAC printed %q and %q", wrong.Stdout, wrong.Stderr)
	}

	// What has nothing to say says so.
	for _, args := range [][]string{
		{"write", "-f", at("disable-key/" + key)},
		{"write", "-f", at("enable-key/" + key)},
		{"write", at("tag-resource/" + key), "tags=owner=me"},
		{"write", at("untag-resource/" + key), "tag_keys=owner,env"},
	} {
		if out := cli(t, server, 0, args...).Stdout; !strings.HasPrefix(out, "Success! Data written to: ") {
			t.Errorf("vault %v printed %q", args, out)
		}
	}
	cli(t, server, 0, "write", at("aliases/payments/current"), "target_key_id="+key)
	if out := cli(t, server, 0, "delete", at("keys/"+key)); !strings.Contains(out.Stdout+out.Stderr, "alias/payments/current") {
		t.Errorf("vault delete warns of no alias: %q, %q", out.Stdout, out.Stderr)
	}
	cli(t, server, 0, "write", "-f", at("cancel-key-deletion/"+key))
	if out := cli(t, server, 0, "delete", at("aliases/payments/current")).Stdout; !strings.HasPrefix(out, "Success! Data deleted") {
		t.Errorf("vault delete printed %q", out)
	}
	if out := cli(t, server, 2, "read", at("keys/payments/none")); !strings.Contains(out.Stderr, "No value found") {
		t.Errorf("vault read of no key printed %q", out.Stderr)
	}
	if out := cli(t, server, 2, "write", at("keys/payments/x"), "key_spec=HMAC_256", "key_spek=HMAC_256"); !strings.Contains(out.Stderr, `unknown field "key_spek"`) {
		t.Errorf("a misspelled field printed %q", out.Stderr)
	}
}
