package main

// What an inventory costs through a real Vault, and what it costs those who
// make MACs meanwhile.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// The tables of inventories lie between these lines of performance.md.
const (
	inventoryBegin = "<!-- inventory: what follows is written by make bench-inventory -->"
	inventoryEnd   = "<!-- inventory: end -->"
)

const (
	// inventoryPage is the largest page; defaultPage is what one gets who does
	// not say.
	inventoryPage, defaultPage = 500, 100
	// inventoryMacs is how many clients make MACs beside inventories.
	inventoryMacs = 16
	// singleReads are made of keys one by one, to compare pages with.
	singleReads = 500
	// besides is how many times as long as others a run beside inventories is:
	// inventories have turns.
	besides = 4
)

// inventoriesBeside are how many inventories are read again and again beside
// MACs.
var inventoriesBeside = []int{0, 1, 8, 64}

// inventoryTelemetry lets Vault count its storage calls for a whole run.
const inventoryTelemetry = `
telemetry {
  prometheus_retention_time = "24h"
  disable_hostname          = true
}`

// inventoryLab is a Vault with a mount for each number of keys.
type inventoryLab struct {
	lab
	sizes []int
}

// inventoryRow is one reading of a whole mount.
type inventoryRow struct {
	keys, limit   int
	round         string
	requests      int
	calls         int // to storage, but for those that Vault makes for itself
	seconds       float64
	cpu           float64       // seconds, of Vault and the plugin
	median, worst time.Duration // of a page
	reads         float64       // a page's CPU time, in single reads
}

// besideRow is what MACs were made beside inventories.
type besideRow struct {
	inventories int
	row
	looked float64 // keys a second that the inventories had
}

func inventoryMount(n int) string { return fmt.Sprintf("inventory-%d", n) }

func inventoryKey(i int) string { return fmt.Sprintf("team%d/f%d/key-%06d", i%4, i/4%10, i) }

// runInventory is the whole of -inventory.
func runInventory(ctx context.Context, o *options) error {
	l, err := newInventoryLab(ctx, o.inventory, os.Stderr)
	if err != nil {
		return err
	}
	defer l.stop()
	health, err := l.server.Client().Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	var rows []inventoryRow
	for _, n := range l.sizes {
		of, err := l.readAll(ctx, n, o.settle)
		if err != nil {
			return fmt.Errorf("%d keys: %w", n, err)
		}
		rows = append(rows, of...)
	}
	beside, err := l.beside(ctx, o)
	if err != nil {
		return err
	}
	text := machine(health.Version, kmshmac.Version, o.rounds, besides*o.duration) + "\n\n" + inventoryMarkdown(rows, beside)
	fmt.Println(text)
	if o.write == "" {
		return nil
	}
	return replaceMarked(filepath.Join(o.write, "performance.md"), inventoryBegin, inventoryEnd, text)
}

