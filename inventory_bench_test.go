package kmshmac

import (
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// BenchmarkInventory reads the inventory of a mount to its end, in pages of 500:
// first with nothing in memory, as after a start, and then again. Each key has
// an alias; they are in 40 folders.
func BenchmarkInventory(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMount(b)
			for i := range n {
				id := fmt.Sprintf("team%d/f%d/key-%06d", i%4, i/4%10, i)
				putKey(b, m, id)
				putAlias(b, m, id, id, m.clock.now())
			}
			report := func(round string) func() {
				requests, calls := readInventory(b, m, n)
				return func() {
					b.ReportMetric(float64(requests), round+"-requests")
					b.ReportMetric(float64(calls), round+"-calls")
				}
			}
			cold, again := report("cold"), report("again")
			for b.Loop() {
				readInventory(b, m, n)
			}
			cold() // the loop would have reset what is reported before it
			again()
		})
	}
}

// readInventory returns how many requests and storage calls it took.
func readInventory(b *testing.B, m *mount, n int) (requests, calls int) {
	b.Helper()
	found := 0
	for after := ""; ; {
		storage := &countedStorage{Storage: m.storage}
		resp, err := m.b.HandleRequest(b.Context(), &logical.Request{
			Operation: logical.ReadOperation, Path: "inventory", Storage: storage, Data: fields{"limit": 500, "after": after},
		})
		require.NoError(b, err)
		requests, calls = requests+1, calls+len(storage.calls)
		found += len(resp.Data["keys"].([]string))
		if resp.Data["truncated"] == false {
			require.Equal(b, n, found)
			return requests, calls
		}
		after = resp.Data["next_after"].(string)
	}
}
