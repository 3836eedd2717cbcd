package testvault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestPinnedVersion(t *testing.T) {
	tests := map[string]struct{ goMod, want string }{
		"block":  {"module tools\n\nrequire (\n\tgithub.com/hashicorp/vault v1.21.1 // indirect\n)\n", "v1.21.1"},
		"line":   {"module tools\n\nrequire github.com/hashicorp/vault v1.21.1\n", "v1.21.1"},
		"api":    {"require (\n\tgithub.com/hashicorp/vault/api v1.0.0\n\tgithub.com/hashicorp/vault v1.2.3\n)\n", "v1.2.3"},
		"absent": {"module tools\n\ntool github.com/hashicorp/vault\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "go.mod")
			check(t, os.WriteFile(file, []byte(tt.goMod), 0o600))
			got, err := vaultModule.pinnedVersion(file)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBuildLog(t *testing.T) {
	log := &buildLog{}
	for _, part := range []string{
		"go: downloading github.com/a/b v1.0.0\ngo: down", "loading github.com/c/d v0.1.0\n",
		"internal/cpu\ngithub.com/a/b\nvendor/golang.org/x/text\n",
		"# github.com/a/b\n./b.go:1:2: undefined: x",
	} {
		fmt.Fprint(log, part)
	}
	if got, want := log.String(), "2 modules downloaded, 3 packages compiled"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := log.rest(), "# github.com/a/b\n./b.go:1:2: undefined: x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLockFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockFile(t.Context(), file)
	check(t, err)

	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lockFile(short, file); err == nil {
		t.Error("took a lock that is held")
	}

	unlock()
	unlock, err = lockFile(t.Context(), file)
	check(t, err)
	unlock()
}
