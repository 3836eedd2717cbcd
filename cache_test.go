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
)

// writtenKeys records which storage keys a node writes or deletes, which is
// what Vault tells the other nodes.
type writtenKeys struct {
	logical.Storage
	mu   sync.Mutex
	keys []string
}

func (s *writtenKeys) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.record(entry.Key)
	return s.Storage.Put(ctx, entry)
}

func (s *writtenKeys) Delete(ctx context.Context, key string) error {
	s.record(key)
	return s.Storage.Delete(ctx, key)
}

func (s *writtenKeys) record(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key)
}

// Every change on one node shows on another that had everything cached, once
// Vault has told it which storage keys were written.
func TestInvalidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(t *testing.T, m *mount)
	}{
		{"disable", func(t *testing.T, m *mount) { write(t, m, "disable-key/a", nil) }},
		{"tag", func(t *testing.T, m *mount) { write(t, m, "tag-resource/a", fields{"tags": "k=v"}) }},
		{"schedule", func(t *testing.T, m *mount) { write(t, m, "schedule-key-deletion/a", nil) }},
		{"delete material", func(t *testing.T, m *mount) { write(t, m, "delete-imported-key-material/p/x", nil) }},
		{"move an alias", func(t *testing.T, m *mount) {
			write(t, m, "aliases/y", fields{"target_key_id": "b", "overlap": "1h"})
		}},
		{"delete an alias", func(t *testing.T, m *mount) { do(t, m, logical.DeleteOperation, "aliases/y", nil) }},
		{"purge and create anew", func(t *testing.T, m *mount) {
			write(t, m, "schedule-key-deletion/a", nil)
			m.clock.advance(30 * day)
			m.tidy(t)
			createKey(t, m, "a", fields{"key_spec": "HMAC_384"})
		}},
		{"settings", func(t *testing.T, m *mount) { write(t, m, "config", fields{"alias_scope": "any"}) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			createKey(t, m, "a")
			createKey(t, m, "b")
			external(t, m, "p/x")
			importMaterial(t, m, "p/x", material32)
			write(t, m, "aliases/y", fields{"target_key_id": "a"})
			standby := m.other(t)
			everything(t, standby) // fills the cache

			written := &writtenKeys{Storage: m.storage}
			active := m.other(t)
			active.wrap = written
			test.change(t, active)
			require.NotEmpty(t, written.keys)
			for _, key := range written.keys {
				standby.b.InvalidateKey(t.Context(), key)
			}
			require.Equal(t, everything(t, m.other(t)), everything(t, standby))
		})
	}
}

// everything reads all that a mount shows of the keys and aliases of the tests
// here.
func everything(t testing.TB, m *mount) fields {
	t.Helper()
	all := fields{}
	for _, path := range []string{"keys/a", "keys/b", "keys/p/x", "keys/alias/y", "aliases/y", "config"} {
		all[path] = read(t, m, path)
	}
	for _, path := range []string{"keys/", "keys/p/", "aliases/"} {
		all[path] = do(t, m, logical.ListOperation, path, fields{"detailed": true})
	}
	for _, path := range []string{"generate-mac/a", "generate-mac/alias/y", "generate-mac/p/x"} {
		resp, err := request(t, m, logical.UpdateOperation, path, macFields("m"))
		require.NoError(t, err)
		all[path] = resp.Data
	}
	for _, id := range []string{"a", "b", "p/x"} {
		if key, ok := all["keys/"+id].(fields); ok {
			delete(key, "last_used") // which is each node's own for a while
		}
	}
	if key, ok := all["keys/alias/y"].(fields); ok {
		delete(key, "last_used")
	}
	return all
}

// Without a cache a change shows on every node at once.
func TestForceNoCache(t *testing.T) {
	t.Parallel()
	m := openMount(t, &logical.InmemStorage{}, newClock(), true)
	other := m.other(t)
	createKey(t, m, "a")
	macOf(t, other, "a", "m")
	write(t, m, "disable-key/a", nil)
	writeRefused(t, other, "generate-mac/a", macFields("m"), "DisabledException", "a is disabled.")
}

// A reader that is slow to load a key must not put back into the cache what a
// writer has replaced meanwhile.
func TestSlowReaderDoesNotUndoAWrite(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	for range 50 {
		forgetAll(t, m)
		var group sync.WaitGroup
		group.Go(func() { keyState(t, m, "a") })
		group.Go(func() { write(t, m, "disable-key/a", nil) })
		group.Wait()
		require.Equal(t, "Disabled", keyState(t, m, "a"))
		write(t, m, "enable-key/a", nil)
		require.Equal(t, "Enabled", keyState(t, m, "a"))
	}
}

