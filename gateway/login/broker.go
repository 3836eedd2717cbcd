package login

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

const (
	// refreshMargin is how long before their end credentials are not given out
	// any more: more than the 15 minutes before which botocore asks for new
	// ones, so that what it gets then is new.
	refreshMargin = 20 * time.Minute
	// maxRemembered is how many logins are remembered: a few megabytes.
	maxRemembered = 8192
	// warnEvery is how often a role is warned about.
	warnEvery = time.Hour
	// MaxLifetime is the longest that a login is used, as AWS's longest session.
	MaxLifetime = 12 * time.Hour
)

// Login is a successful login. It does not change.
type Login struct {
	Token string
	// Role is the role that was logged in to, Entity the id of the entity that
	// Vault knows the caller as.
	Role, Entity string
	Expires      time.Time
	// Bound says that Vault may take the token from some addresses only.
	Bound bool

	identity  digest
	lifetime  time.Duration // at the beginning
	renewable bool
}

// fresh reports whether a login is good to be given out: short-lived ones for
// half of their time.
func (l *Login) fresh(now time.Time) bool {
	return l.Expires.Sub(now) > min(refreshMargin, l.lifetime/2)
}

type digest [sha256.Size]byte

// BrokerConfig says how a broker logs in.
type BrokerConfig struct {
	// Client is a client of Vault without a token.
	Client *api.Client
	Method Method
	// MaxLogins is the most logins under way at once, and MaxPerAddress of one
	// address (of a /64 network with IPv6). Some more wait.
	MaxLogins, MaxPerAddress int
	// Timeout bounds a login with its waiting.
	Timeout    time.Duration
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Broker logs callers in to Vault, as seldom as it can: a credential that has
// logged in is not asked about again while its login is fresh, equal logins at
// the same time are one, and callers who are the same to Vault share one token,
// so that their requests can be shared too. It is safe for concurrent use.
type Broker struct {
	BrokerConfig
	limiter  *limiter
	flights  singleflight.Group // by credential
	renewals singleflight.Group // by identity
	logins   *prometheus.CounterVec

	mu sync.Mutex // guards the rest
	// credentials remembers who a credential has logged in as. Only what Vault
	// has accepted is in it, under its digest.
	credentials *simplelru.LRU[digest, accepted]
	identities  *simplelru.LRU[digest, *Login]
	byToken     *simplelru.LRU[digest, digest]
	warned      *simplelru.LRU[string, time.Time]
}

// accepted is a credential that Vault has accepted, and until when it was good.
type accepted struct {
	identity digest
	until    time.Time
}

// NewBroker returns a broker.
func NewBroker(c BrokerConfig) (*Broker, error) {
	switch {
	case c.Client == nil:
		return nil, errors.New("a client of Vault is needed")
	case c.MaxLogins <= 0 || c.MaxPerAddress <= 0 || c.Timeout <= 0:
		return nil, errors.New("the limits on logins must be positive")
	}
	if err := c.Method.ForCallers(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		BrokerConfig: c,
		limiter:      newLimiter(c.MaxLogins, c.MaxPerAddress),
		credentials:  newLRU[digest, accepted](),
		identities:   newLRU[digest, *Login](),
		byToken:      newLRU[digest, digest](),
		warned:       newLRU[string, time.Time](),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_gateway_logins_total",
			Help: "Requests for credentials, by result: login, renewal, remembered, or the reason of a failure.",
		}, []string{"result"}),
	}
	if c.Registerer != nil {
		c.Registerer.MustRegister(b.logins)
	}
	return b, nil
}

func newLRU[K comparable, V any]() *simplelru.LRU[K, V] {
	cache, err := simplelru.NewLRU[K, V](maxRemembered, nil)
	if err != nil {
		panic(err) // the size is a constant
	}
	return cache
}

// Request is what a caller brings.
type Request struct {
	Role, Credential string
	// Remote is the address and port that it calls from, and From the value of
	// X-Forwarded-For: Vault binds logins to it, if told to believe it.
	Remote, From string
	// Certificates are those of the caller's TLS connection, its own first, where
	// certificates log in. They must come from the handshake, in which the caller
	// has shown that it has the key.
	Certificates []*x509.Certificate
}

