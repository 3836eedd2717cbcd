package keystore

// Going through many names, a bounded part of the way at a time.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	// maxWalkCalls is how many storage calls one part of a walk makes, but for
	// what its first name takes: about what twenty reads of a key through Vault
	// cost.
	maxWalkCalls = 160
	// maxWalkNames is how many names one part of a walk looks at, when all that
	// it asks for is in memory.
	maxWalkNames = 2000
	// aheadNames are the names that are read ahead of their turn, side by side,
	// and aheadCalls the most storage calls for each.
	aheadNames = 8
	aheadCalls = 8
)

// effort is the storage of a walk, which counts the calls of reads, and what
// the walk has done so far.
type effort struct {
	logical.Storage
	calls  atomic.Int64
	looked int // at names
}

// List counts.
func (e *effort) List(ctx context.Context, prefix string) ([]string, error) {
	e.calls.Add(1)
	return e.Storage.List(ctx, prefix)
}

// Get counts.
func (e *effort) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	e.calls.Add(1)
	return e.Storage.Get(ctx, key)
}

// units is how much of the pace the effort is worth.
func (e *effort) units() int { return e.looked + int(e.calls.Load())/4 }

// errNotAhead ends what would take too many calls ahead of its turn.
var errNotAhead = errors.New("more than may be read ahead")

// allowance is an effort for a few calls.
type allowance struct {
	*effort
	left int
}

// List counts.
func (a *allowance) List(ctx context.Context, prefix string) ([]string, error) {
	if a.left--; a.left < 0 {
		return nil, errNotAhead
	}
	return a.effort.List(ctx, prefix)
}

// Get counts.
func (a *allowance) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	if a.left--; a.left < 0 {
		return nil, errNotAhead
	}
	return a.effort.Get(ctx, key)
}

// spent reports whether this part of a walk has been long enough. One name at
// least is looked at, so that each walk comes to its end.
func (e *effort) spent() bool {
	return e.looked > 0 && (e.calls.Load() >= maxWalkCalls || e.looked >= maxWalkNames)
}

const (
	// walkPace is how much effort a second all walks of a mount make together,
	// once they have made walkBurst of it: so many names looked at, or four times
	// as many storage calls. Answers to all who look without end would otherwise
	// keep Vault from MACs.
	walkPace  = 5000
	walkBurst = 20_000
	// maxWaitingWalks is how many wait for their turn, and waitingInventories and
	// waitingLists how many of them in one team's folder, so that no team can keep
	// others waiting for long; more are told to slow down. Lists are shorter, and
	// Terraform makes ten at a time.
	maxWaitingWalks    = 64
	waitingInventories = 8
	waitingLists       = 32
)

// walks are the turns of walks: there is one at a time, at a pace.
type walks struct {
	turn   chan struct{}
	pace   *rate.Limiter
	rested time.Time // when the next may begin; who has the turn may use it
	ofTeam int       // how many of one team wait

	mu      sync.Mutex
	waiting map[string]int // by team
	all     int
}

func newWalks(ofTeam int) *walks {
	return &walks{turn: make(chan struct{}, 1), pace: rate.NewLimiter(walkPace, walkBurst), waiting: map[string]int{}, ofTeam: ofTeam}
}

// queue counts who waits, unless there are enough.
func (w *walks) queue(team string) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all >= maxWaitingWalks || w.waiting[team] >= w.ofTeam {
		return nil, false
	}
	w.all++
	w.waiting[team]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all--
		if w.waiting[team]--; w.waiting[team] == 0 {
			delete(w.waiting, team)
		}
	}, true
}

// begin waits for the turn of a walk through a folder. The function it returns
// ends the turn.
func (w *walks) begin(ctx context.Context, folder string, e *effort) (end func(), err error) {
	team, _, _ := strings.Cut(folder, "/")
	leave, ok := w.queue(team)
	if !ok {
		return nil, kms.Throttled()
	}
	defer leave()
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
		w.rested = now.Add(w.pace.ReserveN(now, min(e.units(), walkBurst)).DelayFrom(now))
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
	// ahead, unless nil, reads into memory what visiting a name will ask for. It
	// is called for several names at a time: storage calls that wait beside each
	// other take half the CPU time of calls one after the other.
	ahead func(ctx context.Context, s logical.Storage, name string)

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
	for j, name := range names[i:] {
		if j%aheadNames == 0 {
			w.readAhead(ctx, folder, names[i+j:min(i+j+aheadNames, len(names))])
		}
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

// readAhead does so for the names of a folder that are looked at next.
func (w *walk) readAhead(ctx context.Context, folder string, names []string) {
	if w.ahead == nil || w.effort.spent() {
		return
	}
	sideBySide(len(names), func(i int) {
		if !strings.HasSuffix(names[i], "/") {
			w.ahead(ctx, &allowance{w.effort, aheadCalls}, folder+names[i])
		}
	})
}

// sideBySide calls f with each number below n. Where one panics, it does: the
// request, not the process, is what then fails.
func sideBySide(n int, f func(i int)) {
	var group sync.WaitGroup
	panics := make([]any, n)
	for i := range n {
		group.Go(func() {
			defer func() { panics[i] = recover() }()
			f(i)
		})
	}
	group.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
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
