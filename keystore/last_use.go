package keystore

// When keys were last used.

import (
	"context"
	"hash/fnv"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

// Last use is collected in memory, because a MAC must not write, and flushed
// by the periodic function. A flush writes only the shards that changed: a key
// used all the time costs a write an interval, however many MACs it made.
//
// What a crash may lose is then the last minutes of a key in steady use, which
// nobody takes for unused. The first use of a key after long disuse counts for
// more: it is stored at once, beside the requests.
const (
	generateMac = "GenerateMac"
	verifyMac   = "VerifyMac"

	usageShards        = 1024
	usageFlushInterval = 5 * time.Minute

	// disuse is how long after the last use that is stored another use is
	// stored at once.
	disuse = time.Hour

	// lastFlushLimit is how long the flush of a mount that ends may take. All
	// mounts of the plugin wait for it.
	lastFlushLimit = 2 * time.Second

	// storingShare is the share of time, one in so many, for which uses may be
	// stored at once without end, and longestPause bounds the pause that comes of
	// it: with many keys first used together, after a start, say, each write
	// holds several and MACs hardly notice.
	storingShare = 10
	longestPause = 10 * time.Second
)

// usage is the last successful use of a key on this node: milliseconds since
// the epoch, doubled, plus one for VerifyMac; 0 for none. One word, so that
// recording it takes one atomic store.
type usage struct {
	packed atomic.Int64
	stored atomic.Int64 // what storage has
	hurry  atomic.Bool  // to be stored at once, and not stored since
}

// record records a use. urgent reports whether it is to be stored at once.
func (u *usage) record(operation string, now time.Time) (urgent bool) {
	packed := now.UnixMilli() * 2
	if operation == verifyMac {
		packed++
	}
	u.packed.Store(packed)
	return packed-u.stored.Load() > 2*disuse.Milliseconds() && u.hurry.CompareAndSwap(false, true)
}

// LastUse is the last successful use of a key that is known.
type LastUse struct {
	packed int64

	// MissingUntil is, if a later use may be missing, before when it must have
	// been: what a node saw that crashed before it stored it. Zero if none can
	// be missing.
	MissingUntil time.Time
}

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

	// since is when this node first looked at a key. It knows of all uses after
	// that but those on nodes that cannot write.
	since atomic.Pointer[time.Time]

	// flushing serializes the writers of shards.
	flushing sync.Mutex
	next     time.Time // when to flush again; guarded by flushing

	urgentMu sync.Mutex
	urgent   []string // ids of keys whose use is to be stored at once
	storing  bool     // whether somebody is at it

	// ended is closed when the mount ends on this node.
	ended   chan struct{}
	endOnce sync.Once
}

func newUsageTable() *usageTable { return &usageTable{ended: make(chan struct{})} }

