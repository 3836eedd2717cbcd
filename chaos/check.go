package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// checkTimeout bounds the search for an order of one thing's operations.
const checkTimeout = 20 * time.Second

var models = map[string]porcupine.Model{"key": keyModel, "alias": aliasModel, "grant": grantModel}

// finding is what was wrong with one thing, or all things, and which check
// said so.
type finding struct {
	Check  string `json:"check"`
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
}

// checked is what came of all checks of a history.
type checked struct {
	things    map[string]int // by kind
	longest   int            // operations on one thing
	undecided []string
	findings  []finding
}

// check looks for an order of the operations on each thing in which every
// answer is right, and which keeps to what clients saw end before something
// else began.
func (h *history) check(dir string) checked {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := checked{things: map[string]int{}}
	for _, wrong := range h.wrong {
		c.findings = append(c.findings, finding{Check: "answers", What: wrong})
	}
	for e, operations := range h.operations {
		c.things[e.kind]++
		c.longest = max(c.longest, len(operations))
		result, info := porcupine.CheckOperationsVerbose(models[e.kind], operations, checkTimeout)
		switch result {
		case porcupine.Ok:
		case porcupine.Unknown:
			c.undecided = append(c.undecided, e.String())
		case porcupine.Illegal:
			c.findings = append(c.findings, finding{
				Check: "linearizable", What: e.String(), Detail: explain(dir, e, operations, info),
			})
		}
	}
	for e := range h.listed {
		c.findings = append(c.findings, h.checkLists(e)...)
	}
	slices.SortFunc(c.findings, func(a, b finding) int { return strings.Compare(a.What, b.What) })
	return c
}

// explain writes a history that no order explains to files, as a picture and
// as a text, and returns the first operation that fits nowhere.
func explain(dir string, e entity, operations []porcupine.Operation, info porcupine.LinearizationInfo) string {
	base := filepath.Join(dir, strings.NewReplacer("/", "-", " ", "-", ":", "-").Replace(e.String()))
	if err := porcupine.VisualizePath(models[e.kind], info, base+".html"); err != nil {
		return err.Error()
	}
	slices.SortFunc(operations, func(a, b porcupine.Operation) int { return int(min(1, max(-1, a.Call-b.Call))) })
	var text strings.Builder
	for _, op := range operations {
		end := "never"
		if op.Return != never {
			end = fmt.Sprint(time.Duration(op.Return).Round(time.Microsecond))
		}
		fmt.Fprintf(&text, "%12s %12s client %d: %s\n", time.Duration(op.Call).Round(time.Microsecond), end,
			op.ClientId, models[e.kind].DescribeOperation(op.Input, op.Output))
	}
	if err := os.WriteFile(base+".txt", []byte(text.String()), 0o600); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d operations, see %s.html", len(operations), base)
}
