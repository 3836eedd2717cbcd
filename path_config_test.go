package kmshmac

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	require.Equal(t, fields{"pending_window_in_days": 30.0, "alias_scope": "folder"}, read(t, m, "config"))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "alias_scope": "folder"}, write(t, m, "config", fields{"pending_window_in_days": "7"}))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "alias_scope": "any"}, write(t, m, "config", fields{"alias_scope": "any"}))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "alias_scope": "any"}, write(t, m, "config", nil))
	require.Equal(t, fields{"pending_window_in_days": 7.0, "alias_scope": "any"}, read(t, m.other(t), "config"))

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
		{"unknown scope", fields{"alias_scope": "all", "pending_window_in_days": 7}, "alias_scope must be folder or any"},
		{"empty scope", fields{"alias_scope": ""}, "alias_scope must be folder or any"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			writeRefused(t, m, "config", test.data, "ValidationException", test.wantMessage)
			require.Equal(t, fields{"pending_window_in_days": 30.0, "alias_scope": "folder"}, read(t, m, "config"))
		})
	}
}
