package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-kms-hmac/internal/profiled"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// buildTags are those of the programs that are measured.
func (o *options) buildTags() []string {
	if o.profile == "" {
		return nil
	}
	return []string{"profile"}
}

var noFileName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// profiles takes profiles of CPU time and of allocations of all processes for as
// long as a workload runs, to be looked at with go tool pprof. finish waits for
// them.
func (l *lab) profiles(ctx context.Context, o *options, section string, w *workload, clients int) (finish func() error) {
	if o.profile == "" {
		return func() error { return nil }
	}
	// Whole seconds is what can be asked for, and after the warm-up.
	query := fmt.Sprintf("?seconds=%d", max(1, int(o.duration.Seconds())))
	folder := filepath.Join(o.profile, section+"-"+noFileName.ReplaceAllString(w.name, "-"))
	var taking errgroup.Group
	take := func(program, kind string, get func() (*http.Response, error)) {
		taking.Go(func() error {
			sleep(ctx, warmUp)
			file := filepath.Join(folder, fmt.Sprintf("%s-%d-%s.pb.gz", program, clients, kind))
			if err := save(file, get); err != nil {
				return fmt.Errorf("profile of %s: %w", program, err)
			}
			return nil
		})
	}
	for kind, path := range map[string]string{"cpu": "profile", "allocs": "allocs"} {
		take("vault", kind, func() (*http.Response, error) {
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.server.Address+"/v1/sys/pprof/"+path+query, nil)
			if err != nil {
				return nil, err
			}
			r.Header.Set("X-Vault-Token", l.server.RootToken)
			return http.DefaultClient.Do(r)
		})
		for pid, program := range l.processes.ours() {
			take(program, kind, func() (*http.Response, error) {
				transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "unix", profiled.Socket(pid))
				}}
				return (&http.Client{Transport: transport}).Get("http://profiled/debug/pprof/" + path + query)
			})
		}
	}
	return taking.Wait
}

func save(file string, get func() (*http.Response, error)) error {
	response, err := get()
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, body, 0o644)
}

// ours returns the ids of the processes whose profiles can be taken, besides
// Vault, and their names.
func (p *processes) ours() map[int]string {
	programs := map[int]string{p.endpoint: "endpoint"}
	for _, pid := range p.plugins {
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		switch name := filepath.Base(program); {
		case strings.HasPrefix(name, testvault.EngineName):
			programs[pid] = "plugin"
		case strings.HasPrefix(name, manyName):
			programs[pid] = "plugin-" + manyName
		}
	}
	return programs
}
