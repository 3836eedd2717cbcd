package gateway

// /readyz: whether calls are worth sending here.

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readyFor is how long an answer of Vault is good for: probes must not
	// become a load on Vault.
	readyFor = time.Second
	// readyTimeout is how long it is waited for. Kubernetes gives a probe one
	// second unless told otherwise, load balancers two to five.
	readyTimeout = 2 * time.Second
)

// errNoEngine is the answer where Vault serves requests, but not the engine's.
// Vault does not tell a missing mount from a closed path without a token.
var errNoEngine = errors.New("no engine")

// Ready returns nil if calls can be served at the moment: Vault is unsealed, has
// an active node, and the engine is mounted where it is expected. It takes two
// seconds at most.
func (g *Gateway) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// The engine's own path, which needs no token. A standby passes it to the
	// active node, as it does with calls.
	body, err := g.vault.do(ctx, vaultRequest{method: http.MethodGet, path: g.mount + "ready"})
	var v *vaultError
	switch {
	case errors.As(err, &v) && v.status == http.StatusTooManyRequests:
		return nil // a quota is no reason to send calls elsewhere
	case errors.As(err, &v) && v.status/100 == 4:
		return errNoEngine
	case err != nil:
		return err
	}
	var answer struct {
		Data struct {
			SecretsEngine string `json:"secrets_engine"`
		} `json:"data"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Data.SecretsEngine != "kms-hmac" {
		return errNoEngine
	}
	return nil
}

// Drain makes /readyz say that this endpoint is about to stop, and answers to
// calls close their connections, so that clients go elsewhere. Calls are served
// as before.
func (g *Gateway) Drain() { g.draining.Store(true) }

// readiness answers /readyz.
type readiness struct {
	check    func(context.Context) error
	mount    string
	draining *atomic.Bool

	mu   sync.Mutex
	at   time.Time
	last error
}

func newReadiness(g *Gateway) *readiness {
	return &readiness{check: g.Ready, mount: g.mount, draining: &g.draining}
}

func (p *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "This endpoint is shutting down.\n")
		return
	}
	if err := p.lately(r.Context()); err != nil {
		plain(w, http.StatusServiceUnavailable, p.text(err)+"\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}

// lately is check, unless somebody has just asked.
func (p *readiness) lately(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) > readyFor {
		p.last, p.at = p.check(context.WithoutCancel(ctx)), time.Now()
	}
	return p.last
}

// text says in the open what is wrong: no more than Vault tells anybody.
func (p *readiness) text(err error) string {
	if errors.Is(err, errNoEngine) {
		return "No HMAC secrets engine answers at " + p.mount + ": the mount is another, or its engine is older than this endpoint."
	}
	return unavailable(err).Message
}
