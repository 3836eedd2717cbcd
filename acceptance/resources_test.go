package acceptance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// asRoot skips a test where it cannot bring about what it tests.
func asRoot(t *testing.T, err error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("takes root")
	}
	if err != nil {
		t.Skipf("this machine does not let root do it: %v", err)
	}
}

// TestFullDisk fills the disk that Vault stores on. Writes fail with status 500,
// and since raft then gives up its leadership, so does everything else. Nothing
// that was acknowledged is lost, and once there is room all is as before, without
// a restart.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	plugin := testvault.EngineFor(t, kmshmac.Version)
	disk, err := os.MkdirTemp("", "disk-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(disk) })
	program, err := os.Stat(plugin.Path)
	must(t, err)
	size := program.Size() + 24<<20
	asRoot(t, exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "none", disk).Run())
	// After the server has stopped: cleanups go backwards.
	t.Cleanup(func() {
		if out, err := exec.Command("umount", disk).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	server := testvault.Run(t, testvault.Config{Plugins: []testvault.Plugin{plugin}, Parent: disk})
	i := stock(t, mountAt(t, server, "kms"))

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	refused, acknowledged := 0, 0
	for n := range 300 {
		a, err := i.m.request(t.Context(), "POST", "tag-resource/stock/imported", body{"tags": body{"n": strings.Repeat("x", 200) + strconv.Itoa(n)}})
		if err == nil && a.status == 204 {
			acknowledged = n
			fill(t, filler)
			continue
		}
		refused++
		if err == nil && a.status < 500 {
			t.Errorf("a write on a full disk: status %d, %q", a.status, a.Errors)
		}
		if refused == 1 {
			t.Logf("a write on a full disk: status %d, %q, %v", a.status, a.Errors, err)
		}
		if refused > 5 {
			break
		}
	}
	if refused == 0 {
		t.Fatal("the disk is full and writes succeed")
	}
	a, err := i.m.request(t.Context(), "POST", "generate-mac/stock/imported", body{"message": b64(i.message), "mac_algorithm": "HMAC_SHA_256"})
	t.Logf("a MAC on a full disk: status %d, %q, %v", a.status, a.Errors, err)
	if err == nil && a.status == 200 && a.Data["mac"] != i.macs["stock/imported"] {
		t.Errorf("a wrong MAC on a full disk: %v", a.Data)
	}

	must(t, os.Remove(filler))
	eventually(t, "writes to succeed again", func() bool {
		a, err := i.m.request(t.Context(), "POST", "untag-resource/stock/imported", body{"tag_keys": "none"})
		return err == nil && a.status == 204 && i.tags(t, "later") == nil
	})
	// The last acknowledged value, or that of a write whose end nobody saw.
	value, _ := i.m.read(t, "keys/stock/imported")["tags"].(body)["n"].(string)
	if n, err := strconv.Atoi(strings.TrimLeft(value, "x")); value != "" && (err != nil || n < acknowledged) {
		t.Errorf("the tag is %q, acknowledged was %d", value, acknowledged)
	}
	i.m.write(t, "untag-resource/stock/imported", body{"tag_keys": "n,later"})
	i.check(t)
	must(t, server.Restart(t.Context()))
	i.check(t)
}

// tags writes a tag, nil if that went well.
func (i *inventory) tags(t *testing.T, name string) error {
	t.Helper()
	a, err := i.m.request(t.Context(), "POST", "tag-resource/stock/imported", body{"tags": body{name: "y"}})
	if err == nil && a.status != 204 {
		err = fmt.Errorf("status %d, %q", a.status, a.Errors)
	}
	return err
}

// fill adds to a file until there is no room.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		for chunk := bytes.Repeat([]byte{1}, size); err == nil; {
			_, err = f.Write(chunk)
		}
		err = nil
	}
}

// TestMemoryLimit lets the plugin have less memory than the requests at hand
// want: the system kills it, Vault starts it again, and all is as before.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	group := fmt.Sprintf("/sys/fs/cgroup/memory/kms-hmac-%d", os.Getpid())
	asRoot(t, os.Mkdir(group, 0o755))
	t.Cleanup(func() {
		eventually(t, "the group to be empty", func() bool { return os.Remove(group) == nil })
	})
	pid := pluginPid(t, server)
	limit := func(name, value string) error { return os.WriteFile(filepath.Join(group, name), []byte(value), 0o644) }
	// Pages that it had before count for where it was: what it asks for from now
	// on is what is limited.
	must(t, limit("memory.limit_in_bytes", strconv.Itoa(16<<20)))
	must(t, limit("cgroup.procs", strconv.Itoa(pid)))

	batch := strings.TrimSuffix(strings.Repeat(b64(random(4096))+",", 150), ",")
	seen := map[string]int{}
	load := underLoad(t, 16, func(ctx context.Context) (bool, error) {
		a, err := i.m.request(ctx, "POST", "generate-mac/stock/imported", body{"messages": batch, "mac_algorithm": "HMAC_SHA_256"})
		return err == nil && a.status == 200, err
	})
	killed := false
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline) && !killed; time.Sleep(20 * time.Millisecond) {
		a, err := i.m.request(t.Context(), "GET", "config", nil)
		seen[fmt.Sprintf("%d %.60q %v", a.status, a.Errors, err)]++
		pids := children(t, server.Pid())
		killed = len(pids) == 1 && pids[0] != pid
	}
	good, bad := load()
	t.Logf("killed: %v; %d batches went well and %d did not; meanwhile: %v", killed, good, bad, seen)
	if !killed {
		t.Skip("the plugin got along with 16 MiB more")
	}
	i.check(t)
}
