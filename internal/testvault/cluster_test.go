package testvault

import (
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestCluster shows that data outlives each way to lose the active node.
func TestCluster(t *testing.T) {
	c := RunCluster(t, Config{})
	ctx := t.Context()
	first, err := c.Active(ctx)
	check(t, err)
	check(t, first.Mount(ctx, "kv", api.MountInput{Type: "kv"}))
	check(t, first.Client().KVv1("kv").Put(ctx, "a", map[string]any{"answer": "42"}))

	reads := func(node *Server) {
		t.Helper()
		secret, err := node.Client().KVv1("kv").Get(ctx, "a")
		if err != nil || secret.Data["answer"] != "42" {
			t.Fatalf("got %v, %v", secret, err)
		}
	}

	second, err := c.StepDown(ctx)
	check(t, err)
	if second == first {
		t.Fatal("the node that stepped down is active")
	}
	reads(second)

	killed, third, err := c.KillActive(ctx)
	check(t, err)
	if killed != second || third == second {
		t.Fatalf("killed %s of %s, now active %s", killed.Address, second.Address, third.Address)
	}
	reads(third)

	check(t, killed.Restart(ctx))
	standbys, err := c.Standbys(ctx)
	check(t, err)
	if len(standbys) != 2 {
		t.Fatalf("%d standbys", len(standbys))
	}
	for _, node := range standbys {
		reads(node)
	}
}
