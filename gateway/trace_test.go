package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func TestForwardedFor(t *testing.T) {
	for name, test := range map[string]struct {
		remote  string
		earlier []string
		want    string
	}{
		"direct":       {"192.0.2.1:1234", nil, "192.0.2.1"},
		"IPv6":         {"[2001:db8::1]:1234", nil, "2001:db8::1"},
		"a zone":       {"[fe80::1%eth0]:1234", nil, "fe80::1"},
		"a proxy":      {"192.0.2.1:1234", []string{"203.0.113.7"}, "203.0.113.7, 192.0.2.1"},
		"proxies":      {"192.0.2.1:1234", []string{"203.0.113.7, 203.0.113.8", "203.0.113.9"}, "203.0.113.7, 203.0.113.8, 203.0.113.9, 192.0.2.1"},
		"too long":     {"192.0.2.1:1234", []string{strings.Repeat("x", maxForwarded+1)}, "192.0.2.1"},
		"too many":     {"192.0.2.1:1234", []string{strings.Repeat("x", maxForwarded), "y"}, "192.0.2.1"},
		"no addresses": {"@", nil, "@"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.RemoteAddr = test.remote
			if test.earlier != nil {
				r.Header["X-Forwarded-For"] = test.earlier
			}
			require.Equal(t, test.want, forwardedFor(r))
		})
	}
}

const macData = `{"request_id":"v-1","data":{"key_id":"payments/tokens-2026","mac":"AAAA"}}`

// TestCallsAreFoundInVault: the requests for a call bear its id, its client's
// address and this program's version, and its line in the log bears Vault's id.
func TestCallsAreFoundInVault(t *testing.T) {
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		if strings.HasPrefix(c.path, "kms/generate-mac/denied") {
			return errorsOnly(403, "permission denied")
		}
		return 200, macData
	})
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, f.URL, func(c *Config) { c.Log, c.Registerer = testLog(&log), registry })
	g.vault.SetVersion("v1.2.3")

	w := post(g, "/payments", "GenerateMac", `{"KeyId":"alias/x","Message":"AAAA","MacAlgorithm":"HMAC_SHA_256"}`, "X-Forwarded-For", "203.0.113.7")
	require.Equal(t, 200, w.status, w.body)
	header := f.last(t).header
	require.Equal(t, "kms-gateway/v1.2.3", header.Get("User-Agent"))
	require.Equal(t, "203.0.113.7, 192.0.2.1", header.Get("X-Forwarded-For"))
	require.Equal(t, w.requestID(), header.Get("X-Correlation-Id"))
	line := lastLine(t, &log)
	require.Equal(t, w.requestID(), line["request_id"])
	require.Equal(t, "v-1", line["vault_request_id"])
	require.Equal(t, "alias/payments/x", line["alias"])
	require.Equal(t, "payments/tokens-2026", line["key"])
	require.NotContains(t, line, "shared_request_id")
	require.Less(t, line["vault_ms"], line["ms"])

	// All requests of a call that needs a grant are its.
	w = post(g, "/", "GenerateMac", `{"KeyId":"denied","Message":"AAAA","MacAlgorithm":"HMAC_SHA_256"}`)
	require.Equal(t, 200, w.status, w.body)
	calls := f.all()
	require.Len(t, calls, 4)
	for _, c := range calls[1:] {
		require.Equal(t, w.requestID(), c.header.Get("X-Correlation-Id"), c.path)
	}

	// So are those of any other operation.
	w = post(g, "/", "DisableKey", `{"KeyId":"payments/tokens"}`)
	require.Equal(t, 200, w.status, w.body)
	require.Equal(t, w.requestID(), f.last(t).header.Get("X-Correlation-Id"))
	line = lastLine(t, &log)
	require.Equal(t, "payments/tokens", line["key"])
	require.Equal(t, "v-1", line["vault_request_id"])

	// What names no key has none in the log.
	post(g, "/", "DisableKey", `{"KeyId":"not a key"}`)
	require.NotContains(t, lastLine(t, &log), "key")

	counts := map[string]uint64{}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.Metric {
			if h := m.Histogram; h != nil {
				counts[family.GetName()] += h.GetSampleCount()
			}
		}
	}
	require.Equal(t, map[string]uint64{
		"kms_gateway_call_duration_seconds": 4, "kms_gateway_own_duration_seconds": 4,
		"kms_gateway_vault_request_duration_seconds": 5, "kms_gateway_shared_calls": 2,
	}, counts)
}

