package kmshmac

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// createGrant makes a grant and returns its id and a token of it.
func createGrant(t testing.TB, m *mount, key, grantee, operations string, more ...fields) (id, token string) {
	t.Helper()
	data := fields{"grantee_principal": grantee, "operations": operations}
	for _, f := range more {
		for name, value := range f {
			data[name] = value
		}
	}
	answer := write(t, m, "create-grant/"+key, data)
	return answer["grant_id"].(string), answer["grant_token"].(string)
}

func requireForbidden(t *testing.T, m *mount, path string, data fields) {
	t.Helper()
	_, err := request(t, m, logical.UpdateOperation, path, data)
	require.Equal(t, logical.ErrPermissionDenied, err, "exactly this one survives the plugin boundary")
}

func TestGrantLife(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "p/a")
		id, token := createGrant(t, m, "p/a", "grantee", "GenerateMac,DescribeKey", fields{"name": "n", "retiring_principal": "retirer"})
		require.Regexp(t, "^[0-9a-f]{64}$", id)
		entry := fields{
			"key_id": "p/a", "grant_id": id, "name": "n", "creation_date": "2026-11-22T10:20:30.000Z",
			"grantee_principal": "grantee", "retiring_principal": "retirer", "operations": []any{"GenerateMac", "DescribeKey"},
		}
		require.Equal(t, fields{"grants": []any{entry}, "truncated": false}, read(t, m, "list-grants/p/a"))
		retirable := do(t, m, logical.ReadOperation, "list-retirable-grants/retirer", nil)
		require.Equal(t, fields{"grants": []any{entry}, "truncated": false}, retirable)

		data := macFields("m")
		data["grant_tokens"] = []string{token}
		require.Equal(t, "p/a", write(t, m, "generate-mac/p/a", data)["key_id"])
		require.Equal(t, "p/a", write(t, m.as("grantee"), "granted/generate-mac/p/a", macFields("m"))["key_id"])

		write(t, m, "revoke-grant/p/a", fields{"grant_id": id})
		require.Empty(t, read(t, m, "list-grants/p/a")["grants"])
		require.Empty(t, do(t, m, logical.ReadOperation, "list-retirable-grants/retirer", nil)["grants"])
		writeRefused(t, m, "generate-mac/p/a", data, "InvalidGrantTokenException", "The grant token is not valid.")
		requireForbidden(t, m.as("grantee"), "granted/generate-mac/p/a", macFields("m"))
		writeRefused(t, m, "revoke-grant/p/a", fields{"grant_id": id}, "NotFoundException", "Grant ID "+id+" not found")
		require.Equal(t, []string{"key/p/a"}, storageKeys(t, m, ""), "no hint is left")
	})
}

// The same name with the same parameters is the same grant, with a new token;
// without a name every request makes a grant.
func TestNamedGrants(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	named := fields{"name": "n"}
	first, firstToken := createGrant(t, m, "a", "e", "GenerateMac", named)
	again, againToken := createGrant(t, m, "a", "e", "GenerateMac", named)
	require.Equal(t, first, again)
	require.NotEqual(t, firstToken, againToken)
	for _, token := range []string{firstToken, againToken} {
		data := macFields("m")
		data["grant_tokens"] = token
		write(t, m, "generate-mac/a", data)
	}
	ids := map[string]bool{first: true}
	for _, other := range []func() (string, string){
		func() (string, string) { return createGrant(t, m, "a", "e", "VerifyMac", named) },
		func() (string, string) { return createGrant(t, m, "a", "f", "GenerateMac", named) },
		func() (string, string) { return createGrant(t, m, "b", "e", "GenerateMac", named) },
		func() (string, string) { return createGrant(t, m, "a", "e", "GenerateMac") },
		func() (string, string) { return createGrant(t, m, "a", "e", "GenerateMac") },
		func() (string, string) {
			return createGrant(t, m, "a", "e", "GenerateMac", named, fields{"retiring_principal": "r"})
		},
	} {
		id, _ := other()
		require.False(t, ids[id])
		ids[id] = true
	}
}

func TestCreateGrantRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	const operations = "Operations [%s] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. Valid operations are [CreateGrant, RetireGrant, DescribeKey, GenerateMac, VerifyMac]"
	tests := []struct {
		name, key             string
		change                fields
		wantType, wantMessage string
	}{
		{"other operation", "a", fields{"operations": "Encrypt"}, "ValidationException", fmt.Sprintf(operations, "Encrypt")},
		{"no grantee", "a", fields{"grantee_principal": nil}, "ValidationException", "1 validation error detected: Value null at 'grantee_principal' failed to satisfy constraint: Member must not be null"},
		{"no operations", "a", fields{"operations": nil}, "ValidationException", "1 validation error detected: Value null at 'operations' failed to satisfy constraint: Member must not be null"},
		{"bad name", "a", fields{"name": "a b"}, "ValidationException", "1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{"constraints", "a", fields{"constraints": fields{"EncryptionContextEquals": fields{"a": "b"}}}, "ValidationException", "EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key."},
		{"constraint on the source", "a", fields{"constraints": fields{"source_arn": "arn:aws:rds:us-east-1:111122223333:db:x"}}, "UnsupportedOperationException", "SourceArn is not supported."},
		{"service", "a", fields{"grantee_service_principal": "rds.amazonaws.com"}, "ValidationException", `unknown field "grantee_service_principal": this path takes constraints, dry_run, grant_tokens, grantee_principal, name, operations, retiring_principal`},
		{"bad token", "a", fields{"grant_tokens": "x"}, "InvalidGrantTokenException", "The grant token is not valid."},
		{"no such key", "b", nil, "NotFoundException", "Key 'b' does not exist"},
		{"model before lookup", "b", fields{"grantee_principal": nil}, "ValidationException", "1 validation error detected: Value null at 'grantee_principal' failed to satisfy constraint: Member must not be null"},
		{"lookup before operations", "b", fields{"operations": "Encrypt"}, "NotFoundException", "Key 'b' does not exist"},
		{"dry run", "a", fields{"dry_run": true}, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := fields{"grantee_principal": "e", "operations": "GenerateMac"}
			for name, value := range test.change {
				data[name] = value
			}
			writeRefused(t, m, "create-grant/"+test.key, data, test.wantType, test.wantMessage)
			require.Empty(t, storageKeys(t, m, grantPrefix))
		})
	}
}

func TestGrantToAnUnknownEntityWarns(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.b.System().(*logical.StaticSystemView).EntityVal = nil
	createKey(t, m, "a")
	resp, err := request(t, m, logical.UpdateOperation, "create-grant/a", fields{"grantee_principal": "nobody", "operations": "GenerateMac"})
	require.NoError(t, err)
	require.Len(t, resp.Warnings, 1)
}

// A path below granted/ works for whom a grant allows exactly that, and looks
// the same to all others, whether there is such a key or not and whatever else
// is wrong with the request.
func TestGranted(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a")
		createKey(t, m, "other")
		write(t, m, "aliases/x", fields{"target_key_id": "a"})
		mac := macOf(t, m, "a", "m")
		grant := fields{"grantee_principal": "e2", "operations": "RetireGrant"}
		tests := []struct {
			name, path, operation string
			data                  fields
		}{
			{"generate-mac", "granted/generate-mac/", "GenerateMac", macFields("m")},
			{"verify-mac", "granted/verify-mac/", "VerifyMac", verifyFieldsOf("m", mac)},
			{"describe-key", "granted/describe-key/", "DescribeKey", nil},
			{"create-grant", "granted/create-grant/", "CreateGrant,RetireGrant", grant},
		}
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				entity := m.as("holder-of-" + test.name)
				createGrant(t, m, "a", entity.entity, test.operation)
				require.NotNil(t, write(t, entity, test.path+"a", test.data))
				if test.name != "create-grant" {
					require.NotNil(t, write(t, entity, test.path+"alias/x", test.data))
				}
				for _, other := range tests {
					if other.name != test.name {
						requireForbidden(t, entity, other.path+"a", other.data)
					}
				}
				for _, who := range []string{"", "stranger"} {
					for _, key := range []string{"a", "none", "a..b", "alias/x", "alias/none", "alias/a.b"} {
						requireForbidden(t, m.as(who), test.path+key, test.data)
						if test.data != nil {
							requireForbidden(t, m.as(who), test.path+key, nil)
						}
					}
				}
				requireForbidden(t, entity, test.path+"other", test.data)
				requireForbidden(t, entity, test.path+"none", test.data)
			})
		}
	})
}

