package keystore

// RSA keys that wrap imported key material, and the tokens that go with them.

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-kms-hmac/kms"
)

// RSA key pairs are expensive, and any caller of get-parameters-for-import can
// ask for them. So one pair serves a key's imports for an hour, pairs are made
// one at a time, which leaves the other cores to MACs, and the mount makes a
// limited number of them; beyond that callers are told to slow down.
const (
	wrappingKeyReuse   = time.Hour
	wrappingKeyWait    = 20 * time.Second
	wrappingKeyBurst   = 100
	wrappingKeysPerSec = 1
)

// wrappingKey is the stored record of an RSA key pair that wraps key material
// for one key. It is not shared between keys: who may import into one key
// could otherwise replay the encrypted material of another and use that.
type wrappingKey struct {
	Name    string    `json:"name"` // its storage key after the prefix
	KeyID   string    `json:"key_id"`
	Bits    int       `json:"bits"`
	PKCS8   []byte    `json:"pkcs8"`
	Secret  []byte    `json:"secret"` // authenticates import tokens
	Created time.Time `json:"created"`
}

// importDue is when the last import token that a wrapping key has given out for a
// key ends.
type importDue struct {
	Expires time.Time `json:"expires"`
}

// importToken is what an import token says; a MAC under the wrapping key's
// secret precedes it.
type importToken struct {
	WrappingKey string    `json:"wrapping_key"`
	KeyID       string    `json:"key_id"`
	Algorithm   string    `json:"algorithm"`
	ValidTo     time.Time `json:"valid_to"`
}

// wrappingKeyCache finds the pair that a key's imports may share, and bounds
// the making of new ones. It is not needed for correctness: after a restart
// new pairs are made, and tokens of the old ones stay good.
type wrappingKeyCache struct {
	recent *lru.Cache[string, *wrappingKey]
	busy   chan struct{}
	limit  *rate.Limiter

	generate GenerateRSAKey
}

// GenerateRSAKey makes an RSA key of so many bits.
type GenerateRSAKey func(random io.Reader, bits int) (*rsa.PrivateKey, error)

func newWrappingKeyCache(generate GenerateRSAKey) *wrappingKeyCache {
	recent, _ := lru.New[string, *wrappingKey](256) // fails for sizes below one only
	return &wrappingKeyCache{
		recent:   recent,
		busy:     make(chan struct{}, 1),
		limit:    rate.NewLimiter(wrappingKeysPerSec, wrappingKeyBurst),
		generate: generate,
	}
}

// find returns the pair in a slot if it is young enough to be shared.
func (c *wrappingKeyCache) find(slot string, now time.Time) *wrappingKey {
	if w, ok := c.recent.Get(slot); ok && now.Before(w.Created.Add(wrappingKeyReuse)) {
		return w
	}
	return nil
}

// wrappingKeyFor returns a pair of so many bits for imports into a key.
func (st *Store) wrappingKeyFor(ctx context.Context, s logical.Storage, keyID string, bits int) (*wrappingKey, error) {
	slot := fmt.Sprintf("%d/%s", bits, keyID)
	if w := st.wrappingKeys.find(slot, st.now()); w != nil {
		return w, nil
	}
	wait, cancel := context.WithTimeout(ctx, wrappingKeyWait)
	defer cancel()
	select {
	case st.wrappingKeys.busy <- struct{}{}:
		defer func() { <-st.wrappingKeys.busy }()
	case <-wait.Done():
		return nil, kms.Throttled()
	}
	now := st.now()
	if w := st.wrappingKeys.find(slot, now); w != nil {
		return w, nil // made while this request waited
	}
	if !st.wrappingKeys.limit.Allow() {
		return nil, kms.Throttled()
	}
	w, err := st.newWrappingKey(keyID, bits, now)
	if err != nil {
		return nil, err
	}
	_, change, err := st.begin(ctx, s)
	if err != nil {
		return nil, err
	}
	defer change.end()
	if err := change.put(importPrefix+hour(w.expires())+"/"+keyID, importDue{w.expires()}); err != nil {
		return nil, err
	}
	if err := change.put(wrappingKeyPrefix+w.Name, w); err != nil {
		return nil, err
	}
	st.wrappingKeys.recent.Add(slot, w)
	return w, nil
}