// newInventoryLab starts Vault and makes the keys, each with an alias, in 40
// folders.
func newInventoryLab(ctx context.Context, sizes []int, progress io.Writer) (_ *inventoryLab, err error) {
	engine, err := testvault.Engine(ctx, kmshmac.Version)
	if err != nil {
		return nil, err
	}
	l := &inventoryLab{sizes: sizes}
	l.server, err = testvault.Start(ctx, testvault.Config{
		Plugins: []testvault.Plugin{engine}, LogLevel: "warn", Extra: inventoryTelemetry, Progress: progress,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	u, err := url.Parse(l.server.Address)
	if err != nil {
		return nil, err
	}
	l.vaultHost = u.Host
	const policy = `
path "+/generate-mac/*" { capabilities = ["patch"] }
path "+/keys/*"         { capabilities = ["read"] }
path "+/inventory"      { capabilities = ["read"] }
path "+/inventory/*"    { capabilities = ["read"] }`
	if l.token, err = l.server.Token(ctx, "inventory", policy); err != nil {
		return nil, err
	}
	for _, n := range sizes {
		if err := l.server.Mount(ctx, inventoryMount(n), api.MountInput{Type: testvault.EngineName}); err != nil {
			return nil, err
		}
		if err := l.createEstate(ctx, n, progress); err != nil {
			return nil, err
		}
	}
	l.processes = processes{vault: l.server.Pid(), plugins: childrenOf(l.server.Pid())}
	return l, nil
}

func (l *inventoryLab) createEstate(ctx context.Context, n int, progress io.Writer) error {
	vault, start := l.server.Client().Logical(), time.Now()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = inventoryKey(i)
	}
	err := inParallel(ids, func(id string) error {
		if _, err := vault.WriteWithContext(ctx, inventoryMount(n)+"/keys/"+id, map[string]any{"key_spec": "HMAC_256"}); err != nil {
			return err
		}
		_, err := vault.WriteWithContext(ctx, inventoryMount(n)+"/aliases/"+id, map[string]any{"target_key_id": id})
		return err
	})
	fmt.Fprintf(progress, "created %d keys with an alias each in %.0f s\n", n, time.Since(start).Seconds())
	return err
}

func (l *inventoryLab) get(path string) []byte {
	return httpRequest("GET", l.vaultHost, "/v1/"+path, "", "X-Vault-Request: true", "X-Vault-Token: "+l.token)
}

// readAll reads the inventory of a mount to its end: after a start of the
// plugin, and then again in pages of two sizes. It rests before each, so that
// none pays for what was read before it.
func (l *inventoryLab) readAll(ctx context.Context, n int, settle time.Duration) (rows []inventoryRow, err error) {
	c, err := dial(l.vaultHost)
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.keep = true
	base, err := l.callsOf(ctx, 0, func() error { return nil })
	if err != nil {
		return nil, err
	}
	var reads cpuSeconds
	perRead, err := l.callsOf(ctx, base, func() error {
		for i := range singleReads { // those keys are in memory then, as at the second reading
			if err := c.do(l.get(inventoryMount(n) + "/keys/" + inventoryKey(i%n))); err != nil {
				return err
			}
		}
		before := l.processes.cpu()
		for i := range singleReads {
			if err := c.do(l.get(inventoryMount(n) + "/keys/" + inventoryKey(i%n))); err != nil {
				return err
			}
		}
		reads = l.processes.cpu().minus(before)
		return nil
	})
	if err != nil {
		return nil, err
	}
	read := (reads.vault + reads.plugin) / singleReads
	// Vault looks up the token for each request. The first reads of the keys,
	// one call each, are not Vault's.
	own := float64(perRead-min(n, singleReads)) / (2 * singleReads)
	for _, r := range []inventoryRow{
		{round: "at first", limit: inventoryPage}, {round: "again", limit: inventoryPage}, {round: "again", limit: defaultPage},
	} {
		if r.round == "at first" {
			reload := map[string]any{"mounts": []string{inventoryMount(n) + "/"}}
			if _, err := l.server.Client().Logical().WriteWithContext(ctx, "sys/plugins/reload/backend", reload); err != nil {
				return nil, err
			}
			if err := c.do(l.get(inventoryMount(n) + "/ready")); err != nil {
				return nil, err
			}
			l.processes.plugins = childrenOf(l.server.Pid())
		} else {
			sleep(ctx, settle)
		}
		r.keys = n
		var pages []time.Duration
		r.calls, err = l.callsOf(ctx, base, func() error {
			before, start := l.processes.cpu(), time.Now()
			pages, err = l.walk(ctx, c, n, r.limit)
			used := l.processes.cpu().minus(before)
			r.seconds, r.cpu = time.Since(start).Seconds(), used.vault+used.plugin
			return err
		})
		if err != nil {
			return nil, err
		}
		r.requests = len(pages)
		r.calls = max(0, r.calls-int(own*float64(r.requests)+0.5))
		r.reads = r.cpu / float64(r.requests) / read
		slices.Sort(pages)
		r.median, r.worst = median(pages), pages[len(pages)-1]
		rows = append(rows, r)
	}
	return rows, nil
}

var (
	nextAfter = regexp.MustCompile(`"next_after":"([^"]+)"`)
	pageKeys  = regexp.MustCompile(`"keys":\[([^\]]*)\]`)
)

// page reads one page, and returns how many keys it has, and where to go on, ""
// at the end.
func (l *inventoryLab) page(c *client, n, limit int, after string) (found int, next string, err error) {
	query := url.Values{"limit": {strconv.Itoa(limit)}, "after": {after}}
	if err := c.do(l.get(inventoryMount(n) + "/inventory?" + query.Encode())); err != nil {
		return 0, "", err
	}
	keys := pageKeys.FindSubmatch(c.body.Bytes())
	if keys == nil {
		return 0, "", fmt.Errorf("no keys in %.300s", c.body.Bytes())
	}
	if len(keys[1]) > 0 {
		found = bytes.Count(keys[1], []byte(",")) + 1
	}
	if match := nextAfter.FindSubmatch(c.body.Bytes()); match != nil {
		next = string(match[1])
	}
	return found, next, nil
}

// walk reads all pages, which must have all keys, and returns how long each took.
func (l *inventoryLab) walk(ctx context.Context, c *client, n, limit int) (pages []time.Duration, err error) {
	total := 0
	for after := ""; ; {
		start := time.Now()
		found, next, err := l.page(c, n, limit, after)
		if err != nil || ctx.Err() != nil {
			return nil, errors.Join(err, ctx.Err())
		}
		pages = append(pages, time.Since(start))
		total += found
		if after = next; after == "" {
			break
		}
	}
	if total != n {
		return nil, fmt.Errorf("the inventory has %d keys", total)
	}
	return pages, nil
}

// callsOf returns how many storage calls Vault has made for some work, less base,
// which is what asking takes.
func (l *inventoryLab) callsOf(ctx context.Context, base int, work func() error) (int, error) {
	before, err := l.storageCalls(ctx)
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := l.storageCalls(ctx)
	return after - before - base, err
}

var barrierCalls = regexp.MustCompile(`(?m)^vault_barrier_(?:get|list|put|delete)_count(?:{[^}]*})? (\S+)$`)

// storageCalls returns how many storage calls Vault has counted since its start.
func (l *inventoryLab) storageCalls(ctx context.Context) (int, error) {
	response, err := l.server.Client().Logical().ReadRawWithDataWithContext(ctx, "sys/metrics", map[string][]string{"format": {"prometheus"}})
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	total, matches := 0.0, barrierCalls.FindAllSubmatch(text, -1)
	for _, match := range matches {
		n, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	if len(matches) == 0 {
		return 0, errors.New("Vault's metrics do not tell of storage calls")
	}
	return int(total), nil
}

// besideMount has the keys that inventories are read of beside MACs: the
// largest mount of at most 10,000.
func (l *inventoryLab) besideMount() int {
	n := l.sizes[0]
	for _, size := range l.sizes {
		if size <= 10_000 {
			n = max(n, size)
		}
	}
	return n
}

// beside makes MACs while inventories of the same mount are read without end,
// with each number of them in turn, round after round.
func (l *inventoryLab) beside(ctx context.Context, o *options) ([]besideRow, error) {
	n := l.besideMount()
	var requests []vaultRequest
	for range variants {
		r := generate(inventoryMount(n), inventoryKey(0), message(messageBytes))
		r.form = patch
		requests = append(requests, r)
	}
	s := section{id: "inventory", clients: []int{inventoryMacs}}
	for _, readers := range inventoriesBeside {
		s.workloads = append(s.workloads, l.vaultWorkload(strconv.Itoa(readers), 1, requests))
	}
	r := newResults(s)
	looked := map[int][]float64{}
	for range o.rounds {
		for i, readers := range inventoriesBeside {
			m, keys, err := l.besideRun(ctx, o, s.workloads[i], n, readers)
			if err != nil {
				return nil, err
			}
			c := cell{s.workloads[i].name, inventoryMacs}
			r.cells[c] = append(r.cells[c], m)
			looked[readers] = append(looked[readers], keys)
		}
	}
	var rows []besideRow
	for i, row := range r.rows() {
		readers := inventoriesBeside[i]
		rows = append(rows, besideRow{inventories: readers, row: row, looked: median(looked[readers])})
	}
	return rows, nil
}

// besideRun is one of them. The readers begin before it, and use up what they
// may read at once.
func (l *inventoryLab) besideRun(ctx context.Context, o *options, w *workload, n, readers int) (m *measurement, keys float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var found atomic.Int64
	errs := make([]error, readers)
	for i := range readers {
		group.Go(func() { errs[i] = l.readForever(ctx, n, &found) })
	}
	if readers > 0 {
		sleep(ctx, o.settle)
	}
	before, start := found.Load(), time.Now()
	m, err = w.run(ctx, inventoryMacs, besides*o.duration, l.processes.cpu)
	keys = float64(found.Load()-before) / time.Since(start).Seconds()
	cancel()
	group.Wait()
	if err == nil {
		err = errors.Join(errs...)
	}
	return m, keys, err
}

// readForever reads an inventory again and again, and waits a moment where it is
// told to slow down.
func (l *inventoryLab) readForever(ctx context.Context, n int, found *atomic.Int64) error {
	c, err := dial(l.vaultHost)
	if err != nil {
		return err
	}
	defer c.close()
	c.keep = true
	for after := ""; ctx.Err() == nil; {
		keys, next, err := l.page(c, n, inventoryPage, after)
		switch {
		case err == nil:
			found.Add(int64(keys))
			after = next
		case !strings.Contains(err.Error(), "ThrottlingException"):
			return err
		default:
			sleep(ctx, 100*time.Millisecond)
		}
	}
	return nil
}

// inventoryMarkdown are the tables.
func inventoryMarkdown(rows []inventoryRow, beside []besideRow) string {
	var b strings.Builder
	b.WriteString("| keys | | pages of | requests | storage calls | seconds | CPU s | a page: median ms | longest | CPU, in single reads |\n")
	b.WriteString("| --: | :-- | --: | --: | --: | --: | --: | --: | --: | --: |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %d | %s | %d | %d | %d | %.2f | %.2f | %s | %s | %.1f |\n",
			r.keys, r.round, r.limit, r.requests, r.calls, r.seconds, r.cpu, milliseconds(r.median), milliseconds(r.worst), r.reads)
	}
	b.WriteString("\n| inventories under way | MACs/s | p50 ms | p99 ms | ratio to none | keys that they answer a second |\n")
	b.WriteString("| --: | --: | --: | --: | --: | --: |\n")
	for _, r := range beside {
		fmt.Fprintf(&b, "| %d | %.0f | %s | %s | %s | %.0f |\n", r.inventories, r.throughput, milliseconds(r.p50), milliseconds(r.p99), r.ratio, r.looked)
	}
	return b.String()
}
