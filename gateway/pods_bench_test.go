package gateway_test

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/gateway/session"
)

// BenchmarkPods compares 64 pods of one service account, each with a token of the
// platform and a session of its own, with 64 callers that have one session, and
// one plain Vault token. They take turns, and the medians of the turns count.
func BenchmarkPods(b *testing.B) {
	const pods, calls = 64, 50
	w := newWorld(b)
	w.direct = true
	w.write(b, "kms/keys/payments/k", map[string]any{"key_spec": "HMAC_256"})
	i := w.instance(b, byJWT, session.RandomKey(), func(c *gateway.Config) { c.Log = slog.New(slog.DiscardHandler) })
	address, err := url.Parse(i.url)
	require.NoError(b, err)
	each := make([]aws.Credentials, pods)
	for j := range each {
		file := tokenFile(b, w.issuer.token("account", time.Hour))
		each[j], err = i.environment(b, i.container("payments", file)).Credentials.Retrieve(b.Context())
		require.NoError(b, err)
	}
	same := func(c aws.Credentials) []aws.Credentials { return slices.Repeat([]aws.Credentials{c}, pods) }
	plain, err := w.vault.Token(b.Context(), "pods", `path "kms/generate-mac/payments/k" { capabilities = ["update", "patch"] }`)
	require.NoError(b, err)
	kinds := []struct {
		name    string
		callers []aws.Credentials
	}{
		{"pods", each},
		{"one-session", same(each[0])},
		{"one-token", same(aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any", SessionToken: plain})},
	}
	seconds := make([][]float64, len(kinds))
	for turn := 0; b.Loop(); turn++ {
		for n := range kinds {
			k := (turn + n) % len(kinds) // none is always the first
			kind := kinds[k]
			b.StopTimer()
			load := make([]*podLoad, pods)
			for j, c := range kind.callers {
				load[j] = newPodLoad(b, address.Host, i.url, c)
			}
			b.StartTimer()
			start := time.Now()
			var group errgroup.Group
			for _, l := range load {
				group.Go(func() error { return l.run(calls) })
			}
			require.NoError(b, group.Wait())
			seconds[k] = append(seconds[k], time.Since(start).Seconds())
		}
	}
	b.ReportMetric(0, "ns/op")
	for k, kind := range kinds {
		b.ReportMetric(pods*calls/median(seconds[k]), kind.name+"-calls/s")
	}
	for k, kind := range kinds[1:] {
		b.ReportMetric(median(seconds[k+1])/median(seconds[0]), "pods/"+kind.name)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// podLoad is a caller with one request, signed beforehand, on a connection.
type podLoad struct {
	connection net.Conn
	reader     *bufio.Reader
	request    []byte
}

func newPodLoad(b *testing.B, host, url string, c aws.Credentials) *podLoad {
	const body = `{"KeyId":"payments/k","Message":"bQ==","MacAlgorithm":"HMAC_SHA_256"}`
	var text bytes.Buffer
	require.NoError(b, signedRequest(b, url, body, c, "us-east-1", time.Now()).Write(&text))
	connection, err := net.Dial("tcp", host)
	require.NoError(b, err)
	b.Cleanup(func() { connection.Close() })
	return &podLoad{connection, bufio.NewReader(connection), text.Bytes()}
}

func (l *podLoad) run(calls int) error {
	for range calls {
		if _, err := l.connection.Write(l.request); err != nil {
			return err
		}
		response, err := http.ReadResponse(l.reader, nil)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return &programError{string(text)}
		}
	}
	return nil
}
