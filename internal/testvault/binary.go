package testvault

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

// module is a program of another Go module, which a go.mod in tools/ pins.
type module struct {
	dir  string // of that go.mod, in this repository
	path string // of the module
	main string // the package of the program
	name string // of the program
	tags string
	// takes is how long the first build takes.
	takes string
}

var (
	// The minimal tag leaves out cloud storage, cloud auth methods and database
	// engines: most of the source, and nothing that is needed here.
	vaultModule = module{
		path: "github.com/hashicorp/vault", main: "github.com/hashicorp/vault", name: "vault",
		dir: "tools", tags: "minimal", takes: "10 to 25 minutes",
	}
	// authModules are auth methods that the minimal tag leaves out, of the
	// versions that Vault itself comes with: so most of what they are made of has
	// been compiled for it already.
	authModules = map[string]module{"jwt": authModule("jwt"), "kubernetes": authModule("kubernetes")}
	// terraformModule is Terraform's provider for Vault. Later versions are no
	// Go modules that others can require.
	terraformModule = module{
		path: "github.com/terraform-providers/terraform-provider-vault", main: "github.com/terraform-providers/terraform-provider-vault",
		name: "terraform-provider-vault", dir: "tools/terraform", takes: "a few minutes",
	}
)

func authModule(name string) module {
	program := "vault-plugin-auth-" + name
	path := "github.com/hashicorp/" + program
	return module{dir: "tools", path: path, main: path + "/cmd/" + program, name: program, takes: "seconds after Vault, and minutes without"}
}

// progressEvery is short enough that nobody takes the build for hung.
const progressEvery = 20 * time.Second

// Binary returns the path of a vault program: the one $VAULT_BINARY names, else
// the one on PATH, else the version that tools/go.mod pins, which it builds
// from source the first time and keeps in the user's cache folder.
//
// That build takes 10 to 25 minutes, so it reports on progress.
func Binary(ctx context.Context, progress io.Writer) (string, error) {
	if named := os.Getenv("VAULT_BINARY"); named != "" {
		return lookPath(named)
	}
	if path, err := lookPath("vault"); err == nil {
		return path, nil
	}
	return pinnedBinary(ctx, vaultModule, progress)
}

// AuthMethod returns one of Vault's auth methods, "jwt" or "kubernetes", as a
// plugin to register. It is built the first time, as Vault itself.
func AuthMethod(ctx context.Context, name string, progress io.Writer) (Plugin, error) {
	m, ok := authModules[name]
	if !ok {
		return Plugin{}, fmt.Errorf("there is no auth method %q to build", name)
	}
	path, err := pinnedBinary(ctx, m, progress)
	return Plugin{Name: name, Type: api.PluginTypeCredential, Path: path}, err
}

// TerraformProvider returns Terraform's provider for Vault, of the version that
// tools/terraform/go.mod pins. It is built the first time, as Vault itself.
func TerraformProvider(ctx context.Context, progress io.Writer) (string, error) {
	return pinnedBinary(ctx, terraformModule, progress)
}

// lookPath is [exec.LookPath] with an absolute answer: servers and callers run
// in folders of their own.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// pinnedBinary returns the cached program of the pinned version of a module and
// builds it where there is none. The file appears under its name only when it is
// whole.
func pinnedBinary(ctx context.Context, m module, progress io.Writer) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(root, m.dir)
	version, err := m.pinnedVersion(filepath.Join(tools, "go.mod"))
	if err != nil {
		return "", err
	}
	dir, err := cacheDir(m.name + "-" + version)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, m.name)
	if isFile(path) {
		return path, nil
	}

	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isFile(path) { // built while this process waited for the lock
		return path, nil
	}
	if err := m.build(ctx, tools, version, path, progress); err != nil {
		return "", fmt.Errorf("building %s %s: %w", m.name, version, err)
	}
	return path, nil
}

// pinnedVersion reads the module's version out of a go.mod file.
func (m module) pinnedVersion(goMod string) (string, error) {
	text, err := os.ReadFile(goMod)
	if err != nil {
		return "", err
	}
	pinned := regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(m.path) + `\s+(v\S+)`)
	match := pinned.FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("%s does not require %s", goMod, m.path)
	}
	return string(match[1]), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// build compiles the program in the module folder tools and puts it at path. The
// caller holds the lock.
func (m module) build(ctx context.Context, tools, version, path string, progress io.Writer) error {
	unfinished := path + ".unfinished"
	defer os.Remove(unfinished)

	cmd := exec.Command("go", "build", "-v", "-tags", m.tags, "-trimpath", "-ldflags", "-s -w", "-o", unfinished, m.main)
	cmd.Dir = tools
	cmd.Env = append(os.Environ(), "GOWORK=off")
	log := &buildLog{}
	cmd.Stdout, cmd.Stderr = log, log

	fmt.Fprintf(progress, "Building %s %s from source. The first time this takes %s.\n", m.name, version, m.takes)
	start := time.Now()
	stop := repeat(progressEvery, func() {
		fmt.Fprintf(progress, "Building %s %s: %s, %s\n", m.name, version, time.Since(start).Round(time.Second), log)
	})
	err := runProcess(ctx, cmd)
	stop()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, log.rest())
	}
	fmt.Fprintf(progress, "Built %s %s in %s.\n", m.name, version, time.Since(start).Round(time.Second))
	return os.Rename(unfinished, path)
}

// repeat calls f at each interval until the function it returns is called.
func repeat(interval time.Duration, f func()) (stop func()) {
	quit := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				f()
			}
		}
	})
	return func() { close(quit); done.Wait() }
}

// buildLog counts what "go build -v" reports, and keeps what it cannot count:
// the errors.
type buildLog struct {
	mu         sync.Mutex
	partial    []byte
	downloaded int
	compiled   int
	other      []string
}

// Write implements [io.Writer].
func (l *buildLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.partial = rest
		l.count(string(line))
	}
}

func (l *buildLog) count(line string) {
	switch {
	case strings.HasPrefix(line, "go: downloading "):
		l.downloaded++
	case line != "" && !strings.ContainsAny(line, " \t#:"): // the path of a package
		l.compiled++
	default:
		l.other = append(l.other, line)
	}
}

// String says how far the build is.
func (l *buildLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d modules downloaded, %d packages compiled", l.downloaded, l.compiled)
}

func (l *buildLog) rest() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(append(l.other, string(l.partial)), "\n")
}
