package acceptance

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
)

// TestManyKeys fills a folder with keys and aliases, which clients create side
// by side, and pages through them.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	const n = 3000
	m := newMount(t)
	post := func(path string, data any) error {
		a, err := m.request(t.Context(), "POST", path, data)
		if err == nil && a.status != 200 {
			err = fmt.Errorf("%s: status %d, %q", path, a.status, a.Errors)
		}
		return err
	}
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	inParallel(t, 16, n, func(i int) error {
		id := "many/" + names[i]
		if err := post("keys/"+id, body{"key_spec": specs[i%4].name}); err != nil {
			return err
		}
		if err := post("aliases/"+id, body{"target_key_id": id}); err != nil {
			return err
		}
		if i%10 != 0 {
			return nil
		}
		return post("generate-mac/alias/"+id, body{"message": "eA==", "mac_algorithm": specs[i%4].algorithm})
	})

	for _, folder := range []string{"keys/many/", "aliases/many/"} {
		if got := m.list(t, folder); !slices.Equal(got, names) {
			t.Errorf("%s lists %d names", folder, len(got))
		}
		for _, limit := range []int{1000, 777, n, n + 1} {
			if got := m.paged(t, folder, limit, ""); !slices.Equal(got, names) {
				t.Errorf("%s lists %d names in pages of %d", folder, len(got), limit)
			}
		}
		if got := m.paged(t, folder, 1000, "2990"); !slices.Equal(got, names[2991:]) {
			t.Errorf("%s after 2990 lists %v", folder, got)
		}
		page := m.do(t, "GET", folder+"?list=true&limit=10&detailed=true", nil)
		if info, _ := page.Data["key_info"].(body); len(info) != 10 {
			t.Errorf("%s: details of %d names", folder, len(info))
		}
	}

	// One folder is one entry of the folder above, and the rest is apart.
	m.newKey(t, "many-more", hmac256)
	if got := m.list(t, "keys/"); !slices.Equal(got, []string{"many-more", "many/"}) {
		t.Errorf("keys lists %v", got)
	}
	if got := m.paged(t, "keys/", 1, ""); !slices.Equal(got, []string{"many-more", "many/"}) {
		t.Errorf("keys in pages of 1 lists %v", got)
	}

	// Gone from the lists as well as from the aliases of the key.
	m.do(t, "DELETE", "aliases/many/0001", nil)
	if got := m.paged(t, "aliases/many/", 500, "0000"); len(got) != n-2 || got[0] != "0002" {
		t.Errorf("after deleting 0001, the aliases after 0000 begin with %v", got[:1])
	}
	m.write(t, "aliases/many/0002", body{"target_key_id": "many/0003"})
	of := m.do(t, "GET", "aliases/?list=true&target_key_id=many/0003", nil)
	if got := stringsOf(of.Data["keys"]); !slices.Equal(got, []string{"many/0002", "many/0003"}) {
		t.Errorf("the aliases of many/0003 are %v", got)
	}
}

// paged lists a folder page by page from after on.
func (m mount) paged(t *testing.T, folder string, limit int, after string) []string {
	t.Helper()
	var all []string
	for {
		a := m.do(t, "GET", fmt.Sprintf("%s?list=true&limit=%d&after=%s", folder, limit, url.QueryEscape(after)), nil)
		names := stringsOf(a.Data["keys"])
		all = append(all, names...)
		next, more := a.Data["next_after"].(string)
		if len(names) > limit || a.Data["truncated"] != more || more && next != names[len(names)-1] {
			t.Fatalf("%s: a page of %d, truncated %v, next_after %q", folder, len(names), a.Data["truncated"], next)
		}
		if !more {
			return all
		}
		after = next
	}
}
