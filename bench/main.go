// Command bench measures the engine side by side with what one would use
// instead: Vault's built-in Transit, and an external plugin that does nothing.
// It starts Vault, mounts all of them and starts the KMS endpoint, runs each
// workload in turn for several rounds, and prints throughput, latencies, CPU
// time and the ratio to the first workload of each table. With -write it also
// writes the tables and plots of docs/performance.md.
//
// Absolute numbers depend on the machine and on what else it does; ratios of
// workloads that ran seconds apart depend on it much less, so those are what
// goals are about.
//
// The load is generated here and not by a library such as vegeta: see client
// and workload.run for the reasons.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
)

// options are the flags.
type options struct {
	rounds   int
	duration time.Duration
	clients  []int
	keys     int
	only     *regexp.Regexp
	workload *regexp.Regexp
	write    string
	profile  string

	inventory []int         // numbers of keys, to measure inventories instead
	settle    time.Duration // before each reading of an inventory but the first
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, parse()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse() *options {
	o := &options{settle: 5 * time.Second, clients: []int{1, 16, 64, 256}, only: regexp.MustCompile(""), workload: regexp.MustCompile("")}
	flag.IntVar(&o.rounds, "rounds", 10, "how often each workload is run")
	flag.DurationVar(&o.duration, "duration", 600*time.Millisecond, "how long, each time")
	flag.IntVar(&o.keys, "keys", 100000, "keys to create for the comparison of many keys with few; 0 skips it")
	flag.Func("clients", "numbers of concurrent clients (default 1,16,64,256)", func(text string) (err error) {
		o.clients, err = numbers(text)
		return err
	})
	flag.Func("only", "run the sections whose ids match this `regexp`: one, callers, batch1000, batch100, batchsize, keys, message, mounts", func(text string) (err error) {
		o.only, err = regexp.Compile("^(" + text + ")$")
		return err
	})
	flag.Func("workload", "run the workloads whose names match this `regexp`", func(text string) (err error) {
		o.workload, err = regexp.Compile(text)
		return err
	})
	flag.Func("inventory", "measure inventories of so many `keys` instead: 100,10000,100000", func(text string) (err error) {
		o.inventory, err = numbers(text)
		return err
	})
	flag.StringVar(&o.write, "write", "", "`folder` of performance.md and its plots, to be brought up to date")
	flag.StringVar(&o.profile, "profile", "", "`folder` for profiles of Vault, the plugin and the endpoint under each workload; what is measured then is not to be compared")
	flag.Parse()
	return o
}

func numbers(text string) ([]int, error) {
	var list []int
	for _, field := range strings.Split(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number", field)
		}
		list = append(list, n)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

func run(ctx context.Context, o *options) error {
	if len(o.inventory) > 0 {
		return runInventory(ctx, o)
	}
	if !o.only.MatchString("keys") {
		o.keys = 0
	}
	l, err := newLab(ctx, o, os.Stderr)
	if err != nil {
		return err
	}
	defer l.stop()
	health, err := l.server.Client().Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	about := machine(health.Version, kmshmac.Version, o.rounds, o.duration)
	fmt.Println(about)
	all, err := l.measure(ctx, o)
	if err != nil {
		return err
	}
	for _, r := range all {
		printTable(os.Stdout, r)
	}
	if o.write == "" {
		return nil
	}
	return write(o.write, all, about)
}

// measure runs all workloads in turn, round after round, so that what disturbs
// the machine for a while disturbs all of them.
func (l *lab) measure(ctx context.Context, o *options) ([]*results, error) {
	var all []*results
	for _, s := range l.sections(o.clients, o.keys) {
		s.workloads = slices.DeleteFunc(s.workloads, func(w *workload) bool { return !o.workload.MatchString(w.name) })
		if !o.only.MatchString(s.id) || len(s.workloads) == 0 {
			continue
		}
		all = append(all, newResults(s))
		for _, w := range s.workloads {
			if err := w.look(); err != nil {
				return nil, err
			}
		}
	}
	for round := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, o.rounds)
		for _, r := range all {
			if err := l.measureSection(ctx, o, r); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

func (l *lab) measureSection(ctx context.Context, o *options, r *results) error {
	for _, clients := range r.section.clients {
		for _, w := range r.section.workloads {
			finish := l.profiles(ctx, o, r.section.id, w, clients)
			m, err := w.run(ctx, clients, o.duration, l.processes.cpu)
			if err := errors.Join(err, finish()); err != nil {
				return err
			}
			c := cell{w.name, clients}
			r.cells[c] = append(r.cells[c], m)
		}
	}
	return nil
}
