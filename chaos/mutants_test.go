package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

var (
	runMutants  = flag.Bool("mutants", false, "build each mutant and show that chaos finds what is wrong with it")
	onlyMutant  = flag.String("mutant", "", "with -mutants: only this one")
	mutantTable = flag.String("mutant-table", "", "with -mutants: file for a table of what found them")
)

// mutant is a patch that makes the engine wrong, of chaos/mutants. It begins
// with a sentence that says how, and the faults that bring it to light.
type mutant struct {
	name, file, what string
	faults           []string
}

func mutants(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("mutants/*.patch")
	if err != nil || len(files) == 0 {
		t.Fatalf("no mutants: %v", err)
	}
	var all []mutant
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head := strings.SplitN(string(text), "\n", 4)
		names, ok := strings.CutPrefix(head[2], "Faults: ")
		if !ok {
			t.Fatalf("%s does not begin with a sentence, an empty line and its faults", file)
		}
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		m := mutant{strings.TrimSuffix(filepath.Base(file), ".patch"), path, head[0], strings.Split(names, ", ")}
		if n := len(newFaultPlan(0, m.faults, lossyLinks).kinds); n != len(m.faults) {
			t.Errorf("%s: %d of its faults %q exist", m.name, n, m.faults)
		}
		all = append(all, m)
	}
	return all
}

// TestMutantsApply keeps the patches in step with the source.
func TestMutantsApply(t *testing.T) {
	for _, m := range mutants(t) {
		cmd := exec.CommandContext(t.Context(), "git", "apply", "--check", "-C1", m.file)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", m.name, err, out)
		}
	}
}

// TestMutants shows that a run finds what it is to find. It takes a minute or
// so each.
func TestMutants(t *testing.T) {
	if !*runMutants {
		t.Skip("takes long; make mutants runs it")
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| mutant | found by | after a run of 20 s |\n| :-- | :-- | :-- |\n")
	for _, m := range mutants(t) {
		if *onlyMutant != "" && m.name != *onlyMutant {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			fmt.Fprintf(&table, "| %s | %s |\n", strings.TrimSuffix(m.what, "."), m.hunt(t))
		})
	}
	if *mutantTable != "" {
		if err := os.WriteFile(*mutantTable, []byte(table.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Log("\n" + table.String())
}

// hunt runs a mutant until it is found, and returns the columns of the table.
func (m mutant) hunt(t *testing.T) string {
	program := m.build(t)
	for round := range 6 {
		o := options{
			seed: uint64(round + 1), length: 20 * time.Second, least: 600, clients: 8, pause: 2 * time.Millisecond, faults: m.faults,
			plugin: testvault.Plugin{Name: testvault.EngineName, Path: program}, out: testWriter{t},
		}
		r, err := execute(t.Context(), o)
		if err != nil {
			t.Fatalf("seed %d: %v", o.seed, err)
		}
		if len(r.Findings) > 0 {
			checks := map[string]int{}
			for _, f := range r.Findings {
				checks[f.Check]++
			}
			var by []string
			for _, check := range []string{"answers", "linearizable", "lists", "agreement"} {
				if n := checks[check]; n > 0 {
					by = append(by, fmt.Sprintf("%s (%d)", check, n))
				}
			}
			var found strings.Builder
			r.complain(&found)
			t.Log("\n" + found.String())
			return fmt.Sprintf("%s | run %d, seed %d", strings.Join(by, ", "), round+1, o.seed)
		}
	}
	t.Error("nothing was found")
	return "nothing |"
}

// build applies the patch to a copy of the source and builds the engine there.
func (m mutant) build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := testvault.CopySource(dir); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "engine")
	for _, command := range [][]string{
		{"git", "apply", "-C1", m.file},
		{"go", "build", "-trimpath", "-buildvcs=false", "-o", program, testvault.EnginePackage},
	} {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
	return program
}
