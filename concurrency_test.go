package kmshmac

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// All kinds of requests, and the tidy, at once over a few names while days
// pass: nothing deadlocks, nothing fails but with an exception, and in the end
// the cache says what storage says.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		var group sync.WaitGroup
		for worker := range 8 {
			random := rand.New(rand.NewPCG(1, uint64(worker))) //nolint:gosec // a test's choice of requests
			group.Go(func() {
				for range 150 {
					r := randomRequest(random)
					if _, err := request(t, m, r.op, r.path, r.data); err != nil {
						t.Errorf("%s %s: %v", r.op, r.path, err)
					}
				}
			})
		}
		group.Go(func() {
			for range 100 {
				m.clock.advance(day)
				if err := m.b.periodic(t.Context(), &logical.Request{Storage: m.storage}); err != nil {
					t.Errorf("tidy: %v", err)
				}
			}
		})
		waitFor(t, &group)

		fresh := m.other(t)
		for i := range 3 {
			id, alias := fmt.Sprint("k", i), fmt.Sprint("aliases/x", i)
			require.Equal(t, withoutUse(read(t, fresh, "keys/"+id)), withoutUse(read(t, m, "keys/"+id)))
			require.Equal(t, read(t, fresh, alias), read(t, m, alias))
			if read(t, m, "keys/"+id) != nil {
				require.Equal(t, names(t, fresh, "aliases/", fields{"target_key_id": id}), names(t, m, "aliases/", fields{"target_key_id": id}))
			}
		}
	})
}

func withoutUse(key fields) fields {
	delete(key, "last_used")
	return key
}

func waitFor(t *testing.T, group *sync.WaitGroup) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("a deadlock")
	}
}

type randomOperation struct {
	op   logical.Operation
	path string
	data fields
}

func randomRequest(random *rand.Rand) randomOperation {
	id, alias := fmt.Sprint("k", random.IntN(3)), fmt.Sprint("x", random.IntN(3))
	all := []randomOperation{
		{logical.CreateOperation, "keys/" + id, fields{"key_spec": "HMAC_256"}},
		{logical.CreateOperation, "keys/" + id, fields{"description": alias}},
		{logical.ReadOperation, "keys/" + id, nil},
		{logical.DeleteOperation, "keys/" + id, nil},
		{logical.UpdateOperation, "schedule-key-deletion/" + id, fields{"pending_window_in_days": 7}},
		{logical.UpdateOperation, "cancel-key-deletion/" + id, nil},
		{logical.UpdateOperation, "enable-key/" + id, nil},
		{logical.UpdateOperation, "disable-key/" + id, nil},
		{logical.UpdateOperation, "tag-resource/" + id, fields{"tags": "k=" + alias}},
		{logical.CreateOperation, "aliases/" + alias, fields{"target_key_id": id, "overlap": "24h"}},
		{logical.DeleteOperation, "aliases/" + alias, nil},
		{logical.ReadOperation, "aliases/" + alias, nil},
		{logical.ListOperation, "keys/", fields{"detailed": true}},
		{logical.ListOperation, "aliases/", fields{"target_key_id": id}},
		{logical.UpdateOperation, "create-grant/" + id, fields{"grantee_principal": "e", "operations": "GenerateMac", "name": "n"}},
		{logical.ReadOperation, "list-grants/" + id, nil},
		{logical.UpdateOperation, "generate-mac/" + id, macFields("m")},
		{logical.UpdateOperation, "generate-mac/alias/" + alias, macFields("m")},
		{logical.UpdateOperation, "verify-mac/alias/" + alias, verifyFieldsOf("m", b64("x"))},
		{logical.ReadOperation, "get-key-last-usage/" + id, nil},
	}
	return all[random.IntN(len(all))]
}
