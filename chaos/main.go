// Command chaos runs the engine on a cluster of three Vault servers, has
// clients use it while nodes are killed, paused, sealed, restarted and cut off,
// and checks that every answer was right: each key, alias and grant must look
// to its clients as if they had come one after the other
// (https://jepsen.io/consistency/models/linearizable).
//
// A seed repeats the decisions of a run: which operations, which faults, in
// which order and for how long. It does not repeat their timing.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context) error {
	o := options{out: os.Stdout}
	var faults, write, plugin string
	var soakOnly bool
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "repeat the decisions of the run with this seed")
	flag.DurationVar(&o.length, "length", 3*time.Minute, "how long there are faults")
	flag.IntVar(&o.clients, "clients", 8, "number of clients")
	flag.DurationVar(&o.pause, "pause", 2*time.Millisecond, "how long a client pauses between two operations")
	flag.StringVar(&faults, "faults", "", "only these faults, separated by commas: "+strings.Join(faultNames(), ", "))
	flag.BoolVar(&o.namespaces, "network", true, "as root, run the nodes in network namespaces and cut links")
	flag.StringVar(&plugin, "plugin", "", "path of the engine's program; built from this checkout if empty")
	flag.BoolVar(&soakOnly, "soak", false, "no faults: one server and an endpoint, and whether memory, descriptors and goroutines grow")
	flag.StringVar(&write, "write", "", "folder to write the figures to, as reliability.json and into reliability.md")
	flag.Parse()
	if faults != "" {
		o.faults = strings.Split(faults, ",")
	}
	o.plugin = testvault.Plugin{Name: testvault.EngineName, Path: plugin}
	if plugin == "" {
		var err error
		if o.plugin, err = testvault.Engine(ctx, kmshmac.Version); err != nil {
			return err
		}
	}
	if soakOnly {
		return soak(ctx, o, write)
	}
	r, err := execute(ctx, o)
	if err != nil {
		return fmt.Errorf("seed %d: %w", o.seed, err)
	}
	fmt.Println()
	r.print(os.Stdout)
	r.complain(os.Stdout)
	if write != "" {
		if err := r.write(write); err != nil {
			return err
		}
	}
	if n := len(r.Findings) + len(r.Undecided); n > 0 {
		return fmt.Errorf("seed %d: %d findings", o.seed, n)
	}
	return nil
}

// The generated part of the documentation lies between these lines.
const (
	beginMark = "<!-- chaos: what follows is written by make chaos -->"
	endMark   = "<!-- chaos: end -->"
)

// write writes the figures to a file for programs, and into the documentation.
func (r *report) write(dir string) error {
	encoded, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "reliability.json"), append(encoded, '\n'), 0o644); err != nil {
		return err
	}
	page := filepath.Join(dir, "reliability.md")
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return fmt.Errorf("%s lacks the lines %q and %q", page, beginMark, endMark)
	}
	var figures strings.Builder
	r.print(&figures)
	return os.WriteFile(page, []byte(before+beginMark+"\n\n"+figures.String()+"\n"+endMark+after), 0o644)
}
