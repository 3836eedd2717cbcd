package kmshmac

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

func TestCreateAndDescribeEverySpec(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, spec := range testSpecs {
		t.Run(string(spec.spec), func(t *testing.T) {
			t.Parallel()
			id := "folder/" + string(spec.spec)
			want := fields{
				"key_id": id, "key_spec": string(spec.spec), "customer_master_key_spec": string(spec.spec),
				"key_usage": "GENERATE_VERIFY_MAC", "mac_algorithms": []any{string(spec.algorithm)},
				"key_state": "Enabled", "enabled": true, "origin": "AWS_KMS", "key_manager": "CUSTOMER",
				"multi_region": false, "description": "", "tags": fields{},
				"creation_date": testStart, "last_used": nil,
			}
			require.Equal(t, want, write(t, m, "keys/"+id, fields{"key_spec": spec.spec}))
			require.Equal(t, want, read(t, m, "keys/"+id))
			require.Len(t, readStoredKey(t, m, id).Material, spec.bytes)
		})
	}
}

// The members of KMS's KeyMetadata by state: those that come and go.
func TestDescribeMembersByState(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	inAnHour := m.clock.now().Add(time.Hour).UTC().Format(time.RFC3339)
	tests := []struct {
		name, origin string
		prepare      func(id string)
		want         fields // beside the members that are always there
	}{
		{"Enabled", "AWS_KMS", func(string) {}, fields{"key_state": "Enabled", "enabled": true}},
		{"Disabled", "AWS_KMS", func(id string) { write(t, m, "disable-key/"+id, nil) }, fields{"key_state": "Disabled", "enabled": false}},
		{"PendingDeletion", "AWS_KMS", func(id string) {
			write(t, m, "schedule-key-deletion/"+id, fields{"pending_window_in_days": 7})
		}, fields{"key_state": "PendingDeletion", "enabled": false, "deletion_date": "2026-11-29T10:20:30.456Z", "pending_window_in_days": 7.0}},
		{"PendingImport", "EXTERNAL", func(string) {}, fields{"key_state": "PendingImport", "enabled": false}},
		{"imported", "EXTERNAL", func(id string) { importMaterial(t, m, id, material32) }, fields{"key_state": "Enabled", "enabled": true, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE"}},
		{"imported, expires", "EXTERNAL", func(id string) {
			data := importParameters(t, m, id, "RSAES_OAEP_SHA_256", "RSA_2048").fields(t, material32)
			data["expiration_model"], data["valid_to"] = "KEY_MATERIAL_EXPIRES", inAnHour
			write(t, m, "import-key-material/"+id, data)
		}, fields{"key_state": "Enabled", "enabled": true, "expiration_model": "KEY_MATERIAL_EXPIRES", "valid_to": "2026-11-22T11:20:30.000Z"}},
		{"imported and deleted", "EXTERNAL", func(id string) {
			importMaterial(t, m, id, material32)
			write(t, m, "delete-imported-key-material/"+id, nil)
		}, fields{"key_state": "PendingImport", "enabled": false}},
		{"imported, PendingDeletion", "EXTERNAL", func(id string) {
			importMaterial(t, m, id, material32)
			write(t, m, "schedule-key-deletion/"+id, nil)
		}, fields{
			"key_state": "PendingDeletion", "enabled": false, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
			"deletion_date": "2026-12-22T10:20:30.456Z", "pending_window_in_days": 30.0,
		}},
		{"deletion cancelled", "AWS_KMS", func(id string) {
			write(t, m, "schedule-key-deletion/"+id, nil)
			write(t, m, "cancel-key-deletion/"+id, nil)
		}, fields{"key_state": "Disabled", "enabled": false}},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id := fmt.Sprint("key-", i)
			createKey(t, m, id, fields{"origin": test.origin})
			test.prepare(id)
			want := fields{
				"key_id": id, "key_spec": "HMAC_256", "customer_master_key_spec": "HMAC_256", "key_usage": "GENERATE_VERIFY_MAC",
				"mac_algorithms": []any{"HMAC_SHA_256"}, "origin": test.origin, "key_manager": "CUSTOMER", "multi_region": false,
				"description": "", "tags": fields{}, "creation_date": testStart, "last_used": nil,
			}
			maps.Copy(want, test.want)
			require.Equal(t, want, read(t, m, "keys/"+id))
		})
	}
}

func TestMultiRegionKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	data := write(t, m, "keys", fields{"key_spec": "HMAC_512", "multi_region": true})
	require.Regexp(t, "^mrk-[0-9a-f]{32}$", data["key_id"])
	require.Equal(t, true, data["multi_region"])
	require.Equal(t, fields{"multi_region_key_type": "PRIMARY", "replica_keys": []any{}}, data["multi_region_configuration"])
	chosen := createKey(t, m, "a", fields{"multi_region": "true"})
	require.Equal(t, "a", chosen["key_id"])
	require.Equal(t, true, chosen["multi_region"])
}

func TestGeneratedKeyIDs(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	seen := map[string]bool{}
	for range 20 {
		id := write(t, m, "keys", fields{"key_spec": "HMAC_224"})["key_id"].(string)
		require.True(t, kms.IsKMSKeyID(id))
		require.False(t, seen[id])
		seen[id] = true
		require.Equal(t, "Enabled", keyState(t, m, id))
	}
}

// No two keys have the same material.
func TestMaterialIsRandom(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	seen := map[string]bool{}
	for i := range 50 {
		id := fmt.Sprint(i)
		createKey(t, m, id)
		seen[macOf(t, m, id, "m")] = true
	}
	require.Len(t, seen, 50)
}

func TestCreateRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	long := strings.Repeat("x", 8193)
	tests := []struct {
		name, id              string
		data                  fields
		wantType, wantMessage string
	}{
		{"nothing", "a", nil, "NotFoundException", "Key 'a' does not exist"},
		{"only a description", "a", fields{"description": "x"}, "NotFoundException", "Key 'a' does not exist"},
		{"other usage", "a", fields{"key_spec": "HMAC_256", "key_usage": "ENCRYPT_DECRYPT"}, "ValidationException", "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec HMAC_256"},
		{"unknown usage", "a", fields{"key_spec": "HMAC_256", "key_usage": "X"}, "ValidationException", "1 validation error detected: Value 'X' at 'key_usage' failed to satisfy constraint: Member must satisfy enum value set: [GENERATE_VERIFY_MAC]"},
		{"no spec", "a", fields{"origin": "EXTERNAL"}, "UnsupportedOperationException", "KeySpec SYMMETRIC_DEFAULT is not supported."},
		{"RSA", "a", fields{"key_spec": "RSA_2048", "key_usage": "SIGN_VERIFY"}, "UnsupportedOperationException", "KeySpec RSA_2048 is not supported."},
		{"CloudHSM", "a", fields{"key_spec": "HMAC_256", "origin": "AWS_CLOUDHSM"}, "UnsupportedOperationException", "Origin AWS_CLOUDHSM is not supported for KeySpec HMAC_256."},
		{"long description", "a", fields{"key_spec": "HMAC_256", "description": long}, "ValidationException", "1 validation error detected: Value '" + long[:512] + "...' at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192"},
		{"bad tag", "a", fields{"key_spec": "HMAC_256", "tags": fields{"aws:x": "1"}}, "TagException", "Tags beginning with aws: are reserved"},
		{"bad id", "a..b", fields{"key_spec": "HMAC_256"}, "NotFoundException", "Invalid keyId 'a..b'"},
		{"bad id and bad spec", "a..b", fields{"key_spec": "X", "key_usage": "GENERATE_VERIFY_MAC"}, "ValidationException", "1 validation error detected: Value 'X' at 'key_spec' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_224, HMAC_256, HMAC_384, HMAC_512]"},
		{"long id", strings.Repeat("a", 257), fields{"key_spec": "HMAC_256"}, "NotFoundException", "Invalid keyId '" + strings.Repeat("a", 257) + "'"},
		{"alias", "alias/a", fields{"key_spec": "HMAC_256"}, "InvalidArnException", "Key Aliases are not supported for this operation."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			writeRefused(t, m, "keys/"+test.id, test.data, test.wantType, test.wantMessage)
			require.Empty(t, storageKeys(t, m, keyPrefix))
		})
	}
}

