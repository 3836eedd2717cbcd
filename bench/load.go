package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// warmUp is how long a load runs before it is measured: connections open and
// caches fill.
const warmUp = 200 * time.Millisecond

// workload is one way to get MACs.
type workload struct {
	name     string
	address  string
	requests [][]byte // whole HTTP requests, used at random
	macs     int      // that one request asks for
	answered int      // that its answer has
	own      bool     // each client has one of the requests, and sends no other
}

// measurement is what one run of a workload showed.
type measurement struct {
	seconds   float64
	requests  int
	macs      int
	latencies []time.Duration // sorted
	cpu       cpuSeconds
}

func (m *measurement) throughput() float64 { return float64(m.macs) / m.seconds }

// percentile returns the latency that p of 100 requests do not exceed.
func (m *measurement) percentile(p int) time.Duration {
	if len(m.latencies) == 0 {
		return 0
	}
	return m.latencies[(len(m.latencies)-1)*p/100]
}

// run keeps so many clients busy, each with one request at a time, for the
// given time. Closed loops, because what is compared is how much work is done
// with all that the machine has, and because a fixed rate would have to be
// chosen for each target and number of clients.
func (w *workload) run(ctx context.Context, clients int, duration time.Duration, cpu func() cpuSeconds) (*measurement, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var measuring atomic.Bool
	latencies := make([][]time.Duration, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var err error
			if latencies[i], err = w.loop(ctx, i, &measuring); err != nil {
				cancel(fmt.Errorf("%s, %d clients: %w", w.name, clients, err))
			}
		})
	}
	sleep(ctx, warmUp)
	before, start := cpu(), time.Now()
	measuring.Store(true)
	sleep(ctx, duration)
	measuring.Store(false)
	elapsed, after := time.Since(start), cpu()
	err := context.Cause(ctx)
	cancel(nil)
	wg.Wait()

	m := &measurement{seconds: elapsed.Seconds(), cpu: after.minus(before), latencies: slices.Concat(latencies...)}
	m.requests = len(m.latencies)
	m.macs = m.requests * w.macs
	slices.Sort(m.latencies)
	if err == nil && m.requests == 0 {
		err = fmt.Errorf("%s, %d clients: nothing was answered in %s", w.name, clients, duration)
	}
	return m, err
}

// loop is one client. It returns the latencies of what was answered while
// measuring.
func (w *workload) loop(ctx context.Context, client int, measuring *atomic.Bool) ([]time.Duration, error) {
	c, err := dial(w.address)
	if err != nil {
		return nil, err
	}
	defer c.close()
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var latencies []time.Duration
	for ctx.Err() == nil {
		request := w.requests[client%len(w.requests)]
		if !w.own {
			request = w.requests[random.IntN(len(w.requests))]
		}
		start := time.Now()
		if err := c.do(request); err != nil {
			return nil, err
		}
		if measuring.Load() {
			latencies = append(latencies, time.Since(start))
		}
	}
	return latencies, nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// look makes some of the requests once: they must be answered, and with as many
// MACs as they are counted for.
func (w *workload) look() error {
	c, err := dial(w.address)
	if err != nil {
		return err
	}
	defer c.close()
	c.keep = true
	for _, request := range w.requests[:min(len(w.requests), variants)] {
		if err := c.do(request); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if n := len(macPattern.FindAll(c.body.Bytes(), -1)); n != w.answered {
			return fmt.Errorf("%s: the answer has %d MACs instead of %d: %.300s", w.name, n, w.answered, c.body.Bytes())
		}
	}
	return nil
}

// macPattern finds MACs of 32 bytes in base64.
var macPattern = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)
