package gateway

// The one repetition of a request that has failed for a reason that is over in
// seconds: a plugin that Vault starts again, nodes that choose who is active.

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lookEvery is how often Vault is asked whether it serves again, give or
	// take a half, and lookTimeout how long an answer is waited for.
	lookEvery   = 100 * time.Millisecond
	lookTimeout = time.Second
	// spreadEach is by how much the repetitions are spread for each request that
	// waits, and maxSpread the most in all: a Vault that is just back must not
	// get all of them at once.
	spreadEach = time.Millisecond
	maxSpread  = time.Second
	// downFor is for how long nothing waits for a Vault that was waited for in
	// vain, and downLook how often it is then looked at.
	downFor  = 10 * time.Second
	downLook = time.Second
	// freshEvery is how often idle connections to Vault are given up at most.
	freshEvery = 500 * time.Millisecond
)

// fault is why Vault could not serve a request that it may serve in a moment.
// The values are a label of a metric.
type fault string

const (
	noFault          fault = ""
	faultPlugin      fault = "plugin"         // its process ended
	faultNoActive    fault = "no active node" // among Vault's, or behind a load balancer
	faultSealed      fault = "sealed"
	faultUnreachable fault = "unreachable" // there is no connection, or it broke
	// faultInternal is all that Vault says where the plugin ends while Vault
	// asks it, before a POST, whether the key is there; and of faults of its own.
	faultInternal fault = "internal error"
)

var faults = []string{string(faultPlugin), string(faultNoActive), string(faultSealed), string(faultUnreachable), string(faultInternal)}

// The texts of Vault's answers of status 500, which are the beginning of a text
// or all of it: what follows, or stands before it in the engine's own texts,
// may be a caller's.
const (
	saysOneError   = "1 error occurred:\n\t* "
	saysNoActive   = "local node not active but active cluster node not found"
	saysPluginGone = "rpc error: code = Unavailable desc = "
	saysInternal   = "internal error"
)

// faultOf returns why a request failed, if that may be over in a moment.
func faultOf(err error) fault {
	var v *vaultError
	switch {
	case err == nil:
		return noFault
	case !errors.As(err, &v):
		return connectionFault(err)
	case v.kind != "":
		return noFault
	case v.overloaded():
		return noFault
	case v.status == http.StatusServiceUnavailable && slices.Equal(v.texts, []string{"Vault is sealed"}):
		return faultSealed
	case v.status == http.StatusServiceUnavailable:
		return faultNoActive
	case v.status == http.StatusBadGateway && v.foreign:
		return faultUnreachable // says a proxy
	case v.status == http.StatusInternalServerError && len(v.texts) == 1:
		return faultSaid(v.texts[0])
	}
	return noFault
}

func faultSaid(text string) fault {
	text = strings.TrimSpace(strings.TrimPrefix(text, saysOneError))
	switch {
	case text == saysNoActive:
		return faultNoActive
	case text == saysInternal:
		return faultInternal
	case strings.HasPrefix(text, saysPluginGone):
		return faultPlugin
	}
	return noFault
}

// connectionFault tells lost connections from failures that time does not mend,
// and from those that have taken all the time there was.
func connectionFault(err error) fault {
	var certificate *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	var network *net.OpError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return noFault
	case errors.As(err, &network) && network.Op == "dial": // its time limit is a part of the request's
		return faultUnreachable
	case isTimeout(err),
		errors.Is(err, errRedirect), errors.Is(err, errTooLong), errors.Is(err, http.ErrSchemeMismatch),
		errors.As(err, &certificate), errors.As(err, &noTLS),
		errors.As(err, &network) && strings.HasSuffix(network.Op, " error"): // a TLS alert, of either side
		return noFault
	}
	return faultUnreachable
}

// retries repeats requests. It waits before that until Vault serves again, for
// all of them together.
type retries struct {
	// wait is how long Vault is waited for at most; 0 repeats nothing. limit is
	// the most that a request, the wait and the repetition may take together.
	wait, limit time.Duration
	// serves returns nil if Vault serves, and fresh makes the next requests go
	// over new connections, to another node perhaps.
	serves  func(context.Context) error
	fresh   func()
	counted func(cause fault, result string)
	mount   string // with its slash

	mu        sync.Mutex
	outage    *outage   // that is waited for, nil if none is
	downUntil time.Time // for so long nothing waits, unless a request succeeds
	looked    time.Time // when Vault was last looked at
	freshened time.Time
	down      atomic.Bool // downUntil is set
}

