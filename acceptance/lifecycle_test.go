package acceptance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// inventory is a mount with something of everything in it, and what it answers.
type inventory struct {
	m       mount
	message []byte
	macs    map[string]string // by key or alias
	answers map[string]body   // by path
	exposed []string          // paths whose answers must not change
	token   string            // a grant token
}

// stock fills a mount.
func stock(t *testing.T, m mount) *inventory {
	t.Helper()
	i := &inventory{m: m, message: someMessage()}
	for _, s := range specs {
		m.write(t, "keys/stock/"+s.name, body{"key_spec": s.name, "description": "in stock", "tags": body{"spec": s.name}})
		m.write(t, "aliases/stock/"+s.name, body{"target_key_id": "stock/" + s.name})
		i.exposed = append(i.exposed, "keys/stock/"+s.name, "aliases/stock/"+s.name)
	}
	material := random(32)
	m.importKey(t, "stock/imported", hmac256, material)
	m.newKey(t, "stock/off", hmac256)
	m.write(t, "disable-key/stock/off", nil)
	m.newKey(t, "stock/doomed", hmac256)
	m.write(t, "schedule-key-deletion/stock/doomed", body{"pending_window_in_days": 9})
	m.write(t, "keys/stock/waiting", body{"key_spec": "HMAC_512", "origin": "EXTERNAL"})
	m.newKey(t, "stock/former", hmac256)
	m.write(t, "aliases/stock/moved", body{"target_key_id": "stock/former"})
	former := m.mac(t, "alias/stock/moved", hmac256, i.message)
	m.write(t, "aliases/stock/moved", body{"target_key_id": "stock/HMAC_256", "overlap": "24h"})
	m.write(t, "config", body{"pending_window_in_days": 12})
	i.token, _ = m.write(t, "create-grant/stock/HMAC_256", body{
		"operations": "GenerateMac", "grantee_principal": "somebody", "name": "g",
	})["grant_token"].(string)

	i.exposed = append(i.exposed, "keys/stock/imported", "keys/stock/off", "keys/stock/doomed", "keys/stock/waiting",
		"aliases/stock/moved", "config", "list-grants/stock/HMAC_256")
	i.macs = map[string]string{
		"stock/imported": m.mac(t, "stock/imported", hmac256, i.message),
		"stock/former":   former,
	}
	for _, s := range specs {
		i.macs["alias/stock/"+s.name] = m.mac(t, "alias/stock/"+s.name, s, i.message)
	}
	i.answers = map[string]body{}
	for _, path := range i.exposed {
		i.answers[path] = m.read(t, path)
	}
	i.check(t)
	return i
}

// check expects the mount to be as it was when it was stocked, but for when its
// keys were last used.
func (i *inventory) check(t *testing.T) {
	t.Helper()
	for _, path := range i.exposed {
		got := i.m.read(t, path)
		want := i.answers[path]
		delete(got, "last_used")
		delete(want, "last_used")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s answers\n%v, before it was\n%v", path, got, want)
		}
	}
	m := i.m
	for _, s := range specs {
		if got := m.mac(t, "stock/"+s.name, s, i.message); got != i.macs["alias/stock/"+s.name] {
			t.Errorf("the MAC of %s changed", s.name)
		}
		m.verify(t, "alias/stock/"+s.name, s, i.message, i.macs["alias/stock/"+s.name])
	}
	m.verify(t, "stock/imported", hmac256, i.message, i.macs["stock/imported"])
	if id := m.verify(t, "alias/stock/moved", hmac256, i.message, i.macs["stock/former"]); id != "stock/former" {
		t.Errorf("the alias with an overlap verified with %s", id)
	}
	request := body{"message": b64(i.message), "mac_algorithm": "HMAC_SHA_256"}
	m.refused(t, "DisabledException", "generate-mac/stock/off", request)
	m.refused(t, "KMSInvalidStateException", "generate-mac/stock/doomed", request)
	m.refused(t, "KMSInvalidStateException", "generate-mac/stock/waiting", request)
	request["grant_tokens"] = i.token
	m.write(t, "generate-mac/stock/HMAC_256", request)
}