// pause waits before uses are stored again, after it took so long. It returns
// false if the mount has ended: all uses are stored then.
func (t *usageTable) pause(took time.Duration) bool {
	timer := time.NewTimer(min((storingShare-1)*took, longestPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ended:
		return false
	}
}

// of returns the usage of a key that is looked at.
func (t *usageTable) of(keyID string, now time.Time) *usage {
	t.begin(now)
	if u, ok := t.byKey.Load(keyID); ok {
		return u.(*usage)
	}
	u, _ := t.byKey.LoadOrStore(keyID, &usage{})
	return u.(*usage)
}

// begin returns since, which is now if it was not known.
func (t *usageTable) begin(now time.Time) time.Time {
	if t.since.Load() == nil {
		t.since.CompareAndSwap(nil, &now)
	}
	return *t.since.Load()
}

// peek is of for those who only read: it leaves nothing behind.
func (t *usageTable) peek(keyID string) *usage {
	if u, ok := t.byKey.Load(keyID); ok {
		return u.(*usage)
	}
	return &usage{}
}

// LastUse returns the last known use of a key: what this node saw, or else what
// is stored.
func (st *Store) LastUse(ctx context.Context, s logical.Storage, k *Key) (LastUse, error) {
	created := k.CreationDate.UnixMilli()
	if packed := k.usage.packed.Load(); packed != 0 && packed/2 >= created {
		return LastUse{packed: packed}, nil
	}
	use := LastUse{MissingUntil: st.usages.begin(st.now())}
	shard, err := st.usageShard(ctx, s, usageShardKey(k.ID))
	if err != nil {
		return use, err
	}
	if shard != nil && shard.LastUsed[k.ID]/2 >= created { // else of an earlier key with this id
		use.packed = shard.LastUsed[k.ID]
	}
	// A use that is missing came soon after the one that is stored, or it would
	// have been stored at once.
	if stored := use.Time().Add(disuse + usageFlushInterval); !use.Never() && stored.Before(use.MissingUntil) {
		use.MissingUntil = stored
	}
	if !use.MissingUntil.After(k.CreationDate) || !use.MissingUntil.After(use.Time()) {
		use.MissingUntil = time.Time{}
	}
	return use, nil
}

// storeUseAtOnce sees to it that a key's last use is stored, beside the
// requests.
func (st *Store) storeUseAtOnce(keyID string) {
	t := st.usages
	t.urgentMu.Lock()
	defer t.urgentMu.Unlock()
	t.urgent = append(t.urgent, keyID)
	if !t.storing {
		t.storing = true
		st.background(st.storeUrgentUses)
	}
}

// storeUrgentUses stores urgent uses until there are none. While it stores some,
// and for nine times as long, others gather, which it then stores together.
func (st *Store) storeUrgentUses(ctx context.Context, s logical.Storage) {
	t := st.usages
	for {
		ids := t.takeUrgent()
		if len(ids) == 0 {
			return
		}
		start := time.Now()
		t.flushing.Lock()
		err := st.storeUses(ctx, s, ids, disuse)
		t.flushing.Unlock()
		if err != nil {
			st.warn("last uses could not be stored at once, the next flush will", "error", err)
		}
		if t.anyUrgent() && !t.pause(time.Since(start)) {
			return
		}
	}
}

// takeUrgent takes the ids of the keys whose use is to be stored. With none,
// the next one begins anew.
func (t *usageTable) takeUrgent() (ids []string) {
	t.urgentMu.Lock()
	defer t.urgentMu.Unlock()
	ids, t.urgent = t.urgent, nil
	t.storing = len(ids) > 0
	return ids
}

func (t *usageTable) anyUrgent() bool {
	t.urgentMu.Lock()
	defer t.urgentMu.Unlock()
	return len(t.urgent) > 0
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
	return st.storeAllUses(ctx, s)
}

// Close stores what it can of the uses that are not stored yet, in two seconds
// at most, before the mount ends on this node: at a reload, a step-down or when
// Vault is sealed. The node must be one that can write.
func (st *Store) Close(ctx context.Context, s logical.Storage) {
	st.usages.endOnce.Do(func() { close(st.usages.ended) })
	done := make(chan error, 1)
	go func() {
		st.usages.flushing.Lock()
		defer st.usages.flushing.Unlock()
		done <- st.storeAllUses(ctx, s)
	}()
	limit := time.NewTimer(lastFlushLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		if err != nil {
			st.warn("last uses could not be stored at the end", "error", err)
		}
	case <-limit.C:
		st.warn("not all last uses could be stored at the end")
	}
}

func (st *Store) storeAllUses(ctx context.Context, s logical.Storage) error {
	var ids []string
	st.usages.byKey.Range(func(id, u any) bool {
		if u := u.(*usage); u.packed.Load() > u.stored.Load() {
			ids = append(ids, id.(string))
		}
		return true
	})
	return st.storeUses(ctx, s, ids, 0)
}

// storeUses stores the last uses of keys, where storage has none, or an older
// one by more than the interval. The caller holds flushing.
func (st *Store) storeUses(ctx context.Context, s logical.Storage, keyIDs []string, older time.Duration) error {
	shards := map[string][]string{}
	for _, id := range keyIDs {
		shards[usageShardKey(id)] = append(shards[usageShardKey(id)], id)
	}
	_, w, err := st.begin(ctx, s)
	if err != nil {
		return err
	}
	defer w.end()
	for shard, ids := range shards {
		if err := w.mergeUses(shard, ids, older); err != nil {
			return err
		}
	}
	return nil
}

func (w *write) mergeUses(storageKey string, keyIDs []string, older time.Duration) error {
	shard, err := load[usageShard](w.ctx, w.s, storageKey)
	if err != nil {
		return err
	}
	if shard == nil || shard.LastUsed == nil {
		shard = &usageShard{LastUsed: map[string]int64{}}
	}
	changed, merged := false, map[*usage]int64{}
	for _, id := range keyIDs {
		entry, ok := w.st.usages.byKey.Load(id)
		if !ok {
			continue // the key has been deleted meanwhile
		}
		u := entry.(*usage)
		packed := u.packed.Load()
		if packed-shard.LastUsed[id] > 2*older.Milliseconds() {
			shard.LastUsed[id], changed = packed, true
		}
		merged[u] = shard.LastUsed[id]
	}
	if changed {
		if err := w.put(storageKey, shard); err != nil {
			return err
		}
	}
	for u, packed := range merged {
		u.stored.Store(packed)
		u.hurry.Store(false)
	}
	return nil
}

// forgetUsage removes a deleted key from the table and from its stored shard.
func (w *write) forgetUsage(keyID string) error {
	t := w.st.usages
	t.flushing.Lock()
	defer t.flushing.Unlock()
	t.byKey.Delete(keyID)
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
