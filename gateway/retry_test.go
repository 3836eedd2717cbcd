package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	pluginGone = "1 error occurred:\n\t* rpc error: code = Unavailable desc = error reading from server: EOF\n\n"

	hashBody = `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256"}`
)

// vaultFaults are answers of Vault 1.21 while its plugin or one of its nodes
// went down, and what load balancers say in its place.
var vaultFaults = []struct {
	cause  fault
	status int
	body   string
}{
	{faultPlugin, 500, jsonErrors("1 error occurred:\n\t* rpc error: code = Unavailable desc = error reading from server: EOF\n\n")},
	{faultPlugin, 500, jsonErrors("1 error occurred:\n\t* rpc error: code = Unavailable desc = error reading from server: read unix @->/tmp/plugin1244543001: read: connection reset by peer\n\n")},
	{faultPlugin, 500, jsonErrors("1 error occurred:\n\t* rpc error: code = Unavailable desc = connection error: desc = \"transport: error while dialing: dial unix /tmp/plugin1549799033: connect: connection refused\"\n\n")},
	{faultInternal, 500, jsonErrors("1 error occurred:\n\t* internal error\n\n")}, // the check before a POST
	{faultNoActive, 500, jsonErrors("local node not active but active cluster node not found")},
	{faultNoActive, 503, jsonErrors("no active Vault instance found")},
	{faultSealed, 503, jsonErrors("Vault is sealed")},
	{faultNoActive, 503, "<html><body><h1>503 Service Unavailable</h1>No server is available to handle this request.</body></html>"},
	{faultUnreachable, 502, "<html><head><title>502 Bad Gateway</title></head></html>"},
}

// noVaultFaults are failures that the same request would meet again, or that
// are nobody's fault. Some bear texts that callers chose.
var noVaultFaults = []struct {
	status int
	body   string
}{
	{500, jsonErrors(`1 error occurred:` + "\n\t* " + `reading "key/rpc error: code = Unavailable desc = x": the record is damaged` + "\n\n")},
	{500, jsonErrors("rpc error: code = Internal desc = grpc: error unmarshalling request")},
	{500, jsonErrors("1 error occurred:\n\t* context deadline exceeded\n\n")},
	{500, jsonErrors("local node not active but active cluster node not found, said the caller")},
	{400, jsonErrors("rpc error: code = Unavailable desc = a caller's words")},
	{400, jsonErrors("local node not active but active cluster node not found")},
	{403, jsonErrors("1 error occurred:\n\t* permission denied\n\n")},
	{404, `{"errors":[]}`},
	{404, jsonErrors(`no handler for route "kms/generate-mac/k". route entry not found.`)},
	{429, jsonErrors("rate limit quota exceeded")},
	{502, jsonErrors("upstream rate limited")},
	{503, jsonErrors("Vault server temporarily overloaded")},
	{503, jsonErrors("overloaded, try again later")},
	{504, "<html>Gateway Timeout</html>"},
}

func jsonErrors(text string) string {
	return string(appendObject(nil, object{{"errors", []string{text}}}))
}

func TestFaults(t *testing.T) {
	for _, f := range vaultFaults {
		require.Equal(t, f.cause, faultOf(newVaultError(f.status, []byte(f.body))), f.body)
	}
	for _, f := range noVaultFaults {
		require.Equal(t, noFault, faultOf(newVaultError(f.status, []byte(f.body))), f.body)
	}
	_, refused := refuse("KMSInternalException", "rpc error: code = Unavailable desc = x", "")
	require.Equal(t, noFault, faultOf(newVaultError(500, []byte(refused))), "what the engine refuses")

	late := os.ErrDeadlineExceeded
	require.Equal(t, faultUnreachable, faultOf(&net.OpError{Op: "dial", Err: late}), "a node that is not there")
	require.Equal(t, noFault, faultOf(&net.OpError{Op: "read", Err: late}), "a node that does not answer")
	for _, err := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, io.EOF, io.ErrUnexpectedEOF, errors.New("http2: client connection lost")} {
		require.Equal(t, faultUnreachable, faultOf(err))
	}
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, errRedirect, errTooLong, http.ErrSchemeMismatch} {
		require.Equal(t, noFault, faultOf(err))
	}
	require.Equal(t, noFault, faultOf(nil))

	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	vault, err := NewVault(server.URL, "", time.Minute)
	require.NoError(t, err)
	_, err = vault.do(t.Context(), vaultRequest{method: http.MethodGet, path: "x"})
	require.ErrorContains(t, err, "certificate")
	require.Equal(t, noFault, faultOf(err))
}

