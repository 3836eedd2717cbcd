package gateway

// How many connections clients may have, all together and from one address.

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ConnectionLimits bound the connections of a listener. Zero is no limit.
type ConnectionLimits struct {
	// Total is the most at once. It should be well below the limit on the
	// process's open files: calls have connections to Vault too.
	Total int
	// PerAddress is the most at once from one IPv4 address or one IPv6 network
	// of 64 bits, so that one sender cannot have them all.
	PerAddress int
}

// LimitConnections returns a listener that closes connections beyond the
// limits as soon as they are made, and says so in the log once a second at
// most. registerer, unless nil, gets kms_gateway_refused_connections_total.
func LimitConnections(l net.Listener, limits ConnectionLimits, log *slog.Logger, registerer prometheus.Registerer) net.Listener {
	limited := &limitedListener{Listener: l, limits: limits, log: log, open: map[netip.Prefix]int{}}
	limited.refused = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kms_gateway_refused_connections_total",
		Help: "Connections closed because there were too many, all together or from one address.",
	})
	if registerer != nil {
		registerer.MustRegister(limited.refused)
	}
	return limited
}

type limitedListener struct {
	net.Listener
	limits  ConnectionLimits
	log     *slog.Logger
	refused prometheus.Counter

	mu     sync.Mutex
	total  int
	open   map[netip.Prefix]int // of addresses that have any
	logged time.Time
}

// Accept returns the next connection within the limits.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := networkOf(connection.RemoteAddr())
		if l.admit(from) {
			return &limitedConnection{Conn: connection, release: sync.OnceFunc(func() { l.release(from) })}, nil
		}
		_ = connection.Close() // it was never used
	}
}

// networkOf returns what of an address counts as one sender; the zero Prefix
// for an address that is none of IP.
func networkOf(address net.Addr) netip.Prefix {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64 // what one host or one customer has
	}
	network, _ := ip.Prefix(bits) // the bits fit
	return network
}

func (l *limitedListener) admit(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	tooMany := l.limits.Total > 0 && l.total >= l.limits.Total
	tooManyOfOne := l.limits.PerAddress > 0 && from.IsValid() && l.open[from] >= l.limits.PerAddress
	if tooMany || tooManyOfOne {
		l.refused.Inc()
		if now := time.Now(); now.Sub(l.logged) > time.Second {
			l.logged = now
			l.log.Warn("connections refused", "open", l.total, "from", from.String(), "open_from", l.open[from])
		}
		return false
	}
	l.total++
	l.open[from]++
	return true
}

func (l *limitedListener) release(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// limitedConnection gives its place back when it is closed.
type limitedConnection struct {
	net.Conn
	release func()
}

func (c *limitedConnection) Close() error {
	defer c.release()
	return c.Conn.Close()
}
