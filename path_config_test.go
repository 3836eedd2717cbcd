package kmshmac

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	require.Equal(t, fields{"pending_window_in_days": 30.0, "min_pending_window_in_days": 7.0, "alias_scope": "folder"}, read(t, m, "config"))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "min_pending_window_in_days": 7.0, "alias_scope": "folder"}, write(t, m, "config", fields{"pending_window_in_days": "7"}))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "min_pending_window_in_days": 7.0, "alias_scope": "any"}, write(t, m, "config", fields{"alias_scope": "any"}))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "min_pending_window_in_days": 7.0, "alias_scope": "any"}, write(t, m, "config", nil))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "min_pending_window_in_days": 7.0, "alias_scope": "any"}, read(t, m.other(t), "config"))

	createKey(t, m, "a")
	require.Equal(t, 7.0, write(t, m, "schedule-key-deletion/a", nil)["pending_window_in_days"])
	createKey(t, m, "b")
	require.Equal(t, 30.0, write(t, m, "schedule-key-deletion/b", fields{"pending_window_in_days": 30})["pending_window_in_days"])
}

func TestConfigRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		data        fields
		wantMessage string
	}{
		{"6 days", fields{"pending_window_in_days": 6}, "PendingWindowInDays must be between 7 and 30"},
		{"31 days", fields{"pending_window_in_days": 31, "alias_scope": "any"}, "PendingWindowInDays must be between 7 and 30"},
		{"0 days", fields{"pending_window_in_days": 0}, "PendingWindowInDays must be between 7 and 30"},
		{"shortest 6 days", fields{"min_pending_window_in_days": 6}, "min_pending_window_in_days must be between 7 and 30"},
		{"shortest 0 days", fields{"min_pending_window_in_days": 0}, "min_pending_window_in_days must be between 7 and 30"},
		{"shortest 31 days", fields{"min_pending_window_in_days": 31}, "min_pending_window_in_days must be between 7 and 30"},
		{"default below", fields{"min_pending_window_in_days": 14, "pending_window_in_days": 13}, "pending_window_in_days, which is 13, must not be less than min_pending_window_in_days, which is 14"},
		{"unknown scope", fields{"alias_scope": "all", "pending_window_in_days": 7}, "alias_scope must be folder or any"},
		{"empty scope", fields{"alias_scope": ""}, "alias_scope must be folder or any"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			writeRefused(t, m, "config", test.data, "ValidationException", test.wantMessage)
			require.Equal(t, fields{"pending_window_in_days": 30.0, "min_pending_window_in_days": 7.0, "alias_scope": "folder"}, read(t, m, "config"))
		})
	}
}

// TestShortestPendingWindow: no deletion comes sooner than the mount allows,
// whatever way it is asked for.
func TestShortestPendingWindow(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	write(t, m, "config", fields{"min_pending_window_in_days": 14})
	for _, days := range []int{7, 13} {
		writeRefused(t, m, "schedule-key-deletion/a", fields{"pending_window_in_days": days}, "ValidationException", "PendingWindowInDays must be between 14 and 30")
	}
	require.Equal(t, "Enabled", keyState(t, m, "a"))
	require.Equal(t, 14.0, write(t, m, "schedule-key-deletion/a", fields{"pending_window_in_days": 14})["pending_window_in_days"])
	require.Equal(t, 30.0, do(t, m, logical.DeleteOperation, "keys/b", nil)["pending_window_in_days"])
	write(t, m, "config", fields{"min_pending_window_in_days": 30})
	require.Equal(t, "PendingDeletion", keyState(t, m, "a"), "what is scheduled stays so")
	writeRefused(t, m, "config", fields{"pending_window_in_days": 29}, "ValidationException",
		"pending_window_in_days, which is 29, must not be less than min_pending_window_in_days, which is 30")
}
