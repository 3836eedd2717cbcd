package kmshmac

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Storage names. Each ends in a slash: only so do seal wrap and invalidation
// take it for a prefix. This is the only file that spells them.
const (
	keyPrefix   = "key/"   // key/<key id>: key
	aliasPrefix = "alias/" // alias/<name>: alias, the only truth about an alias

	// alias-of/<digest of the key id>/<name>: which aliases may point at a
	// key. Hints: an entry may be left over, none is ever missing.
	aliasIndexPrefix = "alias-of/"

	// due/<hour>/<key id>: keys that may have something to tidy from that hour
	// on. Hints too.
	duePrefix = "due/"

	// wrapping-key/<hour of expiry>/<uuid>: wrappingKey
	wrappingKeyPrefix = "wrapping-key/"

	grantPrefix        = "grant/"            // grant/<digest of the key id>/<grant id>: grant
	granteeIndexPrefix = "grant-of/"         // grant-of/<digest of the key id>/<digest of the grantee>/<grant id>: hint
	retireeIndexPrefix = "grant-retired-by/" // grant-retired-by/<digest of the principal>/<grant id>: grantRef

	usagePrefix  = "last-used/" // last-used/<shard>: usageShard
	configPrefix = "config/"    // config/mount: mountConfig
)

// sealWrapped are the prefixes of records that hold secrets.
func sealWrapped() []string {
	return []string{keyPrefix, wrappingKeyPrefix, grantPrefix}
}

// cacheSize bounds the cached keys, and the cached aliases: more than the
// 100,000 keys that KMS allows an account. A cached key takes about one
// kilobyte.
const cacheSize = 1 << 17

// liveKey is a key ready for work. It is immutable but for its usage, which
// outlives it.
type liveKey struct {
	*key
	mac   *kms.MacKey // nil without key material
	usage *usage
}

// store loads, saves, lists, locks and caches keys and aliases.
//
// The cache holds snapshots. They are published under the same lock stripe
// under which they are read or written, so that a slow reader cannot put back
// what a writer has replaced.
type store struct {
	locks   []*locksutil.LockEntry
	keys    *lru.Cache[string, *liveKey]
	aliases *lru.Cache[string, *alias]
	names   *listings
	usages  *usageTable

	// cachingDisabled is asked of Vault once, on first use, because it is a
	// round trip, and not earlier, because Factory must not call Vault.
	cachingDisabled func() bool
}

func newStore(system func() logical.SystemView) *store {
	// New fails for sizes below one only.
	keys, _ := lru.New[string, *liveKey](cacheSize)
	aliases, _ := lru.New[string, *alias](cacheSize)
	return &store{
		locks:           locksutil.CreateLocks(),
		keys:            keys,
		aliases:         aliases,
		names:           newListings(),
		usages:          newUsageTable(),
		cachingDisabled: sync.OnceValue(func() bool { return system().CachingDisabled() }),
	}
}

// lock takes the lock stripes of the storage keys, without deadlock, for
// writing, and returns the function that releases them.
func (st *store) lock(storageKeys ...string) (unlock func()) {
	locks := locksutil.LocksForKeys(st.locks, storageKeys)
	for _, l := range locks {
		l.Lock()
	}
	return func() {
		for _, l := range locks {
			l.Unlock()
		}
	}
}

// invalidate forgets what the cache holds of a storage key that another node
// has written.
func (st *store) invalidate(storageKey string) {
	switch {
	case strings.HasPrefix(storageKey, keyPrefix):
		defer st.lock(storageKey)()
		st.keys.Remove(strings.TrimPrefix(storageKey, keyPrefix))
		st.names.changed()
	case strings.HasPrefix(storageKey, aliasPrefix):
		defer st.lock(storageKey)()
		st.aliases.Remove(storageKey)
		st.names.changed()
	}
}

// key returns the key for reading; nil if there is none, or none any more.
func (st *store) key(ctx context.Context, s logical.Storage, id string, now time.Time) (*liveKey, error) {
	k, ok := st.keys.Get(id)
	if !ok {
		if kms.CheckKeyID(id) != nil {
			return nil, nil // and Vault's storage would not like the name
		}
		lock := locksutil.LockForKey(st.locks, keyPrefix+id)
		lock.RLock()
		defer lock.RUnlock()
		var err error
		if k, err = st.loadKey(ctx, s, id); err != nil {
			return nil, err
		}
	}
	if k == nil || k.gone(now) {
		return nil, nil
	}
	return k, nil
}

