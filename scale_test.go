package kmshmac

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// countedStorage counts the calls that a request makes, some side by side.
type countedStorage struct {
	logical.Storage
	mu    sync.Mutex
	calls []string
}

func (s *countedStorage) note(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
}

func (s *countedStorage) List(ctx context.Context, prefix string) ([]string, error) {
	s.note("list " + prefix)
	return s.Storage.List(ctx, prefix)
}

func (s *countedStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.note("get " + key)
	return s.Storage.Get(ctx, key)
}

func (s *countedStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.note("put " + entry.Key)
	return s.Storage.Put(ctx, entry)
}

func (s *countedStorage) Delete(ctx context.Context, key string) error {
	s.note("delete " + key)
	return s.Storage.Delete(ctx, key)
}

// fill stores n keys in one folder, each with an alias, past the API: this is
// about what requests cost afterwards.
func fill(t *testing.T, m *mount, n int) {
	t.Helper()
	for i := range n {
		id := fmt.Sprintf("team/key-%06d", i)
		putKey(t, m, id)
		putAlias(t, m, id, id, m.clock.now())
	}
}

// TestCostDoesNotGrowWithTheMount makes the same requests in a mount of ten
// keys and in one of 100,000, and holds their storage calls against each
// other. Both mounts are cold, so the calls are all that a request ever makes.
func TestCostDoesNotGrowWithTheMount(t *testing.T) {
	t.Parallel()
	small, large := newMount(t), newMount(t)
	fill(t, small, 10)
	fill(t, large, 100_000)

	const id = "team/key-000005"
	mac := fields{"message": b64("m"), "mac_algorithm": "HMAC_SHA_256"}
	requests := []struct {
		name string
		op   logical.Operation
		path string
		data fields
	}{
		{"describe", logical.ReadOperation, "keys/" + id, nil},
		{"describe by alias", logical.ReadOperation, "keys/alias/" + id, nil},
		{"generate", logical.UpdateOperation, "generate-mac/" + id, mac},
		{"generate by alias", logical.UpdateOperation, "generate-mac/alias/" + id, mac},
		{"create", logical.UpdateOperation, "keys/team/new", fields{"key_spec": "HMAC_256"}},
		{"create alias", logical.UpdateOperation, "aliases/team/new", fields{"target_key_id": id}},
		{"move alias", logical.UpdateOperation, "aliases/team/new", fields{"target_key_id": "team/key-000006", "overlap": "1h"}},
		{"delete alias", logical.DeleteOperation, "aliases/team/new", nil},
		{"aliases of a key", logical.ListOperation, "aliases/", fields{"target_key_id": id, "detailed": true}},
		{"page of keys", logical.ListOperation, "keys/team/", fields{"limit": 5}},
		{"next page of keys", logical.ListOperation, "keys/team/", fields{"limit": 5, "after": "key-000004"}},
		{"detailed page of keys", logical.ListOperation, "keys/team/", fields{"limit": 5, "detailed": true}},
		{"page of aliases", logical.ListOperation, "aliases/team/", fields{"limit": 5, "after": "key-000001", "detailed": true}},
		{"tag", logical.UpdateOperation, "tag-resource/" + id, fields{"tags": fields{"a": "b"}}},
		{"disable", logical.UpdateOperation, "disable-key/" + id, nil},
		{"schedule deletion", logical.UpdateOperation, "schedule-key-deletion/" + id, nil},
	}
	for _, r := range requests {
		t.Run(r.name, func(t *testing.T) {
			// Pages read side by side.
			require.ElementsMatch(t, storageCalls(t, small, r.op, r.path, r.data), storageCalls(t, large, r.op, r.path, r.data))
		})
	}
	t.Run("tidy", func(t *testing.T) {
		large.clock.advance(31 * day)
		small.clock.advance(31 * day)
		large.tidy(t)
		small.tidy(t)
		for _, m := range []*mount{small, large} {
			refused(t, m, logical.UpdateOperation, "generate-mac/"+id, mac, kms.TypeNotFound, "Key '"+id+"' does not exist")
			require.Nil(t, read(t, m, "aliases/"+id))
		}
	})
}

// storageCalls returns the storage calls of one request, which must succeed.
func storageCalls(t *testing.T, m *mount, op logical.Operation, path string, data fields) []string {
	t.Helper()
	storage := &countedStorage{Storage: m.storage}
	start := time.Now()
	resp, err := m.b.HandleRequest(t.Context(), &logical.Request{Operation: op, Path: path, Storage: storage, Data: overJSON(t, data)})
	t.Logf("%s took %v", path, time.Since(start))
	require.NoError(t, err)
	require.False(t, resp.IsError(), "%v", resp)
	return storage.calls
}

// TestDeepAliasesAreBounded: folders in the names of aliases are no work for
// who looks for the aliases of a key.
func TestDeepAliasesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "team/a")
	alias := func(i int) string { return fmt.Sprintf("aliases/team/x%d%s", i, strings.Repeat("/d", 110)) }
	for i := range 49 {
		write(t, m, alias(i), fields{"target_key_id": "team/a"})
	}
	require.LessOrEqual(t, len(storageCalls(t, m, logical.UpdateOperation, alias(49), fields{"target_key_id": "team/a"})), 20)
	forgetAll(t, m)
	for path, want := range map[string]int{"aliases/": 50, "aliases/team/": 50, "aliases/team/x7/": 1, "aliases/team/x7/d/": 1, "aliases/tea/": 0, "aliases/team/x/": 0} {
		require.Len(t, names(t, m, path, fields{"target_key_id": "team/a"}), want, path)
	}
	require.LessOrEqual(t, len(storageCalls(t, m, logical.ReadOperation, "inventory/team", nil)), 60)
	do(t, m, logical.DeleteOperation, alias(3), nil)
	require.Len(t, names(t, m, "aliases/", fields{"target_key_id": "team/a"}), 49)
	require.Len(t, storageKeys(t, m, aliasIndex("team/a")), 49)

	// Hints of version 0.1.0 are found, and dropped.
	deep := "team/old" + strings.Repeat("/d", 20)
	putAlias(t, m, deep, "team/a", m.clock.now())
	forgetAll(t, m)
	require.Contains(t, names(t, m, "aliases/", fields{"target_key_id": "team/a"}), deep)
	write(t, m, "aliases/"+deep, fields{"target_key_id": "team/a"})
	do(t, m, logical.DeleteOperation, "aliases/"+deep, nil)
	require.Len(t, storageKeys(t, m, aliasIndex("team/a")), 49)
}
