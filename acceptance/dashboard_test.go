package acceptance

import (
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dashboardFile is where to draw the dashboard; see scripts/dashboard.sh.
var dashboardFile = flag.String("dashboard", "", "draw the dashboard of examples/monitoring, with a minute's load, to this SVG file")

// dashboardPanel is what is drawn of a panel.
type dashboardPanel struct {
	Title, Type string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
}

// line is a series over time.
type line struct {
	name   string
	values []float64 // NaN where there is none
}

func (l line) last() float64 {
	for i := len(l.values) - 1; i >= 0; i-- {
		if !math.IsNaN(l.values[i]) {
			return l.values[i]
		}
	}
	return math.NaN()
}

const (
	dashboardSeconds = 60
	unitWidth        = 48 // pixels of one of 24 columns
	unitHeight       = 30
)

var dashboardColors = []string{"#73bf69", "#5794f2", "#f2cc0c", "#ff780a", "#b877d9", "#f2495c", "#8ab8ff", "#c8f2c2"}

// series asks Prometheus for the last minute of a panel.
func (e *monitored) series(t *testing.T, p dashboardPanel, end time.Time) (lines []line) {
	t.Helper()
	for _, target := range p.Targets {
		query := url.Values{
			"query": {strings.ReplaceAll(target.Expr, "$__rate_interval", "10s")}, "step": {"1"},
			"start": {fmt.Sprint(end.Unix() - dashboardSeconds)}, "end": {fmt.Sprint(end.Unix())},
		}
		text, err := get(t.Context(), e.prometheus+"/api/v1/query_range?"+query.Encode())
		must(t, err)
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Values [][2]any
				}
			}
		}
		must(t, json.Unmarshal([]byte(text), &answer))
		for _, r := range answer.Data.Result {
			l := line{name: target.LegendFormat, values: make([]float64, dashboardSeconds+1)}
			for label, value := range r.Metric {
				l.name = strings.ReplaceAll(l.name, "{{"+label+"}}", value)
			}
			for i := range l.values {
				l.values[i] = math.NaN()
			}
			for _, v := range r.Values {
				at, _ := v[0].(float64)
				text, _ := v[1].(string)
				if i := int(at) - int(end.Unix()) + dashboardSeconds; i >= 0 && i < len(l.values) {
					l.values[i], _ = strconv.ParseFloat(text, 64)
				}
			}
			lines = append(lines, l)
		}
	}
	return lines
}

// inUnit writes a value as Grafana would.
func inUnit(value float64, unit string) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case unit == "s" && value >= 48*3600:
		return fmt.Sprintf("%.1f days", value/86400)
	case unit == "s" && value < 1:
		return inUnit(value*1000, "") + " ms"
	case unit == "s":
		return fmt.Sprintf("%.0f s", value)
	case value >= 1e6:
		return fmt.Sprintf("%.0f M", value/1e6)
	case value < 100 && value != math.Trunc(value):
		return fmt.Sprintf("%.3g", value)
	}
	return fmt.Sprintf("%.0f", value)
}

// drawDashboard draws all panels with what Prometheus knows.
func (e *monitored) drawDashboard(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile("../examples/monitoring/dashboard.json")
	must(t, err)
	var dashboard struct {
		Title  string
		Panels []dashboardPanel
	}
	must(t, json.Unmarshal(text, &dashboard))
	end := time.Now()
	height := 40
	var body strings.Builder
	for _, p := range dashboard.Panels {
		height = max(height, 40+(p.GridPos.Y+p.GridPos.H)*unitHeight)
		drawPanel(&body, p, e.series(t, p, end))
	}
	picture := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12" fill="#ccccdc">
<rect width="100%%" height="100%%" fill="#111217"/><text x="8" y="26" font-size="18">%s</text>
%s</svg>
`, 24*unitWidth, height, html.EscapeString(dashboard.Title), body.String())
	must(t, os.WriteFile(file, []byte(picture), 0o644))
}

func drawPanel(out *strings.Builder, p dashboardPanel, lines []line) {
	x, y, w, h := p.GridPos.X*unitWidth+3, 40+p.GridPos.Y*unitHeight+3, p.GridPos.W*unitWidth-6, p.GridPos.H*unitHeight-6
	fmt.Fprintf(out, `<g transform="translate(%d %d)"><rect width="%d" height="%d" rx="2" fill="#181b1f" stroke="#2c3235"/><text x="8" y="18" font-weight="bold">%s</text>`+"\n",
		x, y, w, h, html.EscapeString(p.Title))
	if p.Type == "stat" {
		for i, l := range lines {
			at := (2*i + 1) * w / (2 * len(lines))
			value := inUnit(l.last(), p.FieldConfig.Defaults.Unit)
			if p.Title == "Vault" {
				value = map[string]string{"1": "yes", "0": "no"}[value]
			}
			fmt.Fprintf(out, `<text x="%d" y="%d" font-size="24" text-anchor="middle" fill="#73bf69">%s</text><text x="%d" y="%d" font-size="11" text-anchor="middle">%s</text>`+"\n",
				at, h/2+16, html.EscapeString(value), at, h-10, html.EscapeString(l.name))
		}
	} else {
		drawLines(out, p, lines, w, h)
	}
	out.WriteString("</g>\n")
}

// drawLines draws the lines of a panel below its title, and their names with the
// last values below them.
func drawLines(out *strings.Builder, p dashboardPanel, lines []line, w, h int) {
	top := 0.0
	for _, l := range lines {
		for _, v := range l.values {
			if !math.IsNaN(v) && !strings.HasPrefix(l.name, "limit") {
				top = max(top, v)
			}
		}
	}
	left, low, high := 60.0, float64(h-60), 34.0
	fmt.Fprintf(out, `<path d="M%.0f %.0fH%d M%.0f %.0fH%d" stroke="#2c3235"/><text x="54" y="%.0f" text-anchor="end" font-size="10">%s</text><text x="54" y="%.0f" text-anchor="end" font-size="10">0</text>`+"\n",
		left, high, w-8, left, low, w-8, high+4, inUnit(top, p.FieldConfig.Defaults.Unit), low+4)
	legendX, legendY := 8, h-38
	for i, l := range lines {
		color := dashboardColors[i%len(dashboardColors)]
		var path strings.Builder
		pen := "M"
		for j, v := range l.values {
			if math.IsNaN(v) || top == 0 || v > top {
				pen = "M"
				continue
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", pen, left+float64(j)*(float64(w-8)-left)/dashboardSeconds, low-(low-high)*v/top)
			pen = "L"
		}
		name := l.name + " " + inUnit(l.last(), p.FieldConfig.Defaults.Unit)
		if legendX > 8 && legendX+7*len(name) > w {
			legendX, legendY = 8, legendY+15
		}
		fmt.Fprintf(out, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/><text x="%d" y="%d" font-size="11" fill="%s">%s</text>`+"\n",
			path.String(), color, legendX, legendY, color, html.EscapeString(name))
		legendX += 7*len(name) + 12
	}
}
