package gateway

// The gateway as an http.Handler: from the request's head to the answer.

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/kms"
)

// Config says what a gateway is in front of, and what it may cost.
type Config struct {
	Vault *Vault
	// Mount is the path at which the secrets engine is mounted.
	Mount string
	ARNs  ARNs
	// RequireToken refuses calls that bring no Vault token as their session
	// token. Without it they go to Vault without one, for a Vault Proxy to add.
	RequireToken bool
	// Sessions opens the session tokens that endpoints issue; nil opens none.
	Sessions *session.Sealer
	// Logins logs callers in who ask for a session; nil logs nobody in. It needs
	// Sessions.
	Logins *login.Broker
	// SignedOnly refuses calls whose session token is a plain Vault token, for
	// which the endpoint cannot verify the signature.
	SignedOnly bool
	// Identity is what calls without a session token are made with; nil leaves
	// them without a token.
	Identity *login.Identity
	// LocalIdentity leaves that to calls that are addressed to loopback. Otherwise
	// a web page whose name turns out to be that of loopback could have a browser
	// on this machine make calls.
	LocalIdentity bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// MaxBody is the most bytes of a request's body.
	MaxBody int64
	// MaxConcurrency is the most calls at once, of those that have been sent in
	// full; further ones are told to slow down.
	MaxConcurrency int64
	// RetryWait is how long Vault is waited for at most when it cannot serve a
	// call that changes nothing, to ask it once more; see retry.go. It is at most
	// two thirds of Vault's time limit; 0 is no retry.
	RetryWait time.Duration
	Log       *slog.Logger
	// Registerer takes the metrics; nil is nobody.
	Registerer prometheus.Registerer
}

// Gateway serves the KMS API. It is safe for concurrent use.
type Gateway struct {
	vault        *Vault
	tokens       *tokenCheck
	mount        string // with its slash
	arns         ARNs
	requireToken bool
	sessions     *session.Sealer
	logins       *login.Broker
	signedOnly   bool
	identity     *login.Identity
	local        bool // that is for calls addressed to loopback only
	now          func() time.Time
	forms        *bodies // of requests to STS
	maxCalls     int64
	calls        atomic.Int64
	draining     atomic.Bool
	log          *slog.Logger
	metrics      *metrics
	retries      *retries
	macs         *macCoalescer
	routes       *knownRoutes
	bodies       *bodies
}

var (
	partitionPattern = regexp.MustCompile(`^[a-z0-9-]+$`)
	regionPattern    = regexp.MustCompile(`^([a-z]+-){2,3}\d+$`)
	accountPattern   = regexp.MustCompile(`^\d{12}$`)
)

// isMount reports whether a path can be that of a mount, and stands in a URL as it
// is.
func isMount(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || strings.Contains(segment, "..") || strings.ContainsFunc(segment, foreignToURLs) {
			return false
		}
	}
	return true
}

// foreignToURLs reports whether a character cannot stand as it is in the path of
// a URL, or in a header.
func foreignToURLs(c rune) bool { return c <= ' ' || c == 0x7f || strings.ContainsRune("?#%", c) }

// New returns a gateway, or an error where the configuration makes no sense.
func New(c Config) (*Gateway, error) {
	mount := strings.Trim(c.Mount, "/")
	switch {
	case c.Vault == nil:
		return nil, errors.New("a client of Vault is needed")
	case !isMount(mount):
		return nil, fmt.Errorf("%q is no path of a mount", c.Mount)
	case !partitionPattern.MatchString(c.ARNs.Partition):
		return nil, fmt.Errorf("%q is no AWS partition", c.ARNs.Partition)
	case !regionPattern.MatchString(c.ARNs.Region):
		return nil, fmt.Errorf("%q is no AWS Region", c.ARNs.Region)
	case !accountPattern.MatchString(c.ARNs.Account):
		return nil, fmt.Errorf("%q is no AWS account: it must have 12 digits", c.ARNs.Account)
	case c.Logins != nil && c.Sessions == nil:
		return nil, errors.New("logins need sealing keys for the sessions")
	case c.SignedOnly && c.Sessions == nil:
		return nil, errors.New("without sessions nobody could call an endpoint that takes signed calls only")
	case c.SignedOnly && c.Identity != nil:
		return nil, errors.New("calls without a session token are not signed: an endpoint that takes signed calls only cannot serve them")
	case c.MaxBody <= 0 || c.MaxConcurrency <= 0:
		return nil, errors.New("the limits on body and concurrency must be positive")
	}
	g := &Gateway{
		vault: c.Vault, tokens: newTokenCheck(c.Vault), mount: mount + "/", arns: c.ARNs, requireToken: c.RequireToken,
		sessions: c.Sessions, logins: c.Logins, signedOnly: c.SignedOnly, identity: c.Identity, local: c.LocalIdentity, now: c.Now,
		maxCalls: c.MaxConcurrency, log: c.Log, forms: newBodies(maxSTSBody),
		metrics: newMetrics(c.Registerer),
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.retries = &retries{
		wait: c.RetryWait, limit: c.Vault.timeout, mount: g.mount,
		serves: g.Ready, fresh: c.Vault.http.CloseIdleConnections, counted: g.metrics.retried,
	}
	g.macs = newMacCoalescer(g.sendMacs)
	g.routes = newKnownRoutes()
	g.registerState(c.Registerer)
	g.bodies = newBodies(c.MaxBody)
	return g, nil
}

const (
	contentType  = "application/x-amz-json-1.1"
	targetPrefix = "TrentService."
	// requestIDHeader is spelled as KMS does, which is not Go's canonical way.
	requestIDHeader = "x-amzn-RequestId"
	// unknownOperation stands for what is no operation in logs and metrics.
	unknownOperation = "Unknown"
)

// outcome is what is answered to a call, and what is logged of it.
type outcome struct {
	wire      *wireFormat
	operation string
	folder    folder
	accessKey string
	principal string // of a session, or the endpoint's own
	status    int
	body      []byte
	exception *kms.Exception
	cause     error // of an exception, where Vault gave it
	gone      bool  // the client did not wait for the answer
	key       resource
	trace     trace
}

// ServeHTTP serves one call of the KMS API, or a request for credentials.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	o := &outcome{wire: g.wireOf(r), operation: unknownOperation, trace: trace{id: newRequestID(), from: forwardedFor(r)}}
	g.serve(w, r, o)
	header := w.Header()
	header["Content-Type"] = o.wire.contentType
	header[requestIDHeader] = []string{o.trace.id}
	header["Content-Length"] = []string{strconv.Itoa(len(o.body))}
	if g.draining.Load() {
		header["Connection"] = []string{"close"}
	}
	w.WriteHeader(o.status)
	_, _ = w.Write(o.body) // a client that has gone cannot be told
	g.record(r, o, time.Since(start))
}