func TestRepeatedCreateChangesNothing(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		first := createKey(t, m, "a", fields{"description": "d", "tags": fields{"k": "v"}})
		record := rawRecord(t, m, keyPrefix+"a")
		mac := macOf(t, m, "a", "m")
		m.clock.advance(time.Hour)
		m.storage.Underlying().FailPut(true) // it does not even write
		again := createKey(t, m, "a", fields{"description": "d", "tags": fields{"k": "v"}, "key_usage": "GENERATE_VERIFY_MAC", "origin": "AWS_KMS", "multi_region": false})
		m.storage.Underlying().FailPut(false)
		again["last_used"] = nil
		require.Equal(t, first, again)
		require.Equal(t, record, rawRecord(t, m, keyPrefix+"a"))
		require.Equal(t, mac, macOf(t, m, "a", "m"))
	})
}

func TestRewriteRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	tests := []struct {
		name, field string
		value       any
		wantMessage string
	}{
		{"spec", "key_spec", "HMAC_512", "Key 'a' already exists with key_spec HMAC_256"},
		{"usage", "key_usage", "SIGN_VERIFY", "Key 'a' already exists with key_usage GENERATE_VERIFY_MAC"},
		{"origin", "origin", "EXTERNAL", "Key 'a' already exists with origin AWS_KMS"},
		{"multi-Region", "multi_region", true, "Key 'a' already exists with multi_region false"},
	}
	before := rawRecord(t, m, keyPrefix+"a")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rest := writeRefused(t, m, "keys/a", fields{test.field: test.value, "description": "new"}, "AlreadyExistsException", test.wantMessage)
			require.Equal(t, fields{"key_id": "a"}, rest)
			require.Equal(t, before, rawRecord(t, m, keyPrefix+"a"))
		})
	}
}

func TestChangeDescriptionAndTags(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a", fields{"description": "old", "tags": fields{"k": "v", "x": "y"}})
		data := write(t, m, "keys/a", fields{"description": ""})
		require.Equal(t, "", data["description"])
		require.Equal(t, fields{"k": "v", "x": "y"}, data["tags"], "what is not named stays")
		data = write(t, m, "keys/a", fields{"tags": []string{"k=w"}})
		require.Equal(t, fields{"k": "w"}, data["tags"], "tags replaces all")
		data = write(t, m, "keys/a", fields{"tags": fields{}})
		require.Equal(t, fields{}, data["tags"])
		data = write(t, m, "keys/a", fields{"description": nil, "tags": nil})
		require.Equal(t, "", data["description"], "null is absent")

		write(t, m, "schedule-key-deletion/a", nil)
		for _, description := range []string{"new", ""} { // "" is what it has
			writeRefused(t, m, "keys/a", fields{"description": description}, "KMSInvalidStateException", "a is pending deletion.")
		}
	})
}

func TestReadWhatIsNotThere(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"a", "a..b", "a//b", "alias", "alias/x", "alias/a.b"} {
		require.Nil(t, read(t, m, "keys/"+id), "%s is 404", id)
	}
}

func TestReadThroughAlias(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	require.Equal(t, read(t, m, "keys/a"), read(t, m, "keys/alias/x"))
}

func TestListFolders(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		for _, id := range []string{"b", "a", "payments/x", "payments/eu/y", "payments.z", "payments"} {
			createKey(t, m, id)
		}
		require.Equal(t, []string{"a", "b", "payments", "payments.z", "payments/"}, names(t, m, "keys/", nil))
		require.Equal(t, []string{"eu/", "x"}, names(t, m, "keys/payments/", nil))
		require.Equal(t, []string{"y"}, names(t, m, "keys/payments/eu/", nil))
		for _, empty := range []string{"none/", "a/", "../", "a..b/", "alias/"} {
			require.Empty(t, do(t, m, logical.ListOperation, "keys/"+empty, nil), "%s is 404", empty)
		}
	})
}

func TestListPages(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	var all []string
	for i := range 10 {
		id := fmt.Sprintf("key-%02d", i)
		createKey(t, m, id)
		all = append(all, id)
	}
	createKey(t, m, "folder/x")
	all = append([]string{"folder/"}, all...)

	var paged []string
	after := ""
	for pages := 1; ; pages++ {
		data := do(t, m, logical.ListOperation, "keys/", fields{"limit": "3", "after": after})
		for _, name := range data["keys"].([]any) {
			paged = append(paged, name.(string))
		}
		if data["truncated"] == false {
			require.NotContains(t, data, "next_after")
			require.Equal(t, 4, pages)
			break
		}
		after = data["next_after"].(string)
	}
	require.Equal(t, all, paged)

	require.Equal(t, []string{"key-05", "key-06"}, names(t, m, "keys/", fields{"after": "key-04x", "limit": 2}), "after need not be there")
	require.Empty(t, names(t, m, "keys/", fields{"after": "zzz"}))
	require.Len(t, names(t, m, "keys/", fields{"limit": 0}), 11)
	full := do(t, m, logical.ListOperation, "keys/", fields{"limit": 11})
	require.Equal(t, false, full["truncated"])
	refused(t, m, logical.ListOperation, "keys/", fields{"limit": -1}, "ValidationException", "limit must not be negative")
}

