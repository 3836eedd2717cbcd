package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// ending is how a request ended, as far as its client can tell.
type ending int

const (
	done    ending = iota // with an answer of the engine, a refusal perhaps
	unsent                // certainly without effect: the node was not there
	unknown               // it may have happened, or may happen yet
)

// reply is the end of a request.
type reply struct {
	ending    ending
	status    int
	exception string // of a refusal: KMS's name, or absent or denied
	data      map[string]any
	trouble   string // what the client saw in place of an answer
}

// Refusals without a KMS exception.
const (
	absent = "absent" // 404: nothing to read
	denied = "denied" // 403
)

func (r reply) ok() bool { return r.ending == done && r.exception == "" }

func (r reply) text(name string) string {
	s, _ := r.data[name].(string)
	return s
}

// redirected is the context key of whether a standby has passed a request on.
// It may have handed it to the active node before, and lost that one's answer.
type redirected struct{}

// requester sends requests to the nodes of a cluster.
type requester struct {
	http  *http.Client
	nodes []string // base URLs
	mount string
}

func newRequester(nodes []string, mount string) *requester {
	return &requester{
		nodes: nodes, mount: mount,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 32,
			},
			// A standby without a connection to the active node names it instead.
			CheckRedirect: func(req *http.Request, via []*http.Request) error {
				if len(via) > 2 || req.Response.StatusCode != http.StatusTemporaryRedirect {
					return http.ErrUseLastResponse
				}
				req.Context().Value(redirected{}).(*atomic.Bool).Store(true)
				return nil
			},
		},
	}
}

// send sends one request to a node, once: what happens to it is the question.
func (q *requester) send(ctx context.Context, node int, token, method, path string, body any, timeout time.Duration) reply {
	var passedOn atomic.Bool
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, redirected{}, &passedOn), timeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			panic(err) // a body of this package's making
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, q.nodes[node]+"/v1/"+q.mount+"/"+path, content)
	if err != nil {
		panic(err) // a path of this package's making
	}
	req.Header.Set(api.RequestHeaderName, "true")
	req.Header.Set(api.AuthHeaderName, token)
	resp, err := q.http.Do(req)
	if err != nil {
		r := failed(err)
		if passedOn.Load() {
			r.ending = unknown
		}
		return r
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return failed(err)
	}
	return parse(resp.StatusCode, raw)
}

func failed(err error) reply {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return reply{ending: unsent, trouble: "no connection"}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return reply{ending: unknown, trouble: "timeout"}
	}
	return reply{ending: unknown, trouble: "connection lost"}
}

// nobodyActive is what a standby says that has nobody to hand a request to.
const nobodyActive = "local node not active but active cluster node not found"

// parse tells an answer of the engine from one of a Vault in trouble.
func parse(status int, raw []byte) reply {
	var answer struct {
		Data   map[string]any `json:"data"`
		Errors []string       `json:"errors"`
	}
	if len(raw) > 0 && json.Unmarshal(raw, &answer) != nil {
		return reply{ending: unknown, status: status, trouble: fmt.Sprintf("status %d without JSON", status)}
	}
	r := reply{status: status, data: answer.Data}
	if status == http.StatusTemporaryRedirect || strings.Contains(strings.Join(answer.Errors, " "), nobodyActive) {
		// Perhaps there was one, and it died with the request.
		return reply{ending: unknown, status: status, trouble: "no active node"}
	}
	switch exception := r.text("type"); {
	case status == http.StatusOK, status == http.StatusNoContent:
	case status == http.StatusBadRequest && exception != "":
		r.exception = exception
	case status == http.StatusNotFound && len(answer.Errors) == 0:
		r.exception = absent
	case status == http.StatusForbidden:
		r.exception = denied
	default:
		r.ending = unknown
		// Up to the first name in it, so that like troubles count as one.
		text, _, _ := strings.Cut(strings.Join(strings.Fields(strings.Join(answer.Errors, "; ")), " "), `"`)
		r.trouble = fmt.Sprintf("status %d: %.80s", status, text)
	}
	return r
}
