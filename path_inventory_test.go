package kmshmac

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// estate makes keys of two teams in all kinds of states, and returns the mount.
func estate(t *testing.T) *mount {
	t.Helper()
	m := newMount(t)
	createKey(t, m, "payments/a", fields{"tags": fields{"team": "payments", "pci": ""}, "description": "the first"})
	createKey(t, m, "payments/eu/b", fields{"key_spec": "HMAC_512"})
	createKey(t, m, "payments/old")
	createKey(t, m, "payments/off")
	createKey(t, m, "payments-x/secret")
	createKey(t, m, "payments")
	createKey(t, m, "orders/a")
	external(t, m, "payments/mine")
	write(t, m, "aliases/payments/current", fields{"target_key_id": "payments/old"})
	write(t, m, "aliases/payments/current", fields{"target_key_id": "payments/a", "overlap": "24h"})
	write(t, m, "create-grant/payments/a", fields{"grantee_principal": "someone", "operations": "GenerateMac"})
	write(t, m, "disable-key/payments/off", nil)
	write(t, m, "schedule-key-deletion/payments/old", fields{"pending_window_in_days": 7})
	macOf(t, m, "payments/a", "m")
	return m
}

func keysIn(t *testing.T, m *mount, path string, data fields) (ids []string) {
	t.Helper()
	got := do(t, m, logical.ReadOperation, path, data)
	for _, id := range got["keys"].([]any) {
		ids = append(ids, id.(string))
	}
	return ids
}

func TestInventory(t *testing.T) {
	t.Parallel()
	m := estate(t)
	all := []string{"payments/a", "payments/eu/b", "payments/mine", "payments/off", "payments/old"}
	require.Equal(t, all, keysIn(t, m, "inventory/payments", nil))
	require.Equal(t, all, keysIn(t, m, "inventory/payments/", nil), "with a slash as without")
	require.Equal(t, []string{"payments/eu/b"}, keysIn(t, m, "inventory/payments/eu", nil))
	require.Equal(t, []string{"orders/a", "payments", "payments-x/secret", "payments/a"}, keysIn(t, m, "inventory", fields{"limit": 4}))
	require.Empty(t, keysIn(t, m, "inventory/nobody", nil))
	require.Empty(t, keysIn(t, m, "inventory/payments/a", nil), "a key is no folder")
	require.Empty(t, keysIn(t, m, "inventory/pay", nil), "half a name is none")
	require.Empty(t, keysIn(t, m, "inventory/%$", nil))

	info := do(t, m, logical.ReadOperation, "inventory/payments", nil)["key_info"].(fields)
	now := m.clock.now()
	created := formatTime(now)
	require.Equal(t, fields{
		"key_spec": "HMAC_256", "key_state": "Enabled", "origin": "AWS_KMS", "multi_region": false, "creation_date": created,
		"description": "the first", "tags": fields{"team": "payments", "pci": ""}, "aliases": []any{"alias/payments/current"}, "grants": 1.0,
		"last_used": fields{"operation": "GenerateMac", "timestamp": created},
	}, info["payments/a"])
	require.Equal(t, fields{
		"key_spec": "HMAC_256", "key_state": "PendingDeletion", "origin": "AWS_KMS", "multi_region": false, "creation_date": created,
		"description": "", "tags": fields{}, "aliases": []any{}, "grants": 0.0, "last_used": nil,
		"deletion_date": formatTime(now.Add(7 * day)),
		"accepted_by":   []any{fields{"alias_name": "alias/payments/current", "valid_to": formatTime(now.Add(day))}},
	}, info["payments/old"])

	// What has ceased to exist is not there, tidied or not.
	m.clock.advance(7 * day)
	require.NotContains(t, keysIn(t, m, "inventory/payments", nil), "payments/old")
	m.tidy(t)
	require.Len(t, keysIn(t, m, "inventory/payments", nil), 4)
}

