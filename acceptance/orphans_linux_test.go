package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// TestPluginEndsWithVault kills Vault as the kernel does when it is out of
// memory: Vault ends none of its plugins then, and they hold key material. A
// reload before shows that the plugin's own watch leaves a living Vault alone.
func TestPluginEndsWithVault(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	m := mountAt(t, server, "kms")
	m.newKey(t, "a", hmac256)
	mac := m.mac(t, "a", hmac256, []byte("m"))
	before := pluginsOf(t, server)
	if a, err := call(t.Context(), server, server.RootToken, "POST", "sys/plugins/reload/backend", body{"mounts": []string{"kms/"}}); err != nil || a.status >= 300 {
		t.Fatalf("reload: %v, %v", a, err)
	}
	if again := m.mac(t, "a", hmac256, []byte("m")); again != mac {
		t.Errorf("after a reload the MAC is %s, not %s", again, mac)
	}
	time.Sleep(1500 * time.Millisecond) // a watch that is wrong would end the new one
	m.verify(t, "a", hmac256, []byte("m"), mac)
	plugins := pluginsOf(t, server)
	if len(plugins) == 0 {
		t.Fatalf("no plugin is running, before the reload it was %v", before)
	}

	t.Cleanup(func() {
		for _, pid := range plugins {
			if isRunning(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	server.KillAlone()
	for _, pid := range plugins {
		eventually(t, fmt.Sprintf("plugin %d to end", pid), func() bool { return !isRunning(pid) })
	}
}

// pluginsOf returns the processes of the engine that a server has started.
func pluginsOf(t *testing.T, server *testvault.Server) (pids []int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, name := range stats {
		var pid, parent int
		var state string
		raw, err := os.ReadFile(name)
		if err != nil {
			continue // it has just ended
		}
		text := string(raw)
		_, rest, _ := strings.Cut(text, ") ")
		_, _ = fmt.Sscan(text, &pid)
		_, _ = fmt.Sscan(rest, &state, &parent)
		if parent == server.Pid() && state != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isRunning reports whether there is such a process. One that has ended may
// wait for a parent to notice.
func isRunning(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z")
}
