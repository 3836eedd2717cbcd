package kmshmac

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// failure says which storage calls fail: those of a kind, or any, from the
// n-th of them on, or that one alone.
type failure struct {
	kind string
	from int
	once bool
}

func (f failure) of(storage logical.Storage) *failingStorage {
	return &failingStorage{Storage: storage, failure: f}
}

type failingStorage struct {
	logical.Storage
	failure
	calls  int
	failed bool
}

func (s *failingStorage) call(kind string) error {
	if s.kind != kind && s.kind != "any" {
		return nil
	}
	s.calls++
	if s.calls <= s.from || s.once && s.failed {
		return nil
	}
	s.failed = true
	return errors.New("storage fails")
}

func (s *failingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if err := s.call("get"); err != nil {
		return nil, err
	}
	return s.Storage.Get(ctx, key)
}

func (s *failingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if err := s.call("put"); err != nil {
		return err
	}
	return s.Storage.Put(ctx, entry)
}

func (s *failingStorage) Delete(ctx context.Context, key string) error {
	if err := s.call("delete"); err != nil {
		return err
	}
	return s.Storage.Delete(ctx, key)
}

func (s *failingStorage) List(ctx context.Context, prefix string) ([]string, error) {
	if err := s.call("list"); err != nil {
		return nil, err
	}
	return s.Storage.List(ctx, prefix)
}

// Every operation, cut short at its first, second, ... storage call until it
// makes no more, as a crash there would: afterwards the mount shows what was
// before or what was to be, on this node and on a new one, and the operation,
// repeated, can be completed.
func TestOperationsCutShortAtEachStorageCall(t *testing.T) {
	t.Parallel()
	grant := fields{"grantee_principal": "e", "operations": "GenerateMac", "name": "n", "retiring_principal": "r"}
	tests := []struct {
		name string
		op   logical.Operation
		path string
		data fields
		// done are the refusals of a repetition of what has happened already.
		done []string
	}{
		{"create", logical.CreateOperation, "keys/new", fields{"key_spec": "HMAC_256"}, nil},
		{"create under a former id", logical.CreateOperation, "keys/gone", fields{"key_spec": "HMAC_512"}, nil},
		{"change", logical.CreateOperation, "keys/a", fields{"description": "new"}, nil},
		{"disable", logical.UpdateOperation, "disable-key/a", nil, nil},
		{"schedule", logical.UpdateOperation, "schedule-key-deletion/a", nil, []string{"KMSInvalidStateException"}},
		{"cancel", logical.UpdateOperation, "cancel-key-deletion/deleting", nil, []string{"KMSInvalidStateException"}},
		{"tag", logical.UpdateOperation, "tag-resource/a", fields{"tags": "k=v"}, nil},
		{"create alias", logical.CreateOperation, "aliases/new", fields{"target_key_id": "a"}, nil},
		{"move alias", logical.CreateOperation, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"}, nil},
		{"move alias of a former key", logical.CreateOperation, "aliases/of-gone", fields{"target_key_id": "b"}, nil},
		{"delete alias", logical.DeleteOperation, "aliases/x", nil, []string{"NotFoundException"}},
		{"delete material", logical.UpdateOperation, "delete-imported-key-material/imported", nil, nil},
		{"create grant", logical.UpdateOperation, "create-grant/a", grant, nil},
		{"revoke grant", logical.UpdateOperation, "revoke-grant/b", fields{"grant_id": "<grant>"}, []string{"NotFoundException"}},
		{"settings", logical.UpdateOperation, "config", fields{"alias_scope": "any"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for from := 0; ; from++ {
				m, grantID := cutShortMount(t)
				data := maps.Clone(test.data)
				if data["grant_id"] != nil {
					data["grant_id"] = grantID
				}
				before := showAll(t, m)
				storage := failure{kind: "any", from: from}.of(m.storage)
				m.wrap = storage
				_, err := request(t, m, test.op, test.path, data)
				m.wrap = nil
				if !storage.failed {
					require.NoError(t, err)
					require.Positive(t, from)
					return
				}
				here, there := showAll(t, m), showAll(t, m.other(t))
				require.Equal(t, there, here, "cut at call %d, cache and storage differ", from)
				happened := !maps.Equal(before, here)

				resp, err := request(t, m, test.op, test.path, data)
				require.NoError(t, err)
				if refusal := exceptionType(t, resp, err); refusal != "" {
					require.True(t, happened, "cut at call %d, %s is left", from, refusal)
					require.Contains(t, test.done, refusal)
				}
				if happened {
					require.Equal(t, here, showAll(t, m), "cut at call %d, it had happened in part", from)
				}
				m.clock.advance(31 * day)
				m.tidy(t)
			}
		})
	}
}

// cutShortMount makes a mount with something of everything. The key "gone" is
// past its date but not tidied yet.
func cutShortMount(t *testing.T) (m *mount, grantID string) {
	t.Helper()
	m = newMount(t)
	for _, id := range []string{"gone", "a", "b", "deleting"} {
		createKey(t, m, id)
	}
	write(t, m, "aliases/of-gone", fields{"target_key_id": "gone"})
	createGrant(t, m, "gone", "e", "GenerateMac", fields{"retiring_principal": "r"})
	write(t, m, "schedule-key-deletion/gone", fields{"pending_window_in_days": 7})
	m.clock.advance(7 * day)
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "schedule-key-deletion/deleting", nil)
	external(t, m, "imported")
	importMaterial(t, m, "imported", material32)
	grantID, _ = createGrant(t, m, "b", "e", "GenerateMac", fields{"retiring_principal": "r"})
	return m, grantID
}

