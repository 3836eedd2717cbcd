package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// soakGenerations is how many generations of keys there are in a soak. Then the
// clients begin again with the first: what grows is not the number of keys.
const soakGenerations = 10

// sample is what the processes take at one moment. Linux tells it.
type sample struct {
	at     time.Duration
	values map[string]float64 // by curve
}

// curves are what is sampled, and in which unit.
var curves = []struct{ name, unit string }{
	{"plugin memory", "MiB"}, {"plugin descriptors", ""}, {"plugin goroutines", ""},
	{"endpoint memory", "MiB"}, {"endpoint descriptors", ""}, {"endpoint goroutines", ""},
	{"Vault memory", "MiB"}, {"Vault descriptors", ""}, {"Vault goroutines", ""},
}

// soak runs one server and an endpoint under load without faults, and looks
// whether anything grows.
func soak(ctx context.Context, o options, dir string) error {
	c := &chaos{options: o, h: newHistory(), tally: newTally(o.clients), shared: newKnowledge()}
	c.h.forgetful = true
	scratch, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	c.goroutines = filepath.Join(scratch, "goroutines")
	program, err := testvault.Build(ctx, "./chaos/soakplugin")
	if err != nil {
		return err
	}
	plugin := testvault.Plugin{Name: testvault.EngineName, Version: o.plugin.Version, Path: program, Env: []string{"SOAK_GOROUTINES=" + c.goroutines}}
	cluster, err := testvault.StartCluster(ctx, testvault.Config{Plugins: []testvault.Plugin{plugin}}, 1)
	if err != nil {
		return err
	}
	defer cluster.Stop()
	c.cluster = cluster
	if err := c.prepare(ctx); err != nil {
		return err
	}
	endpoint, err := startEndpoint(ctx, cluster.Nodes[0])
	if err != nil {
		return err
	}
	defer endpoint.process.Stop()

	var stopped atomic.Bool
	var wg sync.WaitGroup
	for id := range o.clients {
		wg.Go(func() {
			plan := newPlan(o.seed, id, 1)
			plan.wrap = soakGenerations
			c.client(id).run(ctx, plan, o.pause, &stopped)
		})
	}
	var calls, failed atomic.Int64
	for range 2 {
		wg.Go(func() {
			for !stopped.Load() && ctx.Err() == nil {
				r := c.q.sendKMS(ctx, endpoint, c.tokens.owner, operations["mac"], "generate-mac/"+anchorName(0), macBody("message"), patience)
				if !r.ok() {
					failed.Add(1)
				}
				calls.Add(1)
				time.Sleep(o.pause)
			}
		})
	}
	var samples []sample
	began := time.Now()
	every := max(time.Second, o.length/200)
	for time.Since(began) < o.length && ctx.Err() == nil {
		s, err := c.sample(ctx, endpoint)
		if err != nil {
			stopped.Store(true)
			wg.Wait()
			return err
		}
		s.at = time.Since(began)
		samples = append(samples, s)
		wait(ctx, every)
	}
	stopped.Store(true)
	wg.Wait()
	summary := fmt.Sprintf("%s, %d clients of Vault with %d operations (%d unanswered), 2 of the endpoint with %d calls (%d failed), a pause of %s after each",
		time.Since(began).Round(time.Second), o.clients, c.tally.begun, c.tally.open+c.tally.unsent, calls.Load(), failed.Load(), o.pause)
	fmt.Fprintln(o.out, "soak:", summary)
	table, grew := judge(samples)
	fmt.Fprint(o.out, table)
	if dir != "" {
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, "soak.svg"), []byte(plot(samples, summary)), 0o644),
			os.WriteFile(filepath.Join(dir, "soak.md"), []byte("<!-- written by make soak -->\n\n"+summary+"\n\n"+table), 0o644))
	}
	if len(grew) > 0 {
		err = errors.Join(err, fmt.Errorf("these grew: %s", strings.Join(grew, ", ")))
	}
	if n := len(c.h.wrong); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d wrong answers, the first: %s", n, c.h.wrong[0]))
	}
	return err
}