// failingOnce is a Vault that cannot serve the first request of each call but
// /ready.
func failingOnce(t *testing.T, status int, body string) *fakeVault {
	t.Helper()
	failed := map[string]bool{}
	var mu sync.Mutex
	return newFakeVault(t, func(c *vaultCall) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		id := c.header.Get("X-Correlation-Id") + c.header.Get("X-Test")
		switch {
		case c.path == "kms/ready":
			return 200, readyAnswer
		case !failed[id]:
			failed[id] = true
			return status, body
		}
		return 200, `{"request_id":"v-1","data":{"key_id":"k","mac":"AAAA","mac_valid":true,"grant_id":"g","grant_token":"t"}}`
	})
}

func retrying(wait time.Duration) func(*Config) {
	return func(c *Config) { c.RetryWait = wait }
}

// calling returns the requests for calls: no looks at /ready, no scrapes.
func (f *fakeVault) calling() []*vaultCall {
	return slices.DeleteFunc(f.all(), func(c *vaultCall) bool { return c.path == "kms/ready" || c.path == "sys/health" })
}

// TestRetry: whatever Vault says while it cannot serve, a MAC is made at the
// second attempt, and the log and the metric tell.
func TestRetry(t *testing.T) {
	for _, fault := range vaultFaults {
		f := failingOnce(t, fault.status, fault.body)
		var lines bytes.Buffer
		registry := prometheus.NewRegistry()
		g := newTestGateway(t, f.URL, retrying(time.Minute), func(c *Config) { c.Log, c.Registerer = testLog(&lines), registry })
		w := post(g, "/", "GenerateMac", hashBody)
		require.Equal(t, 200, w.status, w.body)
		require.Contains(t, lines.String(), `"attempts":2`)
		require.Equal(t, map[string]float64{string(fault.cause) + " answered": 1}, retriesIn(t, registry))
		calls := f.calling()
		require.Len(t, calls, 2, fault.body)
		require.Equal(t, calls[0].raw, calls[1].raw)
		require.Equal(t, calls[0].header, calls[1].header)

		lines.Reset()
		require.Equal(t, 500, post(g, "/", "EnableKey", `{"KeyId":"k"}`).status, "changes are made once")
		require.NotContains(t, lines.String(), "attempts")
		require.Len(t, f.calling(), 3)
	}
}

