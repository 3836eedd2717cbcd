package main

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestClient sends requests to net/http's server, which answers large bodies in
// chunks, as Vault does.
func TestClient(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789", 10000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			_, _ = w.Write(body)
		case "/large":
			_, _ = io.WriteString(w, large)
		default:
			http.Error(w, "no such thing", http.StatusNotFound)
		}
	}))
	defer server.Close()
	host := server.Listener.Addr().String()
	c, err := dial(host)
	require.NoError(t, err)
	defer c.close()

	c.keep = true
	require.NoError(t, c.do(httpRequest("POST", host, "/echo", "hello", "X-Any: thing")))
	require.Equal(t, "hello", c.body.String())
	require.NoError(t, c.do(httpRequest("POST", host, "/large", "")))
	require.Equal(t, large, c.body.String())
	c.keep = false
	require.NoError(t, c.do(httpRequest("POST", host, "/large", "")))
	require.NoError(t, c.do(httpRequest("POST", host, "/echo", "hello")))
	require.Empty(t, c.body.String())
	require.ErrorContains(t, c.do(httpRequest("POST", host, "/none", "")), "status 404: no such thing")
	require.NoError(t, c.do(httpRequest("POST", host, "/echo", "hello")))
}

func TestWorkload(t *testing.T) {
	t.Parallel()
	answer := `{"mac":"` + strings.Repeat("A", 43) + `="}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
	defer server.Close()
	host := server.Listener.Addr().String()
	w := &workload{name: "w", address: host, requests: [][]byte{httpRequest("POST", host, "/", "")}, macs: 1, answered: 1}
	require.NoError(t, w.look())

	m, err := w.run(t.Context(), 2, 50*time.Millisecond, func() cpuSeconds { return cpuSeconds{} })
	require.NoError(t, err)
	require.Positive(t, m.requests)
	require.Equal(t, m.requests, m.macs)
	require.LessOrEqual(t, m.percentile(50), m.percentile(99))

	w.answered = 2
	require.ErrorContains(t, w.look(), "the answer has 1 MACs instead of 2")
	server.Close()
	_, err = w.run(t.Context(), 2, time.Hour, func() cpuSeconds { return cpuSeconds{} })
	require.ErrorContains(t, err, "w, 2 clients: ")
}

// someResults are of two workloads, the second twice as fast but for one round.
func someResults() *results {
	s := section{
		id: "one", title: "Some", clients: []int{1, 16}, workloads: []*workload{{name: "slow"}, {name: "fast"}},
		goals: []goal{
			{workload: "fast", against: "slow", clients: 1, ratio: 1.9, lowerP99: true},
			{workload: "fast", against: "slow", clients: 16, ratio: 2.1},
			{workload: "fast", against: "slow", clients: 64, ratio: 1},
		},
	}
	r := newResults(s)
	for _, clients := range s.clients {
		for _, fast := range []int{2000, 500, 2000} {
			slow := &measurement{seconds: 1, macs: 1000, latencies: []time.Duration{time.Millisecond, 3 * time.Millisecond, 4 * time.Millisecond}}
			quick := &measurement{seconds: 1, macs: fast, latencies: []time.Duration{time.Millisecond, 2 * time.Millisecond}}
			quick.cpu.plugin = 0.5
			r.cells[cell{"slow", clients}] = append(r.cells[cell{"slow", clients}], slow)
			r.cells[cell{"fast", clients}] = append(r.cells[cell{"fast", clients}], quick)
		}
	}
	return r
}

func TestResults(t *testing.T) {
	t.Parallel()
	r := someResults()
	fast := r.rows()[1]
	require.Equal(t, cell{"fast", 1}, fast.cell)
	require.Equal(t, 2000.0, fast.throughput)
	require.Equal(t, spread{2, 0.5, 2}, fast.ratio)
	require.InDelta(t, 1.5/4500*10000, fast.cpu.plugin, 1e-9)

	verdicts := r.verdicts()
	require.Len(t, verdicts, 2, "64 clients were not measured")
	require.True(t, verdicts[0].met())
	require.False(t, verdicts[1].met())
	require.Contains(t, verdicts[1].String(), "NOT MET: fast, 16 clients: 2.00 (0.50–2.00) of slow, at least 2.10")
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o644))
	for range 2 { // writing again changes nothing more
		require.NoError(t, write(dir, []*results{someResults()}, "A machine."))
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NotContains(t, string(text), "old")
	require.Regexp(t, `(?s)^before\n.*A machine\..*\| fast \| 1 \| 2000 \|.*after\n$`, string(text))
	for _, name := range []string{"throughput.svg", "p99.svg"} {
		requireXML(t, filepath.Join(dir, name))
	}
	require.NoError(t, os.WriteFile(file, []byte("no marks"), 0o644))
	require.Error(t, write(dir, nil, ""))
}

func requireXML(t *testing.T, file string) {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	for decoder := xml.NewDecoder(f); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	c := &chart{lines: []chartLine{{values: []float64{900, 11800}}}}
	require.Equal(t, []float64{0, 2500, 5000, 7500, 10000, 12500}, c.ticks())
	c = &chart{log: true, lines: []chartLine{{values: []float64{2, 300}}}}
	require.Equal(t, []float64{1, 10, 100, 1000}, c.ticks())
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	got, err := numbers("64,1,64")
	require.NoError(t, err)
	require.Equal(t, []int{1, 64}, got)
	for _, bad := range []string{"", "0", "a", "1,"} {
		_, err := numbers(bad)
		require.Error(t, err, bad)
	}
}

// TestRun runs the whole program on a real Vault, briefly.
func TestRun(t *testing.T) {
	testvault.EngineFor(t, kmshmac.Version) // skips with -short
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	require.NoError(t, os.WriteFile(file, []byte(beginMark+endMark), 0o644))
	o := &options{
		rounds: 1, duration: 500 * time.Millisecond, clients: []int{1, 4}, keys: 100,
		only: regexp.MustCompile("^(one|keys|mounts)$"), workload: regexp.MustCompile(""), write: dir,
	}
	require.NoError(t, run(t.Context(), o))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, want := range []string{"Vault 1.", transitOne, emptyOne, engineOne, endpointOne, "100 keys"} {
		require.Contains(t, string(text), want)
	}
}

// TestRunInventory runs the measurement of inventories on a real Vault, briefly.
func TestRunInventory(t *testing.T) {
	testvault.EngineFor(t, kmshmac.Version) // skips with -short
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	require.NoError(t, os.WriteFile(file, []byte("before\n"+inventoryBegin+inventoryEnd), 0o644))
	require.NoError(t, run(t.Context(), &options{inventory: []int{10, 120}, rounds: 1, duration: 50 * time.Millisecond, write: dir}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	// 120 keys with an alias each take more calls than one page makes.
	require.Regexp(t, `\| 120 \| at first \| 500 \| ([2-9]|\d\d) \| [4-9]\d\d \|`, string(text))
	require.Regexp(t, `\| 120 \| again \| 100 \| [23] \| `, string(text))
	require.Regexp(t, `\n\| 64 \| \d+ \| .* \| \d+ \|\n`, string(text))
}
