package main

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// observation is what a list showed of one thing. A list may or may not show a
// write that is under way, whatever reads of the same moment show: it must show
// the state that some write left which nothing had replaced before the request.
type observation struct {
	what      string // for people
	fits      func(state any) bool
	call, end int64
}

// listWrites are the writes of a kind of thing, as lists show them.
var listWrites = map[string]func(input, output any) (state any, isWrite bool){
	"key":   func(input, output any) (any, bool) { return keyWrites(input, output) },
	"alias": func(input, output any) (any, bool) { return aliasWrites(input, output) },
	"grant": func(input, output any) (any, bool) { return grantWrites(input, output) },
}

// nothing is the state of a thing that was never written.
var nothing = map[string]any{"key": false, "alias": aliasState{}, "grant": ""}

// explained reports whether one of the writes, or that there was none, explains
// what a list showed.
func (o observation) explained(kind string, writes []porcupine.Operation) bool {
	none := porcupine.Operation{Call: -2, Return: -1}
	return o.fits(nothing[kind]) && !o.replaced(none, writes) || o.explainedByOne(kind, writes)
}

func (o observation) explainedByOne(kind string, writes []porcupine.Operation) bool {
	for _, w := range writes {
		state, _ := listWrites[kind](w.Input, w.Output)
		if w.Call <= o.end && o.fits(state) && !o.replaced(w, writes) {
			return true
		}
	}
	return false
}

// replaced reports whether a write was replaced by another one before the list
// was asked for.
func (o observation) replaced(w porcupine.Operation, writes []porcupine.Operation) bool {
	for _, later := range writes {
		if later.Call > w.Return && later.Return < o.call {
			return true
		}
	}
	return false
}

// checkLists holds what lists showed of a thing against its writes.
func (h *history) checkLists(e entity) []finding {
	var writes []porcupine.Operation
	for _, op := range h.operations[e] {
		if _, ok := listWrites[e.kind](op.Input, op.Output); ok {
			writes = append(writes, op)
		}
	}
	var findings []finding
	for _, o := range h.listed[e] {
		if !o.explained(e.kind, writes) {
			findings = append(findings, finding{Check: "lists", What: e.String(), Detail: fmt.Sprintf("%s, at %s", o.what, time.Duration(o.call))})
			break // one of a thing is enough
		}
	}
	return findings
}