// Grants take effect at once on the node that made them, and are gone at once
// when they end; on others once Vault has told them of any of the names written.
func TestGrantsInTheCache(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	write(t, m, "aliases/p/x", fields{"target_key_id": "p/a"})
	written := &writtenKeys{Storage: m.storage}
	active, standby := m.other(t), m.other(t)
	active.wrap = written
	mac := func(m *mount, entity string) error {
		var err error
		for _, path := range []string{"granted/generate-mac/p/a", "granted/generate-mac/alias/p/x"} {
			_, err = request(t, m.as(entity), logical.UpdateOperation, path, macFields("m"))
		}
		return err
	}
	ends := map[string]func(id, token string){
		"revoke": func(id, _ string) { write(t, active, "revoke-grant/p/a", fields{"grant_id": id}) },
		"retire": func(_, token string) { write(t, active.as("r"), "retire-grant", fields{"grant_token": token}) },
	}
	for name, end := range ends {
		require.Equal(t, logical.ErrPermissionDenied, mac(active, "e"), name)
		require.Equal(t, logical.ErrPermissionDenied, mac(standby, "e"), name)
		id, token := createGrant(t, active, "p/a", "e", "GenerateMac", fields{"retiring_principal": "r"})
		require.NoError(t, mac(active, "e"), name)
		require.NoError(t, mac(standby, "e"), name)
		for _, other := range []string{"f", ""} {
			require.Equal(t, logical.ErrPermissionDenied, mac(active, other), name)
		}

		written.keys = nil
		end(id, token)
		require.Equal(t, logical.ErrPermissionDenied, mac(active, "e"), name)
		require.NoError(t, mac(standby, "e"), "what this test is about")
		for _, key := range written.keys {
			standby.b.InvalidateKey(t.Context(), key)
		}
		require.Equal(t, logical.ErrPermissionDenied, mac(standby, "e"), name)
	}

	// With the key goes its grant.
	createGrant(t, active, "p/a", "e", "GenerateMac")
	require.NoError(t, mac(active, "e"))
	write(t, active, "schedule-key-deletion/p/a", nil)
	m.clock.advance(30 * day)
	require.Equal(t, logical.ErrPermissionDenied, mac(active, "e"))
	createKey(t, active, "p/a")
	write(t, active, "aliases/p/x", fields{"target_key_id": "p/a"})
	require.Equal(t, logical.ErrPermissionDenied, mac(active, "e"), "a grant on the former key is none on this one")
}

// What is refused for want of a grant costs the same, whatever there is and
// whatever is in the cache.
func TestRefusalsByGrantsLookAlike(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "p/warm")
		createKey(t, m, "p/cold")
		createKey(t, m, "p/granted")
		for _, key := range []string{"warm", "cold", "granted"} {
			write(t, m, "aliases/p/"+key, fields{"target_key_id": "p/" + key})
		}
		createGrant(t, m, "p/granted", "grantee", "GenerateMac")
		createGrant(t, m, "p/granted", "e", "DescribeKey") // another operation
		node := m.other(t)
		macOf(t, node, "alias/p/warm", "m")
		write(t, node.as("grantee"), "granted/generate-mac/alias/p/granted", macFields("m"))
		storage := &countingStorage{Storage: m.storage}
		node.wrap = storage
		calls := func(name string) int {
			storage.calls = 0
			_, err := request(t, node.as("e"), logical.UpdateOperation, "granted/generate-mac/"+name, fields{"message": "wrong"})
			require.Equal(t, logical.ErrPermissionDenied, err)
			return storage.calls
		}
		for _, name := range []string{"p/warm", "p/cold", "p/none", "p/a..b"} {
			for range 2 {
				require.Equal(t, 1, calls(name), name)
				require.Equal(t, 2, calls("alias/"+name), name)
			}
		}
	})
}

