package keystore

// The grants that are in use, so that a MAC by a grant needs no storage.

import (
	"encoding/hex"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
)

// grantsCache keeps the grants of a key to a principal. What is written to a
// key's grants ends all that is kept of it: each list knows the generation of
// its key, read before the list was, and is good until that is over. A
// generation is shared by one in 256 keys, which can be told from a storage
// name without the key's id.
type grantsCache struct {
	lists       *lru.Cache[granteeOfKey, grantsOfKey]
	generations [256]atomic.Uint64
}

type granteeOfKey struct{ keyID, principal string }

type grantsOfKey struct {
	grants     []*Grant
	stripe     byte
	generation uint64
}

// generation is the state of a key's grants at one instant.
type generation struct {
	stripe byte
	count  uint64
}

func newGrantsCache() *grantsCache {
	lists, _ := lru.New[granteeOfKey, grantsOfKey](cacheSize) // fails for sizes below one only
	return &grantsCache{lists: lists}
}

// get returns the grants of a key to a principal, as far as they are known.
func (c *grantsCache) get(keyID, principal string) ([]*Grant, bool) {
	l, ok := c.lists.Get(granteeOfKey{keyID, principal})
	if !ok || l.generation != c.generations[l.stripe].Load() {
		return nil, false
	}
	return l.grants, true
}

// generationOf is asked before the grants of a key are read.
func (c *grantsCache) generationOf(keyID string) generation {
	stripe := stripeOf(digest(keyID))
	return generation{stripe, c.generations[stripe].Load()}
}

// add keeps grants that were read after the generation was.
func (c *grantsCache) add(keyID, principal string, grants []*Grant, g generation) {
	c.lists.Add(granteeOfKey{keyID, principal}, grantsOfKey{grants, g.stripe, g.count})
}

// forget ends what is kept of a key's grants, given the rest of a storage name
// that begins with the digest of the key's id. It comes after the write, so that
// what was read before it is not kept.
func (c *grantsCache) forget(rest string) { c.generations[stripeOf(rest)].Add(1) }

// stripeOf returns the first byte that a digest spells.
func stripeOf(digest string) byte {
	first, _ := hex.DecodeString(digest[:min(2, len(digest))])
	if len(first) == 0 {
		return 0
	}
	return first[0]
}
