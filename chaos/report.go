package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

func rand32() string {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}

// report is the figures of a run.
type report struct {
	Seed       uint64         `json:"seed"`
	Date       string         `json:"date"`
	Length     string         `json:"length"`
	Clients    int            `json:"clients"`
	LeftOut    string         `json:"faults_left_out,omitempty"`
	Operations int            `json:"operations"`
	Answered   int            `json:"answered"`
	Refused    int            `json:"refused"`
	Writes     int            `json:"acknowledged_writes"`
	Open       int            `json:"ended_in_the_dark"`
	Unsent     int            `json:"not_connected"`
	Native     asked          `json:"macs_verifications_descriptions_natively"`
	Endpoint   asked          `json:"macs_verifications_descriptions_through_the_endpoint"`
	MACs       int            `json:"macs_compared"`
	Kinds      map[string]int `json:"operations_by_kind"`
	Troubles   map[string]int `json:"what_clients_saw_instead_of_answers"`
	Things     map[string]int `json:"histories_checked"`
	Longest    int            `json:"longest_history"`
	Undecided  []string       `json:"undecided_histories"`
	Faults     []faultFigures `json:"faults"`
	Lost       int            `json:"packets_lost"`
	Odd        []string       `json:"faults_that_did_not_go_as_planned,omitempty"`
	Findings   []finding      `json:"findings"`
}

// faultFigures is what came of one kind of fault.
type faultFigures struct {
	Name    string  `json:"name"`
	Times   int     `json:"times"`
	Silence float64 `json:"longest_silence_of_a_client_s"`
	Median  float64 `json:"median_of_longest_silences_s"`
}

func (c *chaos) report(result checked) *report {
	t := c.tally
	return &report{
		Seed: c.seed, Date: time.Now().UTC().Format(time.DateOnly), Length: c.length.String(), Clients: c.clients, LeftOut: c.leftOut, Odd: c.odd,
		Operations: t.begun, Answered: t.answered, Refused: t.refused, Writes: t.writes, Open: t.open, Unsent: t.unsent,
		Native: t.native, Endpoint: t.endpoint, MACs: c.h.macsSeen, Kinds: t.kinds, Troubles: t.troubles,
		Things: result.things, Longest: result.longest, Undecided: result.undecided,
		Faults: c.faultFigures(), Lost: c.lost, Findings: result.findings,
	}
}

// faultFigures sums up how long clients went without an answer.
func (c *chaos) faultFigures() []faultFigures {
	silences := map[string][]time.Duration{}
	for _, fault := range c.inflicts {
		longest := time.Duration(0)
		for _, times := range c.tally.well {
			longest = max(longest, silence(times, fault))
		}
		silences[fault.name] = append(silences[fault.name], longest)
	}
	var figures []faultFigures
	for _, name := range faultNames() {
		of := slices.Sorted(slices.Values(silences[name]))
		if len(of) > 0 {
			figures = append(figures, faultFigures{
				Name: name, Times: len(of), Silence: round(of[len(of)-1]), Median: round(of[len(of)/2]),
			})
		}
	}
	return figures
}

// silence is the longest time between two answers to a client, of those that
// overlap with a fault.
func silence(times []int64, fault inflicted) time.Duration {
	longest, last := int64(0), int64(0)
	for _, at := range times {
		if at > fault.from && last < fault.to {
			longest = max(longest, at-last)
		}
		last = at
	}
	return time.Duration(longest)
}

func round(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)) / float64(time.Second)
}

// print shows the figures, as they stand in the documentation.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "Run of %s: seed %d, %s of faults, %d clients.\n\n", r.Date, r.Seed, r.Length, r.Clients)
	fmt.Fprintf(w, "| | |\n| :-- | --: |\n")
	total := 0
	for _, n := range r.Things {
		total += n
	}
	times := 0
	for _, f := range r.Faults {
		times += f.Times
	}
	for _, row := range []struct {
		name  string
		value int
	}{
		{"operations", r.Operations}, {"answered", r.Answered}, {"of these refused by the engine, as the key's state demands", r.Refused},
		{"acknowledged writes", r.Writes}, {"ended in the dark (timeout, connection lost, status 5xx)", r.Open},
		{"not sent (no connection)", r.Unsent},
		{"MACs, verifications, descriptions, natively", r.Native.All}, {"not answered", r.Native.Unanswered},
		{"MACs, verifications, descriptions, through the endpoint", r.Endpoint.All}, {"not answered", r.Endpoint.Unanswered},
		{"MACs compared", r.MACs}, {"histories checked: keys", r.Things["key"]},
		{"histories checked: aliases", r.Things["alias"]}, {"histories checked: grants", r.Things["grant"]},
		{"faults", times}, {"packets lost on lossy links", r.Lost},
		{"histories that are not linearizable", r.found("linearizable")}, {"lists that show what no write explains", r.found("lists")}, {"wrong answers", r.found("answers")},
		{"memory, storage and another node disagree", r.found("agreement")}, {"histories left undecided", len(r.Undecided)},
	} {
		fmt.Fprintf(w, "| %s | %d |\n", row.name, row.value)
	}
	fmt.Fprintf(w, "\n| fault | times | longest silence of a client | median |\n| :-- | --: | --: | --: |\n")
	for _, f := range r.Faults {
		fmt.Fprintf(w, "| %s | %d | %.2f s | %.2f s |\n", f.Name, f.Times, f.Silence, f.Median)
	}
	for _, odd := range r.Odd {
		fmt.Fprintf(w, "\nNot as planned, and made good by a restart of all nodes: %s.\n", odd)
	}
	if r.LeftOut != "" {
		fmt.Fprintf(w, "\n%s.\n", r.LeftOut)
	}
}

func (r *report) found(check string) int {
	n := 0
	for _, f := range r.Findings {
		if f.Check == check {
			n++
		}
	}
	return n
}

// complain shows what was found, and what clients saw most.
func (r *report) complain(w io.Writer) {
	names := slices.SortedFunc(maps.Keys(r.Troubles), func(a, b string) int { return cmp.Compare(r.Troubles[b], r.Troubles[a]) })
	for _, name := range names {
		fmt.Fprintf(w, "%6d %s\n", r.Troubles[name], name)
	}
	for i, f := range r.Findings {
		if i == 20 {
			fmt.Fprintf(w, "and %d more\n", len(r.Findings)-i)
			break
		}
		fmt.Fprintf(w, "FOUND by %s: %s %s\n", f.Check, f.What, f.Detail)
	}
	if len(r.Undecided) > 0 {
		fmt.Fprintf(w, "undecided: %s\n", strings.Join(r.Undecided, ", "))
	}
}