// outage is a time in which Vault does not serve. served is to be read when
// over is closed; retries.mu guards waiting.
type outage struct {
	over    chan struct{}
	served  bool
	waiting int
}

// The results of repetitions, for the metric.
const (
	retryAnswered = "answered" // be it with a refusal
	retryFailed   = "failed"
	retryInVain   = "in vain" // Vault did not serve in time: nothing was repeated
)

// again makes a request once more that was begun at start and has failed, if
// that is worth it. It returns the better of the two answers, and whether there
// was a second request. Whether the request may be repeated at all is the
// caller's to know.
func (r *retries) again(ctx context.Context, start time.Time, failed error, ask func(context.Context) ([]byte, error)) (answer []byte, err error, repeated bool) {
	cause := faultOf(failed)
	if cause == noFault || r.wait <= 0 {
		return nil, failed, false
	}
	ctx, cancel := context.WithDeadline(ctx, start.Add(r.limit))
	defer cancel()
	if !r.await(ctx, cause) {
		result := retryInVain
		if errors.Is(ctx.Err(), context.Canceled) {
			result = resultGone
		}
		r.counted(cause, result)
		return nil, failed, false
	}
	answer, err = ask(ctx)
	result := retryAnswered
	switch {
	case errors.Is(err, context.Canceled):
		result = resultGone
	case vaultResult(err) == vaultError5xx, vaultResult(err) == vaultNoAnswer:
		result = retryFailed
	}
	r.counted(cause, result)
	return answer, err, true
}

// await waits until Vault serves, and then a moment more. It reports whether it
// does.
func (r *retries) await(ctx context.Context, cause fault) bool {
	o := r.join(cause)
	if o == nil {
		return false
	}
	select {
	case <-o.over:
	case <-ctx.Done():
		return false
	}
	return o.served && pause(ctx, rand.N(r.spread(o)))
}

func (r *retries) spread(o *outage) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(time.Duration(o.waiting)*spreadEach, maxSpread)
}

// join returns the outage that is to be waited for, nil if none is: Vault has
// just been waited for in vain.
func (r *retries) join(cause fault) *outage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.outage == nil {
		now := time.Now()
		patience := min(r.wait, r.limit*2/3)
		if now.Before(r.downUntil) {
			if now.Sub(r.looked) < downLook {
				return nil
			}
			patience = 0
		}
		r.outage = &outage{over: make(chan struct{})}
		go r.watch(r.outage, cause, patience)
	}
	r.outage.waiting++
	return r.outage
}

// watch looks at Vault, at least once, until it serves or patience is at an end,
// and ends the outage.
func (r *retries) watch(o *outage, cause fault, patience time.Duration) {
	start := time.Now()
	for {
		if cause != faultPlugin && cause != faultInternal {
			r.renew()
		}
		o.served = r.look()
		if o.served || time.Since(start) >= patience {
			break
		}
		time.Sleep(lookEvery/2 + rand.N(lookEvery))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outage, r.looked, r.downUntil = nil, time.Now(), time.Time{}
	if !o.served {
		r.downUntil = r.looked.Add(downFor)
	}
	r.down.Store(!o.served)
	close(o.over)
}

// succeeded notes that a request has been answered. Those that Vault answers
// itself say nothing of the engine.
func (r *retries) succeeded(path string) {
	if r.down.Load() && strings.HasPrefix(path, r.mount) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.downUntil = time.Time{}
		r.down.Store(false)
	}
}

func (r *retries) look() (served bool) {
	defer func() { _ = recover() }() // this goroutine is no call's: a panic would end the program
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	err := r.serves(ctx)
	return err == nil || errors.Is(err, errNoEngine) // which is an answer
}

// renew has the next requests go over new connections, unless it just has.
func (r *retries) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.freshened) >= freshEvery {
		r.freshened = now
		r.fresh()
	}
}

// pause waits, and reports whether the context has let it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