func TestInventoryFilters(t *testing.T) {
	t.Parallel()
	m := estate(t)
	for name, test := range map[string]struct {
		filter fields
		want   []string
	}{
		"enabled":       {fields{"key_state": "Enabled"}, []string{"a", "eu/b"}},
		"pending":       {fields{"key_state": "PendingImport"}, []string{"mine"}},
		"spec":          {fields{"key_spec": "HMAC_512"}, []string{"eu/b"}},
		"origin":        {fields{"origin": "EXTERNAL"}, []string{"mine"}},
		"tag":           {fields{"tag": "pci"}, []string{"a"}},
		"tag value":     {fields{"tag": "team=payments"}, []string{"a"}},
		"empty value":   {fields{"tag": "team="}, nil},
		"alias":         {fields{"alias": "payments/current"}, []string{"a", "old"}},
		"full alias":    {fields{"alias": "alias/payments/current"}, []string{"a", "old"}},
		"other's alias": {fields{"alias": "orders/current"}, nil},
		"no such alias": {fields{"alias": "payments/none"}, nil},
		"aliased":       {fields{"alias": "any"}, []string{"a"}},
		"not aliased":   {fields{"alias": "none"}, []string{"eu/b", "mine", "off", "old"}},
		"never used":    {fields{"unused_since": "never"}, []string{"eu/b", "mine", "off", "old"}},
		"unused":        {fields{"unused_since": "1h"}, []string{"eu/b", "mine", "off", "old"}},
		"unused, later": {fields{"unused_since": formatTime(m.clock.now().Add(time.Hour))}, []string{"a", "eu/b", "mine", "off", "old"}},
		"deletes soon":  {fields{"deletes_before": "8d"}, []string{"old"}},
		"later":         {fields{"deletes_before": "6d"}, nil},
		"expires":       {fields{"expires_before": "365d"}, nil},
		"several":       {fields{"key_state": "Enabled", "alias": "none"}, []string{"eu/b"}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, name := range test.want {
				want = append(want, "payments/"+name)
			}
			require.Equal(t, want, keysIn(t, m, "inventory/payments/", test.filter))
		})
	}
	for field, value := range map[string]any{
		"key_state": "Enabeld", "key_spec": "RSA_2048", "origin": "x", "unused_since": "soon", "deletes_before": "-1d", "limit": 501, "format": "xml",
	} {
		resp, err := request(t, m, logical.ReadOperation, "inventory/payments", fields{field: value})
		require.Contains(t, refusalText(t, resp, err), field+" must be ")
	}
}

// TestInventoryForPeople: the vault command's tables.
func TestInventoryForPeople(t *testing.T) {
	t.Parallel()
	m := estate(t)
	list := do(t, m, logical.ListOperation, "inventory/payments/", nil)
	require.Len(t, list["keys"], 5)
	for id, info := range list["key_info"].(fields) {
		for column, value := range info.(fields) {
			require.NotContains(t, fmt.Sprintf("%T", value), "map", "%s of %s", column, id)
		}
	}
	require.Equal(t, "(alias/payments/current)", list["key_info"].(fields)["payments/old"].(fields)["aliases"])
	resp, err := request(t, m, logical.ListOperation, "inventory/nobody/", nil)
	require.NoError(t, err)
	require.Empty(t, resp.Data, "status 404, as all lists")

	table := do(t, m, logical.ReadOperation, "inventory/payments", fields{"format": "table"})
	require.NotContains(t, table, "key_info")
	lines := strings.Split(table["table"].(string), "\n")
	require.Len(t, lines, 6)
	require.Regexp(t, `^key +key_state +key_spec +origin +creation_date +last_used +aliases +grants +ends$`, lines[0])
	require.Regexp(t, `^payments/off +Disabled +HMAC_256 +AWS_KMS +\S+Z +never +- +0 +-$`, lines[4])
}

// TestInventoryPagesAreStable: whatever happens between pages, each key that is
// there all the time is on one page and no other.
func TestInventoryPagesAreStable(t *testing.T) {
	t.Parallel()
	names := rapid.StringMatching(`[ab-]{1,2}(/[ab.]{1,2}){0,2}`).Filter(func(s string) bool { return !strings.Contains("/"+s, "/.") && !strings.Contains(s, "..") })
	rapid.Check(t, func(r *rapid.T) {
		m := newMount(t)
		stay := slices.Compact(slices.Sorted(slices.Values(rapid.SliceOfN(names, 1, 12).Draw(r, "stay"))))
		come := rapid.SliceOfN(names, 0, 6).Draw(r, "come")
		for _, id := range stay {
			putKey(t, m, id)
		}
		limit := rapid.IntRange(1, 4).Draw(r, "limit")
		var got []string
		after := ""
		for page := 0; ; page++ {
			data := do(t, m, logical.ReadOperation, "inventory", fields{"limit": limit, "after": after})
			for _, id := range data["keys"].([]any) {
				if slices.Contains(stay, id.(string)) {
					got = append(got, id.(string))
				}
			}
			if data["truncated"] == false {
				break
			}
			after = data["next_after"].(string)
			if page < len(come) {
				putKey(t, m, come[page])
				forgetAll(t, m)
			}
		}
		if !slices.Equal(stay, got) {
			r.Fatalf("there were %q all the time, the pages have %q", stay, got)
		}
	})
}

