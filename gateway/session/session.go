// Package session has the credentials that the endpoint issues: a random secret
// access key, and a session token that holds, sealed, what the endpoint needs to
// serve its bearer. So instances that share their sealing keys share sessions,
// and keep nothing.
package session

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-kms-hmac/gateway/sigv4"
)

const (
	// Prefix begins every sealed token, and no token of Vault's.
	Prefix = "KGS1"
	// maxToken is the most characters of a sealed token. A batch token of Vault
	// in it can be several hundred bytes long.
	maxToken = 16 << 10
	// maxOpened is how many opened tokens are kept: a few megabytes.
	maxOpened = 4096
)

// Session is what a sealed token stands for.
type Session struct {
	// VaultToken is what requests to Vault are made with.
	VaultToken string `json:"t"`
	// AccessKey and Secret are what the bearer signs with.
	AccessKey string `json:"a"`
	Secret    string `json:"s"`
	// Role is the role that the bearer has logged in to, and Entity the id of
	// its entity in Vault.
	Role   string `json:"r"`
	Entity string `json:"e"`
	// Bound says that Vault may take the token from some addresses only.
	Bound bool `json:"b,omitempty"`
	// Expires is the end, in seconds since 1970.
	Expires int64 `json:"x"`

	signing atomic.Pointer[signingKey]
}

// signingKey is the last signing key that was derived from the secret: it is the
// same for a day.
type signingKey struct {
	date, region, service string
	key                   sigv4.Key
}

// New returns a session with an access key of its own.
func New(vaultToken, role, entity string, bound bool, expires time.Time) *Session {
	var random [10 + 30]byte
	_, _ = rand.Read(random[:]) // never fails
	return &Session{
		VaultToken: vaultToken, Role: role, Entity: entity, Bound: bound, Expires: expires.Unix(),
		// As AWS's: ASIA is what ids of temporary keys begin with.
		AccessKey: "ASIA" + base32.StdEncoding.EncodeToString(random[:10]),
		Secret:    base64.StdEncoding.EncodeToString(random[10:]),
	}
}

// Key returns the key that a signature must be made with.
func (s *Session) Key(signature *sigv4.Signature) sigv4.Key {
	last := s.signing.Load()
	if last != nil && last.date == signature.Date && last.region == signature.Region && last.service == signature.Service {
		return last.key
	}
	key := signature.NewKey(s.Secret)
	s.signing.Store(&signingKey{signature.Date, signature.Region, signature.Service, key})
	return key
}

// The errors of Open. ErrInvalid is also a token that was sealed for another
// endpoint.
var (
	ErrInvalid = errors.New("the sealed token is not valid")
	ErrExpired = errors.New("the sealed token has expired")
)

// Sealer seals sessions, and opens what it or another with the same keys has
// sealed. It is safe for concurrent use.
type Sealer struct {
	keys keyring
	// audience is what the tokens are good for. Endpoints of different places
	// may share keys without sharing tokens.
	audience string
	// opened remembers tokens, each with the keys that it was opened under.
	opened *lru.Cache[string, opened]
}

type opened struct {
	session *Session
	keys    *keySet
}

// NewSealer returns a sealer with the keys of a source, which it reads at once.
func NewSealer(ctx context.Context, source Source, audience string) (*Sealer, error) {
	cache, err := lru.New[string, opened](maxOpened)
	if err != nil {
		return nil, err
	}
	s := &Sealer{keys: keyring{source: source}, audience: audience, opened: cache}
	return s, s.Reload(ctx)
}

// Reload reads the keys again. Keys that are gone open nothing from then on. The
// old ones stay in use if it fails.
func (s *Sealer) Reload(ctx context.Context) error { return s.keys.reload(ctx) }

// IsSealed reports whether a session token is a sealed one, valid or not.
func IsSealed(token string) bool { return strings.HasPrefix(token, Prefix) }

// Seal returns the session token of a session: the id of the sealing key, and the
// session sealed with it.
func (s *Sealer) Seal(session *Session) (string, error) {
	text, err := json.Marshal(session)
	if err != nil {
		return "", err
	}
	keys := s.keys.current.Load()
	raw, err := keys.keys[keys.current].seal(keys.current[:], text, s.bound(keys.current))
	if err != nil {
		return "", err
	}
	token := Prefix + base64.RawURLEncoding.EncodeToString(raw)
	if len(token) > maxToken {
		return "", fmt.Errorf("the sealed token would have more than %d characters", maxToken)
	}
	return token, nil
}

// bound is what a token is bound to beside its content.
func (s *Sealer) bound(id keyID) []byte { return append([]byte(Prefix+s.audience+"\x00"), id[:]...) }

// Open returns the session of a sealed token. The session is shared with others
// who have the token.
func (s *Sealer) Open(ctx context.Context, token string, now time.Time) (*Session, error) {
	if found, ok := s.opened.Get(token); ok && found.keys == s.keys.current.Load() {
		return found.session, found.session.check(now)
	}
	found, err := s.open(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := found.session.check(now); err != nil {
		return nil, err
	}
	s.opened.Add(strings.Clone(token), found)
	return found.session, nil
}

func (s *Session) check(now time.Time) error {
	if now.Unix() >= s.Expires {
		return ErrExpired
	}
	return nil
}

func (s *Sealer) open(ctx context.Context, token string) (opened, error) {
	if len(token) > maxToken || !IsSealed(token) {
		return opened{}, ErrInvalid
	}
	// Line breaks are the one thing that strict decoding passes over.
	text := token[len(Prefix):]
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < keyIDSize || strings.ContainsAny(text, "\r\n") {
		return opened{}, ErrInvalid
	}
	id := keyID(raw[:keyIDSize])
	keys, err := s.keys.find(ctx, id)
	if errors.Is(err, errUnknownKey) {
		return opened{}, ErrInvalid
	}
	if err != nil {
		return opened{}, err
	}
	plain, err := keys.keys[id].open(raw[keyIDSize:], s.bound(id))
	if err != nil {
		return opened{}, ErrInvalid
	}
	session := &Session{}
	if err := json.Unmarshal(plain, session); err != nil {
		return opened{}, ErrInvalid
	}
	return opened{session, keys}, nil
}
