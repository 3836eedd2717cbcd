package acceptance

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// The estate of these tests: four teams with ten folders each.
var estateTeams = []string{"orders", "payments", "payments-x", "search"}

const (
	foldersPerTeam = 10
	keysPerFolder  = 250
)

func estateKey(i int) string {
	team := estateTeams[i%4]
	return fmt.Sprintf("%s/f%d/key-%04d", team, i/4%foldersPerTeam, i/4/foldersPerTeam)
}

// newEstate fills a mount with 10,000 keys.
func newEstate(t *testing.T) (m mount, ids []string) {
	t.Helper()
	m = newMount(t)
	n := len(estateTeams) * foldersPerTeam * keysPerFolder
	start := time.Now()
	inParallel(t, 16, n, func(i int) error {
		data := body{"key_spec": specs[i/4%4].name, "tags": body{"number": fmt.Sprint(i % 10)}}
		a, err := m.request(t.Context(), "POST", "keys/"+estateKey(i), data)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%s: status %d, %q", estateKey(i), a.status, a.Errors)
		}
		return err
	})
	t.Logf("%d keys made in %v", n, time.Since(start))
	for i := range n {
		ids = append(ids, estateKey(i))
	}
	slices.Sort(ids)
	return m, ids
}

// pages reads an inventory to its end, and returns the keys and how many
// requests it took.
func (m mount) pages(ctx context.Context, path string, query url.Values) (ids []string, requests int, err error) {
	query = url.Values(map[string][]string(query))
	for {
		requests++
		a, err := m.request(ctx, "GET", path+"?"+query.Encode(), nil)
		if err != nil {
			return nil, requests, err
		}
		if a.status != 200 {
			return nil, requests, fmt.Errorf("%s: status %d, %q", path, a.status, a.Errors)
		}
		ids = append(ids, stringsOf(a.Data["keys"])...)
		if a.Data["truncated"] != true {
			return ids, requests, nil
		}
		next, _ := a.Data["next_after"].(string)
		if next == "" || next <= query.Get("after") {
			return nil, requests, fmt.Errorf("%s does not go on after %q: %q", path, query.Get("after"), next)
		}
		query.Set("after", next)
	}
}

// inventoryPolicy opens the inventory below a folder, "" for all.
func inventoryPolicy(m mount, folder string) string {
	path := strings.TrimSuffix(m.path+"/inventory/"+folder, "/")
	return fmt.Sprintf("path %q { capabilities = [\"read\", \"list\"] }\npath %q { capabilities = [\"read\", \"list\"] }", path, path+"/*")
}

