package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// slowly opens a connection and sends a call's head, and of its body of n bytes
// what there is.
func slowly(t *testing.T, address string, n int, body string) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { connection.Close() })
	_, err = fmt.Fprintf(connection, "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: TrentService.EnableKey\r\nContent-Length: %d\r\nAuthorization: %s\r\n\r\n%s",
		n, testAuthorization, body)
	require.NoError(t, err)
	return connection
}

// A call counts once its body is there: slow senders are not the calls that
// keep others out.
func TestSlowSendersKeepNobodyOut(t *testing.T) {
	f := newFakeVault(t, func(*vaultCall) (int, string) { return 204, "" })
	g := newTestGateway(t, f.URL, func(c *Config) { c.MaxConcurrency = 1 })
	reading := make(chan struct{}, 4)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reading <- struct{}{}
		g.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close) // when the connections are closed
	for range 3 {
		slowly(t, strings.TrimPrefix(server.URL, "http://"), 100, "{")
		<-reading
	}
	require.Equal(t, 200, post(g, "/", "EnableKey", `{"KeyId":"k"}`).status)
}

// Buffers grow as bytes arrive: what a header promises takes no memory.
func TestBodiesTakeMemoryAsTheyArrive(t *testing.T) {
	b := newBodies(1 << 20)
	read := &body{owner: b, buffer: new([]byte), bytes: make([]byte, 0, firstRead)}
	w := httptest.NewRecorder()
	require.Error(t, read.fill(w, strings.NewReader("{"), 1<<20, true))
	require.Equal(t, firstRead, cap(read.bytes))

	whole := strings.Repeat("x", 1<<20)
	for _, length := range []int64{1 << 20, -1} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(whole))
		r.ContentLength = length
		got, err := b.read(w, r)
		require.NoError(t, err)
		require.Equal(t, whole, string(got.bytes))
		require.GreaterOrEqual(t, b.large.Load(), int64(1<<20))
		got.release()
		got.forget()
		require.Zero(t, b.large.Load())
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(whole+"x"))
	r.ContentLength = -1
	_, err := b.read(w, r)
	require.ErrorContains(t, err, "RequestEntityTooLarge")
	require.Zero(t, b.large.Load())
}

// Large bodies have a budget in common; small ones do not need it.
func TestLargeBodiesHaveABudget(t *testing.T) {
	f := newFakeVault(t, func(*vaultCall) (int, string) { return 204, "" })
	g := newTestGateway(t, f.URL)
	g.bodies.large.Store(maxLargeBodies * g.bodies.max)
	large := `{"KeyId":"k","x":"` + strings.Repeat("x", 2*maxPooled) + `"}`
	w := post(g, "/", "EnableKey", large)
	require.Contains(t, w.body, "ThrottlingException")
	require.Equal(t, "close", w.header.Get("Connection"))
	require.Equal(t, 200, post(g, "/", "EnableKey", `{"KeyId":"k"}`).status)
	g.bodies.large.Store(0)
	require.Equal(t, 200, post(g, "/", "EnableKey", large).status)
	require.Zero(t, g.bodies.large.Load())
}

// The endpoint's own throttling is logged and counted under its operation.
func TestThrottlingIsLoggedAsItsOperation(t *testing.T) {
	var log bytes.Buffer
	g := newTestGateway(t, "http://127.0.0.1:1", func(c *Config) { c.MaxConcurrency, c.Log = 1, testLog(&log) })
	g.calls.Store(1)
	require.Contains(t, post(g, "/", "EnableKey", `{"KeyId":"k"}`).body, "ThrottlingException")
	require.Contains(t, log.String(), `"operation":"EnableKey","result":"ThrottlingException"`)
}

// fakeConnection is a connection from an address.
type fakeConnection struct {
	net.Conn
	from   net.Addr
	closed bool
}

func (c *fakeConnection) RemoteAddr() net.Addr { return c.from }
func (c *fakeConnection) Close() error         { c.closed = true; return nil }

// fakeListener has all its connections made already.
type fakeListener struct {
	net.Listener
	connections []*fakeConnection
}

func (l *fakeListener) Accept() (net.Conn, error) {
	if len(l.connections) == 0 {
		return nil, net.ErrClosed
	}
	next := l.connections[0]
	l.connections = l.connections[1:]
	return next, nil
}

func TestConnectionLimits(t *testing.T) {
	registry := prometheus.NewRegistry()
	fake := &fakeListener{}
	var log bytes.Buffer
	l := LimitConnections(fake, ConnectionLimits{Total: 4, PerAddress: 2}, testLog(&log), registry)
	dial := func(from string) (net.Conn, *fakeConnection) {
		address := net.Addr(&net.UnixAddr{})
		if from != "" {
			address = &net.TCPAddr{IP: net.ParseIP(from), Port: 1}
		}
		c := &fakeConnection{from: address}
		fake.connections = append(fake.connections, c)
		accepted, _ := l.Accept()
		return accepted, c
	}
	one, _ := dial("192.0.2.1")
	require.NotNil(t, one)
	two, _ := dial("::ffff:192.0.2.1")
	require.NotNil(t, two)
	three, refused := dial("192.0.2.1")
	require.Nil(t, three, "one address has its two")
	require.True(t, refused.closed)
	v6, _ := dial("2001:db8::1")
	require.NotNil(t, v6)
	other, _ := dial("2001:db8::2:1")
	require.NotNil(t, other)
	third, _ := dial("2001:db8::3:1")
	require.Nil(t, third, "a network of 64 bits is one sender, and all four are open")
	elsewhere, _ := dial("198.51.100.1")
	require.Nil(t, elsewhere, "all four are open")

	require.NoError(t, one.Close())
	require.NoError(t, one.Close(), "a second time gives back nothing")
	elsewhere, _ = dial("198.51.100.1")
	require.NotNil(t, elsewhere)
	again, _ := dial("198.51.100.1")
	require.Nil(t, again)
	require.NoError(t, two.Close())
	local, _ := dial("")
	require.NotNil(t, local)
	for _, c := range []net.Conn{v6, other, elsewhere, local} {
		require.NoError(t, c.Close())
	}
	require.Zero(t, l.(*limitedListener).total)
	require.Empty(t, l.(*limitedListener).open, "nothing is kept of addresses that have gone")
	gathered, err := registry.Gather()
	require.NoError(t, err)
	require.Equal(t, "kms_gateway_refused_connections_total", gathered[0].GetName())
	require.Equal(t, 4.0, gathered[0].GetMetric()[0].GetCounter().GetValue())
	require.Equal(t, 1, strings.Count(log.String(), "connections refused"), "once a second at most: %s", log.String())

	unlimited := LimitConnections(&fakeListener{connections: []*fakeConnection{{from: &net.TCPAddr{}}}}, ConnectionLimits{}, slog.New(slog.DiscardHandler), nil)
	_, err = unlimited.Accept()
	require.NoError(t, err)
}
