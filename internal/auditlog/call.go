package auditlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Results of requests that did not end with an exception of KMS, whose type is
// the result otherwise.
const (
	ResultOK = "ok"
	// ResultDenied is what Vault did not allow: a policy, or a token that it does
	// not know.
	ResultDenied = "denied"
	// ResultRefused is an exception whose type the mount does not show in the
	// audit log.
	ResultRefused = "refused"
	// ResultError is any other failure.
	ResultError = "error"
	// ResultDryRun is of a bulk request that only asked what would happen.
	ResultDryRun = "dry_run"
	// ResultHashed is of a bulk request's item, where the mount does not show
	// results in the audit log: it was done, or would be.
	ResultHashed = "hashed"
)

// Call is what a request to the mount was about. A request for a batch, or one
// that several calls of the endpoint have shared, is one Call with several
// Results.
type Call struct {
	Time      time.Time
	Operation string // KMS's name where it has one
	// Key is the key's id. By alias it is the key that did the work, if the mount
	// shows key_id in the audit log, else empty.
	Key   string
	Alias string // that the request named, with its alias/
	// Grant says that the request was made on a path that grants open.
	Grant bool
	// Principal is the id of the caller's Vault entity or, without one, the
	// display name of its token.
	Principal string
	// Name is the display name of the caller's token, with the role's or user's
	// name where the login had one.
	Name          string
	Remote        string // the client's address, as Vault knows it
	Client        string // its user agent
	Namespace     string
	RequestID     string // Vault's
	CorrelationID string // of the endpoint, which its log has too
	// Hashed says that Key is empty because the audit log has its hash only.
	Hashed  bool
	Results []Result

	way string // in which it was asked for: Vault's operation, and whether by a grant
}

// Result is how some of a request's calls ended: all of them, but for batches.
type Result struct {
	Result string
	Calls  int
}

// Stats is what a Reader has come across.
type Stats struct {
	Lines int // of any kind
	Calls int // to the mount, batches and bulk requests counted once
	// Unreadable counts lines that are no JSON, which a crash or a rotation may
	// have cut off, or that are too long.
	Unreadable int
	// Hashed counts requests by alias or in bulk of which the keys are not known.
	Hashed int
}

// Reader reads audit logs.
type Reader struct {
	mount     string // with its slash
	namespace string // "" is any
	marker    []byte // that each line of the mount has
	stats     Stats
	denied    deniedCalls
	emit      func(Call)
}

// NewReader returns a reader of the requests to a mount, for which it calls emit.
// With a namespace, those of others are left out.
func NewReader(mount, namespace string, emit func(Call)) *Reader {
	mount = strings.Trim(mount, "/") + "/"
	quoted, _ := json.Marshal(mount) // of a string, cannot fail
	return &Reader{mount: mount, namespace: strings.Trim(namespace, "/"), marker: quoted[1 : len(quoted)-1], emit: emit}
}

// Read reads a stream to its end: what an audit device has written, or part of
// it, compressed or not.
func (r *Reader) Read(stream io.Reader) error {
	plain, done, err := decompress(stream)
	if err != nil {
		return err
	}
	defer done()
	return lines(plain, r.line)
}

// Close ends the reading: calls that were denied, and that no later line has
// shown to be allowed, are told about.
func (r *Reader) Close() Stats {
	r.denied.flush(r.emit)
	return r.stats
}

var responseMarker = []byte(`"response"`)

// line reads one line. Only those of answers count: a request without an
// answer has come to nothing.
func (r *Reader) line(line []byte) {
	r.stats.Lines++
	if line == nil {
		r.stats.Unreadable++
		return
	}
	start := bytes.IndexByte(line, '{') // behind the prefix that a device may have been told to write
	if start < 0 {
		if len(bytes.TrimSpace(line)) > 0 {
			r.stats.Unreadable++
		}
		return
	}
	line = line[start:]
	if !bytes.Contains(line, responseMarker) || !bytes.Contains(line, r.marker) {
		return
	}
	var e entry
	// A field of another type than expected is left out, the rest is there.
	if err := json.Unmarshal(line, &e); err != nil && !errors.As(err, new(*json.UnmarshalTypeError)) {
		r.stats.Unreadable++
		return
	}
	path, ours := strings.CutPrefix(e.Request.Path, r.mount)
	if e.Type != "response" || !ours || r.namespace != "" && strings.Trim(e.Request.Namespace.Path, "/") != r.namespace {
		return
	}
	c := e.call(path)
	r.stats.Calls++
	if c.Hashed {
		r.stats.Hashed++
	}
	if e.Response.Data.Results == nil {
		r.denied.pass(c, r.emit)
		return
	}
	items := e.items(c)
	if slices.ContainsFunc(items, func(c Call) bool { return c.Hashed }) {
		r.stats.Hashed++
	}
	for _, item := range items {
		r.emit(item)
	}
}

