package keystore

// The store itself: its locks, its caches, and what makes them forget.

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
)

// cacheSize bounds the cached keys, and the cached aliases: more than the
// 100,000 keys that KMS allows an account. A cached key takes about one
// kilobyte.
const cacheSize = 1 << 17

const (
	// listedFolders is of how many folders the names are kept. Each name is in
	// one folder, so however many they are, it is no more than all names.
	listedFolders = 1024
	// glanced is how many keys are kept that were seen in passing, by an
	// inventory: about a kilobyte each.
	glanced = 1 << 14
)

// Options are what a store needs of the mount that it belongs to. They are
// functions, because a mount knows the answers only once Vault has set it up.
// All but Notify must be set.
type Options struct {
	// Now is the only source of time.
	Now func() time.Time

	// System is Vault's system view. Each of its methods is a round trip.
	System func() logical.SystemView

	// Random is where key material, ids, secrets and nonces come from.
	Random func() io.Reader

	// Background runs work beside the requests, with the mount's storage, if
	// this node can write.
	Background func(work func(ctx context.Context, s logical.Storage))

	// Warn logs what went wrong without harm.
	Warn func(message string, args ...any)

	// Notify, unless nil, is told what has happened. It must not block.
	Notify func(Notice)

	// GenerateRSAKey makes the RSA keys that wrap imported key material.
	GenerateRSAKey GenerateRSAKey
}

// Store keeps the keys of a mount, and all that belongs to them. It is safe for
// concurrent use.
//
// Its cache holds snapshots. They are published under the same lock stripe
// under which they are read or written, so that a slow reader cannot put back
// what a writer has replaced.
type Store struct {
	now        func() time.Time
	random     func() io.Reader
	warn       func(message string, args ...any)
	notify     func(Notice)
	background func(work func(ctx context.Context, s logical.Storage))

	locks        []*locksutil.LockEntry
	keys         *lru.Cache[string, *Key]
	aliases      *lru.Cache[string, *Alias]
	grants       *grantsCache
	settings     atomic.Pointer[Settings]
	names        *memo[[]string] // of folders
	doubts       doubts
	usages       *usageTable
	wrappingKeys *wrappingKeyCache
	hints        *memo[[]string]    // of aliases, by key
	grantCounts  *memo[int]         // by key
	shards       *memo[*usageShard] // of last uses
	glances      *memo[*keyRecord]  // keys seen in passing
	walks        *walks             // of inventories
	lists        *walks             // of lists with details

	// cachingDisabled is asked of Vault once, on first use, because it is a
	// round trip, and not earlier, because a mount is made before Vault can be
	// asked.
	cachingDisabled func() bool
}

// New returns the store of a mount. It asks neither storage nor Vault.
func New(o Options) *Store {
	// New fails for sizes below one only.
	keys, _ := lru.New[string, *Key](cacheSize)
	aliases, _ := lru.New[string, *Alias](cacheSize)
	return &Store{
		now:             o.Now,
		random:          o.Random,
		warn:            o.Warn,
		background:      o.Background,
		notify:          o.Notify,
		locks:           locksutil.CreateLocks(),
		keys:            keys,
		aliases:         aliases,
		grants:          newGrantsCache(),
		names:           newMemo[[]string](listedFolders),
		usages:          newUsageTable(),
		wrappingKeys:    newWrappingKeyCache(o.GenerateRSAKey),
		hints:           newMemo[[]string](cacheSize),
		grantCounts:     newMemo[int](cacheSize),
		shards:          newMemo[*usageShard](usageShards),
		glances:         newMemo[*keyRecord](glanced),
		walks:           newWalks(waitingInventories),
		lists:           newWalks(waitingLists),
		cachingDisabled: sync.OnceValue(func() bool { return o.System().CachingDisabled() }),
	}
}

// readLock takes the lock stripe of a storage key for reading, and returns the
// function that releases it.
func (st *Store) readLock(storageKey string) (unlock func()) {
	lock := locksutil.LockForKey(st.locks, storageKey)
	lock.RLock()
	return lock.RUnlock
}

// Invalidate forgets what the cache holds of a storage key that another node
// has written. Vault calls it on every node but the one that wrote.
func (st *Store) Invalidate(storageKey string) {
	lock := locksutil.LockForKey(st.locks, storageKey)
	lock.Lock()
	defer lock.Unlock()
	st.forget(storageKey)
}

// forget drops what the cache holds of a storage key, and all lists that may
// have it. It comes after the write, so that a list read before it is not kept.
// The caller holds the lock.
func (st *Store) forget(storageKey string) {
	switch {
	case strings.HasPrefix(storageKey, keyPrefix):
		st.keys.Remove(strings.TrimPrefix(storageKey, keyPrefix))
		st.glances.forget(storageKey)
		st.names.forget(storageKey)
	case strings.HasPrefix(storageKey, aliasPrefix):
		st.aliases.Remove(storageKey)
		st.names.forget(storageKey)
	case strings.HasPrefix(storageKey, aliasIndexPrefix):
		st.hints.forget(storageKey)
	case strings.HasPrefix(storageKey, grantPrefix):
		st.grants.forget(strings.TrimPrefix(storageKey, grantPrefix))
		st.grantCounts.forget(storageKey)
	case strings.HasPrefix(storageKey, granteeIndexPrefix):
		st.grants.forget(strings.TrimPrefix(storageKey, granteeIndexPrefix))
	case storageKey == settingsKey:
		st.settings.Store(nil)
	case strings.HasPrefix(storageKey, usagePrefix):
		st.shards.forget(storageKey)
	}
}

// mayCache reports whether the record of a storage key, just read or written,
// may be kept. The caller holds its lock.
func (st *Store) mayCache(storageKey string) bool {
	return !st.cachingDisabled() && !st.doubts.about(storageKey, st.now())
}

// Tidy does what may happen late, for Vault's periodic function: it removes
// what has ceased to exist (keys whose deletion date has passed with all that
// belongs to them, expired key material, RSA keys that wrap no more) and stores
// when keys were last used. No answer depends on it. The node must be one that
// can write.
func (st *Store) Tidy(ctx context.Context, s logical.Storage) error {
	now := st.now()
	return errors.Join(
		st.tidyKeys(ctx, s, now),
		st.tidyOverlaps(ctx, s, now),
		st.tidyWrappingKeys(ctx, s, now),
		st.flushUsages(ctx, s, now),
	)
}
