package keystore

// When keys were last used.

import (
	"context"
	"hash/fnv"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Last use is collected in memory, because a MAC must not write, and flushed
// by the periodic function. A flush writes only the shards that changed: a key
// used all the time costs a write an interval, however many MACs it made.
const (
	generateMac = "GenerateMac"
	verifyMac   = "VerifyMac"

	usageShards        = 1024
	usageFlushInterval = 5 * time.Minute
)

// usage is the last successful use of a key on this node: milliseconds since
// the epoch, doubled, plus one for VerifyMac; 0 for none. One word, so that
// recording it takes one atomic store.
type usage struct{ packed atomic.Int64 }

func (u *usage) record(operation string, now time.Time) {
	packed := now.UnixMilli() * 2
	if operation == verifyMac {
		packed++
	}
	u.packed.Store(packed)
}

// LastUse is the last successful use of a key that is known.
type LastUse struct{ packed int64 }

// Never reports whether no use is known.
func (u LastUse) Never() bool { return u.packed == 0 }

// Time returns when the use was, to the millisecond.
func (u LastUse) Time() time.Time { return time.UnixMilli(u.packed / 2) }

// Operation returns the use's operation: GenerateMac or VerifyMac.
func (u LastUse) Operation() string {
	if u.packed%2 == 1 {
		return verifyMac
	}
	return generateMac
}

// usageShard is a stored part of the table: packed last uses by key id.
type usageShard struct {
	LastUsed map[string]int64 `json:"last_used"`
}

// usageTable holds the usages of the keys that this node has used or read.
type usageTable struct {
	byKey sync.Map // of key id to *usage

	// flushing guards what follows.
	flushing sync.Mutex
	flushed  map[string]int64 // what the last flush found, by key id
	next     time.Time        // when to flush again
}

func newUsageTable() *usageTable { return &usageTable{flushed: map[string]int64{}} }

func (t *usageTable) of(keyID string) *usage {
	if u, ok := t.byKey.Load(keyID); ok {
		return u.(*usage)
	}
	u, _ := t.byKey.LoadOrStore(keyID, &usage{})
	return u.(*usage)
}

// peek is of for those who only read: it leaves nothing behind.
func (t *usageTable) peek(keyID string) *usage {
	if u, ok := t.byKey.Load(keyID); ok {
		return u.(*usage)
	}
	return &usage{}
}

// LastUse returns the last known use of a key: what this node saw, or else what
// a flush has stored, up to usageFlushInterval old.
func (st *Store) LastUse(ctx context.Context, s logical.Storage, k *Key) (LastUse, error) {
	created := k.CreationDate.UnixMilli()
	if packed := k.usage.packed.Load(); packed != 0 && packed/2 >= created {
		return LastUse{packed}, nil
	}
	shard, err := st.usageShard(ctx, s, usageShardKey(k.ID))
	if err != nil || shard == nil {
		return LastUse{}, err
	}
	packed := shard.LastUsed[k.ID]
	if packed/2 < created {
		return LastUse{}, nil // of an earlier key with this id
	}
	return LastUse{packed}, nil
}

// flushUsages stores the uses since the last flush, if it is time to.
func (st *Store) flushUsages(ctx context.Context, s logical.Storage, now time.Time) error {
	t := st.usages
	t.flushing.Lock()
	defer t.flushing.Unlock()
	if now.Before(t.next) {
		return nil
	}
	t.next = now.Add(usageFlushInterval)

	changed := map[string]map[string]int64{} // by shard and key id
	t.byKey.Range(func(id, u any) bool {
		keyID, packed := id.(string), u.(*usage).packed.Load()
		if packed != t.flushed[keyID] {
			shard := usageShardKey(keyID)
			if changed[shard] == nil {
				changed[shard] = map[string]int64{}
			}
			changed[shard][keyID] = packed
		}
		return true
	})
	_, w, err := st.begin(ctx, s)
	if err != nil {
		return err
	}
	defer w.end()
	for shard, uses := range changed {
		if err := w.mergeUses(shard, uses); err != nil {
			return err
		}
		maps.Copy(t.flushed, uses)
	}
	return nil
}

func (w *write) mergeUses(storageKey string, uses map[string]int64) error {
	shard, err := load[usageShard](w.ctx, w.s, storageKey)
	if err != nil {
		return err
	}
	if shard == nil || shard.LastUsed == nil {
		shard = &usageShard{LastUsed: map[string]int64{}}
	}
	for id, packed := range uses {
		shard.LastUsed[id] = max(shard.LastUsed[id], packed)
	}
	return w.put(storageKey, shard)
}

// forgetUsage removes a deleted key from the table and from its stored shard.
func (w *write) forgetUsage(keyID string) error {
	t := w.st.usages
	t.flushing.Lock()
	defer t.flushing.Unlock()
	t.byKey.Delete(keyID)
	delete(t.flushed, keyID)
	shard, err := load[usageShard](w.ctx, w.s, usageShardKey(keyID))
	if err != nil || shard == nil {
		return err
	}
	if _, ok := shard.LastUsed[keyID]; !ok {
		return nil
	}
	delete(shard.LastUsed, keyID)
	return w.put(usageShardKey(keyID), shard)
}

func usageShardKey(keyID string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(keyID)) // a hash never fails
	return usagePrefix + strconv.Itoa(int(h.Sum32()%usageShards))
}
