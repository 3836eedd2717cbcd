package gateway

// What Prometheus gets to know of the keys themselves.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-kms-hmac/kms"
)

// inventoryPause is between two pages, so that looking at many keys is no load
// on Vault.
const inventoryPause = 50 * time.Millisecond

// pageAttempts is how often a page is asked for while Vault or the mount says to
// slow down, as the mount does when others look at many keys at once. Each pause
// is twice as long as the one before it.
const pageAttempts = 8

// InventoryConfig says what of the mount is looked at, and how often.
type InventoryConfig struct {
	// Token returns the Vault token to look with. All that it needs is to read
	// <mount>/inventory, or inventory/<folder>. It is asked for each look.
	Token func() (string, error)
	// Folder is what is looked at, with all below it; "" is the whole mount.
	Folder string
	// Interval is the time between two looks.
	Interval time.Duration
	Log      *slog.Logger
}

// inventory is what a look has shown.
type inventory struct {
	at           time.Time // zero if there was none
	states       map[kms.KeyState]int
	neverUsed    int
	nextDeletion time.Time // zero if none is scheduled
	nextExpiry   time.Time
}

// InventoryWatcher looks at all keys from time to time, and tells Prometheus how
// many there are, and when the next of them ceases to exist.
type InventoryWatcher struct {
	gateway *Gateway
	config  InventoryConfig

	mu     sync.Mutex
	last   inventory
	failed int
}

// WatchInventory returns a watcher, whose gauges registerer gets. The caller
// must call Run.
func WatchInventory(g *Gateway, c InventoryConfig, registerer prometheus.Registerer) *InventoryWatcher {
	w := &InventoryWatcher{gateway: g, config: c}
	registerer.MustRegister(w)
	return w
}

// Run looks until ctx ends.
func (w *InventoryWatcher) Run(ctx context.Context) {
	for {
		found, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			w.config.Log.Error("inventory", "error", causeOf(err))
			w.mu.Lock()
			w.failed++
			w.mu.Unlock()
		default:
			w.mu.Lock()
			w.last = found
			w.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(w.config.Interval):
		}
	}
}

// inventoryPage is a page as the mount answers it.
type inventoryPage struct {
	KeyInfo map[string]struct {
		KeyState     kms.KeyState `json:"key_state"`
		LastUsed     *struct{}    `json:"last_used"`
		DeletionDate time.Time    `json:"deletion_date"`
		ValidTo      time.Time    `json:"valid_to"`
	} `json:"key_info"`
	Truncated bool   `json:"truncated"`
	NextAfter string `json:"next_after"`
}

// look reads the inventory, page by page.
func (w *InventoryWatcher) look(ctx context.Context) (inventory, error) {
	found := inventory{at: time.Now(), states: map[kms.KeyState]int{}}
	token, err := w.config.Token()
	if err != nil {
		return found, fmt.Errorf("reading the token for the inventory: %w", err)
	}
	path := strings.TrimSuffix(w.gateway.mount+"inventory/"+strings.Trim(w.config.Folder, "/"), "/")
	for after := ""; ; {
		answer, err := w.page(ctx, vaultRequest{
			method: http.MethodGet, path: path, token: token, query: url.Values{"limit": {"500"}, "after": {after}},
		})
		if err != nil {
			return found, err
		}
		var page inventoryPage
		if _, err := decodeAnswer(answer, &page); err != nil {
			return found, err
		}
		for _, key := range page.KeyInfo {
			found.states[key.KeyState]++
			if key.LastUsed == nil {
				found.neverUsed++
			}
			found.nextDeletion = sooner(found.nextDeletion, key.DeletionDate)
			found.nextExpiry = sooner(found.nextExpiry, key.ValidTo)
		}
		switch {
		case !page.Truncated:
			return found, nil
		case page.NextAfter <= after:
			return found, errors.New("the inventory does not go on")
		}
		after = page.NextAfter
		if !pause(ctx, inventoryPause) {
			return found, ctx.Err()
		}
	}
}

// page asks for a page, and again where it is told to slow down.
func (w *InventoryWatcher) page(ctx context.Context, r vaultRequest) (answer []byte, err error) {
	for attempt := range pageAttempts {
		if answer, err = w.gateway.vault.do(ctx, r); !throttled(err) {
			break
		}
		if !pause(ctx, inventoryPause<<attempt) {
			return nil, ctx.Err()
		}
	}
	return answer, err
}

// sooner returns the sooner of two times, of which the zero time is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

var (
	keysDesc      = prometheus.NewDesc("kms_gateway_keys", "Keys of the mount, by state.", []string{"state"}, nil)
	neverUsedDesc = prometheus.NewDesc("kms_gateway_keys_never_used", "Keys that were never used.", nil, nil)
	deletionDesc  = prometheus.NewDesc("kms_gateway_next_key_deletion_timestamp_seconds", "When the next key ceases to exist, in seconds since 1970; absent if no deletion is scheduled.", nil, nil)
	expiryDesc    = prometheus.NewDesc("kms_gateway_next_material_expiry_timestamp_seconds", "When the next key material expires, in seconds since 1970; absent if none does.", nil, nil)
	lookDesc      = prometheus.NewDesc("kms_gateway_inventory_timestamp_seconds", "When the keys were last looked at, in seconds since 1970; 0 if not yet.", nil, nil)
	lookErrorDesc = prometheus.NewDesc("kms_gateway_inventory_errors_total", "Looks at the keys that failed.", nil, nil)
)

// Describe makes it a prometheus.Collector.
func (w *InventoryWatcher) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keysDesc, neverUsedDesc, deletionDesc, expiryDesc, lookDesc, lookErrorDesc} {
		descs <- d
	}
}

// Collect makes it a prometheus.Collector.
func (w *InventoryWatcher) Collect(metrics chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	metrics <- prometheus.MustNewConstMetric(lookErrorDesc, prometheus.CounterValue, float64(w.failed))
	if w.last.at.IsZero() {
		gauge(lookDesc, 0)
		return
	}
	gauge(lookDesc, float64(w.last.at.Unix()))
	for _, state := range []kms.KeyState{kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion} {
		gauge(keysDesc, float64(w.last.states[state]), string(state))
	}
	gauge(neverUsedDesc, float64(w.last.neverUsed))
	for desc, at := range map[*prometheus.Desc]time.Time{deletionDesc: w.last.nextDeletion, expiryDesc: w.last.nextExpiry} {
		if !at.IsZero() {
			gauge(desc, float64(at.Unix()))
		}
	}
}