func TestListDetailed(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	createKey(t, m, "p/q/b")
	external(t, m, "p/c", fields{"key_spec": "HMAC_384"})
	write(t, m, "aliases/p/a", fields{"target_key_id": "p/a"})
	write(t, m, "schedule-key-deletion/p/a", fields{"pending_window_in_days": 7})
	want := fields{
		"a": fields{"key_spec": "HMAC_256", "key_state": "PendingDeletion", "origin": "AWS_KMS", "creation_date": testStart, "ends": formatTime(m.clock.now().Add(7 * day))},
		"c": fields{"key_spec": "HMAC_384", "key_state": "PendingImport", "origin": "EXTERNAL", "creation_date": testStart, "ends": ""},
	}
	// "vault list -detailed" cannot say detailed.
	for _, data := range []fields{nil, {"detailed": "true"}} {
		require.Equal(t, want, do(t, m, logical.ListOperation, "keys/p/", data)["key_info"])
	}
	require.Equal(t, fields{"a": read(t, m, "aliases/p/a")}, do(t, m, logical.ListOperation, "aliases/p/", nil)["key_info"])
	for _, path := range []string{"keys/p/", "aliases/p/"} {
		require.NotContains(t, do(t, m, logical.ListOperation, path, fields{"detailed": false}), "key_info")
	}
	// The columns are those of the inventory that are the record's.
	inventory := do(t, m, logical.ListOperation, "inventory/p", nil)["key_info"].(fields)["p/a"].(fields)
	for _, beyond := range []string{"last_used", "aliases", "grants"} {
		require.Contains(t, inventory, beyond)
		delete(inventory, beyond)
	}
	require.Equal(t, want["a"], inventory)
}

// TestListDetailsAreBounded: of a long list the first names have details. Who
// asks for those of all gets pages.
func TestListDetailsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	const n = keystore.MaxDetails + 20
	for i := range n {
		id := fmt.Sprintf("p/k%04d", i)
		putKey(t, m, id)
		putAlias(t, m, id, id, m.clock.now())
	}
	for path, perName := range map[string]int{"keys/p/": 1, "aliases/p/": 2} {
		forgetAll(t, m)
		calls := storageCalls(t, m, logical.ListOperation, path, nil)
		require.LessOrEqual(t, len(calls), perName*keystore.MaxDetails+10)
		require.LessOrEqual(t, len(storageCalls(t, m, logical.ListOperation, path, nil)), 10, "the second time")
		require.Len(t, names(t, m, path, nil), n)
		list := do(t, m, logical.ListOperation, path, nil)
		require.Len(t, list["key_info"], keystore.MaxDetails)
		require.Equal(t, false, list["truncated"])
		found := fields{}
		for after := ""; ; {
			list := do(t, m, logical.ListOperation, path, fields{"detailed": true, "after": after})
			require.Len(t, list["key_info"], len(list["keys"].([]any)))
			maps.Copy(found, list["key_info"].(fields))
			if list["truncated"] == false {
				break
			}
			after = list["next_after"].(string)
		}
		require.Len(t, found, n)
	}
}

// TestListsDoNotFailForDetails: what nobody has asked for makes no list fail.
func TestListsDoNotFailForDetails(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	putKey(t, m, "p/a")
	putKey(t, m, "p/b")
	put(t, m, keyPrefix+"p/b", fields{"version": "damaged"})
	require.Equal(t, []string{"a", "b"}, names(t, m, "keys/p/", nil))
	_, err := request(t, m, logical.ListOperation, "keys/p/", fields{"detailed": true})
	require.ErrorContains(t, err, "damaged")
}

// Listing reads no key's record, however many there are.
func TestListReadsNoRecords(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	m.storage.Underlying().FailGet(true)
	require.Equal(t, []string{"a"}, names(t, m, "keys/", nil))
}

