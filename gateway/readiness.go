package gateway

// /readyz.

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

// readyFor is how long an answer about Vault's health is good for: probes must
// not become a load on Vault.
const readyFor = time.Second

// readiness answers /readyz.
type readiness struct {
	check func(context.Context) error

	mu   sync.Mutex
	at   time.Time
	last error
}

func (p *readiness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.at) > readyFor {
		p.last, p.at = p.check(context.WithoutCancel(r.Context())), time.Now()
	}
	if p.last != nil {
		plain(w, http.StatusServiceUnavailable, readinessText(p.last)+"\n")
		return
	}
	plain(w, http.StatusOK, "ready\n")
}

// readinessText says in the open what is wrong with Vault: no more than its own
// unauthenticated sys/health does.
func readinessText(err error) string {
	var v *vaultError
	if !errors.As(err, &v) {
		return textUnreachable
	}
	switch v.status {
	case http.StatusServiceUnavailable:
		return textSealed
	case http.StatusNotImplemented:
		return "Vault is not initialized."
	}
	return textNoLeader
}
