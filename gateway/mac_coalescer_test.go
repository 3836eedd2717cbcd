package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gate is a send function that holds requests until they are let go.
type gate struct {
	mu    sync.Mutex
	sizes []int
	enter chan int      // the size of each request, as it begins
	leave chan struct{} // lets one request end
}

func newGate() *gate { return &gate{enter: make(chan int, 100), leave: make(chan struct{})} }

func (g *gate) send(ctx context.Context, group macGroup, calls []macRequest) []macAnswer {
	g.mu.Lock()
	g.sizes = append(g.sizes, len(calls))
	g.mu.Unlock()
	g.enter <- len(calls)
	select {
	case <-g.leave:
	case <-ctx.Done():
		return sameAnswer(macAnswer{err: ctx.Err()}, len(calls))
	}
	answers := make([]macAnswer, len(calls))
	for i, c := range calls {
		answers[i] = macAnswer{mac: group.token + ":" + string(c.message)}
	}
	return answers
}

func TestCoalescerSharesWhatWaits(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(g.send)
	group := macGroup{token: "t"}
	var wg sync.WaitGroup
	ask := func(message string) {
		wg.Go(func() {
			a := m.do(t.Context(), group, macRequest{message: []byte(message)})
			require.NoError(t, a.err)
			require.Equal(t, "t:"+message, a.mac)
		})
	}
	ask("first")
	require.Equal(t, 1, <-g.enter, "a call that finds none in flight goes alone at once")
	for i := range 20 {
		ask(fmt.Sprint(i))
	}
	waitFor(t, func() bool { return m.waiting(group) == 20 })
	g.leave <- struct{}{}
	require.Equal(t, 20, <-g.enter, "those who waited share one request")
	g.leave <- struct{}{}
	wg.Wait()
	waitFor(t, func() bool { return m.empty() })
}

func (m *macCoalescer) waiting(group macGroup) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.groups[group]; q != nil {
		return len(q.waiting)
	}
	return 0
}

func (m *macCoalescer) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.groups) == 0
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, time.Millisecond)
}

func TestCoalescerKeepsGroupsApart(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(g.send)
	groups := []macGroup{
		{token: "a", key: "k", algorithm: "x"},
		{token: "b", key: "k", algorithm: "x"},
		{token: "a", key: "l", algorithm: "x"},
		{token: "a", key: "k", algorithm: "y"},
		{token: "a", key: "k", algorithm: "x", verify: true},
	}
	var wg sync.WaitGroup
	for _, group := range groups {
		wg.Go(func() { m.do(t.Context(), group, macRequest{}) })
	}
	for range groups {
		require.Equal(t, 1, <-g.enter, "no group waits for another")
	}
	for range groups {
		g.leave <- struct{}{}
	}
	wg.Wait()
}

func TestCoalescerLetsACallerLeave(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(g.send)
	group := macGroup{token: "t"}
	var wg sync.WaitGroup
	wg.Go(func() { m.do(t.Context(), group, macRequest{}) })
	<-g.enter

	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() { // waits, and leaves before its request begins
		a := m.do(ctx, group, macRequest{message: []byte("gone")})
		require.ErrorIs(t, a.err, context.Canceled)
	})
	wg.Go(func() {
		a := m.do(t.Context(), group, macRequest{message: []byte("stays")})
		require.NoError(t, a.err)
		require.Equal(t, "t:stays", a.mac)
	})
	waitFor(t, func() bool { return m.waiting(group) == 2 })
	cancel()
	waitFor(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, w := range m.groups[group].waiting {
			if w.left {
				return true
			}
		}
		return false
	})
	g.leave <- struct{}{}
	require.Equal(t, 1, <-g.enter, "nobody works for those who left")
	g.leave <- struct{}{}
	wg.Wait()
	waitFor(t, m.empty)
}

func TestCoalescerGoesOnAfterACancelledFirst(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(g.send)
	group := macGroup{token: "t"}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		a := m.do(ctx, group, macRequest{})
		require.ErrorIs(t, a.err, context.Canceled)
	})
	<-g.enter
	wg.Go(func() {
		a := m.do(t.Context(), group, macRequest{message: []byte("x")})
		require.Equal(t, "t:x", a.mac)
	})
	waitFor(t, func() bool { return m.waiting(group) == 1 })
	cancel()
	<-g.enter
	g.leave <- struct{}{}
	wg.Wait()
}

func TestCoalescerBoundsRequests(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(g.send)
	group := macGroup{token: "t"}
	var wg sync.WaitGroup
	ask := func(size int) {
		wg.Go(func() { m.do(t.Context(), group, macRequest{message: make([]byte, size)}) })
	}
	ask(1)
	<-g.enter
	for range maxShared + 5 {
		ask(1)
	}
	waitFor(t, func() bool { return m.waiting(group) == maxShared+5 })
	g.leave <- struct{}{}
	require.Equal(t, maxShared, <-g.enter)
	for range 3 {
		ask(maxSharedBytes / 2)
	}
	waitFor(t, func() bool { return m.waiting(group) == 8 })
	g.leave <- struct{}{}
	for left := 8; left > 0; {
		n := <-g.enter
		require.Less(t, n, 8, "too many bytes for one request")
		left -= n
		g.leave <- struct{}{}
	}
	wg.Wait()
}

