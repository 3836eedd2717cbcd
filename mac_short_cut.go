package kmshmac

// The short cut of MACs past the sdk. mac.go tells the whole way.

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin/pb"
	"google.golang.org/grpc"
)

// noData is a request's data, as JSON, where there is none.
const noData = "{}"

// shortCut spares requests for MACs what costs most on their way through the
// sdk: decoding the request's data, of any size, twice, and encoding the
// answer's. The existence check, which Vault asks for before every write, does
// not need the data. For the request itself, data that is flat is decoded here,
// without reflection and without a copy, and handed over in the context, for
// requestData; and long text in its answer comes back that way. Everything else
// passes untouched.
func shortCut(ctx context.Context, message any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	switch args := message.(type) {
	case *pb.HandleExistenceCheckArgs:
		if r := args.GetRequest(); r != nil && isMacPath(r.Path) {
			r.Data = noData
		}
	case *pb.HandleRequestArgs:
		if r := args.GetRequest(); r != nil && isMacPath(r.Path) && isMacOperation(logical.Operation(r.Operation)) {
			x := &exchange{}
			if data, ok := flatObject(r.Data); ok {
				r.Data, x.data = noData, data
			}
			reply, err := handler(context.WithValue(ctx, exchangeKey{}, x), message)
			if reply, ok := reply.(*pb.HandleRequestReply); ok {
				x.addTexts(reply.GetResponse())
			}
			return reply, err
		}
	}
	return handler(ctx, message)
}

// exchange is what shortCut and a handler of MACs pass each other, besides the
// request and its answer.
type exchange struct {
	data  map[string]any // of the request, decoded; nil if it is in the request
	texts []namedText    // that belong in the answer's data
}

type namedText struct {
	name string
	text plainText
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request, nil if there is none.
func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// plainText is text of printable ASCII without quotes and backslashes: in JSON
// it means itself.
type plainText []byte

// takeTexts takes the texts out of an answer. Without an exchange they become
// strings.
func (x *exchange) takeTexts(resp *logical.Response) {
	if resp == nil {
		return
	}
	for name, value := range resp.Data {
		text, ok := value.(plainText)
		switch {
		case ok && x == nil:
			resp.Data[name] = string(text)
		case ok:
			x.texts = append(x.texts, namedText{name, text})
			delete(resp.Data, name)
		}
	}
}

// addTexts puts the texts back into the answer's data, which is a JSON object
// by now, and not an empty one. resp is nil if the request failed.
func (x *exchange) addTexts(resp *pb.Response) {
	for _, t := range x.texts {
		rest, ok := strings.CutPrefix(resp.GetData(), "{")
		if !ok {
			return
		}
		var b strings.Builder
		b.Grow(len(`{"":"",`) + len(t.name) + len(t.text) + len(rest))
		b.WriteString(`{"` + t.name + `":"`)
		b.Write(t.text)
		b.WriteString(`",` + rest)
		resp.Data = b.String()
	}
}

func isMacPath(path string) bool {
	_, ok := macTaskOf(path)
	return ok
}

// flatObject decodes a JSON object, written without spaces as Vault writes it,
// whose values are all plain strings. ok is false for any other, which
// encoding/json is for.
func flatObject(data string) (object map[string]any, ok bool) {
	object = make(map[string]any, 4)
	data, ok = strings.CutPrefix(data, "{")
	for ok {
		var name, value string
		if name, data, ok = plainString(data, ":"); !ok {
			break
		}
		if value, data, ok = plainString(data, ""); !ok {
			break
		}
		object[name] = value
		if data == "}" {
			return object, true
		}
		data, ok = strings.CutPrefix(data, ",")
	}
	return nil, false
}

// plainString cuts a JSON string and what must follow it off the text. ok is
// false if it is anything but printable ASCII without a backslash, which alone
// means itself.
func plainString(text, follows string) (s, rest string, ok bool) {
	if text, ok = strings.CutPrefix(text, `"`); !ok {
		return "", "", false
	}
	if s, rest, ok = strings.Cut(text, `"`); !ok {
		return "", "", false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return "", "", false
		}
	}
	rest, ok = strings.CutPrefix(rest, follows)
	return s, rest, ok
}
