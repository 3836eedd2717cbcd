package testvault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Packages of this repository that [Build] turns into programs.
const (
	EnginePackage  = "./cmd/vault-plugin-secrets-kms-hmac"
	GatewayPackage = "./cmd/kms-gateway"
)

// EngineName is the name the engine is registered under. It is the name of its
// file as well, because that is what a dev server registers it as.
const EngineName = "vault-plugin-secrets-kms-hmac"

// modulePath tells this repository's go.mod from those nested in it.
const modulePath = "vault-plugin-secrets-kms-hmac"

// built remembers what [Build] has built in this process, by package and tags. Sources
// do not change under a running test, and every check costs a go command.
var built struct {
	sync.Mutex
	paths map[string]string
}

// Engine builds this repository's secrets engine, ready to be registered.
// version must be the one compiled into it, since Vault compares the two.
func Engine(ctx context.Context, version string, tags ...string) (Plugin, error) {
	path, err := Build(ctx, EnginePackage, tags...)
	if err != nil {
		return Plugin{}, err
	}
	return Plugin{Name: EngineName, Version: version, Path: path}, nil
}

// Build compiles a main package of this repository, given relative to its root
// ("./cmd/kms-gateway"), the way releases are compiled unless there are build
// tags, and returns the path of the program.
//
// The program lies in the user's cache folder, apart for every checkout. Test
// binaries that run side by side share it: the first one builds it under a
// lock and the others find it up to date.
func Build(ctx context.Context, pkg string, tags ...string) (string, error) {
	built.Lock()
	defer built.Unlock()
	program := strings.Join(append([]string{pkg}, tags...), "-")
	if path, ok := built.paths[program]; ok {
		return path, nil
	}
	path, err := build(ctx, pkg, tags)
	if err != nil {
		return "", fmt.Errorf("building %s: %w", pkg, err)
	}
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[program] = path
	return path, nil
}

func build(ctx context.Context, pkg string, tags []string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	lookAtSources(root)
	checkout := sha256.Sum256([]byte(root))
	dir, err := cacheDir("build-" + hex.EncodeToString(checkout[:6]))
	if err != nil {
		return "", err
	}
	// Named after the whole package path: ./bench/a/plugin and ./bench/b/plugin
	// must not replace each other.
	name := strings.ReplaceAll(filepath.ToSlash(filepath.Clean(pkg)), "/", "-")
	name = strings.Join(append([]string{name}, tags...), "-")
	path := filepath.Join(dir, name)

	unlock, err := lockFile(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()

	cmd := exec.Command("go", "build", "-trimpath", "-tags", strings.Join(tags, ","), "-o", path, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := runProcess(ctx, cmd); err != nil {
		return "", fmt.Errorf("%w\n%s", err, output.Bytes())
	}
	return path, nil
}

// lookAtSources reads the folders of the sources. go test repeats a result for
// as long as the test program and the files that it has looked at are the same,
// and what go build reads it does not see. What cannot be read is not looked at.
func lookAtSources(root string) {
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || path == root {
			return nil
		}
		if name := entry.Name(); strings.HasPrefix(name, ".") || name == "bin" || name == "dist" {
			return fs.SkipDir
		}
		return nil
	})
}

// moduleRoot finds the folder of this repository's go.mod from the working
// folder upwards; go test runs every package's tests in the package's folder.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if first, _, _ := strings.Cut(string(mod), "\n"); strings.TrimSpace(first) == "module "+modulePath {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of %s", start, modulePath)
		}
	}
}

// cacheDir returns a folder of this project in the user's cache, which it
// creates.
func cacheDir(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, modulePath, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// lockFile takes the lock that path stands for among all processes of this
// machine, and returns the function that releases it. The system releases it
// as well when the process dies, so a lock is never left behind.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = poll(ctx, 200*time.Millisecond, func() (bool, error) { return tryLock(f) })
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("waiting for the lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// tryLock takes the lock on an open file unless another open file holds it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// poll calls done until it reports true, fails, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