// retriesIn returns the metric of retries, by cause and result.
func retriesIn(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	counts := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "kms_gateway_retries_total" {
			for _, m := range family.Metric {
				counts[m.Label[0].GetValue()+" "+m.Label[1].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	return counts
}

func TestNoRetry(t *testing.T) {
	for _, fault := range noVaultFaults {
		f := failingOnce(t, fault.status, fault.body)
		g := newTestGateway(t, f.URL, retrying(time.Minute))
		require.NotEqual(t, 200, post(g, "/", "GetKeyPolicy", `{"KeyId":"k"}`).status, fault.body)
		require.Len(t, f.all(), 1, fault.body)
	}
	t.Run("off", func(t *testing.T) {
		f := failingOnce(t, 503, jsonErrors("Vault is sealed"))
		post(newTestGateway(t, f.URL), "/", "GenerateMac", hashBody).requireException(t, 500, "KMSInternalException", "Vault is sealed.")
		require.Len(t, f.all(), 1)
	})
}

// safeOperations is written out here a second time, so that no operation comes
// among them by accident.
var safeOperations = []string{
	"DescribeKey", "GenerateMac", "GenerateRandom", "GetKeyLastUsage", "GetKeyPolicy", "GetKeyRotationStatus", "GetPublicKey", "ListAliases", "ListGrants",
	"ListKeyPolicies", "ListKeyRotations", "ListKeys", "ListResourceTags", "ListRetirableGrants", "VerifyMac",
}

// TestSafeOperations: of each operation in the table, no request is made twice
// unless it changes nothing.
func TestSafeOperations(t *testing.T) {
	inputs := map[string]string{
		"GenerateMac":            hashBody,
		"VerifyMac":              `{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","Mac":"AAAA"}`,
		"GenerateRandom":         `{"NumberOfBytes":8}`,
		"ListRetirableGrants":    `{"RetiringPrincipal":"arn:aws:iam::111122223333:user/e"}`,
		"CreateKey":              `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`,
		"CreateAlias":            `{"AliasName":"alias/a","TargetKeyId":"k"}`,
		"UpdateAlias":            `{"AliasName":"alias/a","TargetKeyId":"k"}`,
		"DeleteAlias":            `{"AliasName":"alias/a"}`,
		"TagResource":            `{"KeyId":"k","Tags":[{"TagKey":"a","TagValue":"b"}]}`,
		"UntagResource":          `{"KeyId":"k","TagKeys":["a"]}`,
		"UpdateKeyDescription":   `{"KeyId":"k","Description":"d"}`,
		"CreateGrant":            `{"KeyId":"k","GranteePrincipal":"arn:aws:iam::111122223333:user/e","Operations":["GenerateMac"]}`,
		"RevokeGrant":            `{"KeyId":"k","GrantId":"` + strings.Repeat("ab", 32) + `"}`,
		"RetireGrant":            `{"KeyId":"arn:aws:kms:us-east-1:111122223333:key/k","GrantId":"` + strings.Repeat("ab", 32) + `"}`,
		"GetParametersForImport": `{"KeyId":"k","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`,
		"ImportKeyMaterial":      `{"KeyId":"k","ImportToken":"AAAA","EncryptedKeyMaterial":"AAAA","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`,
		"PutKeyPolicy":           `{"KeyId":"k","Policy":` + quoted(testARNs.defaultPolicy()) + `}`,
	}
	var asked []string
	for name := range operationTable {
		body := inputs[name]
		if body == "" {
			body = `{"KeyId":"k"}`
		}
		if name == "ListKeys" || name == "ListAliases" {
			body = `{}`
		}
		f := failingOnce(t, 500, jsonErrors(pluginGone))
		g := newTestGateway(t, f.URL, retrying(time.Minute))
		w := post(g, "/", name, body)
		if len(f.all()) > 0 {
			asked = append(asked, name)
		}
		bodies := map[string]int{}
		for _, c := range f.calling() {
			bodies[c.method+c.path+string(c.raw)]++
		}
		for request, n := range bodies {
			if n > 1 {
				require.Contains(t, safeOperations, name, "%s was made twice", request)
			}
		}
		if slices.Contains(safeOperations, name) {
			require.Contains(t, []int{200, 404}, w.status, "%s: %s", name, w.body)
		}
	}
	for name := range inputs {
		require.Contains(t, asked, name, "the input is no good")
	}
	for _, name := range []string{"CreateGrant", "RevokeGrant", "RetireGrant", "GenerateMac", "VerifyMac"} {
		f := failingOnce(t, 500, jsonErrors(pluginGone))
		g := newTestGateway(t, f.URL, retrying(time.Minute))
		w := post(g, "/", name, strings.TrimSuffix(inputs[name], "}")+`,"DryRun":true}`)
		require.Equal(t, 200, w.status, "%s with DryRun: %s", name, w.body)
		require.Len(t, f.calling(), 2)
	}
}

// TestRetryOnce: one repetition for each call, however many requests it makes;
// what fails again is KMS's exception.
func TestRetryOnce(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		switch {
		case c.path == "kms/ready":
			return 200, readyAnswer
		case c.query == "": // the list of a folder has a query
			return 200, readyAnswer
		case strings.HasSuffix(c.path, "/") && strings.Contains(c.path, "a"):
			return 500, jsonErrors(pluginGone)
		}
		return 200, `{"data":{"keys":["a/","b/"]}}`
	})
	g := newTestGateway(t, f.URL, retrying(time.Minute))
	w := post(g, "/", "ListKeys", `{}`)
	w.requireException(t, 500, "KMSInternalException", "The secrets engine's process has ended, and Vault starts another. Try again in a few seconds.")
	require.Len(t, f.calling(), 3)

	// Calls that share a request share its repetition. A policy that lets single
	// messages through only is found out in the repetition, and no single one is
	// repeated then.
	var mu sync.Mutex
	tries := map[int]int{}
	f = newFakeVault(t, func(c *vaultCall) (int, string) {
		if c.path == "kms/ready" {
			return 200, readyAnswer
		}
		mu.Lock()
		defer mu.Unlock()
		n := strings.Count(string(c.raw), ",")
		tries[n]++
		if n > 1 && tries[n] > 1 {
			return errorsOnly(403, "1 error occurred:\n\t* permission denied\n\n")
		}
		return 500, jsonErrors(pluginGone)
	})
	g = newTestGateway(t, f.URL, retrying(time.Minute))
	group := macGroup{token: "t", key: "k", algorithm: "HMAC_SHA_256"}
	calls := []macRequest{{message: []byte("AAAA")}, {message: []byte("AAAA")}, {message: []byte("AAAA")}}
	for _, a := range g.sendMacs(t.Context(), group, calls[:1]) {
		require.Error(t, a.err)
	}
	require.Len(t, f.calling(), 2)
	answers := g.sendMacs(t.Context(), group, calls)
	require.Len(t, answers, 3)
	for _, a := range answers {
		require.Equal(t, faultPlugin, faultOf(a.err))
	}
	require.Len(t, f.calling(), 2+1+len(macRoutes)+3)
}

// unstable is a Vault in this process that cannot serve at times.
type unstable struct {
	mu    sync.Mutex
	down  bool
	looks int
	at    []time.Time // of each request but looks
}

func (u *unstable) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/ready") {
		u.looks++
	} else {
		u.at = append(u.at, time.Now())
	}
	if u.down {
		return nil, syscall.ECONNREFUSED
	}
	body := `{"data":{"secrets_engine":"kms-hmac","key_id":"k","mac":"AAAA"}}`
	return &http.Response{StatusCode: 200, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}, nil
}

