package acceptance

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestFailover loses the active node of a cluster time and again, by step-down
// and by a kill, while clients make MACs. Before each loss the state of keys and
// aliases changes, so that a node that served before would answer wrongly from
// what it remembers.
func TestFailover(t *testing.T) {
	t.Parallel()
	cluster := testvault.RunCluster(t, testvault.Config{Plugins: []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)}})
	active, err := cluster.Active(t.Context())
	must(t, err)
	i := stock(t, mountAt(t, active, "kms"))
	message := someMessage()
	for _, id := range []string{"ha/a", "ha/b", "ha/switch"} {
		i.m.newKey(t, id, hmac256)
	}
	macs := map[string]string{"ha/a": i.m.mac(t, "ha/a", hmac256, message), "ha/b": i.m.mac(t, "ha/b", hmac256, message)}
	i.m.write(t, "aliases/ha/current", body{"target_key_id": "ha/a"})

	var wrong atomic.Value
	stop := underLoad(t, 4, func(ctx context.Context) (bool, error) {
		err := retrying(ctx, cluster, func(m mount) (answer, error) {
			return m.request(ctx, "POST", "generate-mac/alias/ha/current", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
		}, func(a answer) error {
			id, _ := a.Data["key_id"].(string)
			if a.status != 200 || macs[id] == "" || a.Data["mac"] != macs[id] {
				return fmt.Errorf("status %d, %v, %q", a.status, a.Data, a.Errors)
			}
			return nil
		})
		if err != nil && ctx.Err() == nil {
			wrong.Store(err)
		}
		return err == nil, err
	})

	served := map[*testvault.Server]int{active: 1}
	lose := []func() *testvault.Server{
		func() *testvault.Server { return stepDown(t, cluster) },
		func() *testvault.Server {
			killed, next, err := cluster.KillActive(t.Context())
			must(t, err)
			// The writes that follow are made while it is away.
			changes(t, mount{next, "kms", next.RootToken}, message, 1)
			must(t, killed.Restart(t.Context()))
			_, err = cluster.Standbys(t.Context())
			must(t, err)
			return next
		},
		func() *testvault.Server { return stepDown(t, cluster) },
		func() *testvault.Server { return stepDown(t, cluster) },
	}
	for round, loseActive := range lose {
		changes(t, i.m, message, round)
		active = loseActive()
		served[active]++
		i.m.server = active
		i.check(t)
		changed(t, i.m, message, round)

		// And through a node that only passes requests on.
		standbys, err := cluster.Standbys(t.Context())
		must(t, err)
		through := i.m
		through.server = standbys[round%len(standbys)]
		eventually(t, "a standby to pass requests on", func() bool {
			a, err := through.request(t.Context(), "GET", "config", nil)
			return err == nil && a.status == 200
		})
		changed(t, through, message, round)
		through.newKey(t, fmt.Sprintf("ha/round-%d", round), hmac256)
		i.m.mac(t, fmt.Sprintf("ha/round-%d", round), hmac256, message)
	}
	good, bad := stop()
	if err, _ := wrong.Load().(error); err != nil || good == 0 || bad > 0 {
		t.Errorf("%d MACs made, %d not: %v", good, bad, err)
	}
	again := false
	for _, times := range served {
		again = again || times > 1
	}
	if !again {
		t.Error("no node was active twice, so this has shown nothing about what a node remembers")
	}
	lastUseSurvives(t, cluster)
	givenUp(t, cluster)
}

// lastUseSurvives steps down between a use that is not the first, so that it is
// not stored at once, and the question when the key was used.
func lastUseSurvives(t *testing.T, cluster *testvault.Cluster) {
	t.Helper()
	active, err := cluster.Active(t.Context())
	must(t, err)
	m := mount{active, "kms", active.RootToken}
	m.newKey(t, "used/key", hmac256)
	m.mac(t, "used/key", hmac256, []byte("m"))
	first := m.read(t, "get-key-last-usage/used/key")["key_last_usage"].(body)["timestamp"]
	eventually(t, "time to pass", func() bool {
		m.mac(t, "used/key", hmac256, []byte("m"))
		return m.read(t, "get-key-last-usage/used/key")["key_last_usage"].(body)["timestamp"] != first
	})
	last := m.read(t, "get-key-last-usage/used/key")["key_last_usage"].(body)["timestamp"]
	m.server = stepDown(t, cluster)
	if got := m.read(t, "get-key-last-usage/used/key"); got["key_last_usage"].(body)["timestamp"] != last {
		t.Errorf("a use at %v is %v on the next node", last, got)
	}
}

func stepDown(t *testing.T, cluster *testvault.Cluster) *testvault.Server {
	t.Helper()
	next, err := cluster.StepDown(t.Context())
	must(t, err)
	return next
}

// changes brings about the state of a round; changed expects it.
func changes(t *testing.T, m mount, message []byte, round int) {
	t.Helper()
	operation, target := "disable-key", "ha/b"
	if round%2 == 1 {
		operation, target = "enable-key", "ha/a"
	}
	m.write(t, operation+"/ha/switch", nil)
	m.write(t, "aliases/ha/current", body{"target_key_id": target})
	changed(t, m, message, round)
}

func changed(t *testing.T, m mount, message []byte, round int) {
	t.Helper()
	target := "ha/b"
	if round%2 == 1 {
		target = "ha/a"
		m.mac(t, "ha/switch", hmac256, message)
	} else {
		m.refused(t, "DisabledException", "generate-mac/ha/switch", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
	}
	data := m.write(t, "generate-mac/alias/ha/current", body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"})
	if data["key_id"] != target {
		t.Errorf("in round %d the alias points at %v", round, data["key_id"])
	}
}

// retrying sends a request as a sensible client does: again, to another node,
// while nodes cannot be reached or answer with status 5xx.
func retrying(ctx context.Context, cluster *testvault.Cluster, send func(mount) (answer, error), check func(answer) error) error {
	deadline := time.Now().Add(time.Minute)
	var last error
	for attempt := 0; time.Now().Before(deadline); attempt++ {
		node := cluster.Nodes[attempt%len(cluster.Nodes)]
		a, err := send(mount{node, "kms", node.RootToken})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && a.status < 500 && a.status != 412 && a.status != 472:
			return check(a)
		case err == nil:
			err = fmt.Errorf("status %d, %q", a.status, a.Errors)
		}
		last = err
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("gave up: %w", last)
}