// serve handles a call and never panics.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, o *outcome) {
	defer func() {
		if cause := recover(); cause != nil {
			g.log.Error("panic", "operation", o.operation, "panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			o.fail(internal("An internal error occurred."), nil)
		}
	}()
	o.wire.handle(g, w, r, o)
}

// fail makes an exception the outcome.
func (o *outcome) fail(exception *kms.Exception, cause error) {
	o.exception, o.cause, o.status = exception, cause, statusOf(exception)
	o.wire.fail(o, exception)
}

// failKMS writes an exception as KMS does.
func failKMS(o *outcome, exception *kms.Exception) {
	body := appendString([]byte(`{"__type":`), exception.Type)
	if exception.Message != "" {
		body = appendString(append(body, `,"message":`...), exception.Message)
	}
	o.body = append(body, '}')
}

func statusOf(exception *kms.Exception) int {
	if exception.Type == typeTooLarge {
		return http.StatusRequestEntityTooLarge
	}
	return exception.Status()
}

// handle reads the request's head: where it goes, what it wants, who asks. The
// order of the checks is that of AWS's services: target, credentials, body.
func (g *Gateway) handle(w http.ResponseWriter, r *http.Request, o *outcome) {
	if r.Method != http.MethodPost {
		o.fail(unknown("KMS is called by POST."), nil)
		o.status = http.StatusMethodNotAllowed
		w.Header()["Allow"] = []string{http.MethodPost}
		return
	}
	name, isKMS := strings.CutPrefix(first(r.Header["X-Amz-Target"]), targetPrefix)
	op := operationTable[name]
	if !isKMS || op == nil {
		o.fail(unknown(""), nil)
		return
	}
	o.operation = name
	var ok bool
	if o.folder, ok = folderOf(r.URL); !ok {
		o.fail(unknown("The path of the endpoint's URL is not a folder of the mount."), nil)
		return
	}
	who, err := g.authenticate(r, kmsService)
	o.accessKey, o.principal = who.accessKey, who.principal
	c := &call{gateway: g, ctx: r.Context(), operation: name, op: op, folder: o.folder, caller: who, resource: "*", trace: &o.trace}
	if err == nil {
		err = g.dispatch(c, w, r, o)
	}
	o.key = c.key
	if err != nil {
		o.fail(c.exception(err), err)
		o.gone = r.Context().Err() != nil
	}
}

func unknown(message string) *kms.Exception {
	return &kms.Exception{Type: typeUnknownOperation, Message: message}
}

// dispatch reads the body and does the call. It counts as one of the calls at
// once when all of it is there: otherwise a few slow senders would be all.
func (g *Gateway) dispatch(c *call, w http.ResponseWriter, r *http.Request, o *outcome) error {
	body, err := g.bodies.read(w, r)
	if err != nil {
		return err
	}
	defer body.forget()
	if err = c.caller.verify(r, body.bytes); err == nil {
		err = g.limited(func() error { return c.do(body.bytes, o) })
	}
	// Once the context has ended, a shared request may still read the body.
	if c.ctx.Err() == nil {
		body.release()
	}
	return err
}

// limited does what is left of a request that has been sent in full, unless too
// many others are at that.
func (g *Gateway) limited(work func() error) error {
	defer g.calls.Add(-1)
	if g.calls.Add(1) > g.maxCalls {
		return kms.Throttled()
	}
	return work()
}

// do does the call: a plain GenerateMac or VerifyMac on its short way, all else
// by the operations table.
func (c *call) do(body []byte, o *outcome) (err error) {
	o.status = http.StatusOK
	if c.operation == "GenerateMac" || c.operation == "VerifyMac" {
		if m, ok := scanMac(body, c.operation == "VerifyMac"); ok {
			o.body, err = c.mac(m)
			return err
		}
	}
	in, err := decodeInput(c.op.members, body)
	if err != nil {
		return err
	}
	a, err := c.invoke(c.op, in)
	if err == nil && a != nil {
		o.body = appendObject(nil, a)
	}
	return err
}
