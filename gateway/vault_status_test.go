package gateway

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// gauges gathers the gauges without labels.
func gauges(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			if g := m.Gauge; g != nil && len(m.Label) == 0 {
				values[family.GetName()] = g.GetValue()
			}
		}
	}
	return values
}

func TestVaultStatus(t *testing.T) {
	for name, test := range map[string]struct {
		health, leader              string
		reachable, unsealed, active float64
	}{
		"active":              {`{"initialized":true,"sealed":false,"standby":false}`, "", 1, 1, 1},
		"standby":             {`{"initialized":true,"sealed":false,"standby":true}`, `{"leader_address":"https://10.0.0.1:8200"}`, 1, 1, 1},
		"standby, no leader":  {`{"initialized":true,"sealed":false,"standby":true}`, `{"leader_address":""}`, 1, 1, 0},
		"sealed":              {`{"initialized":true,"sealed":true,"standby":true}`, "", 1, 0, 0},
		"not initialized":     {`{"initialized":false,"sealed":true,"standby":true}`, "", 1, 0, 0},
		"something else":      {`<html>`, "", 0, 0, 0},
		"leader is not known": {`{"initialized":true,"sealed":false,"standby":true}`, `<html>`, 1, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeVault(t, func(c *vaultCall) (int, string) {
				switch c.path {
				case "sys/health":
					return 200, test.health
				case "sys/leader":
					return 200, test.leader
				}
				return 404, ""
			})
			registry := prometheus.NewRegistry()
			newTestGateway(t, f.URL, func(c *Config) { c.Registerer, c.MaxConcurrency = registry, 7 })
			for range 3 {
				require.Equal(t, map[string]float64{
					"kms_gateway_vault_reachable": test.reachable, "kms_gateway_vault_unsealed": test.unsealed, "kms_gateway_vault_active_node": test.active,
					"kms_gateway_calls_in_flight": 0, "kms_gateway_calls_limit": 7,
				}, gauges(t, registry))
			}
			require.LessOrEqual(t, len(f.all()), 6, "scrapes are no load on Vault")
			for _, c := range f.all() {
				require.Empty(t, c.token)
			}
		})
	}
}

// TestHungVault: a scrape is answered, and calls under way are shown.
func TestHungVault(t *testing.T) {
	hung := make(chan struct{})
	entered := make(chan struct{}, 10)
	vault := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-hung
	}))
	defer vault.Close()
	defer close(hung)
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, vault.URL, func(c *Config) { c.Registerer = registry })
	go post(g, "/", "EnableKey", `{"KeyId":"k"}`)
	<-entered
	start := time.Now()
	got := gauges(t, registry)
	require.Less(t, time.Since(start), 9*time.Second, "Prometheus would have given up")
	maps.DeleteFunc(got, func(_ string, value float64) bool { return value == 0 })
	require.Equal(t, map[string]float64{"kms_gateway_calls_in_flight": 1, "kms_gateway_calls_limit": 4096}, got)
}
