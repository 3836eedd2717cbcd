package keystore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// TestWalksOfOneTeamLeaveTurns: however many walks a team begins, another team's
// has its turn, after a few of them.
func TestWalksOfOneTeamLeaveTurns(t *testing.T) {
	t.Parallel()
	w := newWalks(waitingInventories)
	end, err := w.begin(t.Context(), "orders/", &effort{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error)
	begin := func(ctx context.Context, folder string) {
		go func() {
			end, err := w.begin(ctx, folder, &effort{})
			if err == nil {
				end()
			}
			results <- err
		}()
	}
	for range 3 * maxWaitingWalks {
		begin(ctx, "orders/eu/")
	}
	for range 3*maxWaitingWalks - waitingInventories {
		require.Equal(t, kms.Throttled(), <-results, "told to slow down")
	}
	begin(t.Context(), "payments/")
	require.Eventually(t, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.waiting["payments"] == 1
	}, time.Minute, time.Millisecond)
	end()
	for range waitingInventories + 1 {
		require.NoError(t, <-results)
	}
	require.Zero(t, w.all)
	require.Empty(t, w.waiting)

	// Who gives up leaves the queue.
	end, err = w.begin(t.Context(), "", &effort{})
	require.NoError(t, err)
	begin(ctx, "orders/")
	cancel()
	require.ErrorIs(t, <-results, context.Canceled)
	require.Empty(t, w.waiting)
	end()
}

// TestSideBySide: what panics beside a request is the request's panic, which does
// not end the process.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	var ran [8]bool
	require.PanicsWithValue(t, "a defect", func() {
		sideBySide(len(ran), func(i int) {
			ran[i] = true
			if i == 3 {
				panic("a defect")
			}
		})
	})
	require.Equal(t, [8]bool{true, true, true, true, true, true, true, true}, ran)
}