// Login logs a caller in to a role. It fails with an [Error].
func (b *Broker) Login(ctx context.Context, r Request) (*Login, error) {
	if err := b.Method.checkShape(r, b.Now()); err != nil {
		b.count(err)
		return nil, err
	}
	id := digestOf(r.Role, r.Credential, forwarded(r.Certificates), r.From)
	if l := b.recall(id); l != nil && l.fresh(b.Now()) {
		b.logins.WithLabelValues("remembered").Inc()
		return l, nil
	}
	// The flight belongs to all who wait for it, so no caller's leaving ends it.
	flight := b.flights.DoChan(string(id[:]), func() (any, error) { return b.fly(id, r) })
	select {
	case result := <-flight:
		if result.Err != nil {
			b.count(result.Err)
			return nil, result.Err
		}
		return result.Val.(*Login), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *Broker) count(err error) {
	var e *Error
	if errors.As(err, &e) {
		b.logins.WithLabelValues([]string{"malformed", "refused", "expired", "denied", "busy", "unavailable"}[e.Reason]).Inc()
	}
}

func digestOf(parts ...string) digest {
	text, _ := json.Marshal(parts) // strings always can be
	return sha256.Sum256(text)
}

// recall returns the login of a credential, if there is one that has not ended.
func (b *Broker) recall(credential digest) *Login {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.credentials.Get(credential)
	now := b.Now()
	if !ok || !now.Before(known.until) {
		return nil
	}
	l, ok := b.identities.Get(known.identity)
	if !ok || !now.Before(l.Expires) {
		return nil
	}
	return l
}

// fly renews the login that the credential has, or logs in.
func (b *Broker) fly(id digest, r Request) (*Login, error) {
	ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
	defer cancel()
	leave, err := b.limiter.enter(ctx, r.Remote)
	if err != nil {
		return nil, err
	}
	defer leave()
	if known := b.recall(id); known != nil {
		if l := b.renew(ctx, known, r); l != nil {
			return l, nil
		}
	}
	method, err := b.Method.with(r)
	if err != nil {
		return nil, &Error{Malformed, err.Error()}
	}
	client, err := b.clientFor(r, "")
	if err != nil {
		return nil, &Error{Unavailable, "the login could not be prepared"}
	}
	secret, err := method.Login(ctx, client)
	if err != nil {
		return nil, b.Method.explain(err, r.Credential)
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return nil, &Error{Denied, "Vault wants more than this credential"}
	}
	b.logins.WithLabelValues("login").Inc()
	l := b.newLogin(r.Role, id, secret.Auth)
	b.warn(l)
	l.Bound = b.isBound(ctx, r, l.Token)
	return b.remember(id, l, r), nil
}

// clientFor returns a client that says from where a request comes, and with
// which certificates.
func (b *Broker) clientFor(r Request, token string) (*api.Client, error) {
	client, err := b.Client.Clone()
	if err != nil {
		return nil, err
	}
	setNamespace(client, b.Client.Namespace())
	client.SetToken(token)
	if r.From != "" {
		client.AddHeader("X-Forwarded-For", r.From)
	}
	if len(r.Certificates) > 0 {
		client.AddHeader(CertificateHeader, forwarded(r.Certificates))
	}
	return client, nil
}

// isBound asks Vault whether a token is good from some addresses only. One that
// may not look itself up is taken to be.
func (b *Broker) isBound(ctx context.Context, r Request, token string) bool {
	client, err := b.clientFor(r, token)
	if err != nil {
		return true
	}
	secret, err := client.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil || secret == nil {
		return true
	}
	bound, _ := secret.Data["bound_cidrs"].([]any)
	return len(bound) > 0
}

func (b *Broker) newLogin(role string, credential digest, auth *api.SecretAuth) *Login {
	lifetime := MaxLifetime
	if auth.LeaseDuration > 0 {
		lifetime = min(lifetime, time.Duration(auth.LeaseDuration)*time.Second)
	}
	return &Login{
		Token: auth.ClientToken, Role: role, Entity: auth.EntityID,
		Expires: b.Now().Add(lifetime), lifetime: lifetime, renewable: auth.Renewable,
		identity: identityOf(role, credential, auth),
	}
}

// identityOf tells whether two logins are the same to Vault: of one entity, in
// one role, with the same policies and metadata. A login without an entity is
// like no other.
func identityOf(role string, credential digest, auth *api.SecretAuth) digest {
	if auth.EntityID == "" {
		return credential
	}
	token, identity := slices.Sorted(slices.Values(auth.TokenPolicies)), slices.Sorted(slices.Values(auth.IdentityPolicies))
	text, _ := json.Marshal([]any{role, auth.EntityID, token, identity, auth.Metadata, auth.Orphan, auth.Renewable})
	return sha256.Sum256(text)
}

// remember keeps a login. Where another login of the same identity is fresh, that
// one is used, and the surplus token is given back to Vault.
func (b *Broker) remember(id digest, l *Login, r Request) *Login {
	now, until := b.Now(), b.Method.expiry(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if until.After(now) {
		b.credentials.Add(id, accepted{l.identity, until})
	} else if until.IsZero() && b.Method.Kind == AppRole {
		b.credentials.Add(id, accepted{l.identity, l.Expires})
	}
	if other, ok := b.identities.Get(l.identity); ok && other.fresh(now) && other.Token != l.Token {
		go b.revoke(r, l.Token)
		return other
	}
	b.keep(l)
	return l
}

// keep makes a login the one of its identity. The caller holds mu.
func (b *Broker) keep(l *Login) {
	b.identities.Add(l.identity, l)
	b.byToken.Add(sha256.Sum256([]byte(l.Token)), l.identity)
}

// revoke gives a token back that nobody has got. Batch tokens have nothing to
// give back.
func (b *Broker) revoke(r Request, token string) {
	ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
	defer cancel()
	client, err := b.clientFor(r, token)
	if err == nil {
		err = client.Auth().Token().RevokeSelfWithContext(ctx, "")
	}
	if err != nil {
		b.Log.Debug("giving a surplus token back", "error", clean(err.Error(), token))
	}
}

// renew renews a login that is not fresh any more, and returns it, or nil if
// that is not to be had.
func (b *Broker) renew(ctx context.Context, l *Login, r Request) *Login {
	if l.fresh(b.Now()) {
		return l
	}
	if !l.renewable {
		return nil
	}
	result, err, _ := b.renewals.Do(string(l.identity[:]), func() (any, error) {
		client, err := b.clientFor(r, "")
		if err != nil {
			return nil, err
		}
		secret, err := client.Auth().Token().RenewTokenAsSelfWithContext(ctx, l.Token, int(l.lifetime.Seconds()))
		if err != nil || secret == nil || secret.Auth == nil {
			return nil, errors.New("not renewed")
		}
		renewed := *l
		renewed.Expires = b.Now().Add(min(MaxLifetime, time.Duration(secret.Auth.LeaseDuration)*time.Second))
		if !renewed.fresh(b.Now()) {
			return nil, errors.New("at its longest lifetime")
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.keep(&renewed)
		b.logins.WithLabelValues("renewal").Inc()
		return &renewed, nil
	})
	if err != nil {
		return nil
	}
	return result.(*Login)
}

// Forget is told that Vault does not accept a token any more: it is not given
// out again.
func (b *Broker) Forget(token string) {
	id := digest(sha256.Sum256([]byte(token)))
	b.mu.Lock()
	defer b.mu.Unlock()
	identity, ok := b.byToken.Get(id)
	if !ok {
		return
	}
	b.byToken.Remove(id)
	if l, ok := b.identities.Get(identity); ok && l.Token == token {
		b.identities.Remove(identity)
	}
}

// warn tells about a role whose logins are so short that botocore asks for new
// credentials all the time.
func (b *Broker) warn(l *Login) {
	if l.lifetime > refreshMargin {
		return
	}
	b.mu.Lock()
	last, ok := b.warned.Get(l.Role)
	due := !ok || b.Now().Sub(last) > warnEvery
	if due {
		b.warned.Add(l.Role, b.Now())
	}
	b.mu.Unlock()
	if due {
		b.Log.Warn("the tokens of a role live so short that some SDKs ask for new credentials at every call; set token_ttl to an hour",
			"role", l.Role, "ttl", l.lifetime.String())
	}
}