// loadKey reads a key from storage and publishes it. The caller holds its
// lock. It returns nil if there is no record, but a key whose deletion date
// has passed as it is.
func (st *store) loadKey(ctx context.Context, s logical.Storage, id string) (*liveKey, error) {
	k, err := load[key](ctx, s, keyPrefix+id)
	if err != nil || k == nil {
		return nil, err
	}
	if k.Version > keyRecordVersion {
		return nil, fmt.Errorf("key %q was written by a newer version of this plugin", id)
	}
	if !k.Spec.IsHMAC() {
		return nil, fmt.Errorf("the record of key %q is damaged: unknown key spec", id)
	}
	return st.publishKey(k), nil
}

func (st *store) publishKey(k *key) *liveKey {
	live := &liveKey{key: k, usage: st.usages.of(k.ID)}
	if len(k.Material) > 0 {
		live.mac = kms.NewMacKey(k.Spec, k.Material)
	}
	if !st.cachingDisabled() {
		st.keys.Add(k.ID, live)
	}
	return live
}

// saveKey writes a key and publishes it. The caller holds its lock. The hint
// for the tidy comes first: without it a crash would leave a key that nobody
// tidies.
func (st *store) saveKey(ctx context.Context, s logical.Storage, k *key) (*liveKey, error) {
	if due := k.due(); !due.IsZero() {
		if err := put(ctx, s, duePrefix+hour(due)+"/"+k.ID, struct{}{}); err != nil {
			return nil, err
		}
	}
	// A failed write may have happened all the same.
	defer st.names.changed()
	st.keys.Remove(k.ID)
	if err := put(ctx, s, keyPrefix+k.ID, k); err != nil {
		return nil, err
	}
	return st.publishKey(k), nil
}

// removeKey deletes the record of a key. The caller holds its lock.
func (st *store) removeKey(ctx context.Context, s logical.Storage, id string) error {
	defer st.names.changed()
	st.keys.Remove(id)
	return remove(ctx, s, keyPrefix+id)
}

// alias returns the alias of this name, prefix included; nil if there is none.
func (st *store) alias(ctx context.Context, s logical.Storage, name string) (*alias, error) {
	if a, ok := st.aliases.Get(name); ok {
		return a, nil
	}
	if kms.CheckAliasName(name) != nil {
		return nil, nil
	}
	lock := locksutil.LockForKey(st.locks, name)
	lock.RLock()
	defer lock.RUnlock()
	return st.loadAlias(ctx, s, name)
}

// loadAlias reads an alias from storage and publishes it. The caller holds its
// lock. An alias's name with its prefix is its storage key.
func (st *store) loadAlias(ctx context.Context, s logical.Storage, name string) (*alias, error) {
	a, err := load[alias](ctx, s, name)
	if err != nil || a == nil {
		return nil, err
	}
	if a.Version > aliasRecordVersion {
		return nil, fmt.Errorf("alias %q was written by a newer version of this plugin", name)
	}
	st.publishAlias(a)
	return a, nil
}

func (st *store) publishAlias(a *alias) {
	if !st.cachingDisabled() {
		st.aliases.Add(a.Name, a)
	}
}

// saveAlias writes an alias and publishes it. The caller holds the locks of
// the alias and of its target. The hint comes first, so that none is missing.
func (st *store) saveAlias(ctx context.Context, s logical.Storage, a *alias) error {
	if err := put(ctx, s, aliasIndex(a.TargetKeyID)+a.shortName(), struct{}{}); err != nil {
		return err
	}
	defer st.names.changed()
	st.aliases.Remove(a.Name)
	if err := put(ctx, s, a.Name, a); err != nil {
		return err
	}
	st.publishAlias(a)
	return nil
}