// TestRestart seals and unseals Vault, restarts it, and moves the mount.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))

	i.m.newKey(t, "stock/used", hmac256)
	i.m.mac(t, "stock/used", hmac256, i.message)
	used := i.m.read(t, "get-key-last-usage/stock/used")
	if used["key_last_usage"] == nil {
		t.Errorf("last use %v", used)
	}
	sys(t, server, "POST", "sys/remount", body{"from": "kms", "to": "kms-moved"})
	i.m.path = "kms-moved"
	eventually(t, "the moved mount", func() bool {
		a, err := i.m.request(t.Context(), "GET", "config", nil)
		return err == nil && a.status == 200
	})
	i.check(t)

	must(t, server.Seal(t.Context()))
	must(t, server.Unseal(t.Context()))
	i.check(t)

	must(t, server.Restart(t.Context()))
	i.check(t)
	// A later use may be missing after a restart, and the answer says so.
	got := i.m.read(t, "get-key-last-usage/stock/used")
	delete(got, "later_use_missing_until")
	if !reflect.DeepEqual(got, used) {
		t.Errorf("last use %v, before the restart %v", got, used)
	}

	// As after a power cut: what was answered is there.
	i.m.newKey(t, "stock/last-moment", hmac256)
	mac := i.m.mac(t, "stock/last-moment", hmac256, i.message)
	server.Kill()
	must(t, server.Restart(t.Context()))
	i.check(t)
	// The first use of a key is stored at once, but beside the request.
	if last := i.m.read(t, "get-key-last-usage/stock/last-moment"); last["later_use_missing_until"] == nil {
		t.Errorf("after a power cut the last use is %v, without a word of what is missing", last)
	}
	i.m.verify(t, "stock/last-moment", hmac256, i.message, mac)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	if !within(30*time.Second, done) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// within waits for done for so long at most, and reports whether it came.
func within(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// TestPluginCrash kills the plugin's process: Vault starts another one when the
// next request comes.
func TestPluginCrash(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	other := mountAt(t, server, "other")
	other.newKey(t, "k", hmac256)
	for range 3 {
		pid := pluginPid(t, server)
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		// Until Vault has noticed, in a few milliseconds, requests may fail.
		eventually(t, "Vault to start the plugin again", func() bool {
			a, err := i.m.request(t.Context(), "GET", "config", nil)
			return err == nil && a.status == 200
		})
		i.check(t)
		other.mac(t, "k", hmac256, i.message)
		if again := pluginPid(t, server); again == pid {
			t.Error("the plugin is still the same process")
		}
	}
}

// pluginPid returns the id of the only child of the Vault process.
func pluginPid(t *testing.T, server *testvault.Server) int {
	t.Helper()
	pids := children(t, server.Pid())
	if len(pids) != 1 {
		t.Fatalf("Vault has the child processes %v, not one", pids)
	}
	return pids[0]
}

// children returns the ids of a process's children.
func children(t *testing.T, parent int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "ppid=,pid=,stat=").Output()
	must(t, err)
	var pids []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != strconv.Itoa(parent) || strings.HasPrefix(fields[2], "Z") {
			continue
		}
		pid, err := strconv.Atoi(fields[1])
		must(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// TestReload reloads the plugin, by its name and by its mount, while clients
// make MACs.
func TestReload(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	for _, data := range []body{{"plugin": testvault.EngineName}, {"mounts": []string{"kms/"}}} {
		load := underLoad(t, 4, func(ctx context.Context) (bool, error) {
			a, err := i.m.request(ctx, "POST", "generate-mac/stock/imported", body{"message": b64(i.message), "mac_algorithm": "HMAC_SHA_256"})
			// A request in flight may end with its process.
			return err == nil && a.status == 200 && a.Data["mac"] == i.macs["stock/imported"], err
		})
		sys(t, server, "PUT", "sys/plugins/reload/backend", data)
		i.check(t)
		if good, bad := load(); good == 0 || bad > good {
			t.Errorf("%d requests went well and %d did not", good, bad)
		}
	}
}

// underLoad calls work over and over from so many goroutines until the function
// that it returns is called, which tells how often it went well and not.
func underLoad(t *testing.T, goroutines int, work func(context.Context) (bool, error)) (stop func() (good, bad int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan [2]int, goroutines)
	for range goroutines {
		go func() {
			var count [2]int
			defer func() { results <- count }()
			for ctx.Err() == nil {
				ok, _ := work(ctx)
				switch {
				case ok:
					count[0]++
				case ctx.Err() == nil:
					count[1]++
				}
			}
		}()
	}
	return func() (good, bad int) {
		cancel()
		for range goroutines {
			count := <-results
			good, bad = good+count[0], bad+count[1]
		}
		return good, bad
	}
}

// nextVersion is a version to upgrade to.
const nextVersion = "v99.0.1"

// engineOf builds the engine with another version.
func engineOf(t *testing.T, version string) testvault.Plugin {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X vault-plugin-secrets-kms-hmac.Version="+version, "-o", path, "./cmd/vault-plugin-secrets-kms-hmac")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the engine: %v\n%s", err, out)
	}
	return testvault.Plugin{Name: testvault.EngineName, Version: version, Path: path}
}