// A grantee that may create grants cannot hand out more than it has.
func TestGrantedCreateGrantCannotAllowMore(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createGrant(t, m, "a", "e", "CreateGrant,GenerateMac")
	createGrant(t, m, "a", "e", "VerifyMac")
	tests := []struct {
		name, operations string
		allowed          bool
	}{
		{"what it has", "GenerateMac", true},
		{"all it has", "GenerateMac,CreateGrant", true},
		{"what it has by another grant", "VerifyMac", false},
		{"more than it has", "DescribeKey", false},
		{"some of it more", "GenerateMac,DescribeKey", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			data := fields{"grantee_principal": "f", "operations": test.operations}
			if !test.allowed {
				requireForbidden(t, m.as("e"), "granted/create-grant/a", data)
				return
			}
			write(t, m.as("e"), "granted/create-grant/a", data)
		})
	}
}

// With a grant, KMS's checks go on in KMS's order.
func TestGrantedRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createGrant(t, m, "a", "e", "GenerateMac")
	e := m.as("e")
	writeRefused(t, e, "granted/generate-mac/a", fields{"message": "bQ=="}, "ValidationException", "1 validation error detected: Value null at 'mac_algorithm' failed to satisfy constraint: Member must not be null")
	write(t, m, "disable-key/a", nil)
	writeRefused(t, e, "granted/generate-mac/a", macFields("m"), "DisabledException", "a is disabled.")
	requireForbidden(t, m.as("f"), "granted/generate-mac/a", macFields("m"))
	write(t, m, "enable-key/a", nil)
	data := write(t, e, "granted/generate-mac/a", fields{"messages": "bQ==,bg==", "mac_algorithm": "HMAC_SHA_256"})
	require.Len(t, strings.Split(data["macs"].(string), ","), 2)
}

func TestRetireGrant(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, who, operations string
		allowed               bool
	}{
		{"retiring principal", "retirer", "GenerateMac", true},
		{"grantee with RetireGrant", "grantee", "RetireGrant,GenerateMac", true},
		{"grantee without", "grantee", "GenerateMac", false},
		{"somebody else", "stranger", "RetireGrant", false},
		{"a token without an entity", "", "RetireGrant", false},
	}
	for _, test := range tests {
		for _, by := range []string{"token", "id"} {
			t.Run(test.name+"/"+by, func(t *testing.T) {
				t.Parallel()
				m := newMount(t)
				createKey(t, m, "a")
				id, token := createGrant(t, m, "a", "grantee", test.operations, fields{"retiring_principal": "retirer"})
				data := fields{"grant_token": token}
				if by == "id" {
					data = fields{"key_id": "a", "grant_id": id}
				}
				if !test.allowed {
					requireForbidden(t, m.as(test.who), "retire-grant", data)
					require.Len(t, read(t, m, "list-grants/a")["grants"], 1)
					return
				}
				data["dry_run"] = true
				writeRefused(t, m.as(test.who), "retire-grant", data, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
				require.Len(t, read(t, m, "list-grants/a")["grants"], 1)
				delete(data, "dry_run")
				require.Nil(t, write(t, m.as(test.who), "retire-grant", data))
				require.Empty(t, read(t, m, "list-grants/a")["grants"])
			})
		}
	}
}

// The owner of a key, whom a policy on the path allows it, retires any grant of
// it, and none of another key.
func TestRetireGrantOfKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	createKey(t, m, "q/b")
	for _, who := range []string{"", "owner"} {
		for _, by := range []string{"grant_token", "grant_id"} {
			id, token := createGrant(t, m, "p/a", "e", "GenerateMac", fields{"retiring_principal": "r"})
			data := fields{by: map[string]string{"grant_token": token, "grant_id": id}[by]}
			owner := m.as(who)
			if by == "grant_token" {
				writeRefused(t, owner, "retire-grant/q/b", data, "InvalidGrantTokenException", "The grant token is not valid.")
			} else {
				writeRefused(t, owner, "retire-grant/q/b", data, "NotFoundException", "Grant ID "+id+" not found")
			}
			writeRefused(t, owner, "retire-grant/none", data, "NotFoundException", "Key 'none' does not exist")
			data["dry_run"] = true
			writeRefused(t, owner, "retire-grant/p/a", data, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
			delete(data, "dry_run")
			require.Len(t, read(t, m, "list-grants/p/a")["grants"], 1)
			require.Nil(t, write(t, owner, "retire-grant/p/a", data))
			require.Empty(t, read(t, m, "list-grants/p/a")["grants"])
		}
	}
	for _, data := range []fields{nil, {"grant_token": "t", "grant_id": "i"}} {
		writeRefused(t, m, "retire-grant/p/a", data, "ValidationException", "give either grant_token or grant_id")
	}
}

