package login

import (
	"context"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// waitingPerSlot is how many logins may wait for each that an address may have
	// under way.
	waitingPerSlot = 8
	// presentPerSlot is how many logins of all addresses may be there for each that
	// may be under way: those that wait cost memory.
	presentPerSlot = 64
)

// limiter bounds the logins under way: of all, so that Vault has room for those
// who are logged in, and of each address, so that one stranger cannot take the
// places of all others.
type limiter struct {
	all        *semaphore.Weighted
	most       int64 // that may be there
	perAddress int64

	mu        sync.Mutex // guards the rest
	present   int64
	addresses map[netip.Prefix]*addressSlots
}

// addressSlots are the logins of an address. It is dropped with the last one.
type addressSlots struct {
	slots   *semaphore.Weighted
	present int64 // under way or waiting; limiter.mu guards it
}

func newLimiter(all, perAddress int) *limiter {
	return &limiter{
		all: semaphore.NewWeighted(int64(all)), most: presentPerSlot * int64(all), perAddress: int64(perAddress),
		addresses: map[netip.Prefix]*addressSlots{},
	}
}

// networkOf is what counts as one address: an IPv6 host has 2^64 of them.
func networkOf(remote string) netip.Prefix {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := address.Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	network, _ := ip.Prefix(bits)
	return network
}

var errBusy = &Error{Busy, "too many logins at the same time"}

// enter waits for a place and returns the function that gives it back.
func (l *limiter) enter(ctx context.Context, remote string) (leave func(), err error) {
	network := networkOf(remote)
	l.mu.Lock()
	a := l.addresses[network]
	if a == nil {
		a = &addressSlots{slots: semaphore.NewWeighted(l.perAddress)}
		l.addresses[network] = a
	}
	if a.present >= l.perAddress*(1+waitingPerSlot) || l.present >= l.most {
		if a.present == 0 {
			delete(l.addresses, network)
		}
		l.mu.Unlock()
		return nil, errBusy
	}
	a.present++
	l.present++
	l.mu.Unlock()

	gone := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.present--
		if a.present--; a.present == 0 {
			delete(l.addresses, network)
		}
	}
	if a.slots.Acquire(ctx, 1) != nil {
		gone()
		return nil, errBusy
	}
	if l.all.Acquire(ctx, 1) != nil {
		a.slots.Release(1)
		gone()
		return nil, errBusy
	}
	return func() {
		l.all.Release(1)
		a.slots.Release(1)
		gone()
	}, nil
}