// showAll returns all that the mount shows, but for the clock's part in it.
func showAll(t *testing.T, m *mount) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, id := range []string{"new", "gone", "a", "b", "deleting", "imported"} {
		key := read(t, m, "keys/"+id)
		delete(key, "last_used") // which is each node's own for a while
		all["keys/"+id] = fmt.Sprint(key)
		if key != nil {
			all["list-grants/"+id] = fmt.Sprint(len(read(t, m, "list-grants/"+id)["grants"].([]any)))
			all["aliases of "+id] = fmt.Sprint(names(t, m, "aliases/", fields{"target_key_id": id}))
		}
	}
	for _, path := range []string{"aliases/new", "aliases/x", "aliases/of-gone", "config"} {
		all[path] = fmt.Sprint(read(t, m, path))
	}
	for _, path := range []string{"keys/", "aliases/"} {
		all["list "+path] = fmt.Sprint(names(t, m, path, nil))
	}
	_, err := request(t, m.as("e"), logical.UpdateOperation, "granted/generate-mac/gone", macFields("m"))
	all["granted"] = fmt.Sprint(err)
	return all
}

// The tidy, cut short at each of its storage calls, is completed by the next.
func TestTidyCutShortAtEachStorageCall(t *testing.T) {
	t.Parallel()
	for from := 0; ; from++ {
		m, _ := cutShortMount(t)
		macOf(t, m, "a", "m")
		m.clock.advance(time.Hour)
		before := showAll(t, m)
		storage := failure{kind: "any", from: from}.of(m.storage)
		m.wrap = storage
		err := m.b.periodic(t.Context(), &logical.Request{Storage: storage})
		m.wrap = nil
		require.Equal(t, before, showAll(t, m), "a tidy changes nothing that shows, cut at call %d", from)
		require.Equal(t, before, showAll(t, m.other(t)))
		if !storage.failed {
			require.NoError(t, err)
			return
		}
		require.Error(t, err)
		m.clock.advance(usageFlushInterval)
		m.tidy(t)
		require.NotContains(t, storageKeys(t, m, keyPrefix), "gone")
		require.Empty(t, storageKeys(t, m, grantsOf("gone")))
		require.Empty(t, storageKeys(t, m, aliasIndex("gone")))
		require.NotContains(t, storageKeys(t, m, aliasPrefix), "of-gone")
		require.Equal(t, "Enabled", keyState(t, m, "a"))
	}
}