func (u *unstable) set(down bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down, u.looks, u.at = down, 0, nil
}

// reads has n callers describe a key, each with a context of its own, and
// returns how long they took and what they got.
func reads(t *testing.T, g *Gateway, n int, ctx context.Context) (took []time.Duration, statuses map[int]int) {
	t.Helper()
	took, statuses = make([]time.Duration, n), map[int]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/", strings.NewReader(`{"KeyId":"k"}`))
			r.Header = http.Header{"X-Amz-Target": {"TrentService.DescribeKey"}, "Authorization": {testAuthorization}, "X-Amz-Security-Token": {"t0ken"}}
			w := httptest.NewRecorder()
			start := time.Now()
			g.ServeHTTP(w, r)
			mu.Lock()
			defer mu.Unlock()
			took[i] = time.Since(start)
			statuses[w.Code]++
		})
	}
	wg.Wait()
	return took, statuses
}

// TestRetryWaits: how long calls wait for Vault, what they cost it meanwhile and
// when it is back, and that they wait once only for one that stays away.
func TestRetryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 500
		u := &unstable{}
		g, err := New(Config{Vault: NewVaultOver(u, 15*time.Second), Mount: "kms", ARNs: testARNs, MaxBody: 1 << 20, MaxConcurrency: 4096, RetryWait: 8 * time.Second})
		require.NoError(t, err)

		// Away for three seconds.
		u.set(true)
		start := time.Now()
		time.AfterFunc(3*time.Second, func() { u.mu.Lock(); u.down = false; u.mu.Unlock() })
		took, statuses := reads(t, g, n, t.Context())
		require.Equal(t, map[int]int{200: n}, statuses)
		require.Less(t, slices.Max(took), 3*time.Second+2*lookEvery+maxSpread)
		require.Len(t, u.at, 2*n)
		require.LessOrEqual(t, u.looks, int(3*time.Second/(lookEvery/2))+1)
		second := u.at[n:]
		require.False(t, second[0].Before(start.Add(3*time.Second)), "not before it is back")
		for i := range second[:n-n/5] {
			require.Greater(t, second[i+n/5].Sub(second[i]), time.Duration(n/5)*spreadEach/2, "all at once")
		}

		// Callers who do not wait that long.
		u.set(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		took, _ = reads(t, g, n, ctx)
		cancel()
		require.LessOrEqual(t, slices.Max(took), time.Second)
		require.Len(t, u.at, n)

		// Away for good: who comes now waits for what is left of the time, and who
		// comes then does not wait.
		took, statuses = reads(t, g, n, t.Context())
		require.Equal(t, map[int]int{500: n}, statuses)
		require.Less(t, slices.Max(took), 7*time.Second+2*lookEvery)
		u.set(true)
		for range 50 {
			took, statuses = reads(t, g, 10, t.Context())
			require.Equal(t, map[int]int{500: 10}, statuses)
			require.Zero(t, slices.Max(took))
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, u.looks, 6)
		require.Len(t, u.at, 500)

		// Back: the next time, it is waited for again.
		u.set(false)
		_, statuses = reads(t, g, 1, t.Context())
		require.Equal(t, map[int]int{200: 1}, statuses)
		u.set(true)
		time.AfterFunc(2*time.Second, func() { u.set(false) })
		_, statuses = reads(t, g, n, t.Context())
		require.Equal(t, map[int]int{200: n}, statuses)

		// A look finds it back even where nobody succeeded in between.
		u.set(true)
		took, _ = reads(t, g, 1, t.Context())
		require.GreaterOrEqual(t, took[0], 8*time.Second)
		time.Sleep(downLook)
		g.retries.serves = func(context.Context) error { u.set(false); return nil }
		_, statuses = reads(t, g, 1, t.Context())
		require.Equal(t, map[int]int{200: 1}, statuses)

		// The wait leaves a third of Vault's time limit to the repetition.
		g.retries.wait, g.retries.serves = time.Hour, g.Ready
		u.set(true)
		took, _ = reads(t, g, 1, t.Context())
		require.Less(t, took[0], 10*time.Second+2*lookEvery)
		require.GreaterOrEqual(t, took[0], 10*time.Second)
	})
}

