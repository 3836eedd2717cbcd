package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestFailover: while a cluster loses plugins and active nodes, no call that
// changes nothing fails before its client, whose SDK repeats nothing, and every
// MAC is right. No change is sent twice.
func TestFailover(t *testing.T) {
	cluster := testvault.RunCluster(t, testvault.Config{Plugins: []testvault.Plugin{testvault.EngineFor(t, "")}})
	active, err := cluster.Active(t.Context())
	require.NoError(t, err)
	require.NoError(t, active.Mount(t.Context(), "kms", api.MountInput{Type: testvault.EngineName}))
	b := newBalancer(t, cluster)
	registry := prometheus.NewRegistry()
	e := &endpoint{url: serveMount(t, b.server.URL, "kms", func(c *gateway.Config) { c.RetryWait, c.Registerer = 40*time.Second, registry })}
	token := active.RootToken
	l := newSafeLoad(t, e, token)
	changing := l.change(t, e.client("", token))

	l.more(t, "nothing", 200)
	for range 3 {
		killPlugin(t, active)
		l.more(t, "the plugin was killed", 200)
	}
	require.NotZero(t, retries(t, registry, "plugin"), "the plugin was killed between the calls")
	_, err = cluster.StepDown(t.Context())
	require.NoError(t, err)
	l.more(t, "a step-down", 200)
	killed, next, err := cluster.KillActive(t.Context())
	require.NoError(t, err)
	l.more(t, "the active node was killed", 300)
	l.stop(t)
	require.NotZero(t, changing())
	for body, n := range b.changes() {
		require.Equal(t, 1, n, "sent %d times: %s", n, body)
	}
	for _, cause := range []string{"plugin", "no active node", "unreachable", "internal error", "sealed"} {
		t.Logf("repeated for %q: %v", cause, retries(t, registry, cause))
	}

	// An endpoint before a node that is gone says so; one before a standby goes on.
	gone := &endpoint{url: serve(t, killed.Address)}
	_, err = generate(gone.client("", token), l.keys[0], []byte("x"))
	require.True(t, isFault(err), "%v", err)
	standbys, err := cluster.Standbys(t.Context())
	require.NoError(t, err)
	e = &endpoint{url: serve(t, standbys[0].Address)}
	require.Eventually(t, func() bool { _, err := generate(e.client("", token), l.keys[0], []byte("x")); return err == nil }, time.Minute, 10*time.Millisecond)

	// One node of three has no majority, so there is no active node.
	ready := func() (int, string) {
		response, err := http.Get(e.url + "/readyz")
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(text)
	}
	require.Eventually(t, func() bool { status, _ := ready(); return status == 200 }, time.Minute, 10*time.Millisecond)
	next.Kill()
	// For how long the last node does not know yet, and in what words it fails
	// then, is Vault's; 503 it stays.
	require.Eventually(t, func() bool {
		for range 3 {
			if status, _ := ready(); status != 503 {
				return false
			}
			time.Sleep(time.Second) // for so long an answer is good
		}
		return true
	}, time.Minute, 10*time.Millisecond)
}

// isFault reports whether an error is one of KMS's own faults, which SDKs retry.
func isFault(err error) bool {
	var exception smithy.APIError
	if !errors.As(err, &exception) {
		return false
	}
	var status interface{ HTTPStatusCode() int }
	return (isType[types.KMSInternalException](err) || isType[types.DependencyTimeoutException](err)) &&
		errors.As(err, &status) && status.HTTPStatusCode() == 500
}

// safeLoad is what clients do all the time that changes nothing.
type safeLoad struct {
	keys   []string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	good   atomic.Int64
	failed chan error

	mu      sync.Mutex
	longest time.Duration // of a call, since it was last asked for
}