// Vault asks whether a write creates before its policies have decided: what that
// costs tells nobody what there is.
func TestExistenceChecksLookAlike(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		for _, key := range []string{"p/warm", "p/cold", "p/deleting", "p/gone"} {
			createKey(t, m, key)
			write(t, m, "aliases/"+key, fields{"target_key_id": key})
		}
		do(t, m, logical.DeleteOperation, "keys/p/gone", nil)
		m.clock.advance(30 * day)
		do(t, m, logical.DeleteOperation, "keys/p/deleting", nil)
		node := m.other(t)
		macOf(t, node, "alias/p/warm", "m")
		storage := &countingStorage{Storage: m.storage}
		want := map[string]bool{"p/warm": true, "p/cold": true, "p/deleting": true, "p/gone": false, "p/none": false, "q/none": false}
		for name, exists := range want {
			for path, calls := range map[string]int{"keys/" + name: 1, "aliases/" + name: 2} {
				for range 2 {
					storage.calls = 0
					found, is, err := node.b.HandleExistenceCheck(t.Context(), &logical.Request{Operation: logical.CreateOperation, Path: path, Storage: storage})
					require.NoError(t, err)
					require.True(t, found)
					require.Equal(t, exists, is, path)
					require.Equal(t, calls, storage.calls, path)
				}
			}
		}
		for _, path := range []string{"keys/alias/p/warm", "keys/a..b", "aliases/a.b", "keys/"} {
			storage.calls = 0
			_, is, err := node.b.HandleExistenceCheck(t.Context(), &logical.Request{Operation: logical.CreateOperation, Path: path, Storage: storage})
			require.NoError(t, err)
			require.False(t, is)
			require.Zero(t, storage.calls, path)
		}
	})
}

// Everybody's paths, and lists of one's own folder, read the same whatever other
// teams have.
func TestOtherTeamsDoNotShowInWhatIsRead(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		write(t, m, "config", fields{"alias_scope": "any"})
		for _, key := range []string{"theirs/warm", "theirs/cold"} {
			createKey(t, m, key)
			write(t, m, "aliases/theirs/a/of-"+key, fields{"target_key_id": key})
			write(t, m, "aliases/theirs/b/of-"+key, fields{"target_key_id": key})
		}
		node := m.other(t)
		macOf(t, node, "alias/theirs/a/of-theirs/warm", "m")
		storage := &countingStorage{Storage: m.storage}
		node.wrap = storage
		calls := func(op logical.Operation, path string, data fields) int {
			storage.calls = 0
			resp, err := request(t, node.as("e"), op, path, data)
			require.NoError(t, err)
			require.True(t, resp.IsError() || resp.Data["keys"] == nil, "%v", resp)
			return storage.calls
		}
		for _, key := range []string{"theirs/warm", "theirs/cold", "theirs/none"} {
			for range 2 {
				for _, field := range []string{"target_key_id", "previous_key_id"} {
					require.Equal(t, 1, calls(logical.ListOperation, "aliases/ours/", fields{field: key}), "%s %s", field, key)
				}
				require.Equal(t, 1, calls(logical.UpdateOperation, "retire-grant", fields{"key_id": key, "grant_id": strings.Repeat("0", 64)}), key)
			}
		}
	})
}

// However many grants a principal has on a key, a warm MAC reads none of them.
func TestManyGrantsToOnePrincipal(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	for range 200 {
		createGrant(t, m, "a", "e", "DescribeKey")
	}
	for range 100 {
		createGrant(t, m, "a", "e", "DescribeKey,GenerateMac")
	}
	storage := &countingStorage{Storage: m.storage}
	node := m.other(t).as("e")
	node.wrap = storage
	write(t, node, "granted/generate-mac/a", macFields("m"))
	require.Greater(t, storage.calls, 300)
	storage.calls = 0
	for range 3 {
		write(t, node, "granted/generate-mac/a", macFields("m"))
	}
	require.Zero(t, storage.calls)
	requireForbidden(t, node, "granted/verify-mac/a", verifyFieldsOf("m", b64("x")))
}

// What is due in other teams' folders, which may be as much as they like, is not
// looked at to list one's own.
func TestListsDoNotLookAtOtherTeamsDueKeys(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "ours/sub/a")
		createKey(t, m, "ours/a")
		write(t, m, "aliases/ours/x", fields{"target_key_id": "ours/a"})
		storage := &countingStorage{Storage: m.storage}
		calls := func(path string) int {
			node := m.other(t)
			node.wrap = storage
			storage.calls = 0
			require.NotEmpty(t, names(t, node, path, nil))
			return storage.calls
		}
		m.clock.advance(40 * 24 * time.Hour)
		before := map[string]int{"keys/ours/": calls("keys/ours/"), "aliases/ours/": calls("aliases/ours/")}
		m.clock.advance(-8 * 24 * time.Hour)
		for i := range 20 {
			id := fmt.Sprintf("theirs/%d/%d", i%4, i)
			createKey(t, m, id)
			write(t, m, "schedule-key-deletion/"+id, fields{"pending_window_in_days": 7})
		}
		m.clock.advance(8 * 24 * time.Hour)
		for path, want := range before {
			// Each hour in which something is due takes one list.
			require.LessOrEqual(t, calls(path), want+1, path)
		}
	})
}