// sample looks at the three processes.
func (c *chaos) sample(ctx context.Context, e *endpoint) (sample, error) {
	vault := c.cluster.Nodes[0]
	plugins, err := children(ctx, vault.Pid())
	if err != nil || len(plugins) != 1 {
		return sample{}, fmt.Errorf("children of Vault: %v, %w", plugins, err)
	}
	s := sample{values: map[string]float64{}}
	for name, pid := range map[string]int{"plugin": plugins[0], "endpoint": e.process.Pid(), "Vault": vault.Pid()} {
		memory, err := residentMemory(pid)
		if err != nil {
			return s, err
		}
		descriptors, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return s, err
		}
		s.values[name+" memory"], s.values[name+" descriptors"] = memory, float64(len(descriptors))
	}
	told, err := os.ReadFile(c.goroutines)
	if err != nil {
		return s, err
	}
	if s.values["plugin goroutines"], err = strconv.ParseFloat(string(told), 64); err != nil {
		return s, err
	}
	if s.values["endpoint goroutines"], err = e.goroutines(ctx); err != nil {
		return s, err
	}
	s.values["Vault goroutines"], err = vaultGoroutines(ctx, vault.Client())
	return s, err
}

// residentMemory returns the memory of a process in MiB.
func residentMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no resident memory of process %d", pid)
}

func vaultGoroutines(ctx context.Context, client *api.Client) (float64, error) {
	secret, err := client.Logical().ReadRawWithContext(ctx, "sys/metrics")
	if err != nil {
		return 0, err
	}
	defer secret.Body.Close()
	var metrics struct {
		Gauges []struct {
			Name  string
			Value float64
		}
	}
	if err := json.NewDecoder(secret.Body).Decode(&metrics); err != nil {
		return 0, err
	}
	for _, gauge := range metrics.Gauges {
		if strings.HasSuffix(gauge.Name, "runtime.num_goroutines") {
			return gauge.Value, nil
		}
	}
	return 0, errors.New("no count of Vault's goroutines")
}

// judge compares the last quarter of a soak with the second one: by then all
// caches are as full as they get, since the keys begin again. A tenth more, and
// a little, is taken for noise.
func judge(samples []sample) (table string, grew []string) {
	quarter := len(samples) / 4
	mean := func(part []sample, name string) float64 {
		sum := 0.0
		for _, s := range part {
			sum += s.values[name]
		}
		return sum / float64(max(1, len(part)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| mean | second quarter | last quarter |\n| :-- | --: | --: |\n")
	for _, curve := range curves {
		second, last := mean(samples[quarter:2*quarter], curve.name), mean(samples[len(samples)-quarter:], curve.name)
		fmt.Fprintf(&b, "| %s | %.1f %s | %.1f %s |\n", curve.name, second, curve.unit, last, curve.unit)
		// Vault's own memory holds its raft log; that of others is theirs.
		if curve.name != "Vault memory" && last > 1.1*second+8 {
			grew = append(grew, curve.name)
		}
	}
	return b.String(), grew
}

// plot draws each curve in a strip of its own, from zero up.
func plot(samples []sample, title string) string {
	const left, width, strip, gap = 170, 560, 44, 10
	height := 40 + len(curves)*(strip+gap)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 %d" font-family="sans-serif" font-size="12">`+"\n", height)
	fmt.Fprintf(&b, `<rect width="800" height="%d" fill="#ffffff"/><text x="400" y="20" text-anchor="middle">%s</text>`+"\n", height, title)
	for i, curve := range curves {
		top := 34 + i*(strip+gap)
		most := 1.0
		for _, s := range samples {
			most = max(most, s.values[curve.name])
		}
		var points []string
		for n, s := range samples {
			points = append(points, fmt.Sprintf("%.1f,%.1f", left+float64(n)*width/float64(max(1, len(samples)-1)), float64(top+strip)-strip*s.values[curve.name]/most))
		}
		fmt.Fprintf(&b, `<path d="M%d %dH%d" stroke="#999999"/><text x="160" y="%d" text-anchor="end">%s</text><text x="738" y="%d">%.0f %s</text>`+"\n",
			left, top+strip, left+width, top+strip/2+4, curve.name, top+10, most, curve.unit)
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#0072b2" stroke-width="1.5"/>`+"\n", strings.Join(points, " "))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