func TestSplitTrustsNoOddAnswer(t *testing.T) {
	group := macGroup{}
	for name, fields := range map[string]macFields{
		"too few":     {Macs: "a", KeyID: "k"},
		"too many":    {Macs: "a,b,c", KeyID: "k"},
		"odd key ids": {Macs: "a,b", KeyIDs: "k"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, a := range fields.split(group, 2) {
				require.Error(t, a.err)
				require.Empty(t, a.mac)
			}
		})
	}
	one := macFields{Macs: "a,", KeyID: "k"}
	answers := one.split(group, 2)
	require.Equal(t, macAnswer{mac: "a", keyID: "k"}, answers[0])
	require.Error(t, answers[1].err, "an empty MAC is none")
}

// TestThousandCallers: each of a thousand concurrent callers with ten tokens
// gets its own MAC, whatever rides with it.
func TestThousandCallers(t *testing.T) {
	m := newMacCoalescer(func(_ context.Context, group macGroup, calls []macRequest) []macAnswer {
		time.Sleep(time.Millisecond)
		answers := make([]macAnswer, len(calls))
		for i, c := range calls {
			answers[i] = macAnswer{mac: group.token + ":" + string(c.message)}
		}
		return answers
	})
	var wg sync.WaitGroup
	failures := make(chan error, 1000)
	for i := range 1000 {
		wg.Go(func() {
			token := fmt.Sprint("token", i%10)
			for round := range 10 {
				message := fmt.Sprint(i, "/", round)
				if a := m.do(t.Context(), macGroup{token: token}, macRequest{message: []byte(message)}); a.mac != token+":"+message {
					failures <- errors.Join(a.err, fmt.Errorf("%s got %s", message, a.mac))
					return
				}
			}
		})
	}
	wg.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	waitFor(t, m.empty)
}

// TestCoalescerGathers: in a closed loop of many callers all of them end up in
// each shared request, instead of in two halves that take turns. On a machine
// that does other work callers may be late: one good loop is enough.
func TestCoalescerGathers(t *testing.T) {
	const callers, attempts = 40, 20
	var sizes []int
	for range attempts {
		sizes = sharedInALoop(t, callers)
		full := 0
		for _, size := range sizes {
			if size > callers*3/4 {
				full++
			}
		}
		if full > len(sizes)/2 {
			return
		}
	}
	t.Errorf("the callers share requests of %v", sizes)
}

// sharedInALoop has callers ask again and again, and returns how many shared
// each request.
func sharedInALoop(t *testing.T, callers int) (sizes []int) {
	t.Helper()
	var mu sync.Mutex
	m := newMacCoalescer(func(_ context.Context, _ macGroup, calls []macRequest) []macAnswer {
		mu.Lock()
		sizes = append(sizes, len(calls))
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		return make([]macAnswer, len(calls))
	})
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range 20 {
				m.do(t.Context(), macGroup{}, macRequest{})
			}
		})
	}
	wg.Wait()
	return sizes
}

// TestHowManyAreWaitedFor: few callers are all waited for, of many half, since
// the others come back while Vault is at work.
func TestHowManyAreWaitedFor(t *testing.T) {
	for _, test := range []struct{ waiting, away, want int }{
		{0, 40, 40}, {10, 30, 40}, {0, 64, 64}, {30, 70, 64}, {0, 256, 128}, {100, 156, 128}, {0, 3000, maxShared},
		{40, 0, 0}, {64, 36, 0}, {130, 126, 0}, {maxShared, 3000, 0}, // enough are there
	} {
		m := newMacCoalescer(nil)
		q := &macQueue{waiting: make([]*waitingMac, test.waiting), away: test.away}
		enough, before := m.beginGather(q)
		require.Equal(t, test.want, q.want, "%+v", test)
		require.Equal(t, test.want > 0, enough != nil, "%+v", test)
		if enough != nil {
			require.Equal(t, test.waiting, before)
		}
	}
	// Those who did not come back once are not waited for, and not counted.
	q := &macQueue{away: 40, skip: 1}
	enough, _ := newMacCoalescer(nil).beginGather(q)
	require.Nil(t, enough)
	require.Equal(t, &macQueue{}, q)
}

func TestCoalescerOutlivesAPanic(t *testing.T) {
	g := newGate()
	m := newMacCoalescer(func(ctx context.Context, group macGroup, calls []macRequest) []macAnswer {
		answers := g.send(ctx, group, calls)
		if len(calls) > 1 {
			panic("odd")
		}
		return answers
	})
	var wg sync.WaitGroup
	wg.Go(func() { require.NoError(t, m.do(t.Context(), macGroup{}, macRequest{}).err) })
	<-g.enter
	for range 2 {
		wg.Go(func() { require.Error(t, m.do(t.Context(), macGroup{}, macRequest{}).err) })
	}
	waitFor(t, func() bool { return m.waiting(macGroup{}) == 2 })
	g.leave <- struct{}{}
	<-g.enter
	g.leave <- struct{}{}
	wg.Wait()
	waitFor(t, m.empty)
}