// TestUpgrade goes from one version to the next, by tuning the mount and by
// pinning the version, and back.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	runs := func(version string) {
		t.Helper()
		i.check(t)
		var mounts map[string]struct {
			RunningVersion string `json:"running_plugin_version"`
			RunningSum     string `json:"running_sha256"`
		}
		must(t, json.Unmarshal([]byte(cli(t, server, 0, "secrets", "list", "-detailed", "-format=json").Stdout), &mounts))
		if mounts["kms/"].RunningVersion != version || len(mounts["kms/"].RunningSum) != 64 {
			t.Errorf("vault secrets list -detailed: %+v, want version %s", mounts["kms/"], version)
		}
	}
	runs(kmshmac.Version)

	next := engineOf(t, nextVersion)
	must(t, server.RegisterPlugin(t.Context(), next))
	table := cli(t, server, 0, "plugin", "list", "secret").Stdout
	for _, version := range []string{kmshmac.Version, nextVersion} {
		if !lineHas(table, testvault.EngineName, version) {
			t.Errorf("vault plugin list does not show version %s:\n%s", version, table)
		}
	}
	program, err := os.ReadFile(next.Path)
	must(t, err)
	sum := sha256.Sum256(program)
	info := cli(t, server, 0, "plugin", "info", "-version="+nextVersion, "secret", testvault.EngineName).Stdout
	if !strings.Contains(info, hex.EncodeToString(sum[:])) {
		t.Errorf("vault plugin info does not show the sum:\n%s", info)
	}
	runs(kmshmac.Version) // registering changes nothing

	cli(t, server, 0, "secrets", "tune", "-plugin-version="+nextVersion, "kms")
	cli(t, server, 0, "plugin", "reload", "-type=secret", "-plugin="+testvault.EngineName)
	runs(nextVersion)
	must(t, server.Restart(t.Context()))
	runs(nextVersion)

	cli(t, server, 0, "secrets", "tune", "-plugin-version="+kmshmac.Version, "kms")
	cli(t, server, 0, "plugin", "reload", "-type=secret", "-plugin="+testvault.EngineName)
	runs(kmshmac.Version)

	pin := "sys/plugins/pins/secret/" + testvault.EngineName
	cli(t, server, 0, "write", pin, "version="+nextVersion)
	cli(t, server, 0, "plugin", "reload", "-type=secret", "-plugin="+testvault.EngineName)
	runs(nextVersion)
}

// TestUpgradeUnderLoad goes to the next version and back, by tuning and by a
// pin, while clients make MACs and change keys: no MAC changes, and nothing that
// was acknowledged is lost.
func TestUpgradeUnderLoad(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	i := stock(t, mountAt(t, server, "kms"))
	must(t, server.RegisterPlugin(t.Context(), engineOf(t, nextVersion)))
	var calls, keys atomic.Int64
	var written sync.Map // names of keys
	var wrong atomic.Value
	load := underLoad(t, 4, func(ctx context.Context) (bool, error) {
		// A request that is being served may end with its process: again, then.
		var a answer
		var err error
		for range 100 {
			switch calls.Add(1) % 8 {
			case 0:
				key := fmt.Sprintf("load/%d", keys.Add(1))
				if a, err = i.m.request(ctx, "POST", "keys/"+key, body{"key_spec": "HMAC_256", "description": key}); err == nil && a.status == 200 {
					written.Store(key, true)
				}
			default:
				a, err = i.m.request(ctx, "POST", "generate-mac/stock/imported", body{"message": b64(i.message), "mac_algorithm": "HMAC_SHA_256"})
				if err == nil && a.status == 200 && a.Data["mac"] != i.macs["stock/imported"] {
					wrong.Store(a.raw)
				}
			}
			if ctx.Err() != nil || err == nil && a.status == 200 {
				return err == nil, err
			}
		}
		return false, fmt.Errorf("status %d, %v", a.status, err)
	})
	pin := "sys/plugins/pins/secret/" + testvault.EngineName
	reload := func() { cli(t, server, 0, "plugin", "reload", "-type=secret", "-plugin="+testvault.EngineName) }
	runs := func(version string) {
		t.Helper()
		var mounts map[string]struct {
			Version string `json:"running_plugin_version"`
		}
		must(t, json.Unmarshal([]byte(cli(t, server, 0, "secrets", "list", "-detailed", "-format=json").Stdout), &mounts))
		if mounts["kms/"].Version != version {
			t.Errorf("version %s runs, not %s", mounts["kms/"].Version, version)
		}
		i.check(t)
	}
	cli(t, server, 0, "secrets", "tune", "-plugin-version="+nextVersion, "kms")
	reload()
	runs(nextVersion)
	cli(t, server, 0, "secrets", "tune", "-plugin-version="+kmshmac.Version, "kms")
	reload()
	runs(kmshmac.Version)
	cli(t, server, 0, "write", pin, "version="+nextVersion)
	reload()
	runs(nextVersion)
	// While there is a pin, it is the pin that goes back.
	if out := cli(t, server, 2, "secrets", "tune", "-plugin-version=v1.2.3", "kms"); !strings.Contains(out.Stderr, "pin") {
		t.Errorf("tuning a pinned mount printed %q", out.Stderr)
	}
	cli(t, server, 0, "write", pin, "version="+kmshmac.Version)
	reload()
	runs(kmshmac.Version)
	cli(t, server, 0, "write", pin, "version="+nextVersion)
	reload()
	runs(nextVersion)
	cli(t, server, 0, "delete", pin)
	reload()
	runs(kmshmac.Version)

	good, bad := load()
	if good == 0 || bad > 0 || wrong.Load() != nil {
		t.Errorf("%d calls went well in the end and %d did not; %v", good, bad, wrong.Load())
	}
	count := 0
	written.Range(func(key, _ any) bool {
		count++
		if got := i.m.read(t, "keys/"+key.(string)); got["description"] != key {
			t.Errorf("the key %v is %v", key, got)
		}
		return true
	})
	if count == 0 {
		t.Error("no key was created under load")
	}
}