// TestInventoryWorkIsBounded: a request makes a bounded number of storage calls,
// whatever is in the mount and whatever it filters, and comes to its end.
func TestInventoryWorkIsBounded(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	const n = 3000
	for i := range n {
		putKey(t, m, fmt.Sprintf("team/f%02d/key-%05d", i%40, i))
	}
	deep := strings.Repeat("d/", 120) + "k"
	putKey(t, m, deep)
	putKey(t, m, strings.Repeat("d/", 100)+"k2")
	for name, filter := range map[string]fields{"all": {"limit": 500}, "none": {"limit": 500, "tag": "nobody"}, "unused": {"limit": 500, "unused_since": "never"}} {
		t.Run(name, func(t *testing.T) {
			forgetAll(t, m)
			found, requests, most := 0, 0, 0
			for after := ""; ; requests++ {
				storage := &countedStorage{Storage: m.storage}
				data := fields{"after": after}
				for key, value := range filter {
					data[key] = value
				}
				resp, err := m.b.HandleRequest(t.Context(), &logical.Request{Operation: logical.ReadOperation, Path: "inventory", Storage: storage, Data: overJSON(t, data)})
				require.NoError(t, err)
				require.False(t, resp.IsError(), "%v", resp)
				most = max(most, len(storage.calls))
				found += len(resp.Data["keys"].([]string))
				if resp.Data["truncated"] == false {
					break
				}
				require.Greater(t, resp.Data["next_after"], after, "it goes on")
				after = resp.Data["next_after"].(string)
				require.Less(t, requests, n)
			}
			t.Logf("%d keys in %d requests of at most %d storage calls", found, requests+1, most)
			require.LessOrEqual(t, most, 160+64+250, "the budget, what is read ahead, and what the first key may take")
			want := n + 2
			if name == "none" {
				want = 0
			}
			require.Equal(t, want, found)
		})
	}
}

// TestInventoryIsNoWayIntoOtherFolders: a team's folder is all that its path
// shows, whatever it sends.
func TestInventoryIsNoWayIntoOtherFolders(t *testing.T) {
	t.Parallel()
	m := estate(t)
	for _, after := range []string{"orders", "orders/", "payments", "payments-x", "payments-x/", "payments/", "payments/../orders", "\x00", "zzz", "payments/zzz", strings.Repeat("payments/", 1000)} {
		for _, id := range keysIn(t, m, "inventory/payments", fields{"after": after}) {
			require.True(t, strings.HasPrefix(id, "payments/"), "after %q: %s", after, id)
		}
	}
	for _, path := range []string{"inventory/payments//", "inventory/payments/../orders", "inventory//orders", "inventory/alias/payments"} {
		require.Empty(t, keysIn(t, m, path, nil), path)
	}
}

// TestFormerAliasesAreBounded: a key that many aliases have left, and accept,
// does not make each look at it expensive.
func TestFormerAliasesAreBounded(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	createKey(t, m, "p/b")
	move := func(i int, overlap string) fields {
		return fields{"target_key_id": fmt.Sprintf("p/to-%d", i/50), "overlap": overlap}
	}
	for i := range 4 {
		createKey(t, m, fmt.Sprintf("p/to-%d", i))
	}
	for i := range 100 {
		alias := fmt.Sprintf("aliases/p/x%d", i)
		write(t, m, alias, fields{"target_key_id": "p/a"})
		write(t, m, alias, move(i, "1h"))
	}
	write(t, m, "aliases/p/last", fields{"target_key_id": "p/a"})
	writeRefused(t, m, "aliases/p/last", move(100, "1h"), "LimitExceededException",
		"At most 100 aliases can point at a key or accept it after they left it: move the alias without overlap, or wait for one to end.")
	accepted := do(t, m, logical.ReadOperation, "inventory/p", nil)["key_info"].(fields)["p/a"].(fields)["accepted_by"]
	require.Len(t, accepted, 100)
	m.clock.advance(2 * time.Hour)
	m.tidy(t)
	require.NotContains(t, do(t, m, logical.ReadOperation, "inventory/p", nil)["key_info"].(fields)["p/a"], "accepted_by")
	write(t, m, "aliases/p/last", move(100, "1h"))
	require.Len(t, storageKeys(t, m, aliasIndex("p/a")), 1, "old hints are gone")
	write(t, m, "aliases/p/last", fields{"target_key_id": "p/b"})
	require.Empty(t, storageKeys(t, m, aliasIndex("p/a")))
}