// A grant to describe a key shows what DescribeKey of KMS shows.
func TestGrantedDescriptionHasNoMore(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a", fields{"tags": fields{"owner": "somebody"}})
	macOf(t, m, "a", "m")
	createGrant(t, m, "a", "e", "DescribeKey")
	all := read(t, m, "keys/a")
	require.Contains(t, all, "tags")
	require.NotNil(t, all["last_used"])
	delete(all, "tags")
	delete(all, "last_used")
	require.Equal(t, all, write(t, m.as("e"), "granted/describe-key/a", nil))
}

// A grant is about one key: through an alias with an overlap it does not verify
// MACs of keys that it does not name.
func TestGrantsAndFormerKeysOfAnAlias(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "old")
	createKey(t, m, "new")
	write(t, m, "aliases/x", fields{"target_key_id": "old"})
	former := macOf(t, m, "alias/x", "m")
	write(t, m, "aliases/x", fields{"target_key_id": "new", "overlap": "24h"})
	current := macOf(t, m, "alias/x", "m")
	createGrant(t, m, "new", "e", "VerifyMac")
	e := m.as("e")
	verify := func(mac string) fields { return verifyFieldsOf("m", mac) }
	require.Equal(t, "old", write(t, m, "verify-mac/alias/x", verify(former))["key_id"])
	require.Equal(t, "new", write(t, e, "granted/verify-mac/alias/x", verify(current))["key_id"])
	writeRefused(t, e, "granted/verify-mac/alias/x", verify(former), "KMSInvalidMacException", "")
	batch := fields{"mac_algorithm": "HMAC_SHA_256", "messages": b64("m") + "," + b64("m"), "macs": former + "," + current}
	require.Equal(t, "false,true", write(t, e, "granted/verify-mac/alias/x", batch)["macs_valid"])

	createGrant(t, m, "old", "e", "GenerateMac") // of another operation
	writeRefused(t, e, "granted/verify-mac/alias/x", verify(former), "KMSInvalidMacException", "")
	createGrant(t, m, "old", "e", "VerifyMac")
	require.Equal(t, "old", write(t, e, "granted/verify-mac/alias/x", verify(former))["key_id"])
}

func TestEndGrantRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	id, token := createGrant(t, m, "a", "e", "GenerateMac")
	const either = "give either grant_token, or key_id and grant_id"
	unknown := strings.Repeat("0", 64)
	tests := []struct {
		name, path            string
		data                  fields
		wantType, wantMessage string
	}{
		{"nothing", "retire-grant", nil, "ValidationException", either},
		{"key only", "retire-grant", fields{"key_id": "a"}, "ValidationException", either},
		{"grant only", "retire-grant", fields{"grant_id": id}, "ValidationException", either},
		{"both ways", "retire-grant", fields{"grant_token": token, "key_id": "a", "grant_id": id}, "ValidationException", either},
		{"bad token", "retire-grant", fields{"grant_token": token + "x"}, "InvalidGrantTokenException", "The grant token is not valid."},
		{"unknown", "retire-grant", fields{"key_id": "a", "grant_id": unknown}, "NotFoundException", "Grant ID " + unknown + " not found"},
		{"path in the id", "retire-grant", fields{"key_id": "a", "grant_id": "../x"}, "NotFoundException", "Grant ID ../x not found"},
		{"of another key", "retire-grant", fields{"key_id": "b", "grant_id": id}, "NotFoundException", "Grant ID " + id + " not found"},
		{"alias", "retire-grant", fields{"key_id": "alias/x", "grant_id": id}, "InvalidArnException", "Key Aliases are not supported for this operation."},
		{"revoke nothing", "revoke-grant/a", nil, "ValidationException", "1 validation error detected: Value null at 'grant_id' failed to satisfy constraint: Member must not be null"},
		{"revoke of another key", "revoke-grant/b", fields{"grant_id": id}, "NotFoundException", "Grant ID " + id + " not found"},
		{"revoke, dry run", "revoke-grant/a", fields{"grant_id": id, "dry_run": true}, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			writeRefused(t, m, test.path, test.data, test.wantType, test.wantMessage)
			require.Len(t, read(t, m, "list-grants/a")["grants"], 1)
		})
	}
}