// entry is what is read of a line.
type entry struct {
	Time  string `json:"time"`
	Type  string `json:"type"`
	Error string `json:"error"`
	Auth  struct {
		DisplayName string            `json:"display_name"`
		EntityID    string            `json:"entity_id"`
		Metadata    map[string]string `json:"metadata"`
	} `json:"auth"`
	Request struct {
		ID        string              `json:"id"`
		Operation string              `json:"operation"`
		Path      string              `json:"path"`
		Remote    string              `json:"remote_address"`
		Headers   map[string][]string `json:"headers"`
		Namespace struct {
			Path string `json:"path"`
		} `json:"namespace"`
	} `json:"request"`
	Response struct {
		Data struct {
			KeyID any `json:"key_id"`
			// Data is set where the mount has refused the request.
			Data struct {
				Type string `json:"type"`
			} `json:"data"`
			Error        any              `json:"error"`
			BatchSize    int              `json:"batch_size"`
			Macs         any              `json:"macs"`
			MacsValid    any              `json:"macs_valid"`
			Errors       map[string]fault `json:"errors"`
			BatchResults []struct {
				Error *fault `json:"error"`
			} `json:"batch_results"`
			Results []bulkItem `json:"results"`
		} `json:"data"`
	} `json:"response"`
}

type fault struct {
	Type string `json:"type"`
}

// bulkItem is what has become of a key or an alias in a bulk request.
type bulkItem struct {
	KeyID     string `json:"key_id"`
	AliasName string `json:"alias_name"`
	Result    string `json:"result"`
	Error     *fault `json:"error"`
}

// items are the calls that a bulk request stands for: one for each key or alias.
// Where the audit log has hashes of them, all that is known of a key is the
// folder.
func (e *entry) items(bulk Call) (calls []Call) {
	for _, item := range e.Response.Data.Results {
		c := bulk
		result := bulkOutcomes[item.Result]
		switch {
		case item.Error != nil:
			result = shown(item.Error.Type)
		case result == "":
			result = item.Result
		}
		if strings.HasPrefix(result, hashPrefix) {
			result = ResultHashed
		}
		if c.Hashed = strings.HasPrefix(item.KeyID, hashPrefix); !c.Hashed {
			c.Key, c.Alias = item.KeyID, item.AliasName
		}
		c.Results = []Result{{result, 1}}
		calls = append(calls, c)
	}
	return calls
}

// bulkOutcomes are the results of items that have other names here. One that is
// unchanged was found as it was to be, as by a call of its own.
var bulkOutcomes = map[string]string{"done": ResultOK, "unchanged": ResultOK, "would change": ResultDryRun}

// hashPrefix begins what an audit device has hashed.
const hashPrefix = "hmac-sha256:"

func (e *entry) call(path string) Call {
	c := Call{
		Principal: e.Auth.EntityID, Name: e.Auth.DisplayName, Remote: e.Request.Remote, Namespace: strings.Trim(e.Request.Namespace.Path, "/"),
		RequestID: e.Request.ID, Client: e.header("user-agent"), CorrelationID: e.header("x-correlation-id"),
	}
	c.Time, _ = time.Parse(time.RFC3339Nano, e.Time)
	if c.Principal == "" {
		c.Principal = c.Name
	}
	for _, key := range []string{"role_name", "username", "service_account_name", "role"} {
		if value := e.Auth.Metadata[key]; value != "" && !strings.HasSuffix(c.Name, value) {
			c.Name += "/" + value
			break
		}
	}
	c.operation(path, e.Request.Operation)
	c.way = e.Request.Operation + strconv.FormatBool(c.Grant)
	if id, _ := e.Response.Data.KeyID.(string); c.Alias != "" || c.Key == "" {
		if c.Hashed = strings.HasPrefix(id, hashPrefix); !c.Hashed {
			c.Key = id
		}
	}
	c.Results = e.results()
	return c
}

