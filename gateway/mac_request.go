package gateway

// The request to the mount for the GenerateMac or VerifyMac calls that share
// it, one or many, and how its answer is dealt out to them.

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-kms-hmac/kms"
)

// macFields is the native answer to generate-mac and verify-mac, of one message
// or of a batch in its compact form (docs/api.md, "Batches").
type macFields struct {
	KeyID     string `json:"key_id"`
	Mac       string `json:"mac"`
	MacValid  bool   `json:"mac_valid"`
	Macs      string `json:"macs"`
	MacsValid string `json:"macs_valid"`
	KeyIDs    string `json:"key_ids"`
	Errors    map[string]struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"errors"`
}

// maxSingly is how many requests are under way at once for the calls that were
// to share one.
const maxSingly = 16

// sendMacs makes the request to the mount for one call or for many. In Vault's
// audit log it bears the id of the first of them. A request for many that Vault
// refuses is made for each by itself: a policy may know the one form only.
func (g *Gateway) sendMacs(ctx context.Context, group macGroup, calls []macRequest) []macAnswer {
	answers := g.sendTogether(ctx, group, calls)
	if len(calls) == 1 || !notThisWay(answers[0].err) {
		return answers
	}
	var allowed atomic.Bool
	var sending errgroup.Group
	sending.SetLimit(maxSingly)
	for i := range calls {
		calls[i].repeated = answers[i].repeated
		sending.Go(func() error {
			answers[i] = g.macs.sendSafely(group, calls[i:i+1])[0]
			if !notThisWay(answers[i].err) {
				allowed.Store(true)
			}
			return nil
		})
	}
	_ = sending.Wait()
	if allowed.Load() {
		g.goesSingle(&group)
	}
	return answers
}

func (g *Gateway) sendTogether(ctx context.Context, group macGroup, calls []macRequest) []macAnswer {
	g.metrics.shared(len(calls))
	var fields macFields
	q := newMacQuestion(group, calls)
	start := time.Now()
	body, err := g.askForMacs(ctx, q)
	repeated := calls[0].repeated // as all of them, or none
	if err != nil && !repeated {
		body, err, repeated = g.retries.again(ctx, start, err, func(ctx context.Context) ([]byte, error) { return g.askForMacs(ctx, q) })
	}
	vaultID := ""
	if err == nil {
		vaultID, err = fields.decode(body)
	}
	answers := fields.answers(group, len(calls), err)
	for i := range answers {
		answers[i].correlation, answers[i].vaultID, answers[i].repeated = q.correlation, vaultID, repeated
	}
	return answers
}

// newMacQuestion returns the request for one call or for many.
func newMacQuestion(group macGroup, calls []macRequest) macQuestion {
	q := macQuestion{
		path: group.path(), token: group.token, from: calls[0].from, correlation: calls[0].requestID, json: macRequestBody(group, calls),
	}
	if len(calls) >= formFrom {
		q.form = func() []byte { return macRequestForm(group, calls) }
	}
	return q
}

// decode reads Vault's answer and returns Vault's id of the request.
func (f *macFields) decode(body []byte) (requestID string, err error) {
	if requestID, ok := f.scan(body); ok {
		return requestID, nil
	}
	*f = macFields{}
	return decodeAnswer(body, f)
}

// scan is decode for answers without errors, by the tokenizer of inputs: it
// takes a quarter of the time of encoding/json (BenchmarkMacAnswer), and copies
// the MACs of a batch once. ok is false for other answers.
func (f *macFields) scan(body []byte) (requestID string, ok bool) {
	s := &scanner{data: body}
	text := func(into *string) error {
		value, err := s.str()
		*into = string(value)
		return err
	}
	err := s.object(func(name []byte) error {
		switch string(name) {
		case "request_id":
			return text(&requestID)
		case "data":
			return s.object(func(name []byte) error {
				switch string(name) {
				case "key_id":
					return text(&f.KeyID)
				case "mac":
					return text(&f.Mac)
				case "mac_valid":
					return s.flag(&f.MacValid)
				case "macs":
					return text(&f.Macs)
				case "macs_valid":
					return text(&f.MacsValid)
				case "key_ids":
					return text(&f.KeyIDs)
				case "errors":
					return errSyntax
				}
				return s.skip(2)
			})
		}
		return s.skip(1)
	})
	return requestID, err == nil && s.end() == nil
}

// answers deals the answer to a request, or its failure, out to its n calls.
func (f *macFields) answers(group macGroup, n int, err error) []macAnswer {
	switch {
	case err != nil:
		return sameAnswer(macAnswer{err: err}, n)
	case n == 1:
		return []macAnswer{f.alone(group.verify)}
	}
	return f.split(group, n)
}

// alone is the answer to a call that shared its request with no other. A
// success that has no MAC, or no verdict, comes from something else than the
// engine: a MAC is valid only where the engine says so.
func (f *macFields) alone(verify bool) macAnswer {
	if f.KeyID == "" || verify && !f.MacValid || !verify && f.Mac == "" {
		return macAnswer{err: internal(textNoEngine)}
	}
	return macAnswer{mac: f.Mac, keyID: f.KeyID}
}

// macRequestBody writes the native request: plain for one call, in the compact
// form of a batch for more. Nothing in it needs escaping.
func macRequestBody(group macGroup, calls []macRequest) []byte {
	body := make([]byte, 0, requestSize(calls))
	body = append(append(body, `{"mac_algorithm":"`...), group.algorithm...)
	plural := ""
	if len(calls) > 1 {
		plural = "s"
	}
	body = append(append(append(body, `","message`...), plural...), `":"`...)
	body = appendBlobs(body, calls, (*macRequest).messageBlob)
	if group.verify {
		body = append(append(append(body, `","mac`...), plural...), `":"`...)
		body = appendBlobs(body, calls, (*macRequest).macBlob)
	}
	return append(body, `"}`...)
}

// formFrom is from how many calls on a POST is better a form: of fewer, Vault
// takes JSON as fast. Of a thousand, a form costs it a fifth less.
const formFrom = 32

// macRequestForm writes the native request for many calls as a form. All that
// has a meaning in it is the plus sign.
func macRequestForm(group macGroup, calls []macRequest) []byte {
	body := make([]byte, 0, requestSize(calls))
	body = append(append(body, "mac_algorithm="...), group.algorithm...)
	body = append(body, "&messages="...)
	body = appendBlobs(body, calls, (*macRequest).messageBlob)
	if group.verify {
		body = append(body, "&macs="...)
		body = appendBlobs(body, calls, (*macRequest).macBlob)
	}
	return bytes.ReplaceAll(body, []byte("+"), []byte("%2B"))
}

func (m *macRequest) messageBlob() []byte { return m.message }

func (m *macRequest) macBlob() []byte { return m.mac }

// requestSize is enough for the native request without escapes.
func requestSize(calls []macRequest) int {
	size := 96
	for i := range calls {
		size += len(calls[i].message) + len(calls[i].mac) + 2
	}
	return size
}

// appendBlobs appends one blob of each call, separated by commas.
func appendBlobs(body []byte, calls []macRequest, blob func(*macRequest) []byte) []byte {
	for i := range calls {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, blob(&calls[i])...)
	}
	return body
}

