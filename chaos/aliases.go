package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// anchors is how many keys aliases move among. They are never changed, so what
// a MAC through an alias tells is about the alias. An alias accepts at most
// four former keys, which so many anchors never exceed.
const anchors = 4

// keySet is a set of anchors, one bit each.
type keySet uint8

func setOf(anchor int) keySet         { return 1 << anchor }
func (s keySet) has(anchor int) bool  { return s&setOf(anchor) != 0 }
func (s keySet) with(a int) keySet    { return s | setOf(a) }
func (s keySet) without(a int) keySet { return s &^ setOf(a) }
func (s keySet) String() string       { return fmt.Sprintf("%0*b", anchors, uint8(s)) }

// aliasState is where an alias points. The zero value is no alias.
type aliasState struct {
	exists   bool
	target   int
	previous keySet
}

// How a write says what is to become of former keys.
const (
	overlapUnset = iota
	overlapZero
	overlapHour
)

// aliasOp is an operation on an alias or through it.
type aliasOp struct {
	kind      string
	target    int    // write; verify: the anchor that made the MAC
	overlap   int    // write
	mustExist string // write: "", "true" or "false"
}

// aliasResult is how it ended.
type aliasResult struct {
	unknown   bool
	exception string
	shown     *aliasState // where the answer has it
	key       int         // mac: the anchor that made it
}

func (op aliasOp) apply(s aliasState) (aliasState, string) {
	if op.kind == "write" {
		return op.write(s)
	}
	switch {
	case !s.exists && op.kind == "read":
		return s, absent
	case !s.exists:
		return s, notFound
	case op.kind == "delete":
		return aliasState{}, ""
	case op.kind == "verify" && op.target != s.target && !s.previous.has(op.target):
		return s, invalidMac
	}
	return s, ""
}

func (op aliasOp) write(s aliasState) (aliasState, string) {
	switch {
	case !s.exists && op.mustExist == "true":
		return s, notFound
	case !s.exists:
		return aliasState{exists: true, target: op.target}, ""
	case op.mustExist == "false":
		return s, exists
	case op.target == s.target && op.overlap == overlapZero:
		s.previous = 0
	case op.target == s.target:
	case op.overlap == overlapHour:
		s.previous = s.previous.with(s.target).without(op.target)
		s.target = op.target
	default:
		s = aliasState{exists: true, target: op.target}
	}
	return s, ""
}

// aliasModel is what one alias must look like to its clients.
var aliasModel = porcupine.Model{
	Init: func() any { return aliasState{} },
	Step: func(state, input, output any) (bool, any) {
		s, op, result := state.(aliasState), input.(aliasOp), output.(aliasResult)
		next, exception := op.apply(s)
		switch {
		case result.unknown:
			return true, next
		case result.exception != "":
			return result.exception == exception, s
		case exception != "":
			return false, s
		}
		return result.shows(op, next), next
	},
	DescribeOperation: func(input, output any) string {
		result := output.(aliasResult)
		return fmt.Sprintf("%+v -> %+v %+v", input, result, valueOf(result.shown))
	},
	DescribeState: func(state any) string {
		s := state.(aliasState)
		if !s.exists {
			return "none"
		}
		return fmt.Sprintf("%d, former %s", s.target, s.previous)
	},
}

func (r aliasResult) shows(op aliasOp, s aliasState) bool {
	if op.kind == "mac" {
		return r.key == s.target
	}
	return r.shown == nil || *r.shown == s
}

func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

// aliasWrites are the operations that make, move or remove an alias, and what
// they leave.
func aliasWrites(input, output any) (aliasState, bool) {
	op, result := input.(aliasOp), output.(aliasResult)
	if result.exception != "" {
		return aliasState{}, false
	}
	switch op.kind {
	case "write":
		return aliasState{exists: true, target: op.target}, true
	case "delete":
		return aliasState{}, true
	}
	return aliasState{}, false
}

// aliasReads are the operations that show an alias, and what they show.
func aliasReads(input, output any) (aliasState, bool) {
	op, result := input.(aliasOp), output.(aliasResult)
	switch {
	case op.kind == "read" && result.exception == absent:
		return aliasState{}, true
	case op.kind == "read" && result.shown != nil:
		return *result.shown, true
	case op.kind == "mac" && result.exception == "":
		return aliasState{exists: true, target: result.key}, true
	}
	return aliasState{}, false
}
