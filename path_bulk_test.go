package kmshmac

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// resultsOf are "name result" or "name type" of a bulk answer.
func resultsOf(t *testing.T, m *mount, path string, data fields) (results []string) {
	t.Helper()
	got := write(t, m, path, data)
	failed := 0
	for _, r := range got["results"].([]any) {
		r := r.(fields)
		name := r["key_id"]
		if alias, ok := r["alias_name"]; ok {
			name = alias
		}
		result := r["result"]
		if e, ok := r["error"].(fields); ok {
			result = e["type"]
			require.NotEmpty(t, e["message"])
			failed++
		}
		results = append(results, fmt.Sprint(name, " ", result))
	}
	require.EqualValues(t, failed, got["failed"])
	return results
}

func TestBulkKeys(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"p/a", "p/b", "p/c", "p/d", "p-x/a", "q/a"} {
		createKey(t, m, id, fields{"tags": fields{"leaked": "yes"}})
	}
	createKey(t, m, "p/fine")
	write(t, m, "disable-key/p/b", nil)
	write(t, m, "schedule-key-deletion/p/c", nil)

	dry := resultsOf(t, m, "bulk/disable-key/p", fields{"tag": "leaked", "dry_run": true})
	require.Equal(t, []string{"p/a would change", "p/b unchanged", "p/c KMSInvalidStateException", "p/d would change"}, dry)
	require.Equal(t, "Enabled", keyState(t, m, "p/a"))
	require.Equal(t, []string{"p/a done", "p/b unchanged", "p/c KMSInvalidStateException", "p/d done"}, resultsOf(t, m, "bulk/disable-key/p/", fields{"tag": "leaked=yes"}))
	for id, state := range map[string]string{"p/a": "Disabled", "p/d": "Disabled", "p/c": "PendingDeletion", "p/fine": "Enabled", "p-x/a": "Enabled", "q/a": "Enabled"} {
		require.Equal(t, state, keyState(t, m, id), id)
	}

	page := write(t, m, "bulk/schedule-key-deletion/p", fields{"key_state": "Disabled", "limit": 2, "pending_window_in_days": 9})
	require.Len(t, page["results"], 2)
	require.Equal(t, true, page["truncated"])
	require.Equal(t, []string{"p/d done"}, resultsOf(t, m, "bulk/schedule-key-deletion/p", fields{"key_state": "Disabled", "limit": 2, "after": page["next_after"], "pending_window_in_days": 9}))
	require.Equal(t, 9.0, read(t, m, "keys/p/a")["pending_window_in_days"])

	for _, operation := range []string{"disable-key", "schedule-key-deletion"} {
		writeRefused(t, m, "bulk/"+operation+"/q", nil, "ValidationException", "say which keys: with tag, key_state, alias, unused_since or another filter")
		writeRefused(t, m, "bulk/"+operation+"/q", fields{"tag": "leaked", "limit": 101}, "ValidationException", "limit must be between 1 and 100")
	}
	writeRefused(t, m, "bulk/schedule-key-deletion/q", fields{"tag": "leaked", "pending_window_in_days": 6}, "ValidationException", "PendingWindowInDays must be between 7 and 30")
	require.Equal(t, "Enabled", keyState(t, m, "q/a"))
	require.Empty(t, resultsOf(t, m, "bulk/disable-key/nobody", fields{"tag": "leaked"}))
}

func TestBulkMoveAliases(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"p/old", "p/new", "p/off", "q/a"} {
		createKey(t, m, id)
	}
	write(t, m, "schedule-key-deletion/p/off", nil)
	for _, name := range []string{"p/x", "p/eu/y", "p/there", "q/z"} {
		target := map[string]string{"p/there": "p/new", "q/z": "q/a"}[name]
		if target == "" {
			target = "p/old"
		}
		write(t, m, "aliases/"+name, fields{"target_key_id": target})
	}
	mac := macOf(t, m, "alias/p/x", "m")
	targets := fields{"p/x": "p/new", "alias/p/eu/y": "p/new", "p/there": "p/new", "p/none": "p/new", "q/z": "p/new", "p/x!": "p/new"}
	want := func(result string) []string {
		return []string{
			"alias/p/eu/y " + result, "alias/p/none NotFoundException", "alias/p/there unchanged", "alias/p/x " + result,
			"alias/p/x! ValidationException", "alias/q/z ValidationException",
		}
	}
	move := fields{"targets": targets, "overlap": "1h", "dry_run": true}
	require.ElementsMatch(t, want("would change"), resultsOf(t, m, "bulk/move-aliases/p", move))
	require.Equal(t, "p/old", read(t, m, "aliases/p/x")["target_key_id"])
	move["dry_run"] = false
	require.ElementsMatch(t, want("done"), resultsOf(t, m, "bulk/move-aliases/p", move))
	require.Equal(t, "p/new", read(t, m, "aliases/p/eu/y")["target_key_id"])
	require.Equal(t, "q/a", read(t, m, "aliases/q/z")["target_key_id"], "another folder's alias stays where it is")
	write(t, m, "verify-mac/alias/p/x", verifyFieldsOf("m", mac))

	require.Equal(t, []string{"alias/p/x KMSInvalidStateException", "alias/p/there NotFoundException"}[:1],
		resultsOf(t, m, "bulk/move-aliases/p", fields{"targets": fields{"p/x": "p/off"}}))
	require.Equal(t, []string{"alias/p/eu/y ValidationException"}, resultsOf(t, m, "bulk/move-aliases/p/eu", fields{"targets": fields{"p/eu/y": "q/a"}}), "scope")
	require.Equal(t, []string{"alias/p/x ValidationException"}, resultsOf(t, m, "bulk/move-aliases/p/eu", fields{"targets": fields{"p/x": "p/old"}}), "not below the folder")
	many := fields{}
	for i := range 101 {
		many[fmt.Sprint("p/", i)] = "p/new"
	}
	writeRefused(t, m, "bulk/move-aliases/p", fields{"targets": many}, "ValidationException", "targets must name 1 to 100 aliases")
	writeRefused(t, m, "bulk/move-aliases/p", nil, "ValidationException", "targets must name 1 to 100 aliases")
}

// TestBulkHidesNothing: when storage fails half-way, the answer says what was
// done, and of which it is not known.
func TestBulkHidesNothing(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"p/a", "p/b", "p/c"} {
		createKey(t, m, id)
	}
	failing := &failingPuts{InmemStorage: m.storage, after: 1}
	resp, err := m.b.HandleRequest(t.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: "bulk/disable-key/p", Storage: failing, Data: fields{"key_state": "Enabled"}})
	require.NoError(t, err)
	data := overJSON(t, resp.Data)
	require.EqualValues(t, 2, data["failed"])
	results := data["results"].([]any)
	require.Equal(t, fields{"key_id": "p/a", "result": "done"}, results[0])
	require.Equal(t, fields{"key_id": "p/b", "error": fields{"type": "KMSInternalException", "message": "whether this was done is not known: read it"}}, results[1])
}

// failingPuts is storage that takes so many writes and no more.
type failingPuts struct {
	*logical.InmemStorage
	after int
}

func (s *failingPuts) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if s.after--; s.after < 0 {
		return errors.New("no space left")
	}
	return s.InmemStorage.Put(ctx, entry)
}
