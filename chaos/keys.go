package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// Exceptions that the state of a key or an alias calls for.
const (
	notFound     = "NotFoundException"
	exists       = "AlreadyExistsException"
	isDisabled   = "DisabledException"
	invalidState = "KMSInvalidStateException"
	invalidMac   = "KMSInvalidMacException"
)

// tagNames are the tags that clients set and remove.
var tagNames = [...]string{"a", "b", "c"}

// keyState is all that a client can learn of a key but its material. The zero
// value is a key that is not there.
type keyState struct {
	exists, external, material, disabled, deleting bool

	description string
	tags        [len(tagNames)]string
}

// name is KMS's name of the state.
func (s keyState) name() string {
	switch {
	case s.deleting:
		return "PendingDeletion"
	case !s.material:
		return "PendingImport"
	case s.disabled:
		return "Disabled"
	}
	return "Enabled"
}

// keyOp is an operation on a key. What a create or a tag-resource sets is its
// value.
type keyOp struct {
	kind  string
	value keyState // create
	tag   int      // tag, untag: of tagNames
	text  string   // tag
}

// keyResult is how it ended.
type keyResult struct {
	unknown   bool
	exception string
	state     string    // KMS's name, where the answer has it
	metadata  *keyState // where the answer has it: description and tags
}

// apply returns the key as the operation leaves it, and the exception with
// which it is refused.
func (op keyOp) apply(s keyState) (keyState, string) {
	if !s.exists {
		switch op.kind {
		case "create":
			return op.value, ""
		case "describe", "info":
			return s, absent
		}
		return s, notFound
	}
	next := s
	switch op.kind {
	case "describe", "info":
	case "create":
		next.description, next.tags = op.value.description, op.value.tags
		if s.deleting {
			return s, invalidState
		}
	case "enable", "disable":
		next.disabled = op.kind == "disable"
		if s.deleting || !s.material {
			return s, invalidState
		}
	case "schedule":
		next.deleting = true
		if s.deleting {
			return s, invalidState
		}
	case "cancel":
		next.deleting, next.disabled = false, true
		if !s.deleting {
			return s, invalidState
		}
	case "tag", "untag":
		next.tags[op.tag] = op.text
		if s.deleting {
			return s, invalidState
		}
	case "import":
		next.material, next.disabled = true, false
		if s.deleting {
			return s, invalidState
		}
	case "delete-material":
		next.material = false
	case "mac", "verify", "batch":
		switch s.name() {
		case "Disabled":
			return s, isDisabled
		case "PendingDeletion", "PendingImport":
			return s, invalidState
		}
	default:
		panic("no such operation: " + op.kind)
	}
	return next, ""
}

// keyModel is what one key must look like to its clients, as if they came one
// after the other.
var keyModel = porcupine.Model{
	Init: func() any { return keyState{} },
	Step: func(state, input, output any) (bool, any) {
		s, op, result := state.(keyState), input.(keyOp), output.(keyResult)
		next, exception := op.apply(s)
		switch {
		case result.unknown:
			return true, next // refused operations leave it as it is
		case result.exception != "":
			return result.exception == exception, s
		case exception != "":
			return false, s
		}
		return result.shows(next), next
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
	DescribeState: func(state any) string {
		s := state.(keyState)
		if !s.exists {
			return "none"
		}
		return fmt.Sprintf("%s %q %q", s.name(), s.description, s.tags)
	},
}

// shows reports whether the answer shows this key.
func (r keyResult) shows(s keyState) bool {
	if r.state != "" && r.state != s.name() {
		return false
	}
	return r.metadata == nil || r.metadata.description == s.description && r.metadata.tags == s.tags
}

// keyWrites are the operations that make a key. None removes one in the time of
// a run.
func keyWrites(input, output any) (present bool, isWrite bool) {
	op, result := input.(keyOp), output.(keyResult)
	return true, op.kind == "create" && result.exception == ""
}

// keyReads are the operations that show that there is a key.
func keyReads(input, output any) (present bool, isRead bool) {
	op, result := input.(keyOp), output.(keyResult)
	return true, op.kind != "create" && result.exception == "" && !result.unknown
}