func (st *Store) newWrappingKey(keyID string, bits int, now time.Time) (*wrappingKey, error) {
	private, err := st.wrappingKeys.generate(st.random(), bits)
	if err != nil {
		return nil, fmt.Errorf("generating a wrapping key: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, errors.New("encoding a wrapping key failed")
	}
	secret := make([]byte, sha256.Size)
	if _, err := io.ReadFull(st.random(), secret); err != nil {
		return nil, fmt.Errorf("choosing a secret: %w", err)
	}
	id, err := uuid.NewRandomFromReader(st.random())
	if err != nil {
		return nil, fmt.Errorf("choosing an id: %w", err)
	}
	w := &wrappingKey{KeyID: keyID, Bits: bits, PKCS8: pkcs8, Secret: secret, Created: now}
	w.Name = hour(w.expires()) + "/" + id.String()
	return w, nil
}

// expires is when no token of the pair is good any more: the last one is given
// out at the end of the reuse.
func (w *wrappingKey) expires() time.Time {
	return w.Created.Add(wrappingKeyReuse + kms.ImportParametersHours*time.Hour)
}

func (w *wrappingKey) private() (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(w.PKCS8)
	private, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the record of a wrapping key is damaged")
	}
	return private, nil
}

// token makes an import token.
func (w *wrappingKey) token(algorithm string, validTo time.Time) ([]byte, error) {
	payload, err := json.Marshal(importToken{WrappingKey: w.Name, KeyID: w.KeyID, Algorithm: algorithm, ValidTo: validTo})
	if err != nil {
		return nil, errors.New("encoding an import token failed")
	}
	return append(kms.NewMacKey(kms.HMAC256, w.Secret).Append(nil, payload), payload...), nil
}

// openImportToken checks a token for imports into a key and returns what it
// stands for. Every defect is the same exception but age.
func openImportToken(ctx context.Context, s logical.Storage, token []byte, keyID string, now time.Time) (*wrappingKey, string, error) {
	if len(token) < sha256.Size {
		return nil, "", kms.InvalidImportToken()
	}
	mac, payload := token[:sha256.Size], token[sha256.Size:]
	var t importToken
	if json.Unmarshal(payload, &t) != nil || t.KeyID != keyID || !isWrappingKeyName(t.WrappingKey) {
		return nil, "", kms.InvalidImportToken()
	}
	w, err := load[wrappingKey](ctx, s, wrappingKeyPrefix+t.WrappingKey)
	if err != nil {
		return nil, "", err
	}
	if w == nil && !now.Before(t.ValidTo) {
		return nil, "", kms.ExpiredImportToken() // and so long ago that its wrapping key is gone
	}
	if w == nil || w.KeyID != keyID || !kms.NewMacKey(kms.HMAC256, w.Secret).Verify(payload, mac) {
		return nil, "", kms.InvalidImportToken()
	}
	if !now.Before(t.ValidTo) {
		return nil, "", kms.ExpiredImportToken()
	}
	return w, t.Algorithm, nil
}

// isWrappingKeyName guards storage against names that somebody made up.
func isWrappingKeyName(name string) bool {
	hourOf, id, ok := strings.Cut(name, "/")
	_, hourErr := time.Parse("2006-01-02T15", hourOf)
	_, idErr := uuid.Parse(id)
	return ok && hourErr == nil && idErr == nil
}

// tidyWrappingKeys removes the pairs whose last token has expired, and what tells
// of them.
func (st *Store) tidyWrappingKeys(ctx context.Context, s logical.Storage, now time.Time) error {
	ctx, w, err := st.begin(ctx, s)
	if err != nil {
		return err
	}
	defer w.end()
	for _, prefix := range []string{importPrefix, wrappingKeyPrefix} {
		if err := w.removeHoursBefore(ctx, prefix, now); err != nil {
			return err
		}
	}
	return nil
}

// removeHoursBefore removes all records below the hours that are over.
func (w *write) removeHoursBefore(ctx context.Context, prefix string, now time.Time) error {
	hours, err := list(ctx, w.s, prefix)
	if err != nil {
		return err
	}
	for _, h := range hours {
		if strings.TrimSuffix(h, "/") >= hour(now) {
			break
		}
		names, err := collect(ctx, w.s, prefix+h)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := w.remove(prefix + h + name); err != nil {
				return err
			}
		}
	}
	return nil
}