// removeAlias deletes an alias and its hint. The caller holds its lock.
func (st *store) removeAlias(ctx context.Context, s logical.Storage, a *alias) error {
	defer st.names.changed()
	st.aliases.Remove(a.Name)
	if err := remove(ctx, s, a.Name); err != nil {
		return err
	}
	// The alias is gone: a hint that stays behind is harmless.
	_ = st.dropAliasHint(ctx, s, a.TargetKeyID, a.shortName())
	return nil
}

func (st *store) dropAliasHint(ctx context.Context, s logical.Storage, keyID, shortName string) error {
	return remove(ctx, s, aliasIndex(keyID)+shortName)
}

// aliasHints returns the names, without prefix, of the aliases that may point
// at a key, sorted.
func (st *store) aliasHints(ctx context.Context, s logical.Storage, keyID string) ([]string, error) {
	return collect(ctx, s, aliasIndex(keyID))
}

func aliasIndex(keyID string) string { return aliasIndexPrefix + digest(keyID) + "/" }

// aliasesOf returns the aliases that point at a key, sorted by name.
func (st *store) aliasesOf(ctx context.Context, s logical.Storage, keyID string) ([]*alias, error) {
	return st.aliasesBy(ctx, s, keyID, func(name string) (*alias, error) { return st.alias(ctx, s, name) })
}

func (st *store) aliasesBy(ctx context.Context, s logical.Storage, keyID string, get func(name string) (*alias, error)) ([]*alias, error) {
	names, err := st.aliasHints(ctx, s, keyID)
	if err != nil {
		return nil, err
	}
	var aliases []*alias
	for _, name := range names {
		a, err := get(aliasPrefix + name)
		if err != nil {
			return nil, err
		}
		if a != nil && a.TargetKeyID == keyID {
			aliases = append(aliases, a)
		}
	}
	return aliases, nil
}

// dueKeys returns the hints of keys that may have something to tidy by now:
// key ids by their storage keys.
func (st *store) dueKeys(ctx context.Context, s logical.Storage, now time.Time) (map[string]string, error) {
	hours, err := list(ctx, s, duePrefix)
	if err != nil {
		return nil, err
	}
	due := map[string]string{}
	for _, h := range hours {
		if strings.TrimSuffix(h, "/") > hour(now) {
			continue
		}
		ids, err := collect(ctx, s, duePrefix+h)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			due[duePrefix+h+id] = id
		}
	}
	return due, nil
}

// peekKey reads a key's record past lock and cache, for those who hold other
// locks. What they learn may be outdated at once.
func peekKey(ctx context.Context, s logical.Storage, id string) (*key, error) {
	return load[key](ctx, s, keyPrefix+id)
}

// peekAliases returns the aliases that point at a key, without taking their
// locks.
func (st *store) peekAliases(ctx context.Context, s logical.Storage, keyID string) ([]*alias, error) {
	return st.aliasesBy(ctx, s, keyID, func(name string) (*alias, error) { return load[alias](ctx, s, name) })
}

// goneKeys returns the ids of keys whose deletion date has passed and whose
// record is still there. There are hardly ever any: the tidy is never far
// behind.
func (st *store) goneKeys(ctx context.Context, s logical.Storage, now time.Time) ([]string, error) {
	due, err := st.dueKeys(ctx, s, now)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, id := range due {
		k, err := peekKey(ctx, s, id)
		if err != nil {
			return nil, err
		}
		if k != nil && k.gone(now) {
			gone = append(gone, id)
		}
	}
	return gone, nil
}

// listKeys returns the names of one folder, "" for the top level: its keys, and
// its folders with a trailing slash, sorted. No record is read, but for those
// of keys that are due for removal.
func (st *store) listKeys(ctx context.Context, s logical.Storage, folder string, now time.Time) ([]string, error) {
	if folder != "" && kms.CheckKeyID(strings.TrimSuffix(folder, "/")) != nil {
		return nil, nil // no key can be there, and Vault's storage would not like the name
	}
	names, err := st.listNames(ctx, s, keyPrefix+folder)
	if err != nil {
		return nil, err
	}
	gone, err := st.goneKeys(ctx, s, now)
	if err != nil {
		return nil, err
	}
	for _, id := range gone {
		if name, ok := strings.CutPrefix(id, folder); ok {
			names = without(names, name)
		}
	}
	return names, nil
}

