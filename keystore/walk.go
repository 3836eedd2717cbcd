package keystore

// Going through many names, a bounded part of the way at a time.

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	// maxWalkCalls is how many storage calls one part of a walk makes, but for
	// what its first name takes: about what twenty reads of a key cost.
	maxWalkCalls = 256
	// maxWalkNames is how many names one part of a walk looks at, when all that
	// it asks for is in memory.
	maxWalkNames = 2000
)

// effort is the storage of a walk, which counts the calls of reads, and what
// the walk has done so far.
type effort struct {
	logical.Storage
	calls  int
	looked int // at names
}

// List counts.
func (e *effort) List(ctx context.Context, prefix string) ([]string, error) {
	e.calls++
	return e.Storage.List(ctx, prefix)
}

// Get counts.
func (e *effort) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	e.calls++
	return e.Storage.Get(ctx, key)
}

// spent reports whether this part of a walk has been long enough. One name at
// least is looked at, so that each walk comes to its end.
func (e *effort) spent() bool {
	return e.looked > 0 && (e.calls >= maxWalkCalls || e.looked >= maxWalkNames)
}

const (
	// walkPace is how much effort a second all walks of a mount make together,
	// once they have made walkBurst of it: so many names looked at, or four times
	// as many storage calls. Answers to all who look without end would otherwise
	// keep Vault from MACs.
	walkPace  = 5000
	walkBurst = 20_000
	// maxWaitingWalks is how many wait for their turn; more are told to slow down.
	maxWaitingWalks = 64
)

// walks are the turns of walks: there is one at a time, at a pace.
type walks struct {
	turn    chan struct{}
	waiting atomic.Int64
	pace    *rate.Limiter
	rested  time.Time // when the next may begin; who has the turn may use it
}

func newWalks() *walks {
	return &walks{turn: make(chan struct{}, 1), pace: rate.NewLimiter(walkPace, walkBurst)}
}

// begin waits for the turn of a walk. The function it returns ends the turn.
func (w *walks) begin(ctx context.Context, e *effort) (end func(), err error) {
	defer w.waiting.Add(-1)
	if w.waiting.Add(1) > maxWaitingWalks {
		return nil, kms.Throttled()
	}
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rest := time.NewTimer(time.Until(w.rested))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
		<-w.turn
		return nil, ctx.Err()
	}
	return func() {
		now := time.Now()
		w.rested = now.Add(w.pace.ReserveN(now, min(e.looked+e.calls/4, walkBurst)).DelayFrom(now))
		<-w.turn
	}, nil
}

// walk goes through the names below a storage prefix, at any depth, sorted.
type walk struct {
	effort *effort
	prefix string
	list   func(ctx context.Context, s logical.Storage, prefix string) ([]string, error)
	// visit is called with each name, and says whether to stop before it.
	visit func(ctx context.Context, s logical.Storage, name string) (stop bool, err error)

	position string // the name that was looked at last
	stopped  bool
}

// run walks a folder, which is "" or ends in a slash, from behind a name on, ""
// for the beginning. It returns where to go on from, which is "" at the end.
// That is a name, so that what is created and deleted meanwhile makes nothing
// else appear twice or go missing.
func (w *walk) run(ctx context.Context, folder, after string) (next string, err error) {
	w.position = after
	rest, inside := strings.CutPrefix(after, folder)
	if !inside {
		if after > folder {
			return "", nil // behind all that is in the folder
		}
		rest = ""
	}
	if err := w.dir(ctx, folder, rest); err != nil {
		return "", err
	}
	if w.stopped {
		return w.position, nil
	}
	return "", nil
}

// dir walks a folder, from behind a name relative to it on.
func (w *walk) dir(ctx context.Context, folder, after string) error {
	names, err := w.list(ctx, w.effort, w.prefix+folder)
	if err != nil {
		return err
	}
	head, rest, nested := strings.Cut(after, "/")
	if nested {
		head += "/"
	}
	i, found := slices.BinarySearch(names, head)
	if found && !nested {
		i++
	}
	for _, name := range names[i:] {
		below := ""
		if nested && name == head {
			below = rest
		}
		if strings.HasSuffix(name, "/") {
			err = w.dir(ctx, folder+name, below)
		} else {
			err = w.look(ctx, folder+name)
		}
		if err != nil || w.stopped {
			return err
		}
	}
	return nil
}

func (w *walk) look(ctx context.Context, name string) error {
	if w.stopped = w.effort.spent(); w.stopped {
		return nil
	}
	w.effort.looked++
	stop, err := w.visit(ctx, w.effort, name)
	if err != nil {
		return err
	}
	if w.stopped = stop; !stop {
		w.position = name
	}
	return nil
}

// glance is Key for one of many. It has a cache of its own, so that a walk
// through all keys does not drive out those in use.
func (st *Store) glance(ctx context.Context, s logical.Storage, id string, now time.Time) (*Key, error) {
	k, ok := st.keys.Peek(id)
	if !ok {
		r, err := st.glanceRecord(ctx, s, id)
		if err != nil || r == nil {
			return nil, err
		}
		k = &Key{Metadata: &r.Metadata, record: r, usage: st.usages.peek(r.ID)}
	}
	if k.record.gone(now) {
		return nil, nil
	}
	return k, nil
}

// glanceRecord is glance for a record, also of a key that is gone.
func (st *Store) glanceRecord(ctx context.Context, s logical.Storage, id string) (*keyRecord, error) {
	if k, ok := st.keys.Peek(id); ok {
		return k.record, nil
	}
	return st.glances.get(keyPrefix+id, st.mayKeep(keyPrefix+id), func() (*keyRecord, error) { return peekKey(ctx, s, id) })
}