func sameAnswer(a macAnswer, n int) []macAnswer {
	answers := make([]macAnswer, n)
	for i := range answers {
		answers[i] = a
	}
	return answers
}

// split deals the answer to a batch out to its n calls. An answer that does not
// fit is nobody's: a MAC must never reach another caller.
func (f *macFields) split(group macGroup, n int) []macAnswer {
	results := f.Macs
	if group.verify {
		results = f.MacsValid
	}
	values := strings.Split(results, ",")
	keyIDs := []string(nil)
	if f.KeyIDs != "" {
		keyIDs = strings.Split(f.KeyIDs, ",")
	}
	if f.KeyID == "" || len(values) != n || keyIDs != nil && len(keyIDs) != n {
		return sameAnswer(macAnswer{err: internal(textNoEngine)}, n)
	}
	answers := make([]macAnswer, n)
	for i, value := range values {
		answers[i] = f.item(group, i, value)
		if answers[i].err == nil && keyIDs != nil {
			answers[i].keyID = keyIDs[i]
		}
	}
	return answers
}

// item returns the answer to one call of a batch.
func (f *macFields) item(group macGroup, i int, value string) macAnswer {
	if len(f.Errors) > 0 {
		if e, failed := f.Errors[strconv.Itoa(i)]; failed {
			exception := &kms.Exception{Type: e.Type, Message: e.Message}
			if kms.Silent(e.Type) {
				exception.Message = ""
			}
			return macAnswer{err: exception}
		}
	}
	switch {
	case group.verify && value == "true":
		return macAnswer{keyID: f.KeyID}
	case group.verify:
		return macAnswer{err: kms.InvalidMac()}
	case value == "":
		return macAnswer{err: internal(textNoEngine)}
	}
	return macAnswer{keyID: f.KeyID, mac: value}
}
