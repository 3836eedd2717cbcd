package kmshmac

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAliasLife(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a")
		createKey(t, m, "b", fields{"key_spec": "HMAC_512"})
		created := fields{
			"alias_name": "alias/x", "target_key_id": "a",
			"creation_date": testStart, "last_updated_date": testStart,
		}
		require.Equal(t, created, write(t, m, "aliases/x", fields{"target_key_id": "a"}))
		require.Equal(t, created, read(t, m, "aliases/x"))

		m.clock.advance(time.Hour)
		require.Equal(t, created, write(t, m, "aliases/x", fields{"target_key_id": "a"}), "the same again changes nothing")
		moved := write(t, m, "aliases/x", fields{"target_key_id": "b"})
		require.Equal(t, fields{
			"alias_name": "alias/x", "target_key_id": "b",
			"creation_date": testStart, "last_updated_date": "2026-11-22T11:20:30.456Z",
		}, moved)
		require.Equal(t, "b", read(t, m, "keys/alias/x")["key_id"])

		require.Nil(t, do(t, m, logical.DeleteOperation, "aliases/x", nil))
		require.Nil(t, read(t, m, "aliases/x"))
		require.Nil(t, read(t, m, "keys/alias/x"))
		refused(t, m, logical.DeleteOperation, "aliases/x", nil, "NotFoundException", "Alias alias/x is not found.")
		require.Empty(t, storageKeys(t, m, aliasPrefix))
		require.Empty(t, storageKeys(t, m, aliasIndexPrefix), "no hint is left")
		require.Equal(t, "Enabled", keyState(t, m, "b"), "the key stays")
	})
}

func TestAliasMustExist(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	update := fields{"target_key_id": "a", "must_exist": "true"}
	create := fields{"target_key_id": "a", "must_exist": false}
	missing := writeRefused(t, m, "aliases/x", update, "NotFoundException", "Alias alias/x is not found.")
	require.Equal(t, fields{"alias_name": "alias/x"}, missing)
	write(t, m, "aliases/x", create)
	exists := writeRefused(t, m, "aliases/x", create, "AlreadyExistsException", "An alias with the name alias/x already exists")
	require.Equal(t, fields{"alias_name": "alias/x"}, exists)
	write(t, m, "aliases/x", update)
	write(t, m, "aliases/x", fields{"target_key_id": "b"})
	require.Equal(t, "b", read(t, m, "aliases/x")["target_key_id"])
}

func TestAliasRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "p/a")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	const pattern = "1 validation error detected: Value '%s' at 'alias_name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
	const scope = "%s may point only at keys of its own folder, and %s is not in it. On a mount that one team owns, set alias_scope=any in config."
	long := strings.Repeat("x", 251)
	tests := []struct {
		name, alias           string
		data                  fields
		wantType, wantMessage string
	}{
		{"no target", "y", nil, "ValidationException", "1 validation error detected: Value null at 'target_key_id' failed to satisfy constraint: Member must not be null"},
		{"empty target", "y", fields{"target_key_id": ""}, "ValidationException", `2 validation errors detected: Value '' at 'target_key_id' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'target_key_id' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		{"no such key", "y", fields{"target_key_id": "b"}, "NotFoundException", "Key 'b' does not exist"},
		{"impossible key", "y", fields{"target_key_id": "a..b"}, "NotFoundException", "Invalid keyId 'a..b'"},
		{"alias of an alias", "y", fields{"target_key_id": "alias/x"}, "ValidationException", "Aliases must refer to keys. Not aliases"},
		{"reserved", "aws/y", fields{"target_key_id": "a"}, "NotAuthorizedException", "The alias name for a customer managed CMK cannot begin with alias/aws/."},
		{"colon", "a:b", fields{"target_key_id": "a"}, "ValidationException", "alias/a:b contains invalid characters for an alias"},
		{"dot", "a.b", fields{"target_key_id": "a"}, "ValidationException", fmt.Sprintf(pattern, "alias/a.b")},
		{"space", "a b", fields{"target_key_id": "a"}, "ValidationException", fmt.Sprintf(pattern, "alias/a b")},
		{"empty segment", "a//b", fields{"target_key_id": "a"}, "ValidationException", "alias/a//b contains invalid characters for an alias"},
		{"too long", long, fields{"target_key_id": "a"}, "ValidationException", "1 validation error detected: Value 'alias/" + long + "' at 'alias_name' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"into a folder", "y", fields{"target_key_id": "p/a"}, "ValidationException", fmt.Sprintf(scope, "alias/y", "p/a")},
		{"out of a folder", "p/y", fields{"target_key_id": "a"}, "ValidationException", fmt.Sprintf(scope, "alias/p/y", "a")},
		{"to another folder", "q/y", fields{"target_key_id": "p/a"}, "ValidationException", fmt.Sprintf(scope, "alias/q/y", "p/a")},
		{"to another folder, no such key", "q/y", fields{"target_key_id": "p/none"}, "ValidationException", fmt.Sprintf(scope, "alias/q/y", "p/none")},
		{"prefix of a folder", "p", fields{"target_key_id": "p/a"}, "ValidationException", fmt.Sprintf(scope, "alias/p", "p/a")},
		{"negative overlap", "x", fields{"target_key_id": "a", "overlap": "-1s"}, "ValidationException", "overlap must be of type duration (sec)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			writeRefused(t, m, "aliases/"+test.alias, test.data, test.wantType, test.wantMessage)
			require.Equal(t, []string{"x"}, storageKeys(t, m, aliasPrefix))
		})
	}
}

func TestAliasScopeAny(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	write(t, m, "aliases/p/q/y", fields{"target_key_id": "p/a"}) // only the first segment counts
	write(t, m, "config", fields{"alias_scope": "any"})
	write(t, m, "aliases/q/y", fields{"target_key_id": "p/a"})
	write(t, m, "aliases/y", fields{"target_key_id": "p/a"})
	write(t, m, "config", fields{"alias_scope": "folder"})
	writeRefused(t, m, "aliases/y", fields{"target_key_id": "p/a"}, "ValidationException",
		"alias/y may point only at keys of its own folder, and p/a is not in it. On a mount that one team owns, set alias_scope=any in config.")
}

func TestListAliases(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		write(t, m, "config", fields{"alias_scope": "any"})
		createKey(t, m, "a")
		createKey(t, m, "b")
		for alias, target := range map[string]string{"x": "a", "y": "b", "p/x": "a", "p/q/x": "a", "p/z": "b"} {
			write(t, m, "aliases/"+alias, fields{"target_key_id": target})
		}
		require.Equal(t, []string{"p/", "x", "y"}, names(t, m, "aliases/", nil))
		require.Equal(t, []string{"q/", "x", "z"}, names(t, m, "aliases/p/", nil))
		require.Equal(t, []string{"p/q/x", "p/x", "x"}, names(t, m, "aliases/", fields{"target_key_id": "a"}))
		require.Equal(t, []string{"q/x", "x"}, names(t, m, "aliases/p/", fields{"target_key_id": "a"}))
		require.Equal(t, []string{"p/z"}, names(t, m, "aliases/", fields{"target_key_id": "b", "limit": 1}))
		require.Empty(t, names(t, m, "aliases/none/", nil))
		require.Empty(t, names(t, m, "aliases/a..b/", nil))
		refused(t, m, logical.ListOperation, "aliases/", fields{"target_key_id": "alias/x"}, "InvalidArnException", "Key Aliases are not supported for this operation.")

		data := do(t, m, logical.ListOperation, "aliases/p/", fields{"detailed": true})
		require.Equal(t, fields{"x": read(t, m, "aliases/p/x"), "z": read(t, m, "aliases/p/z")}, data["key_info"])

		write(t, m, "aliases/x", fields{"target_key_id": "b"})
		require.Equal(t, []string{"p/q/x", "p/x"}, names(t, m, "aliases/", fields{"target_key_id": "a"}))
	})
}

func TestAliasesPerKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	for i := range 50 {
		write(t, m, fmt.Sprint("aliases/x", i), fields{"target_key_id": "a"})
	}
	write(t, m, "aliases/y", fields{"target_key_id": "b"})
	const limit = "Aliases per key quota for this account in this region is 50, current usage is 50."
	writeRefused(t, m, "aliases/x50", fields{"target_key_id": "a"}, "LimitExceededException", limit)
	writeRefused(t, m, "aliases/y", fields{"target_key_id": "a"}, "LimitExceededException", limit)
	write(t, m, "aliases/x0", fields{"target_key_id": "a"}) // it is there already
	write(t, m, "aliases/x0", fields{"target_key_id": "b"})
	write(t, m, "aliases/y", fields{"target_key_id": "a"})
}

// Hints may be left over by a crash; they count for nothing.
func TestLeftoverAliasHints(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a")
		createKey(t, m, "b")
		for i := range 60 {
			put(t, m, fmt.Sprint(aliasIndex("a"), "x", i), fields{})
		}
		write(t, m, "aliases/x1", fields{"target_key_id": "b"})
		require.Empty(t, names(t, m, "aliases/", fields{"target_key_id": "a"}))
		write(t, m, "aliases/y", fields{"target_key_id": "a"})
		require.Equal(t, []string{"y"}, names(t, m, "aliases/", fields{"target_key_id": "a"}))
		do(t, m, logical.DeleteOperation, "keys/a", nil)
		m.clock.advance(30 * day)
		m.tidy(t)
		require.Equal(t, []string{"x1"}, names(t, m, "aliases/", nil))
		require.Equal(t, "b", read(t, m, "aliases/x1")["target_key_id"])
		require.Empty(t, storageKeys(t, m, aliasIndex("a")))
	})
}

// The story of a rotation: the alias moves with an overlap, and what was tagged
// before verifies until the overlap ends.
func TestRotationWithOverlap(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "p/2025")
		createKey(t, m, "p/2026")
		write(t, m, "aliases/p/current", fields{"target_key_id": "p/2025"})
		old := macOf(t, m, "alias/p/current", "m")

		moved := write(t, m, "aliases/p/current", fields{"target_key_id": "p/2026", "overlap": "24h"})
		require.Equal(t, []any{fields{"key_id": "p/2025", "valid_to": "2026-11-23T10:20:30.456Z"}}, moved["previous_keys"])
		created := write(t, m, "generate-mac/alias/p/current", macFields("m"))
		require.Equal(t, "p/2026", created["key_id"], "generate-mac always uses the current key")
		now := created["mac"].(string)

		verify := func(mac string) fields {
			return write(t, m, "verify-mac/alias/p/current", verifyFieldsOf("m", mac))
		}
		require.Equal(t, fields{"key_id": "p/2026", "mac_algorithm": "HMAC_SHA_256", "mac_valid": true}, verify(now))
		require.Equal(t, fields{"key_id": "p/2025", "mac_algorithm": "HMAC_SHA_256", "mac_valid": true}, verify(old))
		requireWrongMac(t, m, "p/2026", old)

		m.clock.advance(24*time.Hour - time.Millisecond)
		require.Equal(t, "p/2025", verify(old)["key_id"])
		m.clock.advance(time.Millisecond)
		requireWrongMac(t, m, "alias/p/current", old)
		require.NotContains(t, read(t, m, "aliases/p/current"), "previous_keys")
		require.Equal(t, "p/2026", verify(now)["key_id"])
	})
}

func requireWrongMac(t *testing.T, m *mount, key, mac string) {
	t.Helper()
	writeRefused(t, m, "verify-mac/"+key, verifyFieldsOf("m", mac), "KMSInvalidMacException", "")
}

// A previous key verifies only as long as it could verify by itself.
func TestPreviousKeyThatNoLongerWorks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		stop func(t *testing.T, m *mount)
	}{
		{"disabled", func(t *testing.T, m *mount) { write(t, m, "disable-key/a", nil) }},
		{"pending deletion", func(t *testing.T, m *mount) { write(t, m, "schedule-key-deletion/a", nil) }},
		{"deleted", func(t *testing.T, m *mount) {
			write(t, m, "schedule-key-deletion/a", nil)
			m.clock.advance(30 * day)
		}},
		{"deleted and tidied", func(t *testing.T, m *mount) {
			write(t, m, "schedule-key-deletion/a", nil)
			m.clock.advance(30 * day)
			m.tidy(t)
		}},
		{"without material", func(t *testing.T, m *mount) { write(t, m, "delete-imported-key-material/a", nil) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			eachCache(t, func(t *testing.T, m *mount) {
				external(t, m, "a")
				importMaterial(t, m, "a", material32)
				createKey(t, m, "b")
				write(t, m, "aliases/x", fields{"target_key_id": "a"})
				old := macOf(t, m, "alias/x", "m")
				write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "2400h"})
				write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", old))
				test.stop(t, m)
				requireWrongMac(t, m, "alias/x", old)
				write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", macOf(t, m, "alias/x", "m")))
			})
		})
	}
}

// The current key's state decides about the request, whatever the previous
// key could do.
func TestOverlapWithADisabledCurrentKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	old := macOf(t, m, "alias/x", "m")
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": 3600})
	write(t, m, "disable-key/b", nil)
	writeRefused(t, m, "verify-mac/alias/x", verifyFieldsOf("m", old), "DisabledException", "b is disabled.")
}

// Keys of different specs: the algorithm says which ones are tried, and a
// third is refused as always.
func TestOverlapAcrossKeySpecs(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b", fields{"key_spec": "HMAC_512"})
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	old := macOf(t, m, "alias/x", "m")
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})

	data := write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", old))
	require.Equal(t, fields{"key_id": "a", "mac_algorithm": "HMAC_SHA_256", "mac_valid": true}, data)
	requireWrongMac(t, m, "alias/x", b64("wrong"))
	with := func(algorithm string) fields {
		return fields{"message": b64("m"), "mac": b64("x"), "mac_algorithm": algorithm}
	}
	writeRefused(t, m, "verify-mac/alias/x", with("HMAC_SHA_512"), "KMSInvalidMacException", "")
	writeRefused(t, m, "verify-mac/alias/x", with("HMAC_SHA_384"), "InvalidKeyUsageException", "Algorithm HMAC_SHA_384 is incompatible with key spec HMAC_512.")
	writeRefused(t, m, "generate-mac/alias/x", macFields("m"), "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_512.")
	m.clock.advance(time.Hour)
	writeRefused(t, m, "verify-mac/alias/x", verifyFieldsOf("m", old), "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_512.")
}

func TestEndingAnOverlap(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		write   fields
		accepts []string // of the keys a, b and c that made MACs before
	}{
		{"another move with overlap", fields{"target_key_id": "d", "overlap": "1h"}, []string{"a", "b", "c"}},
		{"another move without", fields{"target_key_id": "d"}, nil},
		{"overlap 0 where it is", fields{"target_key_id": "c", "overlap": 0}, []string{"c"}},
		{"the same again", fields{"target_key_id": "c"}, []string{"a", "b", "c"}},
		{"back to where it came from", fields{"target_key_id": "b", "overlap": "1h"}, []string{"a", "b", "c"}},
		{"back at once", fields{"target_key_id": "b"}, []string{"b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			macs := map[string]string{}
			for _, id := range []string{"a", "b", "c", "d"} {
				createKey(t, m, id)
				macs[id] = macOf(t, m, id, "m")
			}
			for _, id := range []string{"a", "b", "c"} {
				write(t, m, "aliases/x", fields{"target_key_id": id, "overlap": "1h"})
			}
			write(t, m, "aliases/x", test.write)
			var accepts []string
			for _, id := range []string{"a", "b", "c"} {
				resp, err := request(t, m, logical.UpdateOperation, "verify-mac/alias/x", verifyFieldsOf("m", macs[id]))
				require.NoError(t, err)
				if !resp.IsError() {
					accepts = append(accepts, id)
				}
			}
			require.Equal(t, test.accepts, accepts)
		})
	}
}

func TestTooManyPreviousKeys(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for i := range 6 {
		createKey(t, m, fmt.Sprint("k", i))
	}
	for i := range 5 {
		write(t, m, "aliases/x", fields{"target_key_id": fmt.Sprint("k", i), "overlap": "1h"})
	}
	next := fields{"target_key_id": "k5", "overlap": "1h"}
	writeRefused(t, m, "aliases/x", next, "ValidationException", "alias/x would accept 5 previous keys, more than 4: move it without overlap, or wait for one to end")
	require.Equal(t, "k4", read(t, m, "aliases/x")["target_key_id"])
	m.clock.advance(time.Hour)
	write(t, m, "aliases/x", next)
}

// Moving an alias is one step for its readers: under load no MAC through it
// ever fails, or comes from anything but the old or the new key.
func TestAliasMovesUnderLoad(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		macs := map[string]string{}
		for _, id := range []string{"a", "b"} {
			createKey(t, m, id)
			macs[id] = macOf(t, m, id, "m")
		}
		write(t, m, "aliases/x", fields{"target_key_id": "a"})

		var done atomic.Bool
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for !done.Load() {
					data := write(t, m, "generate-mac/alias/x", macFields("m"))
					if macs[data["key_id"].(string)] != data["mac"] {
						t.Errorf("%v did not make %v", data["key_id"], data["mac"])
					}
					write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", data["mac"].(string)))
				}
			})
		}
		for i := range 200 {
			write(t, m, "aliases/x", fields{"target_key_id": []string{"b", "a"}[i%2], "overlap": "1h", "must_exist": true})
		}
		done.Store(true)
		group.Wait()
	})
}

// Concurrent moves of one alias and of several to one key neither deadlock nor
// lose a hint.
func TestConcurrentAliasMoves(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for i := range 4 {
		createKey(t, m, fmt.Sprint("k", i))
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 40 {
				write(t, m, fmt.Sprint("aliases/x", (worker+i)%3), fields{"target_key_id": fmt.Sprint("k", (worker*7+i)%4)})
			}
		})
	}
	group.Wait()
	listed := 0
	for i := range 4 {
		listed += len(names(t, m, "aliases/", fields{"target_key_id": fmt.Sprint("k", i)}))
	}
	require.Equal(t, 3, listed)
}

// Each storage call of a move can fail. Afterwards the alias is where it was
// or where it was to go, and cache and storage agree.
func TestAliasMoveWithFailingStorage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fail  func(m *mount, fail bool)
		wants string // where the alias is afterwards
	}{
		{"get", func(m *mount, fail bool) { m.storage.Underlying().FailGet(fail) }, "a"},
		{"put", func(m *mount, fail bool) { m.storage.Underlying().FailPut(fail) }, "a"},
		{"list", func(m *mount, fail bool) { m.storage.Underlying().FailList(fail) }, "a"},
		{"delete", func(m *mount, fail bool) { m.storage.Underlying().FailDelete(fail) }, "b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			createKey(t, m, "a")
			createKey(t, m, "b")
			write(t, m, "aliases/x", fields{"target_key_id": "a"})
			test.fail(m, true)
			_, err := request(t, m, logical.UpdateOperation, "aliases/x", fields{"target_key_id": "b"})
			test.fail(m, false)
			require.Equal(t, test.wants == "a", err != nil, "an outdated hint is no reason to fail")
			require.Equal(t, test.wants, read(t, m, "aliases/x")["target_key_id"])
			require.Equal(t, test.wants, read(t, m.other(t), "aliases/x")["target_key_id"])
			require.Equal(t, []string{"x"}, names(t, m, "aliases/", fields{"target_key_id": test.wants}))
			write(t, m, "aliases/x", fields{"target_key_id": "b"})
			require.Empty(t, names(t, m, "aliases/", fields{"target_key_id": "a"}))
		})
	}
}

// alias_scope counts when an alias is used, not only when it is written.
func TestAliasScopeAtUse(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "lender/a")
		createKey(t, m, "borrower/b")
		write(t, m, "config", fields{"alias_scope": "any"})
		write(t, m, "aliases/borrower/x", fields{"target_key_id": "lender/a"})
		createGrant(t, m, "lender/a", "e", "GenerateMac")
		mac := macOf(t, m, "alias/borrower/x", "m")
		write(t, m.as("e"), "granted/generate-mac/alias/borrower/x", macFields("m"))
		other := m.other(t)
		macOf(t, other, "alias/borrower/x", "m")

		write(t, m, "config", fields{"alias_scope": "folder"})
		const refusal = "alias/borrower/x points at a key of another folder, which alias_scope=folder in config does not allow: move it to a key of its own folder"
		macOf(t, other, "lender/a", "m")
		other.b.InvalidateKey(t.Context(), "config/mount")
		for _, node := range []*mount{m, other} {
			writeRefused(t, node, "generate-mac/alias/borrower/x", macFields("m"), "ValidationException", refusal)
			writeRefused(t, node, "verify-mac/alias/borrower/x", verifyFieldsOf("m", mac), "ValidationException", refusal)
			writeRefused(t, node.as("e"), "granted/generate-mac/alias/borrower/x", macFields("m"), "ValidationException", refusal)
			refused(t, node, logical.ReadOperation, "keys/alias/borrower/x", nil, "ValidationException", refusal)
			writeRefused(t, node, "encrypt/alias/borrower/x", nil, "ValidationException", refusal)
			require.Equal(t, "lender/a", read(t, node, "aliases/borrower/x")["target_key_id"], "its owner sees where it points")
		}

		// Moved home, it brings nothing along, whatever the overlap.
		data := write(t, m, "aliases/borrower/x", fields{"target_key_id": "borrower/b", "overlap": "8760h"})
		require.NotContains(t, data, "previous_keys")
		writeRefused(t, m, "verify-mac/alias/borrower/x", verifyFieldsOf("m", mac), "KMSInvalidMacException", "")
		macOf(t, m, "alias/borrower/x", "m")

		write(t, m, "config", fields{"alias_scope": "any"})
		write(t, m, "verify-mac/alias/borrower/x", verifyFieldsOf("m", mac))
	})
}

// A previous key that is gone, or made again under the same id, is no previous
// key: it is neither shown nor counted.
func TestPreviousKeysThatAreGone(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		for _, id := range []string{"a", "b", "c", "d", "e", "f"} {
			createKey(t, m, id)
		}
		write(t, m, "aliases/x", fields{"target_key_id": "a"})
		for _, id := range []string{"b", "c", "d", "e"} {
			write(t, m, "aliases/x", fields{"target_key_id": id, "overlap": "8760h"})
		}
		previous := func() (ids []string) {
			list, _ := read(t, m, "aliases/x")["previous_keys"].([]any)
			for _, p := range list {
				ids = append(ids, p.(fields)["key_id"].(string))
			}
			return ids
		}
		require.Equal(t, []string{"a", "b", "c", "d"}, previous())
		writeRefused(t, m, "aliases/x", fields{"target_key_id": "f", "overlap": "1h"}, "ValidationException",
			"alias/x would accept 5 previous keys, more than 4: move it without overlap, or wait for one to end")

		do(t, m, logical.DeleteOperation, "keys/a", nil)
		do(t, m, logical.DeleteOperation, "keys/b", nil)
		require.Equal(t, []string{"a", "b", "c", "d"}, previous(), "the deletion can be cancelled")
		m.clock.advance(30 * day)
		require.Equal(t, []string{"c", "d"}, previous())
		m.tidy(t)
		createKey(t, m, "a")
		require.Equal(t, []string{"c", "d"}, previous(), "another key under the same id")
		write(t, m, "aliases/x", fields{"target_key_id": "f", "overlap": "1h"})
		require.Equal(t, []string{"c", "d", "e"}, previous())
	})
}

// The aliases that still accept a key can be found, and whoever schedules its
// deletion is told of them.
func TestAliasesThatAcceptAFormerKey(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "p/old")
		createKey(t, m, "p/new")
		for _, alias := range []string{"aliases/p/x", "aliases/p/y", "aliases/p/z"} {
			write(t, m, alias, fields{"target_key_id": "p/old"})
		}
		write(t, m, "aliases/p/x", fields{"target_key_id": "p/new", "overlap": "24h"})
		write(t, m, "aliases/p/y", fields{"target_key_id": "p/new"})
		accepting := func(folder string) []string {
			return names(t, m, "aliases/"+folder, fields{"previous_key_id": "p/old"})
		}
		require.Equal(t, []string{"x"}, accepting("p/"))
		require.Equal(t, []string{"p/x"}, accepting(""))
		require.Empty(t, accepting("q/"))
		require.Equal(t, []string{"z"}, names(t, m, "aliases/p/", fields{"target_key_id": "p/old"}))
		require.Empty(t, names(t, m, "aliases/", fields{"previous_key_id": "none"}))
		refused(t, m, logical.ListOperation, "aliases/", fields{"previous_key_id": "p/old", "target_key_id": "p/old"}, "ValidationException",
			"give one of target_key_id and previous_key_id")

		resp, err := request(t, m, logical.UpdateOperation, "schedule-key-deletion/p/old", nil)
		require.NoError(t, err)
		require.Equal(t, []string{
			"aliases point at this key and will be deleted with it: alias/p/z",
			"aliases whose overlap with this key is not over verify its MACs no more: alias/p/x",
		}, resp.Warnings)
		write(t, m, "cancel-key-deletion/p/old", nil)

		m.clock.advance(24 * time.Hour)
		require.Empty(t, accepting("p/"))
		resp, err = request(t, m, logical.UpdateOperation, "schedule-key-deletion/p/old", nil)
		require.NoError(t, err)
		require.Len(t, resp.Warnings, 1)
		m.clock.advance(30 * day)
		m.tidy(t)
		do(t, m, logical.DeleteOperation, "aliases/p/x", nil)
		do(t, m, logical.DeleteOperation, "aliases/p/y", nil)
		require.Empty(t, storageKeys(t, m, aliasIndexPrefix), "no hint is left")
	})
}
