package keystore

// What is read of storage and kept until something in it is written.

import (
	"context"
	"slices"
	"strings"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"
)

// memo keeps what was read of storage, by the storage key of a record or by a
// prefix, which ends in a slash. Snapshots in it never change.
type memo[T any] struct {
	mu    sync.Mutex
	known *lru.Cache[string, T]
	// reads are under way: what is written meanwhile makes them outdated.
	reads map[*memoRead]struct{}
}

type memoRead struct {
	of       string
	outdated bool
}

func newMemo[T any](size int) *memo[T] {
	known, _ := lru.New[string, T](size) // fails for sizes below one only
	return &memo[T]{known: known, reads: map[*memoRead]struct{}{}}
}

// get returns what is known, or what read reads, which is then known if it may
// be.
func (m *memo[T]) get(of string, mayKeep func() bool, read func() (T, error)) (T, error) {
	m.mu.Lock()
	value, ok := m.known.Get(of)
	if ok {
		m.mu.Unlock()
		return value, nil
	}
	r := &memoRead{of: of}
	m.reads[r] = struct{}{}
	m.mu.Unlock()

	value, err := read()
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.reads, r)
	if err == nil && !r.outdated && mayKeep() {
		m.known.Add(of, value)
	}
	return value, err
}

// forget drops what was read of a storage key, and of any prefix of it.
func (m *memo[T]) forget(storageKey string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.Remove(storageKey)
	for i := range len(storageKey) {
		if storageKey[i] == '/' {
			m.known.Remove(storageKey[:i+1])
		}
	}
	for r := range m.reads {
		if r.of == storageKey || strings.HasSuffix(r.of, "/") && strings.HasPrefix(storageKey, r.of) {
			r.outdated = true
		}
	}
}

// mayKeep says whether what was read of a storage key or prefix may be kept.
func (st *Store) mayKeep(of string) func() bool {
	return func() bool { return !st.cachingDisabled() && !st.doubts.below(of, st.now()) }
}

// listNames returns one level of names, sorted, which the caller must not
// change. Storage has no pages: to list 100,000 names in pages of 100 would
// list them all a thousand times.
func (st *Store) listNames(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	return st.names.get(prefix, st.mayKeep(prefix), func() ([]string, error) { return list(ctx, s, prefix) })
}

// without returns the names but one, leaving the original as it is.
func without(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// knownAliasHints is aliasHints for those who only look.
func (st *Store) knownAliasHints(ctx context.Context, s logical.Storage, keyID string) ([]string, error) {
	prefix := aliasIndex(keyID)
	return st.hints.get(prefix, st.mayKeep(prefix), func() ([]string, error) { return st.aliasHints(ctx, s, keyID, "") })
}

// countGrants returns how many grants a key has.
func (st *Store) countGrants(ctx context.Context, s logical.Storage, keyID string) (int, error) {
	prefix := grantsOf(keyID)
	return st.grantCounts.get(prefix, st.mayKeep(prefix), func() (int, error) {
		ids, err := list(ctx, s, prefix)
		return len(ids), err
	})
}

// usageShard returns the stored last uses of some keys.
func (st *Store) usageShard(ctx context.Context, s logical.Storage, storageKey string) (*usageShard, error) {
	return st.shards.get(storageKey, st.mayKeep(storageKey), func() (*usageShard, error) {
		return load[usageShard](ctx, s, storageKey)
	})
}