// newSafeLoad starts 32 clients whose SDK repeats nothing.
func newSafeLoad(t *testing.T, e *endpoint, token string) *safeLoad {
	t.Helper()
	l := &safeLoad{failed: make(chan error, 32)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	t.Cleanup(l.cancel)
	message, macs := []byte("pay 10 EUR"), map[string][]byte{}
	for range 4 {
		id, _ := create(t, e.client("", token))
		out, err := generate(e.client("", token), id, message)
		require.NoError(t, err)
		l.keys, macs[id] = append(l.keys, id), out.Mac
	}
	for i := range cap(l.failed) {
		client, id := e.client("", token), l.keys[i%len(l.keys)]
		operations := []func() error{
			func() error {
				out, err := generate(client, id, message)
				if err == nil && !bytes.Equal(out.Mac, macs[id]) {
					return errors.New("a wrong MAC")
				}
				return err
			},
			func() error { _, err := verify(client, id, message, macs[id]); return err },
			func() error {
				_, err := client.DescribeKey(context.Background(), &kms.DescribeKeyInput{KeyId: &id})
				return err
			},
			func() error {
				_, err := client.ListKeys(context.Background(), &kms.ListKeysInput{})
				return err
			},
		}
		l.wg.Go(func() {
			for round := i; l.ctx.Err() == nil; round++ {
				n := 0 // most of them are MACs
				if round%4 == 0 {
					n = round / 4 % len(operations)
				}
				start := time.Now()
				if err := operations[n](); err != nil {
					l.failed <- fmt.Errorf("operation %d: %w", n, err)
					return
				}
				l.good.Add(1)
				l.mu.Lock()
				l.longest = max(l.longest, time.Since(start))
				l.mu.Unlock()
			}
		})
	}
	return l
}

// change changes tags, each to another value, and returns a function that
// returns how often that has succeeded.
func (l *safeLoad) change(t *testing.T, client *kms.Client) func() int64 {
	var good atomic.Int64
	l.wg.Go(func() {
		for round := 0; l.ctx.Err() == nil; round++ {
			_, err := client.TagResource(context.Background(), &kms.TagResourceInput{
				KeyId: &l.keys[0], Tags: []types.Tag{{TagKey: aws.String("round"), TagValue: aws.String(fmt.Sprint("unique", round))}},
			})
			switch {
			case err == nil:
				good.Add(1)
			case !isFault(err):
				l.failed <- fmt.Errorf("a change: %w", err)
				return
			}
		}
	})
	return good.Load
}

// more waits until n more calls have succeeded, after something has happened.
func (l *safeLoad) more(t *testing.T, after string, n int64) {
	t.Helper()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Logf("%s: the longest call took %s", after, l.longest.Round(10*time.Millisecond))
		l.longest = 0
	}()
	before := l.good.Load()
	require.Eventually(t, func() bool { return l.good.Load() >= before+n || len(l.failed) > 0 }, time.Minute, time.Millisecond)
}

func (l *safeLoad) stop(t *testing.T) {
	t.Helper()
	l.cancel()
	l.wg.Wait()
	close(l.failed)
	for err := range l.failed {
		t.Error(err)
	}
	t.Logf("%d calls", l.good.Load())
}

// balancer is a load balancer before a cluster, of the simple kind: it sends
// each request to the next node, answers 502 for one that it cannot reach, and
// sends it nothing for some seconds.
type balancer struct {
	server *httptest.Server
	nodes  []*testvault.Server

	mu    sync.Mutex
	next  int
	until map[*testvault.Server]time.Time // which it could not reach
	sent  map[string]int                  // the bodies of changes
}

func newBalancer(t *testing.T, cluster *testvault.Cluster) *balancer {
	t.Helper()
	b := &balancer{nodes: cluster.Nodes, until: map[*testvault.Server]time.Time{}, sent: map[string]int{}}
	type nodeKey struct{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			node, _ := url.Parse(r.In.Context().Value(nodeKey{}).(*testvault.Server).Address)
			r.SetURL(node)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, _ error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.until[r.Context().Value(nodeKey{}).(*testvault.Server)] = time.Now().Add(5 * time.Second)
			w.WriteHeader(http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0),
	}
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), nodeKey{}, b.pick(string(body)))))
	}))
	t.Cleanup(b.server.Close)
	return b
}

func (b *balancer) pick(body string) *testvault.Server {
	b.mu.Lock()
	defer b.mu.Unlock()
	if strings.Contains(body, "unique") {
		b.sent[body]++
	}
	for range b.nodes {
		b.next++
		if node := b.nodes[b.next%len(b.nodes)]; time.Now().After(b.until[node]) {
			return node
		}
	}
	return b.nodes[b.next%len(b.nodes)]
}

func (b *balancer) changes() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sent
}

// killPlugin kills the process of the plugin of a Vault server.
func killPlugin(t *testing.T, server *testvault.Server) {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "ppid=,pid=,stat=").Output()
	require.NoError(t, err)
	killed := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != strconv.Itoa(server.Pid()) || strings.HasPrefix(fields[2], "Z") {
			continue
		}
		pid, err := strconv.Atoi(fields[1])
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		killed++
	}
	require.NotZero(t, killed, "Vault has no plugin")
}

// retries returns how many requests were repeated for a cause.
func retries(t *testing.T, registry *prometheus.Registry, cause string) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == "kms_gateway_retries_total" && m.Label[0].GetValue() == cause {
				counts[m.Label[1].GetValue()] += m.Counter.GetValue()
			}
		}
	}
	return counts
}