func TestListGrants(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	all := map[string]bool{}
	for i := range 5 {
		id, _ := createGrant(t, m, "a", fmt.Sprint("e", i%2), "GenerateMac", fields{"retiring_principal": "r"})
		all[id] = true
	}
	other, _ := createGrant(t, m, "b", "e0", "GenerateMac", fields{"retiring_principal": "r"})

	grants := func(path string, data fields) []string {
		var ids []string
		for _, g := range do(t, m, logical.ReadOperation, path, data)["grants"].([]any) {
			ids = append(ids, g.(fields)["grant_id"].(string))
		}
		return ids
	}
	require.Len(t, grants("list-grants/a", fields{"grantee_principal": "e0"}), 3)
	require.Len(t, grants("list-grants/a", fields{"grantee_principal": "none"}), 0)
	require.Equal(t, []string{other}, grants("list-grants/b", fields{"grant_id": other}))
	refused(t, m, logical.ReadOperation, "list-grants/a", fields{"grant_id": other}, "InvalidGrantIdException", "The grant ID is not valid.")
	require.Len(t, grants("list-retirable-grants/r", nil), 6)
	require.Len(t, grants("list-retirable-grants/e0", nil), 0)
	require.Len(t, do(t, m.as("r"), logical.ReadOperation, "list-retirable-grants", fields{"retiring_principal": "r"})["grants"], 6)
	for _, who := range []string{"", "e0"} { // on everybody's path, each sees its own
		_, err := request(t, m.as(who), logical.ReadOperation, "list-retirable-grants", fields{"retiring_principal": "r"})
		require.Equal(t, logical.ErrPermissionDenied, err)
	}
	refused(t, m, logical.ReadOperation, "list-retirable-grants", nil, "ValidationException",
		"1 validation error detected: Value null at 'retiring_principal' failed to satisfy constraint: Member must not be null")

	after := ""
	for range 3 {
		data := do(t, m, logical.ReadOperation, "list-grants/a", fields{"limit": "2", "after": after})
		for _, g := range data["grants"].([]any) {
			delete(all, g.(fields)["grant_id"].(string))
		}
		after, _ = data["next_after"].(string)
		require.Equal(t, after != "", data["truncated"])
	}
	require.Empty(t, all)
	require.Empty(t, after)
}

// Grants stay when a key is disabled or waits for its deletion.
func TestGrantsStayWithTheirKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createGrant(t, m, "a", "e", "GenerateMac,DescribeKey")
	write(t, m, "schedule-key-deletion/a", nil)
	require.Equal(t, "PendingDeletion", write(t, m.as("e"), "granted/describe-key/a", nil)["key_state"])
	write(t, m, "cancel-key-deletion/a", nil)
	write(t, m, "enable-key/a", nil)
	write(t, m.as("e"), "granted/generate-mac/a", macFields("m"))
}

// A grant of which only hints were written, or are left, grants nothing.
func TestHalfWrittenGrants(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	id := strings.Repeat("ab", 32)
	put(t, m, granteeIndex("a", "e")+id, fields{})
	put(t, m, retireeIndex("r")+id, fields{"key_id": "a"})
	requireForbidden(t, m.as("e"), "granted/generate-mac/a", macFields("m"))
	require.Empty(t, do(t, m, logical.ReadOperation, "list-grants/a", fields{"grantee_principal": "e"})["grants"])
	require.Empty(t, do(t, m, logical.ReadOperation, "list-retirable-grants/r", nil)["grants"])
	createGrant(t, m, "a", "e", "GenerateMac", fields{"name": "n"})
}

// Arbitrary grant tokens are refused, and never more than that.
func FuzzGrantToken(f *testing.F) {
	m := newMount(f)
	createKey(f, m, "a")
	_, good := createGrant(f, m, "a", "e", "GenerateMac")
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	f.Add(good[:len(good)-4])
	f.Add(base64.RawURLEncoding.EncodeToString(append(make([]byte, 32), raw[32:]...)))
	f.Add(base64.RawURLEncoding.EncodeToString(append(make([]byte, 32), `{"key_id":"../../x","grant_id":"../key/a"}`...)))
	f.Add("e30")
	f.Fuzz(func(t *testing.T, token string) {
		decoded, err := base64.RawURLEncoding.DecodeString(token)
		if err == nil && string(decoded) == string(raw) {
			return
		}
		data := macFields("m")
		data["grant_tokens"] = []string{token}
		resp, err := request(t, m, logical.UpdateOperation, "generate-mac/a", data)
		require.NoError(t, err)
		require.Contains(t, []string{"InvalidGrantTokenException", "ValidationException"}, exceptionType(t, resp, err))
	})
}

func TestGrantsPerKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	for i := range 50_000 {
		entry := &logical.StorageEntry{Key: grantsOf("a") + fmt.Sprintf("%064x", i), Value: []byte("{}")}
		require.NoError(t, m.storage.Put(t.Context(), entry))
	}
	data := fields{"grantee_principal": "e", "operations": "GenerateMac"}
	writeRefused(t, m, "create-grant/a", data, "LimitExceededException",
		"Grants per key quota for this account in this region is 50000, current usage is 50000.")
	require.NoError(t, m.storage.Delete(t.Context(), grantsOf("a")+fmt.Sprintf("%064x", 0)))
	write(t, m, "create-grant/a", data)
}

// TestGrantsToGroups grants to a group: whoever is in it at the moment has the
// grant, and nobody is left behind in storage when it ends.
func TestGrantsToGroups(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		in := func(ids ...string) {
			var groups []*logical.Group
			for _, id := range ids {
				groups = append(groups, &logical.Group{ID: id})
			}
			m.b.System().(*logical.StaticSystemView).GroupsVal = groups
		}
		createKey(t, m, "a")
		createKey(t, m, "b")
		ann := m.as("ann")
		id, token := createGrant(t, m, "a", "group/g1", "GenerateMac,RetireGrant,CreateGrant")
		in()
		requireForbidden(t, ann, "granted/generate-mac/a", macFields("m"))
		in("g0", "g1")
		for range 2 {
			write(t, ann, "granted/generate-mac/a", macFields("m"))
		}
		requireForbidden(t, ann, "granted/generate-mac/b", macFields("m"))
		requireForbidden(t, ann, "granted/describe-key/a", nil)
		requireForbidden(t, m, "granted/generate-mac/a", macFields("m")) // no entity is in no group
		createGrant(t, m, "b", "group/g1", "GenerateMac")
		in("g0")
		requireForbidden(t, ann, "granted/generate-mac/a", macFields("m"))
		requireForbidden(t, ann, "retire-grant", fields{"grant_token": token})

		// Whoever is in very many groups has the grants of some.
		many := make([]string, 0, 100)
		for i := range 100 {
			many = append(many, fmt.Sprintf("f%02d", i))
		}
		in(append(many, "g1")...)
		requireForbidden(t, ann, "granted/generate-mac/a", macFields("m"))

		// A member passes on what the group may, and gives it up.
		in("g1")
		passed := write(t, ann, "granted/create-grant/a", fields{"grantee_principal": "ben", "operations": "GenerateMac"})
		write(t, m.as("ben"), "granted/generate-mac/a", macFields("m"))
		require.Len(t, read(t, m, "list-grants/a")["grants"], 2)
		write(t, ann, "retire-grant", fields{"key_id": "a", "grant_id": id})
		requireForbidden(t, ann, "granted/generate-mac/a", macFields("m"))
		write(t, m, "revoke-grant/a", fields{"grant_id": passed["grant_id"]})
		other := read(t, m, "list-grants/b")["grants"].([]any)[0].(fields)
		write(t, m, "revoke-grant/b", fields{"grant_id": other["grant_id"]})
		require.Equal(t, []string{"key/a", "key/b"}, storageKeys(t, m, ""), "no hint is left")
	})
}

// A list reads each grant that it answers, so it answers a page even if nobody
// asks for one.
func TestListGrantsIsPaged(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	for i := range maxGrantPage + 1 {
		value := fmt.Appendf(nil, `{"id":"%064x","key_id":"a","grantee_principal":"e","operations":["GenerateMac"]}`, i)
		require.NoError(t, m.storage.Put(t.Context(), &logical.StorageEntry{Key: grantsOf("a") + fmt.Sprintf("%064x", i), Value: value}))
	}
	for _, limit := range []int{0, maxGrantPage + 1, 1 << 30} {
		data := do(t, m, logical.ReadOperation, "list-grants/a", fields{"limit": limit})
		require.Len(t, data["grants"], maxGrantPage)
		require.Equal(t, true, data["truncated"])
		data = do(t, m, logical.ReadOperation, "list-grants/a", fields{"limit": limit, "after": data["next_after"]})
		require.Len(t, data["grants"], 1)
		require.Equal(t, false, data["truncated"])
	}
}
