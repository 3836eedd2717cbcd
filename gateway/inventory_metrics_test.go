package gateway

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestInventoryGauges counts keys over pages, and keeps what it knows when a
// look fails.
func TestInventoryGauges(t *testing.T) {
	fail, busy := false, 2
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch {
		case busy > 0:
			busy--
			return 400, `{"errors":["ThrottlingException: slow down"],"data":{"type":"ThrottlingException"}}`
		case c.path != "kms/inventory/payments":
			return 404, ""
		case fail:
			return errorsOnly(403, "permission denied")
		case strings.Contains(c.query, "after=b"):
			return 200, `{"data":{"truncated":false,"key_info":{"c":{"key_state":"PendingDeletion","last_used":{"operation":"GenerateMac"},"deletion_date":"2027-01-02T00:00:00.000Z"},
				"d":{"key_state":"PendingDeletion","last_used":null,"deletion_date":"2027-01-01T00:00:00.000Z"}}}}`
		}
		return 200, `{"data":{"truncated":true,"next_after":"b","key_info":{"a":{"key_state":"Enabled","last_used":null},"b":{"key_state":"Enabled","last_used":{"operation":"VerifyMac"},"valid_to":"2027-03-01T00:00:00.000Z"}}}}`
	})
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, f.URL)
	w := WatchInventory(g, InventoryConfig{
		Token: func() (string, error) { return "reader", nil }, Folder: "/payments/", Interval: time.Millisecond, Log: testLog(&log),
	}, registry)
	states := func() map[string]float64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		counts := map[string]float64{}
		for _, family := range families {
			for _, m := range family.Metric {
				if family.GetName() == "kms_gateway_keys" {
					counts[m.Label[0].GetValue()] = m.Gauge.GetValue()
				}
			}
		}
		return counts
	}
	require.Equal(t, map[string]float64{"kms_gateway_inventory_timestamp_seconds": 0}, gauges(t, registry))

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.Run(ctx); close(done) }()
	require.Eventually(t, func() bool { return len(states()) > 0 }, time.Minute, time.Millisecond)
	require.Equal(t, map[string]float64{"Enabled": 2, "Disabled": 0, "PendingImport": 0, "PendingDeletion": 2}, states())
	got := gauges(t, registry)
	require.Equal(t, 2.0, got["kms_gateway_keys_never_used"])
	require.Equal(t, float64(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC).Unix()), got["kms_gateway_next_key_deletion_timestamp_seconds"])
	require.Equal(t, float64(time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC).Unix()), got["kms_gateway_next_material_expiry_timestamp_seconds"])
	cancel()
	<-done
	require.Zero(t, w.failed, "who is told to slow down does")
	for _, c := range f.all() {
		require.Equal(t, "reader", c.token)
		require.Equal(t, "GET", c.method)
	}

	fail = true
	_, err := w.look(t.Context())
	require.True(t, forbidden(err))
	w.config.Token = func() (string, error) { return "", errors.New("no file") }
	_, err = w.look(t.Context())
	require.ErrorContains(t, err, "no file")
	require.Equal(t, 2.0, states()["Enabled"], "what is known stays")
}
