package gateway

import (
	"context"
	"runtime"
	"sync"
)

const (
	// maxShared is the most calls that share one request. The mount takes
	// kms.MaxBatchItems; a smaller number keeps one request from holding up
	// the others on Vault's side.
	maxShared = 1000
	// maxSharedBytes bounds each of the comma-separated texts in a shared
	// request: Vault refuses JSON strings of more than 1 MiB.
	maxSharedBytes = 512 << 10
	// maxInFlight is how many requests of a group are under way at once.
	maxInFlight = 1
)

// macGroup is what calls must have in common to share a request. The token is
// among it, so Vault's decision about one is its decision about all.
type macGroup struct {
	token, key, algorithm string
	verify                bool
}

// macCoalescer lets concurrent GenerateMac or VerifyMac calls of one group
// share requests to Vault. A call that finds none of its group in flight goes
// at once, alone. One that does waits for it to end and then goes together
// with all others that waited: so nobody waits for a timer, and the busier a
// key, the fewer requests a call costs.
type macCoalescer struct {
	// send makes the request for calls of one group and returns an answer for
	// each. It must not keep the calls.
	send func(ctx context.Context, group macGroup, calls []macRequest) []macAnswer

	mu     sync.Mutex
	groups map[macGroup]*macQueue
}

// macQueue is a group with calls under way. macCoalescer.mu guards it.
type macQueue struct {
	inFlight int
	waiting  []*waitingMac
}

// waitingMac is a call that waits to share a request.
type waitingMac struct {
	request macRequest
	answer  chan macAnswer // of capacity 1: nobody waits for the caller
	left    bool           // the caller has gone; macCoalescer.mu guards it
}

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
	}
	if q.inFlight < maxInFlight {
		q.inFlight++
		m.mu.Unlock()
		defer m.next(group, q)
		return m.send(ctx, group, []macRequest{request})[0]
	}
	w := &waitingMac{request: request, answer: make(chan macAnswer, 1)}
	q.waiting = append(q.waiting, w)
	m.mu.Unlock()

	select {
	case a := <-w.answer:
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

// take takes as many waiting calls as fit into one request. With none, the
// request that has ended leaves its place, and the last one the group.
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
		if q.inFlight--; q.inFlight == 0 {
			delete(m.groups, group)
		}
	}
	return calls
}

// maxYields bounds how often gather steps aside.
const maxYields = 16

// gather steps aside for the goroutines that are ready to run, as long as calls
// of the group come from them: those that were just answered are often about to
// ask again, and each request saved is worth many calls' work. It waits for
// nothing: where nobody is ready to run, it returns at once.
func (m *macCoalescer) gather(q *macQueue) {
	before := -1
	for range maxYields {
		m.mu.Lock()
		n := len(q.waiting)
		m.mu.Unlock()
		if n == before || n >= maxShared {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// share makes shared requests until nobody waits. They belong to no caller, so
// no caller's context has a say; the client of Vault has its own time limit.
func (m *macCoalescer) share(group macGroup, q *macQueue, calls []*waitingMac) {
	for len(calls) > 0 {
		requests := make([]macRequest, len(calls))
		for i, w := range calls {
			requests[i] = w.request
		}
		answers := m.send(context.Background(), group, requests)
		for i, w := range calls {
			w.answer <- answers[i]
		}
		m.gather(q)
		calls = m.take(group, q)
	}
}
