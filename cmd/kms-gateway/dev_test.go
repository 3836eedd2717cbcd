package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

func TestDev(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://127.0.0.1:1") // nobody: it must not be asked
	keys := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(keys, []byte(`{"keys":[{"key_id":"k","aliases":["alias/a"]}]}`), 0o600))
	p := start(t, 1, "-dev", "-dev-keys", keys, "-dev-clock", "2026-01-02T03:04:05Z")
	status, text, err := enableKey(t, http.DefaultClient, "http://"+p.addresses[0])
	require.NoError(t, err)
	require.Equal(t, 200, status, text)
	response, err := http.Get("http://" + p.addresses[0] + "/dev/clock")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"now":"2026-01-02T03:04:05Z","fixed":true}`, string(body))
}

func TestDevUsage(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.json")
	require.NoError(t, os.WriteFile(keys, []byte(`{"keys":[{"key_spec":"RSA_2048"}]}`), 0o600))
	for refusal, args := range map[string][]string{
		"for -dev":           {"-dev-clock", "2026-01-02T03:04:05Z"},
		"no -vault-addr":     {"-dev", "-vault-addr", "http://127.0.0.1:1"},
		"-mount":             {"-dev", "-mount", "other"},
		"is not loopback":    {"-dev", "-listen", "0.0.0.0:0"},
		`":0" is not`:        {"-dev", "-listen", ":0"},
		"\"[::]:0\" is not":  {"-dev", "-listen", "[::]:0"},
		"\"example:0\" is":   {"-dev", "-listen", "example:0"},
		"parsing time":       {"-dev", "-dev-clock", "today"},
		"no such file":       {"-dev", "-dev-keys", filepath.Join(t.TempDir(), "none")},
		"must be one of":     {"-dev", "-dev-keys", keys},
		"years from 1970":    {"-dev", "-dev-clock", "0001-01-01T00:00:00Z"},
		"invalid character ": {"-dev", "-dev-keys", "dev_test.go"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"-listen", "127.0.0.1:0"}, args...), io.Discard, &out)
		require.Error(t, err)
		require.Contains(t, out.String()+err.Error(), refusal)
	}
	for _, address := range []string{"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"} {
		require.True(t, isLoopback(address), address)
	}
	start(t, 1, "-dev", "-listen", "0.0.0.0:0", "-dev-allow-remote")

	for delay, args := range map[time.Duration][]string{
		0: {"-dev"}, time.Second: {"-dev", "-shutdown-delay", "1s"}, 5 * time.Second: {},
	} {
		o := newOptions(io.Discard)
		require.NoError(t, o.parse(args))
		require.Equal(t, delay, o.shutdownDelay)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	var out bytes.Buffer
	require.NoError(t, run(ended, []string{"-dev", "-listen", "127.0.0.1:0", "-log-level", "error"}, io.Discard, &out))
	require.True(t, strings.HasPrefix(out.String(), devWarning), "at every level of the log")
	require.Regexp(t, `^Programs find it by AWS_ENDPOINT_URL_KMS=http://\S+ AWS_REGION=us-east-1, with any credentials.\n$`, strings.TrimPrefix(out.String(), devWarning))
}

// maxDevMemory is what a KMS for tests may cost, in megabytes.
const maxDevMemory = 40

// TestDevMemory: a KMS in the tests of others must not be a load on them.
func TestDevMemory(t *testing.T) {
	d := startDev(t)
	d.call(t)
	megabytes := d.memory(t)
	d.end(t)
	require.Less(t, megabytes, float64(maxDevMemory))
}

// BenchmarkDev measures what it costs to have a KMS in tests: the time from the
// start of the process until it has answered a call, and the memory that it
// then has, with ten keys.
func BenchmarkDev(b *testing.B) {
	var memory float64
	for b.Loop() {
		d := startDev(b)
		d.call(b)
		b.StopTimer()
		memory += d.memory(b)
		d.end(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ready-ms")
	b.ReportMetric(memory/float64(b.N), "MB")
}

// devProcess is kms-gateway -dev as a process of its own.
type devProcess struct {
	cmd     *exec.Cmd
	address string
}

// startDev starts a process with ten keys.
func startDev(tb testing.TB) *devProcess {
	tb.Helper()
	program, err := testvault.Build(tb.Context(), testvault.GatewayPackage)
	require.NoError(tb, err)
	keys := filepath.Join(tb.TempDir(), "keys.json")
	require.NoError(tb, os.WriteFile(keys, []byte(`{"keys":[{"key_id":"k"}`+strings.Repeat(`,{}`, 9)+`]}`), 0o600))
	address := freeAddress(tb)
	d := &devProcess{exec.Command(program, "-dev", "-listen", address, "-dev-keys", keys), address}
	require.NoError(tb, d.cmd.Start())
	return d
}

// call makes a call once the process listens.
func (d *devProcess) call(tb testing.TB) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		connection, err := net.Dial("tcp", d.address)
		if err == nil {
			connection.Close()
			break
		}
		require.True(tb, time.Now().Before(deadline), "it does not start")
	}
	request, err := http.NewRequest(http.MethodPost, "http://"+d.address, strings.NewReader(`{"KeyId":"k","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`))
	require.NoError(tb, err)
	request.Header = http.Header{
		"X-Amz-Target":  {"TrentService.GenerateMac"},
		"Authorization": {"AWS4-HMAC-SHA256 Credential=A/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00"},
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(tb, err)
	response.Body.Close()
	require.Equal(tb, 200, response.StatusCode)
}

// memory is the most memory that the process has had, in megabytes; zero where
// that is not known.
func (d *devProcess) memory(tb testing.TB) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes float64
	_, err = fmt.Sscanf(rest, "%f kB", &kilobytes)
	require.NoError(tb, err)
	return kilobytes / 1000
}

func (d *devProcess) end(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, d.cmd.Process.Kill())
	_ = d.cmd.Wait() // it was killed
}
