package session

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// KeySize is the size of a sealing key, in bytes.
	KeySize = 32
	// MaxKeys is the most sealing keys at a time: the one that seals, the one
	// before it, and some room.
	MaxKeys = 16

	keyIDSize = 8
	saltSize  = 16
)

// Source returns the sealing keys, of [KeySize] bytes each. The first one seals,
// all of them open.
type Source func(ctx context.Context) ([][]byte, error)

// RandomKey is the source of a key that nobody else has, for an endpoint that
// stands alone. What it has sealed ends with the process.
func RandomKey() Source {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails
	return func(context.Context) ([][]byte, error) { return [][]byte{key}, nil }
}

// KeyFile is the source of keys in a file: one a line, 64 hexadecimal digits,
// as "openssl rand -hex 32" prints them. Empty lines and those that begin with #
// are left out.
func KeyFile(path string) Source {
	return func(context.Context) ([][]byte, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("reading the sealing keys: %w", err)
		}
		var keys [][]byte
		for line := range bytes.Lines(text) {
			line = bytes.TrimSpace(line)
			if len(line) == 0 || line[0] == '#' {
				continue
			}
			key, err := hex.DecodeString(string(line))
			if err != nil || len(key) != KeySize {
				// The line itself may be a key: it is nobody's to see.
				return nil, fmt.Errorf("%s: each line must be a sealing key of %d hexadecimal digits", path, 2*KeySize)
			}
			keys = append(keys, key)
		}
		return keys, nil
	}
}

// derivationLabel is what an HMAC key in Vault makes a MAC of for its sealing
// key to be derived from it. Another label would be another key.
const derivationLabel = "kms-gateway sealing key, version 1"

// DerivedKeys is the source of keys that are derived from HMAC keys: mac returns
// the MAC of a message under the key with a name.
func DerivedKeys(names []string, mac func(ctx context.Context, name string, message []byte) ([]byte, error)) Source {
	return func(ctx context.Context) ([][]byte, error) {
		var keys [][]byte
		for _, name := range names {
			made, err := mac(ctx, name, []byte(derivationLabel))
			if err != nil {
				return nil, fmt.Errorf("deriving the sealing key from the key %q: %w", name, err)
			}
			if len(made) < sha256.Size {
				return nil, fmt.Errorf("deriving the sealing key from the key %q: a MAC of at least %d bytes is needed", name, sha256.Size)
			}
			key, err := hkdf.Key(sha256.New, made, nil, derivationLabel, KeySize)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
		return keys, nil
	}
}

type keyID [keyIDSize]byte

// keySet is a state of the keys. It does not change.
type keySet struct {
	current keyID
	keys    map[keyID]sealingKey
}

func newKeySet(keys [][]byte) (*keySet, error) {
	if len(keys) == 0 || len(keys) > MaxKeys {
		return nil, fmt.Errorf("there must be 1 to %d sealing keys, not %d", MaxKeys, len(keys))
	}
	set := &keySet{keys: map[keyID]sealingKey{}}
	for i, key := range keys {
		id := idOf(key)
		if i == 0 {
			set.current = id
		}
		set.keys[id] = key
	}
	return set, nil
}

// sealingKey seals tokens, each under a key of its own that is derived from it
// and a random salt. So the random nonces of AES-GCM, which are too short for
// more than some billion tokens under one key, are long enough however many
// instances share a sealing key. All of it is what FIPS 140-3 approves.
type sealingKey []byte

// seal appends the sealed text to dst: the salt, the nonce, and the text
// encrypted and authenticated, with what it is bound to.
func (k sealingKey) seal(dst, text, bound []byte) ([]byte, error) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	aead, err := k.derive(salt)
	if err != nil {
		return nil, err
	}
	return aead.Seal(append(dst, salt...), nil, text, bound), nil
}

// open returns the text of a sealed one.
func (k sealingKey) open(sealed, bound []byte) ([]byte, error) {
	if len(sealed) < saltSize {
		return nil, ErrInvalid
	}
	aead, err := k.derive(sealed[:saltSize])
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, sealed[saltSize:], bound)
}

func (k sealingKey) derive(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, k, salt, "kms-gateway session", KeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// idOf names a key without telling anything of it.
func idOf(key []byte) (id keyID) {
	sum := sha256.Sum256(append([]byte("kms-gateway sealing key id\x00"), key...))
	copy(id[:], sum[:])
	return id
}

// refreshPause is the shortest time between two looks for a key that is not
// known. Strangers can make up ids of keys.
const refreshPause = time.Second

// keyring keeps the keys of a source.
type keyring struct {
	source  Source
	current atomic.Pointer[keySet]

	mu   sync.Mutex // serializes reading the source
	last time.Time  // when the source was last read; mu guards it
}

// reload reads the source again. The old keys stay in use if that fails.
func (k *keyring) reload(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.load(ctx)
}

func (k *keyring) load(ctx context.Context) error {
	k.last = time.Now()
	keys, err := k.source(ctx)
	if err != nil {
		return err
	}
	set, err := newKeySet(keys)
	if err != nil {
		return err
	}
	k.current.Store(set)
	return nil
}

var errUnknownKey = errors.New("sealed under a key that is not known")

// find returns the keys of now, the id's among them. Another instance may already
// seal under a key that this one has not read: so an id that is not known has the
// source read again, though not at every call.
func (k *keyring) find(ctx context.Context, id keyID) (*keySet, error) {
	if set := k.current.Load(); set.keys[id] != nil {
		return set, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if set := k.current.Load(); set.keys[id] != nil {
		return set, nil
	}
	if time.Since(k.last) < refreshPause {
		return nil, errUnknownKey
	}
	// Whoever asks first may go away: the keys are for all.
	if err := k.load(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	if set := k.current.Load(); set.keys[id] != nil {
		return set, nil
	}
	return nil, errUnknownKey
}