// TestRetryTakesFreshConnections: a name of Vault that leads to several nodes
// leads to the good one after the bad, though the bad one goes on answering.
func TestRetryTakesFreshConnections(t *testing.T) {
	var mu sync.Mutex
	bad := map[string]bool{}
	f := newFakeVault(t, nil)
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if len(bad) == 0 {
			bad[r.RemoteAddr] = true
		}
		if bad[r.RemoteAddr] { // behind this connection, there is a sealed node
			w.WriteHeader(503)
			_, _ = io.WriteString(w, jsonErrors("Vault is sealed"))
			return
		}
		_, _ = io.WriteString(w, `{"data":{"secrets_engine":"kms-hmac","key_id":"k","mac":"AAAA"}}`)
	})
	g := newTestGateway(t, f.URL, retrying(time.Minute))
	require.Equal(t, 200, post(g, "/", "GenerateMac", hashBody).status)
}

// TestSilentNode: a node that falls silent and closes no connection is given up,
// with the calls under way on its one HTTP/2 connection made on another.
func TestSilentNode(t *testing.T) {
	t.Parallel()
	vault := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		_, _ = io.WriteString(w, `{"data":{"secrets_engine":"kms-hmac","key_id":"k","mac":"AAAA"}}`)
	}))
	vault.EnableHTTP2 = true
	vault.StartTLS()
	defer vault.Close()
	relay := newRelay(t, vault.Listener.Addr().String())
	client, err := NewVault("https://"+relay.listener.Addr().String(), "", time.Hour)
	require.NoError(t, err)
	client.http.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true
	response, err := client.roundTrip(t.Context(), vaultRequest{method: http.MethodGet, path: "kms/ready"})
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, "HTTP/2.0", response.Header.Get("X-Proto"))

	registry := prometheus.NewRegistry()
	g := newTestGateway(t, "http://127.0.0.1:1", retrying(time.Minute), func(c *Config) { c.Vault, c.Registerer = client, registry })
	require.Equal(t, 200, post(g, "/", "GenerateMac", hashBody).status)
	relay.silence()
	_, statuses := reads(t, g, 10, t.Context())
	require.Equal(t, map[int]int{200: 10}, statuses)
	require.Equal(t, map[string]float64{"unreachable answered": 10}, retriesIn(t, registry))
}

