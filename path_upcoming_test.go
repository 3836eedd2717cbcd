package kmshmac

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// eventsOf reads what is upcoming to its end: "event key[ alias] in hours".
func eventsOf(t *testing.T, m *mount, path string, data fields) (events []string) {
	t.Helper()
	data = overJSON(t, data)
	if data == nil {
		data = fields{}
	}
	for range 1000 {
		got := do(t, m, logical.ReadOperation, path, data)
		for _, e := range got["events"].([]any) {
			e := e.(fields)
			at, err := time.Parse(time.RFC3339, e["time"].(string))
			require.NoError(t, err)
			text := fmt.Sprint(e["event"], " ", e["key_id"])
			if alias, ok := e["alias_name"]; ok {
				text += fmt.Sprint(" ", alias)
			}
			events = append(events, fmt.Sprintf("%s in %.0fh", text, at.Sub(m.clock.now()).Hours()))
		}
		if got["truncated"] == false {
			return events
		}
		require.NotEqual(t, data["after"], got["next_after"])
		data["after"] = got["next_after"]
	}
	t.Fatal("it does not end")
	return nil
}

func TestUpcoming(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"payments/a", "payments/b", "payments/eu/c", "payments-x/a", "orders/a"} {
		createKey(t, m, id)
	}
	external(t, m, "payments/mine")
	p := importParameters(t, m, "payments/mine", "RSAES_OAEP_SHA_256", "RSA_2048")
	write(t, m, "import-key-material/payments/mine", fields{
		"import_token": p.token, "encrypted_key_material": p.wrap(t, material32), "valid_to": formatTime(m.clock.now().Add(100 * time.Hour)),
	})
	write(t, m, "aliases/payments/x", fields{"target_key_id": "payments/a"})
	write(t, m, "aliases/payments/x", fields{"target_key_id": "payments/b", "overlap": "50h"})
	write(t, m, "schedule-key-deletion/payments/eu/c", fields{"pending_window_in_days": 7})
	write(t, m, "schedule-key-deletion/payments/a", fields{"pending_window_in_days": 8})
	write(t, m, "schedule-key-deletion/payments-x/a", fields{"pending_window_in_days": 7})
	write(t, m, "schedule-key-deletion/orders/a", fields{"pending_window_in_days": 9})

	want := []string{
		"import_token_expiry payments/mine in 25h", "overlap_end payments/a alias/payments/x in 50h", "material_expiry payments/mine in 100h",
		"key_deletion payments/eu/c in 168h", "key_deletion payments/a in 192h",
	}
	for _, limit := range []int{0, 1, 2} {
		require.Equal(t, want, eventsOf(t, m, "upcoming/payments", fields{"limit": limit}))
	}
	require.Equal(t, want, eventsOf(t, m, "upcoming/payments/", nil))
	require.Equal(t, want[3:4], eventsOf(t, m, "upcoming/payments/eu", nil))
	require.Equal(t, want[:2], eventsOf(t, m, "upcoming/payments", fields{"before": "3d"}))
	require.Empty(t, eventsOf(t, m, "upcoming/pay", nil))
	require.Len(t, eventsOf(t, m, "upcoming", nil), 7)
	table := do(t, m, logical.ReadOperation, "upcoming/payments/eu", fields{"format": "table"})["table"]
	require.Regexp(t, `^time +event +key +alias\n\S+Z +key_deletion +payments/eu/c +-$`, table)

	// What is called off, or has happened, is not upcoming.
	write(t, m, "cancel-key-deletion/payments/eu/c", nil)
	write(t, m, "aliases/payments/x", fields{"target_key_id": "payments/b", "overlap": 0})
	require.Equal(t, []string{want[0], want[2], want[4]}, eventsOf(t, m, "upcoming/payments", nil))
	m.clock.advance(101 * time.Hour)
	require.Equal(t, []string{"key_deletion payments/a in 91h"}, eventsOf(t, m, "upcoming/payments", nil))
	m.tidy(t)
	require.Equal(t, []string{"key_deletion payments/a in 91h"}, eventsOf(t, m, "upcoming/payments", nil))
}

// TestOverlapsAreTidied: when an overlap has ended nothing of it is left, and
// what has not ended stays.
func TestOverlapsAreTidied(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"a", "b", "c"} {
		createKey(t, m, id)
	}
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})
	write(t, m, "aliases/x", fields{"target_key_id": "c", "overlap": "10h"})
	require.Len(t, storageKeys(t, m, "overlap/"), 2)
	mac := macOf(t, m, "b", "m")
	m.clock.advance(2 * time.Hour)
	m.tidy(t)
	require.Len(t, storageKeys(t, m, "overlap/"), 1)
	require.Empty(t, storageKeys(t, m, aliasIndex("a")))
	require.Len(t, storageKeys(t, m, aliasIndex("b")), 1)
	write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", mac))
	m.clock.advance(10 * time.Hour)
	m.tidy(t)
	require.Empty(t, storageKeys(t, m, "overlap/"))
	require.Empty(t, storageKeys(t, m, aliasIndex("b")))
	require.Len(t, storageKeys(t, m, aliasIndex("c")), 1)
	require.Equal(t, "c", read(t, m, "aliases/x")["target_key_id"])
}

