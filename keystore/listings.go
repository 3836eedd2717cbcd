package keystore

// Lists of names, which are kept until something is written.

import (
	"context"
	"slices"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"
)

// listNames returns one level of names, sorted, which the caller must not
// change. Storage has no pages: to list 100,000 names in pages of 100 would
// list them all a thousand times. So the last lists are kept until something
// is written.
func (st *Store) listNames(ctx context.Context, s logical.Storage, prefix string) ([]string, error) {
	names, generation := st.names.get(prefix)
	if names != nil {
		return names, nil
	}
	names, err := list(ctx, s, prefix)
	if err == nil && !st.cachingDisabled() && !st.doubts.below(prefix, st.now()) {
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

// changed forgets all lists.
func (l *listings) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.generation++
	l.byPrefix.Purge()
}
