package gateway

// Which GenerateMac and VerifyMac calls share a request, and when it is made.

import (
	"context"
	"sync"
	"time"
)

const (
	// maxShared is the most calls that share one request. The mount takes
	// kms.MaxBatchItems; a smaller number keeps one request from holding up
	// the others on Vault's side.
	maxShared = 1000
	// maxSharedBytes bounds each of the comma-separated texts in a shared
	// request: Vault refuses JSON strings of more than 1 MiB.
	maxSharedBytes = 512 << 10
	// minGather is the smallest shared request after which others are waited
	// for, and maxGather the longest such wait.
	minGather = 8
	// manyShared is how many calls in a request are many: beyond, what a request
	// costs is little against what its calls do.
	manyShared = 64
	maxGather  = 20 * time.Millisecond
	// gatherPause is for how many shared requests nobody is waited for after it
	// was in vain.
	gatherPause = 8
)

// macGroup is what calls must have in common to share a request. The token is
// among it, and the address that a token may be bound to, so Vault's decision
// about one is its decision about all.
type macGroup struct {
	token, from, key, algorithm string
	verify                      bool
}

// macCoalescer lets concurrent GenerateMac or VerifyMac calls of one group
// share requests to Vault. A call that finds none of its group in flight goes
// at once, alone. One that does waits for it to end and then goes together
// with all others that waited: the busier a key, the fewer requests a call
// costs.
type macCoalescer struct {
	// send makes the request for calls of one group and returns an answer for
	// each. It must not keep the calls.
	send func(ctx context.Context, group macGroup, calls []macRequest) []macAnswer

	mu     sync.Mutex
	groups map[macGroup]*macQueue
}

// macQueue is a group that has a request under way: the calls that wait for it
// to end. macCoalescer.mu guards it.
type macQueue struct {
	waiting []*waitingMac
	// enough, if not nil, is to be closed when want calls wait.
	enough chan struct{}
	want   int
	skip   int // how many more times not to gather
	// away is how many callers were answered and may be about to ask again.
	away int
}

// waitingMac is a call that waits to share a request.
type waitingMac struct {
	request macRequest
	answer  chan macAnswer // of capacity 1: nobody waits for the caller
	left    bool           // the caller has gone; macCoalescer.mu guards it
}

// waitingMacs are used again once their answers are read. One whose caller has
// left is not: its queue still knows it.
var waitingMacs = sync.Pool{New: func() any { return &waitingMac{answer: make(chan macAnswer, 1)} }}

func newMacCoalescer(send func(context.Context, macGroup, []macRequest) []macAnswer) *macCoalescer {
	return &macCoalescer{send: send, groups: map[macGroup]*macQueue{}}
}

// do does a call and returns when its answer is there or ctx ends, whichever is
// first. What happens to the context of one call never happens to another.
func (m *macCoalescer) do(ctx context.Context, group macGroup, request macRequest) macAnswer {
	m.mu.Lock()
	q := m.groups[group]
	if q == nil {
		q = &macQueue{}
		m.groups[group] = q
		m.mu.Unlock()
		defer m.next(group, q)
		return m.send(ctx, group, []macRequest{request})[0]
	}
	w := waitingMacs.Get().(*waitingMac)
	w.request = request
	q.waiting = append(q.waiting, w)
	q.away = max(q.away-1, 0)
	if q.enough != nil && len(q.waiting) >= q.want {
		close(q.enough)
		q.enough = nil
	}
	m.mu.Unlock()

	select {
	case a := <-w.answer:
		w.request = macRequest{}
		waitingMacs.Put(w)
		return a
	case <-ctx.Done():
		m.mu.Lock()
		w.left = true
		m.mu.Unlock()
		return macAnswer{err: ctx.Err()}
	}
}

// next follows a request that has ended: it starts a shared one for those who
// waited, or closes the group.
func (m *macCoalescer) next(group macGroup, q *macQueue) {
	if calls := m.take(group, q); len(calls) > 0 {
		go m.share(group, q, calls)
	}
}

// take takes as many waiting calls as fit into one request. With none, the group
// is closed.
func (m *macCoalescer) take(group macGroup, q *macQueue) []*waitingMac {
	m.mu.Lock()
	defer m.mu.Unlock()
	var calls []*waitingMac
	messages, macs, n := 0, 0, 0
	for _, w := range q.waiting {
		messages += len(w.request.message) + 1
		macs += len(w.request.mac) + 1
		if len(calls) == maxShared || len(calls) > 0 && (messages > maxSharedBytes || macs > maxSharedBytes) {
			break
		}
		n++
		if !w.left {
			calls = append(calls, w)
		}
	}
	q.waiting = q.waiting[n:]
	if len(q.waiting) == 0 {
		q.waiting = nil // or the taken ones would stay in memory
	}
	if len(calls) == 0 {
		delete(m.groups, group)
	}
	return calls
}

// gather gives those who were just answered a moment to ask again before the
// next shared request begins, at most twice as long as the last one took. A
// closed loop of many callers would otherwise fall into groups that take turns,
// with as many more requests, and it is requests that cost Vault, not the
// calls in them. It ends as soon as all of them are back, or half of them if
// these are many: the others come back while Vault is at work, instead of
// after it. Where they do not come back, as callers that ask once, it is not
// tried again for a while; and few callers have little to gain and are never
// held up.
func (m *macCoalescer) gather(q *macQueue, answered int, took time.Duration) {
	if answered < minGather {
		return
	}
	enough, before := m.beginGather(q)
	if enough == nil {
		return
	}
	timer := time.NewTimer(min(2*took, maxGather))
	defer timer.Stop()
	inTime := true
	select {
	case <-enough:
	case <-timer.C:
		inTime = false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q.enough = nil
	if !inTime {
		q.away = 0
		if len(q.waiting)-before < answered/8 {
			q.skip = gatherPause
		}
	}
}

// beginGather returns a channel that is closed when enough calls wait, and how
// many do now; nil if they are not to be waited for.
func (m *macCoalescer) beginGather(q *macQueue) (enough chan struct{}, before int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q.skip > 0 {
		q.skip--
		q.away = 0
		return nil, 0
	}
	before = len(q.waiting)
	all := before + q.away
	want := min(all, max(all/2, manyShared), maxShared)
	if before >= want {
		return nil, 0
	}
	q.enough, q.want = make(chan struct{}), want
	return q.enough, before
}

// share makes shared requests until nobody waits. They belong to no caller, so
// no caller's context has a say; the client of Vault has its own time limit.
func (m *macCoalescer) share(group macGroup, q *macQueue, calls []*waitingMac) {
	for len(calls) > 0 {
		requests := make([]macRequest, len(calls))
		for i, w := range calls {
			requests[i] = w.request
		}
		start := time.Now()
		answers := m.sendSafely(group, requests)
		took := time.Since(start)
		m.mu.Lock()
		q.away += len(calls)
		m.mu.Unlock()
		for i, w := range calls {
			w.answer <- answers[i]
		}
		m.gather(q, len(calls), took)
		calls = m.take(group, q)
	}
}

// sendSafely is send for a goroutine that belongs to no call: a panic there
// would end the program, and the calls of others with it.
func (m *macCoalescer) sendSafely(group macGroup, requests []macRequest) (answers []macAnswer) {
	defer func() {
		if recover() != nil {
			answers = sameAnswer(macAnswer{err: internal(textInternal)}, len(requests))
		}
	}()
	return m.send(context.Background(), group, requests)
}
