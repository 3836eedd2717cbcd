//go:build unix

package acceptance

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// givenUp makes changes that storage takes longer to commit than their clients
// wait: the other nodes of the cluster stand still meanwhile. What is shown
// afterwards is what was committed, in lists too, though they are read while the
// change is under way.
func givenUp(t *testing.T, cluster *testvault.Cluster) {
	t.Helper()
	m := activeOf(t, cluster)
	m.newKey(t, "left/first", hmac256)
	m.write(t, "aliases/left/first", body{"target_key_id": "left/first"})

	cutShort := 0
	for round := range 4 {
		key, alias := fmt.Sprint("key-", round), fmt.Sprint("alias-", round)
		for _, change := range []struct {
			method, path, list, name string
			data                     any
		}{
			{"POST", "keys/left/" + key, "keys/left/", key, body{"key_spec": "HMAC_256"}},
			{"POST", "aliases/left/" + alias, "aliases/left/", alias, body{"target_key_id": "left/first"}},
			{"DELETE", "aliases/left/" + alias, "aliases/left/", alias, nil},
		} {
			wanted := change.method != "DELETE"
			m.list(t, change.list)
			others, err := cluster.Standbys(t.Context())
			must(t, err)
			signalAll(t, others, syscall.SIGSTOP)
			ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
			_, err = m.request(ctx, change.method, change.path, change.data)
			cancel()
			m.list(t, change.list) // what is read here must not be kept
			signalAll(t, others, syscall.SIGCONT)
			// A request that was given up before its write had begun, in Vault's
			// existence check say, never happens, and one that was answered was
			// refused perhaps, by a node that was no longer active: then this
			// round shows nothing, and the change is made as a client makes it.
			m = activeOf(t, cluster)
			// Five seconds are more than a commit takes.
			if err != nil && within(5*time.Second, func() bool { return m.is(t, change.path, wanted) }) {
				cutShort++
			} else {
				eventually(t, change.method+" "+change.path+" when it is repeated", func() bool {
					_, _ = m.request(t.Context(), change.method, change.path, change.data)
					return m.is(t, change.path, wanted)
				})
			}
			if slices.Contains(m.list(t, change.list), change.name) != wanted {
				t.Errorf("after %s %s it is listed: %v", change.method, change.path, !wanted)
			}
		}
	}
	if cutShort == 0 {
		t.Error("no change came after its client had left, so this has shown nothing")
	}
}

// is reports whether what is at a path is there, or not, as is wanted.
func (m mount) is(t *testing.T, path string, wanted bool) bool {
	t.Helper()
	a, err := m.request(t.Context(), "GET", path, nil)
	return err == nil && (wanted && a.status == 200 || !wanted && a.status == 404)
}

func signalAll(t *testing.T, nodes []*testvault.Server, signal syscall.Signal) {
	t.Helper()
	for _, node := range nodes {
		must(t, syscall.Kill(node.Pid(), signal))
	}
}

// activeOf returns the mount as the node sees it that is active now.
func activeOf(t *testing.T, cluster *testvault.Cluster) mount {
	t.Helper()
	active, err := cluster.Active(t.Context())
	must(t, err)
	return mount{active, "kms", active.RootToken}
}
