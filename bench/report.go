package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// The generated part of the report lies between these lines.
const (
	beginMark = "<!-- bench: what follows is written by make bench -->"
	endMark   = "<!-- bench: end -->"
)

// printTable shows a section on the terminal.
func printTable(w io.Writer, r *results) {
	fmt.Fprintf(w, "\n%s\n\n", r.section.title)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, strings.Join(tableHead, "\t")+"\t")
	for _, row := range r.rows() {
		fmt.Fprintln(table, strings.Join(row.fields(), "\t")+"\t")
	}
	table.Flush()
	for _, v := range r.verdicts() {
		fmt.Fprintln(w, v)
	}
}

var tableHead = []string{"", "clients", "MACs/s", "p50 ms", "p99 ms", "CPU Vault", "plugin", "endpoint", "client", "ratio to the first"}

// fields are the columns of tableHead. CPU is in seconds for 10,000 MACs.
func (r row) fields() []string {
	return []string{
		r.workload, fmt.Sprint(r.clients), fmt.Sprintf("%.0f", r.throughput), milliseconds(r.p50), milliseconds(r.p99),
		cpuText(r.cpu.vault), cpuText(r.cpu.plugin), cpuText(r.cpu.endpoint), cpuText(r.cpu.client), r.ratio.String(),
	}
}

// cpuText shows nothing where nothing was measured or used.
func cpuText(seconds float64) string {
	if seconds < 0.0005 {
		return "–"
	}
	return fmt.Sprintf("%.3f", seconds)
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func (v verdict) String() string {
	text := fmt.Sprintf("%s: %s, %d clients: %s of %s, at least %.2f", v.word(), v.workload, v.clients, v.ratio, v.against, v.goal.ratio)
	if v.lowerP99 {
		text += fmt.Sprintf("; p99 %s of its, below 1", v.p99)
	}
	return text
}

func (v verdict) word() string {
	if v.met() {
		return "met"
	}
	return "NOT MET"
}

// markdown writes the generated part of the report.
func markdown(all []*results, about string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", about)
	fmt.Fprintf(&b, "\n| goal | clients | at least | measured | |\n| :-- | --: | --: | --: | :-- |\n")
	for _, r := range all {
		for _, v := range r.verdicts() {
			what := fmt.Sprintf("%s: %s against %s", r.section.title, v.workload, v.against)
			measured := v.ratio.String()
			if v.lowerP99 {
				measured += fmt.Sprintf(", p99 × %.2f", v.p99.median)
			}
			fmt.Fprintf(&b, "| %s | %d | %.2f | %s | %s |\n", what, v.clients, v.goal.ratio, measured, v.word())
		}
	}
	for _, r := range all {
		fmt.Fprintf(&b, "\n### %s\n\n| %s |\n| :--%s |\n", r.section.title, strings.Join(tableHead, " | "),
			strings.Repeat(" | --:", len(tableHead)-1))
		for _, row := range r.rows() {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row.fields(), " | "))
		}
	}
	return b.String()
}

// replaceMarked replaces what is between two marks of a file.
func replaceMarked(file, begin, end, generated string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	_, after, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return fmt.Errorf("%s has not the lines %q and %q", file, begin, end)
	}
	text := string(before) + begin + "\n\n" + generated + "\n" + end + string(after)
	return os.WriteFile(file, []byte(text), 0o644)
}

// machine describes where the numbers come from.
func machine(vaultVersion, engineVersion string, rounds int, duration time.Duration) string {
	return fmt.Sprintf("%s, %d cores, %s/%s; Vault %s, engine %s, %s; %d rounds of %s for each line.",
		cpuModel(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, vaultVersion, engineVersion, runtime.Version(), rounds, duration)
}

func cpuModel() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
