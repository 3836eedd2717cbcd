package testvault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestServer walks one server through its life. It is one test because a start
// costs more than everything done here.
func TestServer(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "of the caller")
	t.Setenv("VAULT_NAMESPACE", "of-the-caller")
	t.Setenv("VAULT_WRAP_TTL", "1m")
	s := Run(t, Config{})
	ctx := t.Context()
	audit := filepath.Join(t.TempDir(), "audit.log")
	check(t, s.EnableAudit(ctx, audit))
	check(t, s.Mount(ctx, "kv", api.MountInput{Type: "kv"}))
	check(t, s.Client().KVv1("kv").Put(ctx, "a", map[string]any{"answer": "42"}))

	reads := func(what string) {
		t.Helper()
		secret, err := s.Client().KVv1("kv").Get(ctx, "a")
		if err != nil || secret.Data["answer"] != "42" {
			t.Fatalf("%s: got %v, %v", what, secret, err)
		}
	}
	reads("at first")

	check(t, s.Seal(ctx))
	if _, err := s.Client().KVv1("kv").Get(ctx, "a"); err == nil {
		t.Fatal("a sealed server answered")
	}
	check(t, s.Unseal(ctx))
	reads("after seal and unseal")

	before := s.Pid()
	check(t, s.Restart(ctx))
	reads("after a restart")
	if s.Pid() == before {
		t.Error("a restart kept the process")
	}

	s.Kill()
	if s.Running() {
		t.Error("a killed server runs")
	}
	check(t, s.Restart(ctx))
	reads("after a kill")

	token := s.TokenFor(t, "reader", `path "kv/a" { capabilities = ["read"] }`)
	got, err := s.VaultAs(ctx, token, "read", "-field=answer", "kv/a")
	check(t, err)
	if want := (Result{Stdout: "42"}); got != want {
		t.Errorf("allowed: got %+v, want %+v", got, want)
	}
	got, err = s.VaultAs(ctx, token, "write", "kv/a", "answer=43")
	check(t, err)
	if got.ExitCode != 2 || !strings.Contains(got.Stderr, "permission denied") {
		t.Errorf("denied: got %+v", got)
	}

	text, err := os.ReadFile(audit)
	check(t, err)
	if !strings.Contains(string(text), `"kv/a"`) {
		t.Errorf("the audit file has no request for kv/a:\n%s", text)
	}
	log, err := s.Log()
	check(t, err)
	if !strings.Contains(log, "vault is unsealed") {
		t.Errorf("unexpected log:\n%s", log)
	}

	s.Stop()
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("Stop left %s behind: %v", s.dir, err)
	}
}

// TestStartReportsFailure shows that a server that cannot start says why.
func TestStartReportsFailure(t *testing.T) {
	skipIfShort(t)
	_, err := Start(t.Context(), Config{LogLevel: "shout"})
	if err == nil || !strings.Contains(err.Error(), "shout") {
		t.Errorf("got %v", err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
