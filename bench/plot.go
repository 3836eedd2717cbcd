package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

// write brings performance.md and its plots up to date.
func write(dir string, all []*results, about string) error {
	if err := replaceMarked(filepath.Join(dir, "performance.md"), beginMark, endMark, markdown(all, about)); err != nil {
		return err
	}
	for _, r := range all {
		if r.section.id != "one" {
			continue
		}
		throughput := r.chart("MACs a second", false, func(row row) float64 { return row.throughput })
		p99 := r.chart("99th percentile of latency, ms", true, func(row row) float64 { return float64(row.p99) / float64(time.Millisecond) })
		for name, c := range map[string]*chart{"throughput.svg": throughput, "p99.svg": p99} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(c.svg()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// chart is a line plot over numbers of clients, which are evenly spaced.
type chart struct {
	title   string
	log     bool
	clients []int
	lines   []chartLine
}

type chartLine struct {
	name   string
	values []float64
}

func (r *results) chart(title string, log bool, of func(row) float64) *chart {
	c := &chart{title: title, log: log, clients: r.section.clients}
	for _, w := range r.section.workloads {
		line := chartLine{name: w.name}
		for _, clients := range c.clients {
			line.values = append(line.values, of(r.row(cell{w.name, clients})))
		}
		c.lines = append(c.lines, line)
	}
	return c
}

// The plotting area, in pixels.
const (
	plotLeft, plotRight = 70.0, 560.0
	plotTop, plotBottom = 50.0, 310.0
)

// colors can be told apart with any kind of eyesight (Okabe and Ito).
var colors = []string{"#000000", "#999999", "#0072b2", "#d55e00"}

func (c *chart) svg() string {
	ticks := c.ticks()
	low, high := ticks[0], ticks[len(ticks)-1]
	x := func(i int) float64 {
		return plotLeft + (plotRight-plotLeft)*float64(i)/float64(max(1, len(c.clients)-1))
	}
	y := func(value float64) float64 {
		share := (value - low) / (high - low)
		if c.log {
			share = math.Log(value/low) / math.Log(high/low)
		}
		return plotBottom - (plotBottom-plotTop)*share
	}
	view := svgView{Title: c.title, Left: plotLeft, Right: plotRight, Bottom: plotBottom}
	for _, tick := range ticks {
		view.Rows = append(view.Rows, svgText{plotLeft, y(tick), fmt.Sprintf("%g", tick)})
	}
	for i, clients := range c.clients {
		view.Columns = append(view.Columns, svgText{x(i), plotBottom, fmt.Sprint(clients)})
	}
	for n, line := range c.lines {
		var points []string
		for i, value := range line.values {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(value)))
		}
		view.Lines = append(view.Lines, svgLine{
			Color: colors[n%len(colors)], Points: strings.Join(points, " "),
			Name: line.name, NameX: plotLeft + float64(n)*130, NameY: plotTop - 14,
		})
	}
	var b strings.Builder
	if err := svgTemplate.Execute(&b, view); err != nil {
		panic(err) // the template and its data are both above and below
	}
	return b.String()
}

// ticks returns the values at the grid's lines, of which the first and the last
// bound the plot.
func (c *chart) ticks() []float64 {
	var values []float64
	for _, line := range c.lines {
		values = append(values, line.values...)
	}
	low, high := slices.Min(values), slices.Max(values)
	var ticks []float64
	if c.log {
		for tick := math.Pow(10, math.Floor(math.Log10(low))); ; tick *= 10 {
			if ticks = append(ticks, tick); tick >= high {
				return ticks
			}
		}
	}
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for high/step < 4 {
		step /= 2
	}
	for tick := 0.0; ; tick += step {
		if ticks = append(ticks, tick); tick >= high {
			return ticks
		}
	}
}

type (
	svgView struct {
		Title               string
		Left, Right, Bottom float64
		Rows, Columns       []svgText
		Lines               []svgLine
	}
	svgText struct {
		X, Y float64
		Text string
	}
	svgLine struct {
		Color, Points, Name string
		NameX, NameY        float64
	}
)

var svgTemplate = template.Must(template.New("svg").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 360" font-family="sans-serif" font-size="12">
<rect width="600" height="360" fill="#ffffff"/>
<text x="300" y="18" text-anchor="middle" font-size="14">{{.Title}}</text>
{{range .Rows}}<path d="M{{$.Left}} {{printf "%.1f" .Y}}H{{$.Right}}" stroke="#dddddd"/><text x="62" y="{{printf "%.1f" .Y}}" dy="4" text-anchor="end">{{.Text}}</text>
{{end}}{{range .Columns}}<text x="{{printf "%.1f" .X}}" y="328" text-anchor="middle">{{.Text}}</text>
{{end}}<text x="315" y="348" text-anchor="middle">clients</text>
{{range .Lines}}<polyline points="{{.Points}}" fill="none" stroke="{{.Color}}" stroke-width="2"/>
<circle cx="{{.NameX}}" cy="{{.NameY}}" r="4" fill="{{.Color}}"/><text x="{{.NameX}}" y="{{.NameY}}" dx="8" dy="4">{{.Name}}</text>
{{end}}</svg>
`))