func lineHas(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		found := true
		for _, word := range words {
			found = found && strings.Contains(line, word)
		}
		if found {
			return true
		}
	}
	return false
}

// TestVersion registers the engine without its version, and with a wrong one.
func TestVersion(t *testing.T) {
	t.Parallel()
	server := testvault.Run(t, testvault.Config{})
	engine := testvault.EngineFor(t, kmshmac.Version)

	wrong := engine
	wrong.Version = "v1.2.3"
	if err := server.RegisterPlugin(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "version mismatch") {
		t.Errorf("registering a wrong version: %v", err)
	}

	asked := engine
	asked.Version = ""
	must(t, server.RegisterPlugin(t.Context(), asked))
	m := mountAt(t, server, "kms")
	m.newKey(t, "k", hmac256)
	if table := cli(t, server, 0, "secrets", "list", "-detailed").Stdout; !lineHas(table, "kms/", kmshmac.Version) {
		t.Errorf("vault secrets list -detailed does not show version %s:\n%s", kmshmac.Version, table)
	}

	program, err := exec.Command(engine.Path, "-version").CombinedOutput()
	if err != nil || !strings.Contains(string(program), kmshmac.Version) {
		t.Errorf("-version printed %q, %v", program, err)
	}
}

// TestMountedAgain disables the engine and enables it at the same path: nothing
// of what was there is left, neither in storage nor in the plugin's process.
func TestMountedAgain(t *testing.T) {
	t.Parallel()
	m, other := newMount(t), newMount(t)
	for _, m := range []mount{m, other} {
		m.newKey(t, "f/k", hmac256)
		m.write(t, "aliases/f/a", body{"target_key_id": "f/k"})
	}
	message := someMessage()
	before, others := m.mac(t, "alias/f/a", hmac256, message), other.mac(t, "f/k", hmac256, message)
	if before == others {
		t.Error("two mounts have the same key")
	}
	sys(t, m.server, "DELETE", "sys/mounts/"+m.path, nil)
	a, err := m.request(t.Context(), "GET", "keys/f/k", nil)
	must(t, err)
	if a.status != 404 {
		t.Errorf("without the mount: status %d, %v", a.status, a.Data)
	}

	m = mountAt(t, m.server, m.path)
	request := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
	m.refused(t, "NotFoundException", "generate-mac/f/k", request)
	m.refused(t, "NotFoundException", "generate-mac/alias/f/a", request)
	if got := append(m.list(t, "keys/"), m.list(t, "aliases/")...); len(got) != 0 {
		t.Errorf("the new mount lists %v", got)
	}
	m.newKey(t, "f/k", hmac256)
	if m.mac(t, "f/k", hmac256, message) == before {
		t.Error("the new mount has the key of the old one")
	}
	other.verify(t, "alias/f/a", hmac256, message, others)
}
