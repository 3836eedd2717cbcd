package testvault

import (
	"os/exec"
	"testing"

	"github.com/hashicorp/vault/api"
)

// logLines is how much of Vault's log a failed test shows.
const logLines = 60

// Run starts a server for the time of a test. With -short, which asks for tests
// that need nothing but Go, it skips the test instead.
func Run(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	skipIfShort(tb)
	s, err := Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatalf("starting Vault: %v", err)
	}
	tb.Cleanup(func() {
		showLog(tb, s)
		s.Stop()
	})
	return s
}

// RunEngine is [Run] with this repository's engine, compiled with the given
// version, registered and mounted at path.
func RunEngine(tb testing.TB, version, path string) *Server {
	tb.Helper()
	s := Run(tb, Config{Plugins: []Plugin{EngineFor(tb, version)}})
	if err := s.Mount(tb.Context(), path, api.MountInput{Type: EngineName}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// RunCluster starts a cluster of three servers for the time of a test.
func RunCluster(tb testing.TB, cfg Config) *Cluster {
	tb.Helper()
	skipIfShort(tb)
	c, err := StartCluster(tb.Context(), cfg, 3)
	if err != nil {
		tb.Fatalf("starting a Vault cluster: %v", err)
	}
	tb.Cleanup(func() {
		for _, node := range c.Nodes {
			showLog(tb, node)
		}
		c.Stop()
	})
	return c
}

// EngineFor is [Engine] for a test.
func EngineFor(tb testing.TB, version string) Plugin {
	tb.Helper()
	skipIfShort(tb)
	plugin, err := Engine(tb.Context(), version)
	if err != nil {
		tb.Fatal(err)
	}
	return plugin
}

// TokenFor is [Server.Token] for a test.
func (s *Server) TokenFor(tb testing.TB, policy, hcl string) string {
	tb.Helper()
	token, err := s.Token(tb.Context(), policy, hcl)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// NeedCommands skips a test where a command that it runs is not installed.
func NeedCommands(tb testing.TB, names ...string) {
	tb.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			tb.Skipf("%s is not installed", name)
		}
	}
}

func skipIfShort(tb testing.TB) {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs a real Vault server; run without -short")
	}
}

// showLog shows the end of a server's log if the test failed.
func showLog(tb testing.TB, s *Server) {
	if !tb.Failed() {
		return
	}
	log, err := s.Log()
	if err != nil {
		tb.Logf("reading the log of Vault at %s: %v", s.Address, err)
	}
	tb.Logf("the end of the log of Vault at %s:\n%s", s.Address, lastLines(log, logLines))
}
