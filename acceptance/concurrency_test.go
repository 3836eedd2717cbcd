package acceptance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestConcurrentFirstUse has many clients create the same key and the same alias
// at once: there is one key, and one of them created the alias.
func TestConcurrentFirstUse(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	message := someMessage()
	for round := range 5 {
		id := fmt.Sprintf("f/k%d", round)
		var mu sync.Mutex
		macs, dates, created := map[any]bool{}, map[any]bool{}, 0
		inParallel(t, 16, 16, func(int) error {
			a, err := m.request(t.Context(), "POST", "keys/"+id, body{"key_spec": "HMAC_256"})
			if err != nil || a.status != 200 {
				return fmt.Errorf("creating the key: %w, status %d, %q", err, a.status, a.Errors)
			}
			b, err := m.request(t.Context(), "POST", "generate-mac/"+id, body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
			if err != nil || b.status != 200 {
				return fmt.Errorf("using the key: %w, status %d, %q", err, b.status, b.Errors)
			}
			c, err := m.request(t.Context(), "POST", "aliases/"+id, body{"target_key_id": id, "must_exist": false})
			if err != nil || c.status != 200 && c.Data["type"] != "AlreadyExistsException" {
				return fmt.Errorf("creating the alias: %w, status %d, %q", err, c.status, c.Errors)
			}
			mu.Lock()
			defer mu.Unlock()
			dates[a.Data["creation_date"]], macs[b.Data["mac"]] = true, true
			if c.status == 200 {
				created++
			}
			return nil
		})
		if len(macs) != 1 || len(dates) != 1 || created != 1 {
			t.Errorf("%d MACs, %d creation dates, %d clients created the alias", len(macs), len(dates), created)
		}
	}
}

// TestImportsDoNotStarve asks for many of the most expensive RSA keys while
// others make MACs.
func TestImportsDoNotStarve(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.newKey(t, "k", hmac256)
	for i := range 4 {
		m.write(t, fmt.Sprint("keys/external-", i), body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	}
	var mu sync.Mutex
	var times []time.Duration
	stop := underLoad(t, 1, func(ctx context.Context) (bool, error) {
		start := time.Now()
		a, err := m.request(ctx, "POST", "generate-mac/k", body{"message": "eA==", "mac_algorithm": "HMAC_SHA_256"})
		if err == nil && a.status == 200 {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Since(start))
		}
		return err == nil && a.status == 200, err
	})
	var made atomic.Int64
	inParallel(t, 4, 4, func(i int) error {
		a, err := m.request(t.Context(), "POST", fmt.Sprint("get-parameters-for-import/external-", i), body{
			"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_4096",
		})
		switch {
		case err != nil:
			return err
		case a.status == 200:
			made.Add(1)
		case a.Data["type"] != "ThrottlingException":
			return fmt.Errorf("status %d, %q", a.status, a.Errors)
		}
		return nil
	})
	good, bad := stop()
	slices.Sort(times)
	if bad > 0 || good == 0 || made.Load() == 0 {
		t.Fatalf("%d MACs made, %d not; %d RSA keys", good, bad, made.Load())
	}
	if median := times[len(times)/2]; median > 500*time.Millisecond {
		t.Errorf("half of %d MACs took more than %s", good, median)
	}
}