// listAliases does the same for aliases, by their names without prefix.
func (st *store) listAliases(ctx context.Context, s logical.Storage, folder string, now time.Time) ([]string, error) {
	if folder != "" && kms.CheckAliasName(aliasPrefix+strings.TrimSuffix(folder, "/")) != nil {
		return nil, nil
	}
	names, err := st.listNames(ctx, s, aliasPrefix+folder)
	if err != nil {
		return nil, err
	}
	gone, err := st.goneKeys(ctx, s, now)
	if err != nil {
		return nil, err
	}
	for _, id := range gone {
		aliases, err := st.aliasesOf(ctx, s, id)
		if err != nil {
			return nil, err
		}
		for _, a := range aliases {
			if name, ok := strings.CutPrefix(a.shortName(), folder); ok {
				names = without(names, name)
			}
		}
	}
	return names, nil
}

// listNames returns one level of names, sorted, which the caller must not
// change. Storage has no pages: to list 100,000 names in pages of 100 would
// list them all a thousand times. So the last lists are kept until something
// is written.
func (st *store) listNames(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, generation := st.names.get(prefix)
	if names != nil {
		return names, nil
	}
	names, err := list(ctx, s, prefix)
	if err == nil && !st.cachingDisabled() {
		st.names.add(prefix, names, generation)
	}
	return names, err
}

// without returns the names but one, leaving the original as it is.
func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// listings keeps lists of names, by storage prefix.
type listings struct {
	mu         sync.Mutex
	generation uint64 // counts changes
	byPrefix   *lru.Cache[string, []string]
}

func newListings() *listings {
	byPrefix, _ := lru.New[string, []string](16) // fails for sizes below one only
	return &listings{byPrefix: byPrefix}
}

// get returns a list, nil if there is none, and what to hand to add with the
// list that takes its place.
func (l *listings) get(prefix string) ([]string, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, _ := l.byPrefix.Get(prefix)
	return names, l.generation
}

// add keeps a list, unless something has changed since generation.
func (l *listings) add(prefix string, names []string, generation uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if generation == l.generation {
		l.byPrefix.Add(prefix, names)
	}
}

// changed forgets all lists. It comes after the write, so that a list read
// before it is not kept.
func (l *listings) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	l.byPrefix.Purge()
}

// hour names the hour in which t lies so that names sort like times.
func hour(t time.Time) string { return t.UTC().Format("2006-01-02T15") }

// digest turns a name that may hold slashes into one segment.
func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// load reads a JSON record; nil if there is none.
func load[T any](ctx context.Context, s logical.Storage, storageKey string) (*T, error) {
	entry, err := s.Get(ctx, storageKey)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", storageKey, err)
	}
	if entry == nil {
		return nil, nil
	}
	record := new(T)
	if err := entry.DecodeJSON(record); err != nil {
		// The decoder's error may quote the record, secrets and all.
		return nil, fmt.Errorf("the record %q is damaged", storageKey)
	}
	return record, nil
}

// errNoStorageWrite hides what could not be encoded.
var errNoStorageWrite = errors.New("encoding the record failed")

func put(ctx context.Context, s logical.Storage, storageKey string, record any) error {
	entry, err := logical.StorageEntryJSON(storageKey, record)
	if err != nil {
		return errNoStorageWrite
	}
	if err := s.Put(ctx, entry); err != nil {
		return fmt.Errorf("writing %q: %w", storageKey, err)
	}
	return nil
}

func remove(ctx context.Context, s logical.Storage, storageKey string) error {
	if err := s.Delete(ctx, storageKey); err != nil {
		return fmt.Errorf("deleting %q: %w", storageKey, err)
	}
	return nil
}

// list returns one level of names below a prefix, sorted.
func list(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("listing %q: %w", prefix, err)
	}
	slices.Sort(names)
	return names, nil
}

// collect returns all names below a prefix, at any depth, sorted.
func collect(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, err := list(ctx, s, prefix)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, name := range names {
		if !strings.HasSuffix(name, "/") {
			all = append(all, name)
			continue
		}
		below, err := collect(ctx, s, prefix+name)
		if err != nil {
			return nil, err
		}
		for _, b := range below {
			all = append(all, name+b)
		}
	}
	return all, nil
}