func lastLine(t *testing.T, log *bytes.Buffer) (line map[string]any) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &line))
	return line
}

// TestSharedRequestsAreFound: calls that share a request have the id of the
// first of them in common, and calls from different addresses share none, since
// Vault may have bound their token to one of them.
func TestSharedRequestsAreFound(t *testing.T) {
	entered, release := make(chan *vaultCall), make(chan struct{})
	f := newFakeVault(t, func(c *vaultCall) (int, string) {
		entered <- c
		<-release
		if text, ok := c.body["messages"].(string); ok {
			n := strings.Count(text, ",")
			return 200, `{"request_id":"v-shared","data":{"key_id":"k","macs":"` + strings.Repeat("AAAA,", n) + `AAAA"}}`
		}
		return 200, macData
	})
	g := newTestGateway(t, f.URL)
	answers := make(chan macAnswer, 10)
	ask := func(id, from string) {
		group := macGroup{token: "t", from: from, key: "k", algorithm: "HMAC_SHA_256"}
		answers <- g.macs.do(context.Background(), group, macRequest{message: []byte("AAAA"), requestID: id, from: from})
	}
	go ask("first", "192.0.2.1")
	require.Equal(t, "first", (<-entered).header.Get("X-Correlation-Id"))
	for _, id := range []string{"second", "third"} {
		go ask(id, "192.0.2.1")
		require.Eventually(t, func() bool {
			g.macs.mu.Lock()
			defer g.macs.mu.Unlock()
			waiting := g.macs.groups[macGroup{token: "t", from: "192.0.2.1", key: "k", algorithm: "HMAC_SHA_256"}].waiting
			return len(waiting) > 0 && waiting[len(waiting)-1].request.requestID == id
		}, time.Minute, time.Millisecond)
	}
	go ask("elsewhere", "192.0.2.2")
	require.Equal(t, "192.0.2.2", (<-entered).header.Get("X-Forwarded-For"))
	close(release)
	shared := <-entered
	require.Equal(t, "second", shared.header.Get("X-Correlation-Id"))
	require.Equal(t, "192.0.2.1", shared.header.Get("X-Forwarded-For"))
	got := map[string]int{}
	for range 4 {
		a := <-answers
		require.NoError(t, a.err)
		got[a.correlation+" "+a.vaultID]++
	}
	require.Equal(t, map[string]int{"first v-1": 1, "elsewhere v-1": 1, "second v-shared": 2}, got)
}

// Vault may take a token from some addresses only, so each request for a call
// says from where it comes, also those that are not to the mount.
func TestEachRequestSaysFromWhere(t *testing.T) {
	f := denying(t, http.StatusForbidden)
	for operation, input := range map[string]string{
		"GenerateRandom": `{"NumberOfBytes":16}`,
		"GenerateMac":    macBody,
		"ListKeys":       `{}`,
		"CreateGrant":    `{"KeyId":"k","GranteePrincipal":"arn:aws:iam::111122223333:role/r","Operations":["GenerateMac"]}`,
	} {
		before := len(f.all())
		post(newTestGateway(t, f.URL), "/", operation, input, "X-Forwarded-For", "203.0.113.7")
		calls := f.all()[before:]
		require.NotEmpty(t, calls, operation)
		for _, c := range calls {
			require.Equal(t, "203.0.113.7, 192.0.2.1", c.header.Get("X-Forwarded-For"), "%s: %s", operation, c.path)
			require.Equal(t, c.path == whoAmI, c.header.Get("X-Correlation-Id") == "", "%s: %s", operation, c.path)
		}
	}
	require.NotZero(t, f.asked())
}