// TestUpcomingWorkIsBounded: other teams' events, of whatever number, make
// pages short, and never long.
func TestUpcomingWorkIsBounded(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for i := range 600 {
		id := fmt.Sprintf("orders/k%d", i)
		createKey(t, m, id)
		if i%2 == 0 {
			m.clock.advance(time.Hour)
		}
		write(t, m, "schedule-key-deletion/"+id, fields{"pending_window_in_days": 30})
	}
	createKey(t, m, "payments/a")
	write(t, m, "schedule-key-deletion/payments/a", fields{"pending_window_in_days": 30})
	for _, folder := range []string{"upcoming", "upcoming/payments"} {
		forgetAll(t, m)
		var got []string
		requests := 0
		for after := ""; ; requests++ {
			storage := &countedStorage{Storage: m.storage}
			resp, err := m.b.HandleRequest(t.Context(), &logical.Request{Operation: logical.ReadOperation, Path: folder, Storage: storage, Data: map[string]any{"after": after, "limit": 500}})
			require.NoError(t, err)
			require.LessOrEqual(t, len(storage.calls), 160+10)
			for _, e := range resp.Data["events"].([]map[string]any) {
				got = append(got, e["key_id"].(string))
			}
			if resp.Data["truncated"] == false {
				break
			}
			after = resp.Data["next_after"].(string)
			require.Less(t, requests, 100)
		}
		t.Logf("%s: %d events in %d requests", folder, len(got), requests+1)
		slices.Sort(got)
		require.Equal(t, got, slices.Compact(slices.Clone(got)), "nothing twice")
		if folder == "upcoming" {
			require.Len(t, got, 601)
		} else {
			require.Equal(t, []string{"payments/a"}, got)
		}
	}
}

// TestUpcomingImportsOfOthers: what other teams import neither costs a look nor
// shows, not even in where to go on.
func TestUpcomingImportsOfOthers(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "payments/mine")
	importParameters(t, m, "payments/mine", "RSAES_OAEP_SHA_256", "RSA_2048")
	calls := func() int {
		forgetAll(t, m)
		storage := &countedStorage{Storage: m.storage}
		for _, limit := range []int{1, 500} {
			resp, err := m.b.HandleRequest(t.Context(), &logical.Request{
				Operation: logical.ReadOperation, Path: "upcoming/payments", Storage: storage, Data: map[string]any{"limit": limit},
			})
			require.NoError(t, err)
			require.Len(t, resp.Data["events"], 1)
			next, _ := resp.Data["next_after"].(string)
			require.NotRegexp(t, `[0-9a-f]{8}-`, next)
		}
		return len(storage.calls)
	}
	before := calls()
	for i := range 20 {
		id := fmt.Sprintf("orders/%d", i)
		external(t, m, id)
		importParameters(t, m, id, "RSAES_OAEP_SHA_256", "RSA_2048")
	}
	require.Equal(t, before, calls())

	m.clock.advance(27 * time.Hour)
	m.tidy(t)
	require.Empty(t, storageKeys(t, m, "import/"))
	require.Empty(t, storageKeys(t, m, "wrapping-key/"))
}

// TestUpcomingIsNoWayIntoOtherFolders: whatever a team sends, what it is told is
// about its own folder.
func TestUpcomingIsNoWayIntoOtherFolders(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"payments/a", "payments-x/a", "orders/a", "payments"} {
		createKey(t, m, id)
		write(t, m, "schedule-key-deletion/"+id, fields{"pending_window_in_days": 9})
	}
	external(t, m, "orders/mine")
	importParameters(t, m, "orders/mine", "RSAES_OAEP_SHA_256", "RSA_2048")
	hour := m.clock.now().Add(9 * day).UTC().Format("2006-01-02T15")
	for _, after := range []string{
		"", "/", "//", hour, hour + "/due", hour + "/due/", hour + "/due/orders", hour + "/due/orders/", hour + "/due/../orders/", hour + "/due/payments-x/",
		hour + "/import/", hour + "/overlap/", hour + "/none/x", "0/due/orders/a", "z", "\x00", hour + "/due/" + strings.Repeat("payments/", 1000),
	} {
		for _, folder := range []string{"payments", "payments/", "payments//", "payments/../orders"} {
			got := do(t, m, logical.ReadOperation, "upcoming/"+folder, fields{"after": after})
			require.Equal(t, false, got["truncated"], after)
			for _, e := range got["events"].([]any) {
				require.Equal(t, "payments/a", e.(fields)["key_id"], "%s after %q", folder, after)
			}
		}
	}
}
