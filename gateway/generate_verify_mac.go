package gateway

// GenerateMac and VerifyMac: together with others under way where the input is
// plain (mac_coalescer.go, mac_request.go), alone where it has options.

import (
	"context"
	"encoding/json"
	"time"
)

// mac does a plain GenerateMac or VerifyMac, together with others if others are
// under way.
func (c *call) mac(m macRequest) ([]byte, error) {
	if err := c.resolve(m.keyID, true); err != nil {
		return nil, err
	}
	m.requestID, m.from = c.trace.id, c.trace.from
	group := macGroup{token: c.caller.token, from: c.boundTo(), key: c.key.native, algorithm: m.algorithm, verify: m.verify}
	start := time.Now()
	var a macAnswer
	if c.gateway.single(&group) {
		a = c.gateway.sendMacs(c.ctx, group, []macRequest{m})[0]
	} else {
		a = c.gateway.macs.do(c.ctx, group, m)
	}
	c.trace.vault = time.Since(start)
	c.trace.correlation, c.trace.vaultID, c.trace.keyID, c.trace.repeated = a.correlation, a.vaultID, a.keyID, a.repeated
	if a.err != nil {
		return nil, a.err
	}
	return c.macBody(m.verify, a, m.algorithm), nil
}

// boundTo is the address that the caller's token may be bound to: that of the
// call, unless the endpoint knows better from the login.
func (c *call) boundTo() string {
	if s := c.caller.session; s != nil && !s.Bound {
		return ""
	}
	return c.trace.from
}

// macBody returns the answer to a GenerateMac or VerifyMac. The blob and the
// algorithm need no escaping.
func (c *call) macBody(verify bool, a macAnswer, algorithm string) []byte {
	arn := c.key.arn
	if a.keyID != c.key.native {
		arn = c.arns().key(c.folder.local(a.keyID))
	}
	body := make([]byte, 0, 96+len(a.mac)+len(arn))
	body = append(body, '{')
	if verify {
		body = append(body, `"MacValid":true`...)
	} else {
		body = append(append(append(body, `"Mac":"`...), a.mac...), '"')
	}
	body = append(append(append(body, `,"MacAlgorithm":"`...), algorithm...), `","KeyId":`...)
	return append(appendString(body, arn), '}')
}

// generateMac and verifyMac are the general way: calls with options go alone.
func generateMac(c *call, in input) (answer, error) { return c.macAlone(in, false) }

func verifyMac(c *call, in input) (answer, error) { return c.macAlone(in, true) }

func (c *call) macAlone(in input, verify bool) (answer, error) {
	members := []string{"Message", "MacAlgorithm", "GrantTokens", "DryRun"}
	if verify {
		members = append(members, "Mac")
	}
	var native macFields
	if err := c.askForMac(c.fields(members, in), &native); err != nil {
		return nil, err
	}
	a := native.alone(verify)
	if a.err != nil {
		return nil, a.err
	}
	c.trace.keyID = a.keyID
	arn := c.arns().key(c.folder.local(a.keyID))
	if verify {
		return answer{{"MacValid", true}, {"MacAlgorithm", in.text("MacAlgorithm")}, {"KeyId", arn}}, nil
	}
	return answer{{"Mac", a.mac}, {"MacAlgorithm", in.text("MacAlgorithm")}, {"KeyId", arn}}, nil
}

// askForMac is post for the path of a MAC, by the ways that macRoutes lists.
func (c *call) askForMac(data map[string]any, out *macFields) error {
	body, err := json.Marshal(data)
	if err != nil {
		return err
	}
	q := macQuestion{path: c.op.path + "/" + c.key.native, token: c.caller.token, from: c.trace.from, correlation: c.trace.id, json: body}
	return c.receive(q.correlation, out, func(ctx context.Context) ([]byte, error) { return c.gateway.askForMacs(ctx, q) })
}