// TestEstate: an operator and two teams look at 10,000 keys, each at what is
// theirs.
func TestEstate(t *testing.T) {
	t.Parallel()
	m, all := newEstate(t)
	below := func(folder string) (ids []string) {
		for _, id := range all {
			if strings.HasPrefix(id, folder) {
				ids = append(ids, id)
			}
		}
		return ids
	}
	viewer := map[string]mount{}
	for name, folder := range map[string]string{"operator": "", "payments": "payments/", "searcher": "search/f3/"} {
		token, err := m.server.Token(t.Context(), m.path+"-"+name, inventoryPolicy(m, folder))
		must(t, err)
		viewer[name] = m.as(token)
	}

	t.Run("all pages", func(t *testing.T) {
		for round := range 2 {
			start := time.Now()
			got, requests, err := viewer["operator"].pages(t.Context(), "inventory", url.Values{"limit": {"500"}})
			must(t, err)
			t.Logf("round %d: %d keys in %d requests, %v", round, len(got), requests, time.Since(start))
			if !slices.Equal(got, all) {
				t.Errorf("the operator sees %d keys of %d", len(got), len(all))
			}
		}
	})
	t.Run("folders", func(t *testing.T) {
		for _, path := range []string{"inventory/payments", "inventory/payments/", "inventory/payments/f3"} {
			want := below(strings.TrimSuffix(strings.TrimPrefix(path, "inventory/"), "/") + "/")
			got, _, err := viewer["payments"].pages(t.Context(), path, url.Values{"limit": {"500"}})
			must(t, err)
			if len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("%s has %d keys, not %d", path, len(got), len(want))
			}
		}
		got, _, err := viewer["searcher"].pages(t.Context(), "inventory/search/f3", url.Values{})
		must(t, err)
		if !slices.Equal(got, below("search/f3/")) {
			t.Errorf("search/f3 has %d keys", len(got))
		}
	})
	t.Run("rights", func(t *testing.T) {
		for _, path := range []string{"inventory", "inventory/", "inventory/payments-x", "inventory/payments-x/f1", "inventory/orders", "inventory/orders/", "inventory/payments/../orders"} {
			viewer["payments"].denied(t, "GET", path, nil)
			viewer["payments"].denied(t, "LIST", path, nil)
		}
		for _, path := range []string{"inventory/search", "inventory/search/f30", "inventory/search/f1"} {
			viewer["searcher"].denied(t, "GET", path, nil)
		}
		for _, name := range []string{"payments", "searcher", "operator"} {
			viewer[name].denied(t, "GET", "keys/"+all[0], nil)
		}
	})
	t.Run("filters", func(t *testing.T) {
		m.write(t, "disable-key/"+all[4321], body{})
		m.write(t, "schedule-key-deletion/"+all[1234], body{"pending_window_in_days": 7})
		m.write(t, "aliases/"+all[5000], body{"target_key_id": all[5000]})
		m.mac(t, all[5000], specOf(m, t, all[5000]), []byte("m"))
		for filter, want := range map[string][]string{
			"key_state=Disabled": {all[4321]}, "deletes_before=8d": {all[1234]}, "alias=any": {all[5000]}, "alias=" + all[5000]: {all[5000]},
		} {
			query, err := url.ParseQuery(filter)
			must(t, err)
			got, requests, err := viewer["operator"].pages(t.Context(), "inventory", query)
			must(t, err)
			t.Logf("%s: %d requests", filter, requests)
			if !slices.Equal(got, want) {
				t.Errorf("%s finds %v, not %v", filter, got, want)
			}
		}
		got, _, err := viewer["operator"].pages(t.Context(), "inventory", url.Values{"unused_since": {"1h"}, "limit": {"500"}})
		must(t, err)
		if len(got) != len(all)-1 || slices.Contains(got, all[5000]) {
			t.Errorf("unused are %d keys", len(got))
		}
	})
	t.Run("bulk", func(t *testing.T) {
		viewer["operator"].denied(t, "POST", "bulk/disable-key/payments", body{"tag": "number=1"})
		token, err := m.server.Token(t.Context(), m.path+"-bulk", fmt.Sprintf(`path "%s/bulk/disable-key/payments/*" { capabilities = ["update"] }`, m.path))
		must(t, err)
		mover := m.as(token)
		mover.denied(t, "POST", "bulk/disable-key/payments-x/f1", body{"tag": "number=1"})
		mover.denied(t, "POST", "bulk/schedule-key-deletion/payments/f1", body{"tag": "number=1"})
		var changed []string
		for after := ""; ; {
			page := mover.write(t, "bulk/disable-key/payments/f1", body{"tag": "number=5", "after": after, "limit": 20})
			results, _ := page["results"].([]any)
			for _, r := range results {
				result, _ := r.(body)
				if result["result"] != "done" {
					t.Errorf("%v", r)
				}
				id, _ := result["key_id"].(string)
				changed = append(changed, id)
			}
			if page["truncated"] != true {
				break
			}
			after, _ = page["next_after"].(string)
		}
		got, _, err := viewer["payments"].pages(t.Context(), "inventory/payments", url.Values{"key_state": {"Disabled"}})
		must(t, err)
		if len(changed) == 0 || !slices.Equal(got, changed) && !slices.Equal(without(got, all[4321]), changed) {
			t.Errorf("%d keys were disabled, %d are", len(changed), len(got))
		}
	})
	t.Run("command line", func(t *testing.T) {
		folder := m.path + "/inventory/payments/f3"
		list := cli(t, m.server, 0, "list", "-detailed", folder).Stdout
		if !lineHas(list, "Keys", "aliases", "creation_date", "ends", "grants", "key_spec", "key_state", "last_used", "origin") ||
			!lineHas(list, "payments/f3/key-0000", "Enabled", "HMAC_", "AWS_KMS", "never") {
			t.Errorf("vault list -detailed:\n%.600s", list)
		}
		keys := cli(t, m.server, 0, "list", "-detailed", m.path+"/keys/payments/f3").Stdout
		if !lineHas(keys, "Keys", "creation_date", "ends", "key_spec", "key_state", "origin") || !lineHas(keys, "key-0000", "Enabled", "HMAC_", "AWS_KMS") ||
			strings.Count(keys, "AWS_KMS") != keysPerFolder {
			t.Errorf("vault list -detailed of keys:\n%.600s", keys)
		}
		aliases := cli(t, m.server, 0, "list", "-detailed", m.path+"/aliases/"+path.Dir(all[5000])).Stdout
		if !lineHas(aliases, "Keys", "alias_name", "creation_date", "last_updated_date", "target_key_id") || !lineHas(aliases, path.Base(all[5000]), all[5000]) {
			t.Errorf("vault list -detailed of aliases:\n%.600s", aliases)
		}
		whole := cli(t, m.server, 0, "list", "-detailed", m.path+"/inventory/payments")
		said := strings.Join(strings.Fields(whole.Stderr), " ") // it breaks lines
		if more := "vault read -field=table " + m.path + "/inventory/payments/ format=table after=payments/"; !strings.Contains(said, more) {
			t.Errorf("a list that is not all does not say %q:\n%.600s%.600s", more, whole.Stdout, whole.Stderr)
		}
		table := cli(t, m.server, 0, "read", "-field=table", folder, "format=table", "limit=3").Stdout
		if strings.Count(table, "\n") > 4 || !lineHas(table, "key", "key_state", "last_used") || !lineHas(table, "payments/f3/key-0002", "Enabled", "never") {
			t.Errorf("vault read -field=table:\n%.600s", table)
		}
		read := cli(t, m.server, 0, "read", "-format=json", folder, "tag=number=3").Stdout
		if !strings.Contains(read, `"key_info"`) {
			t.Errorf("vault read -format=json:\n%.300s", read)
		}
	})
}

// specOf returns the spec of a key.
func specOf(m mount, t *testing.T, id string) spec {
	t.Helper()
	name := m.read(t, "keys/"+id)["key_spec"]
	i := slices.IndexFunc(specs, func(s spec) bool { return s.name == name })
	return specs[i]
}

func without(ids []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(other string) bool { return other == id })
}
