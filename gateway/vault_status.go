package gateway

// What Prometheus gets to know of Vault, as the endpoint sees it.

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// statusTimeout bounds what a hung Vault can do to a scrape, which Prometheus
// gives up after ten seconds, or earlier.
const statusTimeout = 2 * time.Second

// vaultStatus is what one look at Vault has shown.
type vaultStatus struct {
	reachable, unsealed bool
	activeNode          bool // is there, be it another node
}

// status asks Vault, which needs no token for it.
func (v *Vault) status(ctx context.Context) (s vaultStatus) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	ask := func(path string, query url.Values, out any) bool {
		answer, err := v.do(ctx, vaultRequest{method: http.MethodGet, path: path, query: query})
		return err == nil && json.Unmarshal(answer, out) == nil
	}
	var health struct {
		Initialized, Sealed, Standby bool
	}
	ok := []string{"200"}
	s.reachable = ask("sys/health", url.Values{"sealedcode": ok, "uninitcode": ok, "standbycode": ok, "performancestandbycode": ok, "drsecondarycode": ok}, &health)
	s.unsealed = s.reachable && health.Initialized && !health.Sealed
	switch {
	case !s.unsealed:
	case !health.Standby:
		s.activeNode = true
	default:
		var leader struct {
			Address string `json:"leader_address"`
		}
		s.activeNode = ask("sys/leader", nil, &leader) && leader.Address != ""
	}
	return s
}

// statusCollector answers scrapes with the status of Vault, of which it asks at
// most once a second.
type statusCollector struct {
	vault *Vault

	mu   sync.Mutex
	at   time.Time
	last vaultStatus
}

var (
	reachableDesc  = prometheus.NewDesc("kms_gateway_vault_reachable", "Whether Vault answers (1) or not (0).", nil, nil)
	unsealedDesc   = prometheus.NewDesc("kms_gateway_vault_unsealed", "Whether Vault is unsealed.", nil, nil)
	activeNodeDesc = prometheus.NewDesc("kms_gateway_vault_active_node", "Whether Vault has an active node.", nil, nil)
)

// Describe and Collect make it a prometheus.Collector.
func (c *statusCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{reachableDesc, unsealedDesc, activeNodeDesc} {
		descs <- d
	}
}

// Collect asks Vault.
func (c *statusCollector) Collect(metrics chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > readyFor {
		c.last, c.at = c.vault.status(context.Background()), time.Now()
	}
	for desc, yes := range map[*prometheus.Desc]bool{
		reachableDesc: c.last.reachable, unsealedDesc: c.last.unsealed, activeNodeDesc: c.last.activeNode,
	} {
		value := 0.0
		if yes {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
}

// registerState registers what the gateway knows of the present moment.
func (g *Gateway) registerState(registerer prometheus.Registerer) {
	if registerer == nil {
		return
	}
	registerer.MustRegister(
		&statusCollector{vault: g.vault},
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kms_gateway_calls_in_flight", Help: "Calls under way.",
		}, func() float64 { return float64(g.calls.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "kms_gateway_calls_limit", Help: "The most calls at once (-max-concurrency).",
		}, func() float64 { return float64(g.maxCalls) }),
	)
}
