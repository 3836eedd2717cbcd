package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/gateway"
)

// Mount is where an Engine is mounted, as far as the endpoint is concerned.
const Mount = "kms"

// timeout is more than any request takes: there is no network to wait for.
const timeout = time.Minute

// Engine is the secrets engine in memory. It is safe for concurrent use.
type Engine struct {
	// Clock is the engine's only source of time.
	Clock *Clock

	faults faults

	// mu is held for writing while a key with given material is created, so
	// that no other takes the material, and while everything is forgotten.
	mu      sync.RWMutex
	backend logical.Backend
	storage logical.Storage
	random  *random
}

// New returns an engine without keys. clock is the machine's where it is nil.
func New(clock *Clock) (*Engine, error) {
	if clock == nil {
		clock = &Clock{}
	}
	e := &Engine{Clock: clock}
	return e, e.Reset()
}

// Reset forgets all keys, aliases and grants. The clock and the faults stay.
func (e *Engine) Reset() error {
	storage, source := &logical.InmemStorage{}, &random{}
	backend, err := kmshmac.FactoryAt(e.Clock.Now)(context.Background(), &logical.BackendConfig{
		Logger:      hclog.New(&hclog.LoggerOptions{Name: "engine", Level: hclog.Error}),
		System:      &systemView{random: source},
		StorageView: storage,
	})
	if err != nil {
		return fmt.Errorf("starting the engine: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.backend, e.storage, e.random = backend, storage, source
	return nil
}

// Vault returns a client to which the engine answers in Vault's place.
func (e *Engine) Vault() *gateway.Vault { return gateway.NewVaultOver(e, timeout) }

// Handler is an endpoint's handler with the engine's control paths and faults
// before it.
func (e *Engine) Handler(endpoint http.Handler) http.Handler {
	control := e.control()
	endpoint = e.faults.before(endpoint)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isControl(r) {
			control.ServeHTTP(w, r)
			return
		}
		endpoint.ServeHTTP(w, r)
	})
}

// SetTime sets the clock to a time, at which it then stands still.
func (e *Engine) SetTime(ctx context.Context, t time.Time) error {
	if err := e.Clock.Set(t); err != nil {
		return err
	}
	return e.tidy(ctx)
}

// Advance moves the clock, forward or back.
func (e *Engine) Advance(ctx context.Context, d time.Duration) error {
	if err := e.Clock.Advance(d); err != nil {
		return err
	}
	return e.tidy(ctx)
}

// tidy does what Vault has the engine do once a minute: nothing that is
// answered depends on it, but keys whose time has come leave the memory.
func (e *Engine) tidy(ctx context.Context) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, err := e.backend.HandleRequest(ctx, &logical.Request{Operation: logical.RollbackOperation, Storage: e.storage})
	if errors.Is(err, logical.ErrUnsupportedOperation) { // says the framework, when it is done
		return nil
	}
	return err
}

// systemView is Vault as the engine sees it: with a source of random bytes of
// its own.
type systemView struct {
	logical.StaticSystemView
	random *random
}

// GetRandom implements entropy.Sourcer, which the sdk asks for.
func (v *systemView) GetRandom(n int) ([]byte, error) { return v.random.take(n) }

// random is the system's source of random bytes, unless the next ones are
// given.
type random struct {
	mu   sync.Mutex
	next []byte
}

// give has the next bytes that are taken be these, all of them.
func (r *random) give(next []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = next
}

// given reports whether bytes that were given have not been taken.
func (r *random) given() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next != nil
}

func (r *random) take(n int) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		b := make([]byte, n)
		_, err := rand.Read(b)
		return b, err
	}
	if len(r.next) != n {
		return nil, fmt.Errorf("material of %d bytes is needed", n)
	}
	b := r.next
	r.next = nil
	return b, nil
}
