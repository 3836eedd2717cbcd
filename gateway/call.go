package gateway

// One call on its way: the key that it names, and its requests to the mount.

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// call is one call of a client, on its way.
type call struct {
	gateway   *Gateway
	ctx       context.Context
	operation string
	op        *operation
	folder    folder
	caller    caller
	// key is the key or alias that the call is about, once resolved.
	key resource
	// resource is what AccessDeniedException names: an ARN, or "*".
	resource string
	// safe says that the call changes nothing, so that a request of it may be
	// made twice.
	safe  bool
	trace *trace
}

// resource is a key or an alias in all its names.
type resource struct {
	id      string // as the client knows it
	native  string // as the mount knows it
	arn     string
	alias   bool
	fromARN bool
}

func (c *call) arns() ARNs { return c.gateway.arns }

// resolve turns a key identifier into a resource, which becomes the call's. It
// looks nothing up; that is left to the request to Vault. The order of its
// checks is KMS's: the ARN's Region, whether an alias may stand here, the id's
// shape.
func (c *call) resolve(text string, aliases bool) error {
	id, err := c.arns().parse(text)
	switch {
	case err != nil:
		return err
	case id.alias && !aliases:
		return kms.AliasNotSupported()
	case id.alias:
		return c.resolveAlias(id)
	case id.foreign != "":
		return kms.KeyNotFound(id.foreign)
	}
	native := c.folder.native(id.name)
	if kms.CheckKeyID(id.name) != nil || c.folder != "" && kms.CheckKeyID(native) != nil {
		return invalidKeyID(id.name, id.fromARN)
	}
	c.key = resource{id: id.name, native: native, arn: c.arns().key(id.name), fromARN: id.fromARN}
	c.resource = c.key.arn
	return nil
}

func (c *call) resolveAlias(id identifier) error {
	shown := id.foreign
	if shown == "" {
		shown = c.arns().alias(id.name)
	}
	// An alias that cannot exist does not.
	if id.foreign != "" || !isAliasName(id.name) {
		return kms.AliasNotFound(shown)
	}
	c.key = resource{id: id.name, native: c.folder.nativeAlias(id.name), arn: shown, alias: true, fromARN: id.fromARN}
	c.resource = shown
	return nil
}

// isAliasName reports whether the text can be the name of an alias, so that it
// can stand in a path.
func isAliasName(name string) bool { return kms.CheckAliasName(name) == nil }

// request makes a request to the mount; path is behind its own. data is sent
// as JSON. The answer's data is decoded into out, unless that is nil.
func (c *call) request(method, path string, query url.Values, data, out any) error {
	r := vaultRequest{method: method, path: c.gateway.mount + path, query: query, token: c.caller.token, from: c.trace.from, correlation: c.trace.id}
	if method == http.MethodPost {
		body, err := json.Marshal(data)
		if err != nil {
			return err
		}
		r.body = body
	}
	return c.send(r, out)
}

func (c *call) send(r vaultRequest, out any) error {
	return c.receive(r.correlation, out, func(ctx context.Context) ([]byte, error) { return c.gateway.ask(ctx, r) })
}

// receive asks, and once more where that is safe and no request of the call has
// been repeated yet. It decodes the answer, and notes in the trace what there is
// to note of it.
func (c *call) receive(correlation string, out any, ask func(context.Context) ([]byte, error)) error {
	start := time.Now()
	answer, err := ask(c.ctx)
	if err != nil && c.safe && !c.trace.repeated {
		answer, err, c.trace.repeated = c.gateway.retries.again(c.ctx, start, err, ask)
	}
	c.trace.vault += time.Since(start)
	c.trace.correlation, c.trace.vaultID = correlation, ""
	if err != nil {
		return err
	}
	c.trace.vaultID, err = decodeAnswer(answer, out)
	return err
}

// ask makes a request to Vault, and measures it.
func (g *Gateway) ask(ctx context.Context, r vaultRequest) ([]byte, error) {
	start := time.Now()
	answer, err := g.vault.do(ctx, r)
	g.metrics.asked(err, time.Since(start))
	switch {
	case err == nil:
		g.retries.succeeded(r.path)
	case isTimeout(err): // other connections may lead to the same silent node
		g.retries.renew()
	}
	return answer, err
}

// decodeAnswer decodes the data of an answer of Vault's into out, unless that is
// nil, and returns Vault's id of the request. An answer without a body, status
// 204, has neither.
func decodeAnswer(answer []byte, out any) (requestID string, err error) {
	if len(answer) == 0 {
		return "", nil
	}
	var envelope struct {
		RequestID string `json:"request_id"`
		Data      any    `json:"data"`
	}
	envelope.Data = out
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return "", internal(textInternal)
	}
	return envelope.RequestID, nil
}

func (c *call) get(path string, out any) error {
	return c.request(http.MethodGet, path, nil, nil, out)
}

func (c *call) post(path string, data, out any) error {
	if data == nil {
		data = struct{}{}
	}
	return c.request(http.MethodPost, path, nil, data, out)
}

// postGranted is post for an operation that a grant can allow: where no policy
// of the caller's does, it asks again on the path that grants open, once.
func (c *call) postGranted(path string, data, out any) error {
	err := c.post(path, data, out)
	if forbidden(err) {
		if granted := c.post("granted/"+path, data, out); !forbidden(granted) {
			return granted
		}
	}
	return err
}
