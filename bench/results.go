package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// cell is a workload with a number of clients.
type cell struct {
	workload string
	clients  int
}

// results are the measurements of a section, one a round for each cell.
type results struct {
	section section
	cells   map[cell][]*measurement
}

func newResults(s section) *results { return &results{section: s, cells: map[cell][]*measurement{}} }

// row is a line of a table.
type row struct {
	cell
	throughput float64 // MACs a second, median
	p50, p99   time.Duration
	cpu        cpuSeconds // for 10,000 MACs
	ratio      spread     // of throughput, to the first workload
}

// spread is the median of ratios, one a round, and between what they lie.
type spread struct{ median, low, high float64 }

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.median, s.low, s.high) }

func (r *results) rows() []row {
	var rows []row
	for _, clients := range r.section.clients {
		for _, w := range r.section.workloads {
			rows = append(rows, r.row(cell{w.name, clients}))
		}
	}
	return rows
}

func (r *results) row(c cell) row {
	measured := r.cells[c]
	sum, macs := cpuSeconds{}, 0
	for _, m := range measured {
		sum = sum.plus(m.cpu)
		macs += m.macs
	}
	per := 10000 / float64(macs)
	return row{
		cell:       c,
		throughput: medianOf(measured, (*measurement).throughput),
		p50:        medianOf(measured, func(m *measurement) time.Duration { return m.percentile(50) }),
		p99:        medianOf(measured, func(m *measurement) time.Duration { return m.percentile(99) }),
		cpu:        cpuSeconds{sum.vault * per, sum.plugin * per, sum.endpoint * per, sum.client * per},
		ratio:      r.ratio(c, cell{r.section.workloads[0].name, c.clients}, (*measurement).throughput),
	}
}

// ratio compares two cells round by round: what disturbs a round disturbs both.
func (r *results) ratio(c, against cell, of func(*measurement) float64) spread {
	var ratios []float64
	for i, m := range r.cells[c] {
		ratios = append(ratios, of(m)/of(r.cells[against][i]))
	}
	return spread{median(ratios), slices.Min(ratios), slices.Max(ratios)}
}

// verdict is whether a goal was reached.
type verdict struct {
	goal
	ratio, p99 spread
}

func (v verdict) met() bool {
	return v.ratio.median >= v.goal.ratio && (!v.lowerP99 || v.p99.median < 1)
}

func (r *results) verdicts() []verdict {
	var verdicts []verdict
	for _, g := range r.section.goals {
		c, against := cell{g.workload, g.clients}, cell{g.against, g.clients}
		if len(r.cells[c]) == 0 || len(r.cells[against]) == 0 {
			continue
		}
		verdicts = append(verdicts, verdict{
			goal:  g,
			ratio: r.ratio(c, against, (*measurement).throughput),
			p99:   r.ratio(c, against, func(m *measurement) float64 { return m.percentile(99).Seconds() }),
		})
	}
	return verdicts
}

func medianOf[T cmp.Ordered](measured []*measurement, of func(*measurement) T) T {
	var values []T
	for _, m := range measured {
		values = append(values, of(m))
	}
	return median(values)
}

// median returns the middle value, the lower one of two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