func (e *entry) header(name string) string {
	if values := e.Request.Headers[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// operation reads the path, behind the mount's, and Vault's own operation.
func (c *Call) operation(path, vaultOperation string) {
	head, name, _ := strings.Cut(path, "/")
	if head == "granted" {
		c.Grant = true
		head, name, _ = strings.Cut(name, "/")
	}
	if head == "bulk" {
		head, name, _ = strings.Cut(name, "/")
		c.Operation = bulkOperations[head]
		name = strings.TrimSuffix(name, "/") + "/"
	} else if native := nativeOperations[head]; native != nil {
		c.Operation = native[vaultOperation]
		if head == "keys" && vaultOperation == "update" && name == "" {
			c.Operation = "CreateKey"
		}
		if head == "aliases" {
			name = kms.AliasPrefix + name
		}
	} else if operation := operationName(head); isOperation(operation) {
		c.Operation = operation
	}
	if c.Operation == "" {
		c.Operation = vaultOperation + " " + head
		return
	}
	switch {
	case strings.HasPrefix(name, kms.AliasPrefix):
		c.Alias = name
	case head != "list-retirable-grants": // which has a principal there
		c.Key = name
	}
}

// nativeOperations are KMS's operations that are Vault's own on a resource.
var nativeOperations = map[string]map[string]string{
	"keys": {
		"create": "CreateKey", "update": "UpdateKeyDescription", "read": "DescribeKey", "delete": "ScheduleKeyDeletion", "list": "ListKeys",
	},
	"aliases": {
		"create": "CreateAlias", "update": "UpdateAlias", "read": "DescribeAlias", "delete": "DeleteAlias", "list": "ListAliases",
	},
}

// bulkOperations are what a bulk request does to each key or alias.
var bulkOperations = map[string]string{"disable-key": "DisableKey", "schedule-key-deletion": "ScheduleKeyDeletion", "move-aliases": "UpdateAlias"}

func isOperation(name string) bool {
	_, ok := kms.Input(name)
	return ok
}

// operationName is the reverse of kms.PathName.
func operationName(path string) string {
	var name strings.Builder
	for word := range strings.SplitSeq(path, "-") {
		if word != "" {
			name.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return name.String()
}

// results says how the calls in a request ended.
func (e *entry) results() []Result {
	d := &e.Response.Data
	switch {
	case d.Data.Type != "":
		return []Result{{shown(d.Data.Type), 1}}
	case strings.Contains(e.Error, "permission denied"), strings.Contains(e.Error, "bad token"):
		return []Result{{ResultDenied, 1}}
	case e.Error != "" || d.Error != nil:
		return []Result{{ResultError, 1}}
	}
	counts := map[string]int{}
	size := len(d.BatchResults)
	for _, r := range d.BatchResults {
		if r.Error != nil {
			counts[shown(r.Error.Type)]++
		}
	}
	for _, f := range d.Errors {
		counts[shown(f.Type)]++
	}
	for _, list := range []any{d.Macs, d.MacsValid} {
		values, _ := list.([]any)
		size = max(size, len(values))
	}
	size = max(size, d.BatchSize)
	failed := 0
	results := make([]Result, 0, len(counts)+1)
	for result, n := range counts {
		failed += n
		results = append(results, Result{result, n})
	}
	// A batch without an item is a call, too.
	if ok := max(size, 1) - failed; ok > 0 {
		results = append(results, Result{ResultOK, ok})
	}
	return results
}

// shown is the type of an exception as the log shows it.
func shown(kind string) string {
	if strings.HasPrefix(kind, hashPrefix) {
		return ResultRefused
	}
	return kind
}

// maxDenied is how many denied calls are remembered until it is known whether
// another way was allowed. The endpoint asks again at once, so that a few
// thousand are more than can be under way.
const maxDenied = 8192

// deniedCalls joins the requests by which the endpoint asks for one call: by
// PATCH and by POST, on the operation's path and on the one that grants open.
// They are one call, which ended as the last of them did.
type deniedCalls struct {
	waiting map[string]deniedCall // by the id of the attempt
	order   []string              // the same ids, oldest first
}

// deniedCall is a call that was denied in these ways so far.
type deniedCall struct {
	call Call
	ways []string
}

// attempt names what requests for one call have in common. Callers of Vault
// choose correlation ids as they like: so that nobody hides a denied call behind
// another, only requests by the same principal for the same are joined, and
// none in a way that was denied already.
func (c *Call) attempt() string {
	name := c.Alias
	if name == "" {
		name = c.Key
	}
	return strings.Join([]string{c.CorrelationID, c.Principal, c.Operation, name}, "\x00")
}

// pass passes a call on, unless it is one that the endpoint may ask for again.
func (d *deniedCalls) pass(c Call, emit func(Call)) {
	if c.CorrelationID == "" {
		emit(c)
		return
	}
	id := c.attempt()
	if len(c.Results) != 1 || c.Results[0].Result != ResultDenied {
		delete(d.waiting, id)
		emit(c)
		return
	}
	earlier, again := d.waiting[id]
	switch {
	case !again:
		d.order = append(d.order, id)
	case slices.Contains(earlier.ways, c.way):
		emit(earlier.call)
		earlier.ways = nil
	}
	if d.waiting == nil {
		d.waiting = map[string]deniedCall{}
	}
	d.waiting[id] = deniedCall{c, append(earlier.ways, c.way)}
	if len(d.order) > maxDenied {
		oldest := d.order[:maxDenied/2]
		d.release(oldest, emit)
		d.order = append([]string(nil), d.order[maxDenied/2:]...)
	}
}

func (d *deniedCalls) release(ids []string, emit func(Call)) {
	for _, id := range ids {
		if denied, ok := d.waiting[id]; ok {
			delete(d.waiting, id)
			emit(denied.call)
		}
	}
}

func (d *deniedCalls) flush(emit func(Call)) {
	d.release(d.order, emit)
	d.order = nil
}