// Many create the same key at once: one does, and all see that one.
func TestConcurrentCreatesMakeOneKey(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		var group sync.WaitGroup
		macs := make([]string, 16)
		for i := range macs {
			group.Go(func() {
				createKey(t, m, "a")
				macs[i] = macOf(t, m, "a", "m")
			})
		}
		group.Wait()
		require.Len(t, slices.Compact(macs), 1)
		require.Equal(t, []string{"a"}, storageKeys(t, m, keyPrefix))
	})
}

// Each storage call of a create can fail. The caller hears of it, and a second
// try finds either no key or a whole one.
func TestCreateWithFailingStorage(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.storage.Underlying().FailPut(true)
	_, err := request(t, m, logical.CreateOperation, "keys/a", fields{"key_spec": "HMAC_256"})
	require.ErrorContains(t, err, "KMSInternalException: ")
	m.storage.Underlying().FailPut(false)
	require.Nil(t, read(t, m, "keys/a"))
	m.storage.Underlying().FailGet(true)
	_, err = request(t, m, logical.UpdateOperation, "keys/a", fields{"key_spec": "HMAC_256"})
	require.ErrorContains(t, err, "KMSInternalException: ")
	_, err = request(t, m, logical.ReadOperation, "keys/a", nil)
	require.ErrorContains(t, err, "KMSInternalException: ")
	m.storage.Underlying().FailGet(false)
	createKey(t, m, "a")
	m.storage.Underlying().FailList(true)
	_, err = request(t, m, logical.ListOperation, "keys/", nil)
	require.ErrorContains(t, err, "KMSInternalException: ")
}

// Writing a key that is pending deletion again would let its writer, Terraform
// say, believe that it is there.
func TestWritingAKeyThatIsPendingDeletion(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a", fields{"description": "d"})
	do(t, m, logical.DeleteOperation, "keys/p/a", nil)
	for _, data := range []fields{{"key_spec": "HMAC_256"}, {"key_spec": "HMAC_256", "description": "d"}, {"description": "d"}, {"tags": fields{"a": "b"}}} {
		resp, err := request(t, m, logical.CreateOperation, "keys/p/a", data)
		require.NoError(t, err)
		require.Equal(t, "KMSInvalidStateException: p/a is pending deletion. Its deletion can be cancelled with cancel-key-deletion/p/a.", resp.Data["error"])
		require.Equal(t, "p/a is pending deletion.", resp.Data["data"].(fields)["message"])
	}
	write(t, m, "cancel-key-deletion/p/a", nil)
	require.Equal(t, "Disabled", createKey(t, m, "p/a")["key_state"])
}

// New names have no segment "alias", which would make a key of a folder look
// like an alias. Old ones go on working.
func TestTheSegmentAliasIsRefusedInNewNames(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	for _, id := range []string{"p/alias", "p/alias/a", "p/q/alias/a"} {
		writeRefused(t, m, "keys/"+id, fields{"key_spec": "HMAC_256"}, "NotFoundException", "Invalid keyId '"+id+"'")
		writeRefused(t, m, "aliases/"+id, fields{"target_key_id": "p/a"}, "ValidationException", "alias/"+id+`: no segment behind the prefix may be "alias"`)
	}
	for _, id := range []string{"p/aliases", "p/my-alias/a"} {
		createKey(t, m, id)
	}
	write(t, m, "aliases/p/aliases", fields{"target_key_id": "p/a"})

	// Such names from before the rule.
	for name, record := range map[string]fields{
		"key/p/alias/a":   {"id": "p/alias/a", "key_spec": "HMAC_256", "origin": "AWS_KMS", "material": material32, "version": 1, "creation_date": testStart},
		"alias/p/alias/a": {"name": "alias/p/alias/a", "target_key_id": "p/alias/a", "version": 1},
	} {
		put(t, m, name, record)
	}
	macOf(t, m, "p/alias/a", "m")
	macOf(t, m, "alias/p/alias/a", "m")
	write(t, m, "keys/p/alias/a", fields{"description": "d"})
	write(t, m, "aliases/p/alias/a", fields{"target_key_id": "p/a"})
	do(t, m, logical.DeleteOperation, "aliases/p/alias/a", nil)
	do(t, m, logical.DeleteOperation, "keys/p/alias/a", nil)
}
