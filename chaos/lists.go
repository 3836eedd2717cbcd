package main

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"
)

// observation is what a list showed of one thing. A list may or may not show a
// write that is under way, whatever reads of the same moment show: it must show
// the state that some write left which nothing had replaced before the request.
// A state is also replaced once a read, begun after the write had ended, has
// shown another one: so it comes out when a list leaves out for ever what a
// write made whose answer nobody got.
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

// listReads are the reads of a kind of thing. What a grantee may do tells that
// there is a grant, and not which.
var listReads = map[string]func(input, output any) (state any, isRead bool){
	"key":   func(input, output any) (any, bool) { return keyReads(input, output) },
	"alias": func(input, output any) (any, bool) { return aliasReads(input, output) },
	"grant": func(input, output any) (any, bool) { return nil, false },
}

// nothing is the state of a thing that was never written.
var nothing = map[string]any{"key": false, "alias": aliasState{}, "grant": ""}

// explained reports whether one of the writes, or that there was none, explains
// what a list showed.
func (o observation) explained(kind string, operations []porcupine.Operation) bool {
	if o.fits(nothing[kind]) && !o.replaced(kind, -1, operations) {
		return true
	}
	for _, w := range operations {
		state, isWrite := listWrites[kind](w.Input, w.Output)
		if isWrite && w.Call <= o.end && o.fits(state) && !o.replaced(kind, w.Return, operations) {
			return true
		}
	}
	return false
}

// replaced reports whether what a write left, which had ended by then, was
// replaced before the list was asked for.
func (o observation) replaced(kind string, ended int64, operations []porcupine.Operation) bool {
	for _, later := range operations {
		if later.Call <= ended || later.Return >= o.call {
			continue
		}
		if _, isWrite := listWrites[kind](later.Input, later.Output); isWrite {
			return true
		}
		if state, isRead := listReads[kind](later.Input, later.Output); isRead && !o.fits(state) {
			return true
		}
	}
	return false
}

// checkLists holds what lists showed of a thing against its writes.
func (h *history) checkLists(e entity) []finding {
	var findings []finding
	for _, o := range h.listed[e] {
		if !o.explained(e.kind, h.operations[e]) {
			findings = append(findings, finding{Check: "lists", What: e.String(), Detail: fmt.Sprintf("%s, at %s", o.what, time.Duration(o.call))})
			break // one of a thing is enough
		}
	}
	return findings
}