// TestSilentNodeHTTP1: where each call has a connection of its own, the first
// that gets no answer takes all connections to the node with it.
func TestSilentNodeHTTP1(t *testing.T) {
	t.Parallel()
	const n = 20
	var arrived sync.WaitGroup
	arrived.Add(n)
	vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/together" { // so that there are n connections
			arrived.Done()
			arrived.Wait()
		}
		_, _ = io.WriteString(w, `{"data":{"secrets_engine":"kms-hmac","key_id":"k","mac":"AAAA"}}`)
	}))
	defer vault.Close()
	relay := newRelay(t, vault.Listener.Addr().String())
	client, err := NewVault("http://"+relay.listener.Addr().String(), "", 3*time.Second)
	require.NoError(t, err)
	g := newTestGateway(t, "http://127.0.0.1:1", retrying(time.Minute), func(c *Config) { c.Vault = client })
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { _, _ = client.do(t.Context(), vaultRequest{method: http.MethodGet, path: "together"}) })
	}
	wg.Wait()
	relay.silence()
	post(g, "/", "GenerateMac", hashBody).requireException(t, 500, "DependencyTimeoutException", "Vault did not answer in time.")
	for range n {
		require.Equal(t, 200, post(g, "/", "GenerateMac", hashBody).status)
	}
}

// relay passes on what connections send, until it falls silent for those there
// are.
type relay struct {
	listener net.Listener

	mu     sync.Mutex
	silent chan struct{}
}

func newRelay(t *testing.T, address string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	r := &relay{listener: listener, silent: make(chan struct{})}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", address)
			if err != nil {
				in.Close()
				continue
			}
			t.Cleanup(func() { in.Close(); out.Close() })
			r.mu.Lock()
			silent := r.silent
			r.mu.Unlock()
			go pass(in, out, silent)
			go pass(out, in, silent)
		}
	}()
	return r
}

func pass(to, from net.Conn, silent chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-silent:
		default:
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

func (r *relay) silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.silent)
	r.silent = make(chan struct{})
}

// TestOverload: the client is told to slow down.
func TestOverload(t *testing.T) {
	f := newFakeVault(t, func(*vaultCall) (int, string) { return errorsOnly(503, "overloaded, try again later") })
	w := post(newTestGateway(t, f.URL), "/", "GenerateMac", hashBody)
	require.Contains(t, w.body, kms.Throttled().Type)
}
