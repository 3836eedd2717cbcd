package acceptance

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUpcoming: a team and an operator see what is about to happen to their
// keys, soonest first, and nobody else's.
func TestUpcoming(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"payments/old", "payments/new", "payments/doomed", "payments-x/doomed"} {
		m.newKey(t, id, hmac256)
	}
	m.write(t, "aliases/payments/current", body{"target_key_id": "payments/old"})
	m.write(t, "aliases/payments/current", body{"target_key_id": "payments/new", "overlap": "48h"})
	m.write(t, "schedule-key-deletion/payments/doomed", body{"pending_window_in_days": 8})
	m.write(t, "schedule-key-deletion/payments-x/doomed", body{"pending_window_in_days": 7})
	m.write(t, "keys/payments/imported", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	token, wrapped := m.wrap(t, "payments/imported", random(32))
	m.write(t, "import-key-material/payments/imported", body{
		"import_token": token, "encrypted_key_material": wrapped, "valid_to": time.Now().Add(96 * time.Hour).UTC().Format(time.RFC3339),
	})
	policy := func(folder string) string {
		return fmt.Sprintf("path %q { capabilities = [\"read\"] }\npath %q { capabilities = [\"read\"] }", m.path+folder, m.path+folder+"/*")
	}
	team, err := m.server.Token(t.Context(), m.path+"-team", policy("/upcoming/payments"))
	must(t, err)
	operator, err := m.server.Token(t.Context(), m.path+"-operator", policy("/upcoming"))
	must(t, err)

	// events reads all pages of two events each.
	events := func(m mount, path string, query url.Values) (found []string) {
		query.Set("limit", "2")
		for {
			data := m.read(t, path+"?"+query.Encode())
			list, _ := data["events"].([]any)
			for _, e := range list {
				event, _ := e.(body)
				found = append(found, fmt.Sprint(event["event"], " ", event["key_id"]))
			}
			if data["truncated"] != true {
				return found
			}
			query.Set("after", data["next_after"].(string))
		}
	}
	ours := []string{
		"import_token_expiry payments/imported", "overlap_end payments/old", "material_expiry payments/imported", "key_deletion payments/doomed",
	}
	if got := events(m.as(team), "upcoming/payments", url.Values{}); !slices.Equal(got, ours) {
		t.Errorf("the team sees %v, not %v", got, ours)
	}
	all := slices.Insert(slices.Clone(ours), 3, "key_deletion payments-x/doomed")
	if got := events(m.as(operator), "upcoming", url.Values{}); !slices.Equal(got, all) {
		t.Errorf("the operator sees %v, not %v", got, all)
	}
	if got := events(m.as(operator), "upcoming", url.Values{"before": {"3d"}}); !slices.Equal(got, ours[:2]) {
		t.Errorf("within three days there are %v", got)
	}
	for _, path := range []string{"upcoming", "upcoming/payments-x", "upcoming/orders"} {
		m.as(team).denied(t, "GET", path, nil)
	}
	table := cli(t, m.server, 0, "read", "-field=table", m.path+"/upcoming/payments", "format=table").Stdout
	if !lineHas(table, "overlap_end", "payments/old", "alias/payments/current") || strings.Contains(table, "payments-x") {
		t.Errorf("vault read -field=table:\n%s", table)
	}

	// What does not happen any more is not upcoming.
	m.write(t, "cancel-key-deletion/payments/doomed", nil)
	m.write(t, "aliases/payments/current", body{"target_key_id": "payments/new", "overlap": "0"})
	if got := events(m.as(team), "upcoming/payments", url.Values{}); !slices.Equal(got, []string{ours[0], ours[2]}) {
		t.Errorf("at the end there are %v", got)
	}
}
