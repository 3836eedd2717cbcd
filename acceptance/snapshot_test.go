package acceptance

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

func snapshotOf(t *testing.T, server *testvault.Server) []byte {
	t.Helper()
	var snapshot bytes.Buffer
	must(t, server.Client().Sys().RaftSnapshotWithContext(t.Context(), &snapshot))
	return snapshot.Bytes()
}

// restore restores a snapshot, which another cluster may have made, and waits
// until Vault serves again.
func restore(t *testing.T, server *testvault.Server, snapshot []byte, from *testvault.Server) {
	t.Helper()
	apply := func() {
		must(t, server.Client().Sys().RaftSnapshotRestoreWithContext(t.Context(), bytes.NewReader(snapshot), from != server))
	}
	apply()
	if from != server {
		server.Adopt(from)
		must(t, server.Unseal(t.Context()))
	}
	serves := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		a, err := call(ctx, server, server.RootToken, "GET", "sys/mounts", nil)
		return err == nil && a.status == 200
	}
	for deadline := time.Now().Add(30 * time.Second); from == server && !serves(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			// On a busy machine Vault can get stuck while it stops to apply the
			// snapshot, before it has come to its mounts.
			t.Log("Vault does not come back from stopping: start it again, and restore again")
			server.Kill()
			must(t, server.Restart(t.Context()))
			apply()
			break
		}
	}
	eventually(t, "Vault after a restore", serves)
}

func pluginDir(t *testing.T, server *testvault.Server) string {
	t.Helper()
	dir, _ := sys(t, server, "GET", "sys/config/state/sanitized", nil).Data["plugin_directory"].(string)
	if dir == "" {
		t.Fatal("Vault does not tell its plugin_directory")
	}
	return dir
}

// carry copies the programs of a server's plugins to another server.
func carry(t *testing.T, from, to *testvault.Server) {
	t.Helper()
	programs, err := filepath.Glob(filepath.Join(pluginDir(t, from), "*"))
	must(t, err)
	for _, program := range programs {
		content, err := os.ReadFile(program)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(pluginDir(t, to), filepath.Base(program)), content, 0o755))
	}
}

// TestSnapshots restores a snapshot into the cluster that made it, into a fresh
// one, and into one that lives and has keys of its own.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	snapshot := snapshotOf(t, server)

	t.Log("into the same")
	i.m.write(t, "disable-key/stock/HMAC_256", nil)
	i.m.write(t, "aliases/stock/moved", body{"target_key_id": "stock/HMAC_512"})
	i.m.newKey(t, "stock/later", hmac256)
	restore(t, server, snapshot, server)
	eventually(t, "the mount", func() bool {
		a, err := i.m.request(t.Context(), "GET", "config", nil)
		return err == nil && a.status == 200
	})
	i.check(t)
	if names := i.m.list(t, "keys/stock/"); slices.Contains(names, "later") {
		t.Errorf("what was made after the snapshot is there: %v", names)
	}

	t.Log("into a fresh one")
	fresh := testvault.Run(t, testvault.Config{})
	carry(t, server, fresh)
	restore(t, fresh, snapshot, server)
	there := *i
	there.m = mount{fresh, "kms", fresh.RootToken}
	there.check(t)
	there.m.newKey(t, "stock/after", hmac256)

	t.Log("into a living one")
	living := ownServer(t)
	must(t, living.Mount(t.Context(), "other", api.MountInput{Type: testvault.EngineName}))
	mount{living, "other", living.RootToken}.newKey(t, "k", hmac256)
	restore(t, living, snapshot, server)
	there.m = mount{living, "kms", living.RootToken}
	there.check(t)
	there.m.newKey(t, "stock/after", hmac256)
	a, err := mount{living, "other", living.RootToken}.request(t.Context(), "GET", "keys/k", nil)
	must(t, err)
	if a.status != 404 {
		t.Errorf("the key that was there before: status %d, %v", a.status, a.Data)
	}
}

// TestSnapshotOfAnOlderVersion restores a snapshot that names a version whose
// program is gone. What docs/operations.md says brings the mount back: the
// program, or a newer version, and a new start of the active node.
func TestSnapshotOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	snapshot := snapshotOf(t, server)
	programs, err := filepath.Glob(filepath.Join(pluginDir(t, server), "*"))
	must(t, err)
	old, next := programs[0], engineOf(t, nextVersion)
	upgrade := func() {
		must(t, server.RegisterPlugin(t.Context(), next))
		cli(t, server, 0, "secrets", "tune", "-plugin-version="+nextVersion, "kms")
	}
	reload := func() { cli(t, server, 0, "plugin", "reload", "-type=secret", "-plugin="+testvault.EngineName) }
	writes := func() int {
		a, err := i.m.request(t.Context(), "POST", "tag-resource/stock/imported", body{"tags": body{"at": b64(random(6))}})
		must(t, err)
		return a.status
	}
	upgrade()
	reload()
	cli(t, server, 0, "plugin", "deregister", "-version="+kmshmac.Version, "secret", testvault.EngineName)
	must(t, os.Rename(old, old+".away"))
	i.check(t)

	for _, way := range []struct {
		name    string
		recover func()
	}{
		{"with the old program", func() { must(t, os.Rename(old+".away", old)) }},
		{"with the new version", upgrade},
	} {
		t.Log(way.name)
		restore(t, server, snapshot, server)
		a, err := i.m.request(t.Context(), "GET", "config", nil)
		must(t, err)
		if a.status != 404 {
			t.Errorf("without the program: status %d, %s", a.status, a.raw)
		}
		way.recover()
		// A reload brings back what reads, and nothing that writes.
		reload()
		if status := writes(); status != 500 {
			t.Errorf("after a reload alone, a write has status %d", status)
		}
		must(t, server.Seal(t.Context()))
		must(t, server.Unseal(t.Context()))
		eventually(t, "the mount", func() bool { return writes() == 204 })
		i.answers["keys/stock/imported"]["tags"] = i.m.read(t, "keys/stock/imported")["tags"]
		i.check(t)
		if _, err := os.Stat(old); err == nil {
			must(t, os.Rename(old, old+".away"))
		}
	}
}
