package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// grantOp is an operation on the grant of one key to one entity. Clients
// create it under one name, so that there is one at a time.
type grantOp struct {
	kind string
	id   string // revoke, retire, token: which grant
}

// grantResult is how it ended.
type grantResult struct {
	unknown   bool
	exception string
	id        string // create: which grant there is
}

// unseen stands for the id of a grant that nobody was told.
const unseen = "?"

// grantModel is what the grant of one key to one entity must look like. A
// state is the id of the grant, "" if there is none. It has several successors
// where a client does not know which grant it ended.
var grantModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{""} },
	Step: func(state, input, output any) []any {
		return states(state.(string), input.(grantOp), output.(grantResult))
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprintf("%.8q", state) },
}).ToModel()

// states returns what the grant may be after the operation; none if it cannot
// have ended like this.
func states(s string, op grantOp, result grantResult) []any {
	isIt := s == op.id || s == unseen // may be the grant that was meant
	switch op.kind {
	case "create":
		switch {
		case result.unknown && s == "":
			return []any{unseen}
		case result.unknown:
			return []any{s}
		case result.exception != "":
			return nil
		case s == "" || s == unseen || s == result.id:
			return []any{result.id}
		}
	case "revoke", "retire":
		gone := result.exception == notFound || result.exception == "InvalidGrantTokenException" ||
			op.kind == "retire" && result.exception == denied
		switch {
		case result.unknown && s == unseen:
			return []any{s, ""}
		case result.unknown && s == op.id:
			return []any{""}
		case result.unknown:
			return []any{s}
		case result.exception == "" && isIt:
			return []any{""}
		case gone && s != op.id:
			return []any{s}
		}
	case "use":
		if (result.exception == denied) == (s == "") {
			return []any{s}
		}
	case "token":
		switch {
		case result.exception == "" && isIt:
			return []any{op.id}
		case result.exception == "InvalidGrantTokenException" && s != op.id:
			return []any{s}
		}
	default:
		panic("no such operation: " + op.kind)
	}
	return nil
}

// grantWrites are the operations that make or end a grant, and the id that they
// leave, "" for none.
func grantWrites(input, output any) (id string, isWrite bool) {
	op, result := input.(grantOp), output.(grantResult)
	switch {
	case result.exception != "":
		return "", false
	case op.kind == "create" && result.unknown:
		return unseen, true
	case op.kind == "create":
		return result.id, true
	}
	return "", op.kind == "revoke" || op.kind == "retire"
}
