package keystore

// How anything is written.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// writeLimit is how long a change may take from one write to the next. It
	// is far more than storage takes, and less than the 90 seconds that Vault
	// gives a request.
	writeLimit = 30 * time.Second

	// doubtFor is for how long a write whose end is unknown may still happen:
	// far longer than Vault waits for its storage, which is until its node is
	// no longer the leader.
	doubtFor = 10 * time.Minute
)

// write is a change under way: the only way to write. Two rules are kept here,
// for all changes.
//
// A change that has begun is finished, whatever its caller does: a caller that
// gives up would take its context along, and with it the answers of storage to
// writes that happen all the same. So a change has a context of its own, with a
// limit, and it holds its locks until it ends.
//
// A write whose end is unknown leaves nothing in the cache that it may have
// changed, and lets nothing in: storage fails, or its answer is lost, and the
// write may happen later. What is read in the meantime is good when it is read
// and not afterwards.
type write struct {
	st     *Store
	s      logical.Storage
	ctx    context.Context
	cancel context.CancelFunc
	limit  *time.Timer // cancels ctx
	locks  []*locksutil.LockEntry
}

// begin begins a change: it takes the lock stripes of the storage keys, without
// deadlock, for writing. The context it returns is for all that the change
// reads. A caller that has given up by now gets nothing begun. The caller must
// call end.
func (st *Store) begin(ctx context.Context, s logical.Storage, storageKeys ...string) (context.Context, *write, error) {
	w := &write{st: st, s: s, locks: locksutil.LocksForKeys(st.locks, storageKeys)}
	for _, l := range w.locks {
		l.Lock()
	}
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.limit = time.AfterFunc(writeLimit, w.cancel)
	if err := ctx.Err(); err != nil {
		w.end()
		return nil, nil, err
	}
	return w.ctx, w, nil
}

// end releases the locks.
func (w *write) end() {
	w.limit.Stop()
	w.cancel()
	for _, l := range w.locks {
		l.Unlock()
	}
}

// put writes a record. Of what is cached, the caller holds the lock.
func (w *write) put(storageKey string, record any) error {
	entry, err := logical.StorageEntryJSON(storageKey, record)
	if err != nil {
		return errNoStorageWrite
	}
	if err := w.do(storageKey, func() error { return w.s.Put(w.ctx, entry) }); err != nil {
		return fmt.Errorf("writing %q: %w", storageKey, err)
	}
	return nil
}

// remove deletes a record. Of what is cached, the caller holds the lock.
func (w *write) remove(storageKey string) error {
	if err := w.do(storageKey, func() error { return w.s.Delete(w.ctx, storageKey) }); err != nil {
		return fmt.Errorf("deleting %q: %w", storageKey, err)
	}
	return nil
}

func (w *write) do(storageKey string, write func() error) error {
	known := false // also if write panics
	defer func() {
		if !known {
			w.st.doubts.raise(storageKey, w.st.now())
		}
		w.st.forget(storageKey)
	}()
	err := write()
	if err == nil {
		w.st.doubts.settle(storageKey)
		w.limit.Reset(writeLimit)
	}
	known = err == nil || isReadOnly(err)
	return err
}

// isReadOnly recognizes the error of a node that cannot write, and has not. It
// reaches a plugin as text.
func isReadOnly(err error) bool {
	return errors.Is(err, logical.ErrReadOnly) || strings.Contains(err.Error(), logical.ErrReadOnly.Error())
}

// maxDoubts is how many storage keys are known to be in doubt. Storage that fails
// for long leaves more: then all are.
const maxDoubts = 4096

// doubts are the storage keys of writes whose end is unknown.
type doubts struct {
	mu    sync.RWMutex
	until map[string]time.Time
	all   time.Time // until when there is doubt about every storage key
}

func (d *doubts) raise(storageKey string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.until == nil {
		d.until = map[string]time.Time{}
	}
	if len(d.until) >= maxDoubts {
		maps.DeleteFunc(d.until, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(d.until) >= maxDoubts {
		d.all = now.Add(doubtFor)
		clear(d.until)
	}
	d.until[storageKey] = now.Add(doubtFor)
}

// settle ends the doubt about a storage key: a later write to it has happened,
// and storage keeps the order of a node's writes.
func (d *doubts) settle(storageKey string) {
	d.mu.RLock()
	_, doubted := d.until[storageKey]
	d.mu.RUnlock()
	if !doubted {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, storageKey)
}

// about reports whether there is doubt about a storage key.
func (d *doubts) about(storageKey string, now time.Time) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return now.Before(d.all) || now.Before(d.until[storageKey])
}

// below reports whether there is doubt about a storage key below a prefix.
func (d *doubts) below(prefix string, now time.Time) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if now.Before(d.all) {
		return true
	}
	for name, until := range d.until {
		if strings.HasPrefix(name, prefix) && now.Before(until) {
			return true
		}
	}
	return false
}
