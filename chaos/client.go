package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	patience   = 15 * time.Second      // of a client
	impatience = 80 * time.Millisecond // of one that gives up
	batchSize  = 250
)

// client is one of the clients of a run. Several share what they know of
// grants, and one history.
type client struct {
	id      int
	q       *requester
	h       *history
	tokens  tokens
	shared  *knowledge
	tally   *tally
	mood    *mood
	front   []*endpoint // before the nodes, in their order
	imports map[string]importParameters
	ensured map[string]bool
}

// tokens are whom clients come as: the owner of all, and entities that hold
// nothing but grants.
type tokens struct {
	owner    string
	entities [entities]struct{ id, token string }
}

// knowledge is what clients tell each other of grants.
type knowledge struct {
	mu     sync.Mutex
	grants map[string]grantSeen
	fresh  map[int][]string // names of new keys, by generation
}

func newKnowledge() *knowledge {
	return &knowledge{grants: map[string]grantSeen{}, fresh: map[int][]string{}}
}

type grantSeen struct{ id, token string }

type importParameters struct {
	public *rsa.PublicKey
	token  string
}

// tally counts how operations ended, and when they went well.
type tally struct {
	mu       sync.Mutex
	begun    int
	answered int
	refused  int
	writes   int // acknowledged
	open     int // ended in the dark
	unsent   int
	kinds    map[string]int
	troubles map[string]int
	well     [][]int64 // per client, the times of answers

	// Operations that both Vault and the endpoint have, and how many of them
	// were not answered.
	native, endpoint asked
}

type asked struct {
	All        int `json:"all"`
	Unanswered int `json:"not_answered"`
}

func newTally(clients int) *tally {
	return &tally{kinds: map[string]int{}, troubles: map[string]int{}, well: make([][]int64, clients)}
}

func (t *tally) add(client int, kind string, r reply, write bool, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun++
	t.kinds[kind]++
	switch {
	case r.ending == done:
		t.answered++
		if r.exception != "" {
			t.refused++
		} else if write {
			t.writes++
		}
		if client < len(t.well) {
			t.well[client] = append(t.well[client], now)
		}
	case r.ending == unsent:
		t.unsent++
	default:
		t.open++
	}
	if r.trouble != "" {
		t.troubles[r.trouble]++
	}
}

// acknowledged returns the number of acknowledged writes.
func (t *tally) acknowledged() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writes
}

// addMAC counts an operation that both Vault and the endpoint have.
func (t *tally) addMAC(endpoint bool, r reply) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &t.native
	if endpoint {
		a = &t.endpoint
	}
	a.All++
	if r.ending != done {
		a.Unanswered++
	}
}

// run carries out a plan until ctx ends or the plan's end is reached.
func (c *client) run(ctx context.Context, p *plan, pause time.Duration, stopped *atomic.Bool) {
	// After trouble a client only reads until it is answered: each write whose
	// end is unknown makes the check of its history harder.
	trouble := false
	for ctx.Err() == nil && !stopped.Load() {
		d := p.next()
		if !d.reads() {
			if trouble || c.mood.readOnly.Load() {
				continue
			}
			if c.mood.hasty.Load() {
				d.family, d.kind = "key", "create-new" // which lists must show
			}
		}
		ending := c.perform(ctx, d)
		if trouble = ending != done && !c.mood.hasty.Load(); ending != done {
			time.Sleep(20 * time.Millisecond) // let the others try
		}
		time.Sleep(pause)
	}
}

func (c *client) perform(ctx context.Context, d decision) ending {
	switch d.family {
	case "key":
		return c.key(ctx, d)
	case "alias":
		return c.alias(ctx, d)
	case "grant":
		return c.grant(ctx, d)
	}
	return c.list(ctx, d)
}

// ask sends a request and measures it. A refusal for want of permission is no
// answer, but on a grantee's path.
func (c *client) ask(ctx context.Context, d decision, token, method, path string, body any, write bool) (r reply, call, end int64) {
	timeout := patience
	if d.short || c.mood.hasty.Load() {
		timeout = impatience
	}
	call = c.h.now()
	if c.throughEndpoint(d) {
		r = c.q.sendKMS(ctx, c.front[d.node], token, operations[d.kind], path, body, timeout)
	} else {
		r = c.q.send(ctx, d.node, token, method, path, body, timeout)
	}
	end = c.h.now()
	if r.exception == denied && token == c.tokens.owner {
		r.ending, r.exception, r.trouble = unknown, "", "status 403 for the owner"
	}
	if r.ending == unknown {
		end = never
	}
	c.tally.add(c.id, d.family+" "+d.kind, r, write, c.h.now())
	if operations[d.kind] != "" {
		c.tally.addMAC(c.throughEndpoint(d), r)
	}
	return r, call, end
}

// throughEndpoint reports whether an operation goes through an endpoint.
func (c *client) throughEndpoint(d decision) bool {
	return d.endpoint && operations[d.kind] != "" && len(c.front) > 0
}

func keyName(generation, slot int) string { return fmt.Sprintf("k/%d/%d", generation, slot) }

func aliasName(generation, slot int) string { return fmt.Sprintf("a/%d/%d", generation, slot) }

func anchorName(i int) string { return fmt.Sprintf("a/anchor-%d", i) }

func grantName(generation, entity int) string { return fmt.Sprintf("g/%d:%d", generation, entity) }

func message(i int) string { return fmt.Sprintf("message %d", i) }

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// key carries out an operation on a key.
func (c *client) key(ctx context.Context, d decision) ending {
	name := keyName(d.generation, d.slot)
	op := keyOp{kind: d.kind}
	method, path, body, write := "POST", "", map[string]any{}, true
	known := ""
	switch d.kind {
	case "create-new":
		name, op.kind = d.name, "create"
		op.value = keyState{exists: true, material: true}
		path, body = "keys/"+name, map[string]any{"key_spec": "HMAC_256"}
		c.shared.mu.Lock()
		c.shared.fresh[d.generation] = append(c.shared.fresh[d.generation], name)
		c.shared.mu.Unlock()
	case "create":
		op.value = keyState{exists: true, external: external(d.slot), material: !external(d.slot), description: d.text, tags: d.tags}
		path, body = "keys/"+name, map[string]any{"key_spec": "HMAC_256", "description": d.text, "tags": tagMap(d.tags)}
		if external(d.slot) {
			body["origin"] = "EXTERNAL"
		}
	case "describe-new": // one of the latest
		c.shared.mu.Lock()
		fresh := c.shared.fresh[d.generation]
		c.shared.mu.Unlock()
		if len(fresh) == 0 {
			return done
		}
		name, op.kind = fresh[max(0, len(fresh)-1-d.message)], "describe"
		method, path, body, write = "GET", "keys/"+name, nil, false
	case "describe":
		method, path, body, write = "GET", "keys/"+name, nil, false
	case "enable", "disable":
		path = d.kind + "-key/" + name
	case "schedule":
		path, body = "schedule-key-deletion/"+name, map[string]any{"pending_window_in_days": 7}
	case "cancel":
		path = "cancel-key-deletion/" + name
	case "tag":
		op.tag, op.text = d.tag, d.text
		path, body = "tag-resource/"+name, map[string]any{"tags": map[string]string{tagNames[d.tag]: d.text}}
	case "untag":
		op.tag = d.tag
		path, body = "untag-resource/"+name, map[string]any{"tag_keys": []string{tagNames[d.tag]}}
	case "import":
		parameters, ending := c.importParameters(ctx, d, name)
		if ending != done {
			return ending
		}
		path, body = "import-key-material/"+name, parameters
	case "delete-material":
		path = "delete-imported-key-material/" + name
	case "mac":
		path, body, write = "generate-mac/"+name, macBody(message(d.message)), false
	case "verify":
		path, body, write = "verify-mac/"+name, macBody(message(d.message)), false
		known = c.verifiable(name, &d, body)
	case "batch":
		path, write = "generate-mac/"+name, false
		body = map[string]any{"mac_algorithm": "HMAC_SHA_256", "messages": batch()}
	}
	r, call, end := c.ask(ctx, d, c.tokens.owner, method, path, body, write)
	if r.ending == unsent || r.ending == unknown && !write {
		return r.ending
	}
	result := keyResult{unknown: r.ending == unknown, exception: r.exception}
	if r.ok() {
		result.state = r.text("key_state")
		if d.kind == "describe" && c.throughEndpoint(d) {
			op.kind = "info" // KMS shows tags elsewhere
		}
		if op.kind == "create" || op.kind == "describe" {
			result.metadata = metadataOf(r.data)
		}
		c.macs(d, name, r)
	}
	if d.kind == "verify" && c.judged(name, d, r, known) {
		result.exception = "" // the key was fit for the work, whatever the MAC
	}
	c.h.add(c.id, entity{"key", name}, op, result, call, end)
	return r.ending
}

// verifiable completes a verification with a MAC: one that somebody was given,
// or else a wrong one.
func (c *client) verifiable(key string, d *decision, body map[string]any) string {
	mac, ok := c.h.known(key, message(d.message))
	if !ok || d.wrong {
		d.wrong = true
		mac = base64.StdEncoding.EncodeToString(make([]byte, 32))
	}
	body["mac"] = mac
	return mac
}

// judged notes a wrong verdict on a MAC, and reports whether there was one.
func (c *client) judged(key string, d decision, r reply, mac string) bool {
	switch {
	case r.ending != done:
		return false
	case r.exception == "" && d.wrong:
		c.h.fault("wrong MAC accepted: of key %s and message %q, %s", key, message(d.message), mac)
	case r.exception == invalidMac && !d.wrong:
		c.h.fault("right MAC refused: of key %s and message %q, %s", key, message(d.message), mac)
	}
	return r.exception == invalidMac
}

// macs compares the MACs of an answer with all others.
func (c *client) macs(d decision, name string, r reply) {
	switch d.kind {
	case "mac":
		c.mac(name, message(d.message), r.text("mac"))
	case "batch", "batch-through-alias":
		list := strings.Split(r.text("macs"), ",")
		if len(list) != batchSize {
			c.h.fault("a batch of %d was answered with %d MACs", batchSize, len(list))
			return
		}
		for i, mac := range list {
			c.mac(name, message(i), mac)
		}
	}
}

// mac compares a MAC with those of other answers, and where the key material is
// known here, with one computed here.
func (c *client) mac(key, message, mac string) {
	if strings.HasPrefix(key, "k/") && strings.HasSuffix(key, fmt.Sprint("/", keySlots-1)) {
		h := hmac.New(sha256.New, materialOf(key))
		h.Write([]byte(message))
		c.h.mac(key, message, base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	c.h.mac(key, message, mac)
}

func macBody(message string) map[string]any {
	return map[string]any{"mac_algorithm": "HMAC_SHA_256", "message": b64(message)}
}

var batch = sync.OnceValue(func() string {
	messages := make([]string, batchSize)
	for i := range messages {
		messages[i] = b64(message(i))
	}
	return strings.Join(messages, ",")
})

// materialOf is the key material that is imported into a key.
func materialOf(name string) []byte {
	sum := sha256.Sum256([]byte("key material of " + name))
	return sum[:]
}

// importParameters returns the body of an import, for which it asks for
// parameters once a key.
func (c *client) importParameters(ctx context.Context, d decision, name string) (map[string]any, ending) {
	p, ok := c.imports[name]
	if !ok {
		d.kind, d.short = "get-parameters", false
		r, _, _ := c.ask(ctx, d, c.tokens.owner, "POST", "get-parameters-for-import/"+name, map[string]any{
			"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048",
		}, true)
		switch {
		case r.ending != done:
			return nil, r.ending
		case r.exception != "": // there is no key yet, say
			return nil, unsent
		}
		der, err := base64.StdEncoding.DecodeString(r.text("public_key"))
		if err != nil {
			c.h.fault("parameters for an import: %v", err)
			return nil, unsent
		}
		public, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			c.h.fault("parameters for an import: %v", err)
			return nil, unsent
		}
		p = importParameters{public.(*rsa.PublicKey), r.text("import_token")}
		c.imports[name] = p
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, p.public, materialOf(name), nil)
	if err != nil {
		panic(err) // 32 bytes fit
	}
	return map[string]any{
		"import_token": p.token, "encrypted_key_material": base64.StdEncoding.EncodeToString(wrapped),
		"expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
	}, done
}

func tagMap(tags [len(tagNames)]string) map[string]string {
	m := map[string]string{}
	for i, value := range tags {
		if value != "" {
			m[tagNames[i]] = value
		}
	}
	return m
}

func metadataOf(data map[string]any) *keyState {
	s := &keyState{}
	s.description, _ = data["description"].(string)
	tags, _ := data["tags"].(map[string]any)
	for i, name := range tagNames {
		s.tags[i], _ = tags[name].(string)
	}
	return s
}

// alias carries out an operation on an alias, or on a key through it.
func (c *client) alias(ctx context.Context, d decision) ending {
	name := aliasName(d.generation, d.slot)
	op := aliasOp{kind: d.kind}
	method, path, body, write := "POST", "aliases/"+name, map[string]any{}, true
	known := ""
	switch d.kind {
	case "write":
		op.target, op.overlap, op.mustExist = d.target, d.overlap, d.mustExist
		body["target_key_id"] = anchorName(d.target)
		if d.overlap != overlapUnset {
			body["overlap"] = []string{overlapZero: "0", overlapHour: "1h"}[d.overlap]
		}
		if d.mustExist != "" {
			body["must_exist"] = d.mustExist == "true"
		}
	case "read":
		method, body, write = "GET", nil, false
	case "delete":
		method, body = "DELETE", nil
	case "mac":
		path, body, write = "generate-mac/alias/"+name, macBody(message(d.message)), false
	case "verify":
		op.target = d.target
		path, body, write = "verify-mac/alias/"+name, macBody(message(d.message)), false
		d.wrong = false
		if known = c.verifiable(anchorName(d.target), &d, body); d.wrong {
			return done // nobody has made that MAC yet
		}
	}
	r, call, end := c.ask(ctx, d, c.tokens.owner, method, path, body, write)
	if r.ending == unsent || r.ending == unknown && !write {
		return r.ending
	}
	result := aliasResult{unknown: r.ending == unknown, exception: r.exception}
	if r.ok() {
		switch d.kind {
		case "write", "read":
			result.shown = aliasOf(r.data)
		case "mac":
			result.key = anchorOf(r.text("key_id"))
			c.mac(r.text("key_id"), message(d.message), r.text("mac"))
		case "verify":
			if got := r.text("key_id"); got != anchorName(d.target) {
				c.h.fault("the MAC %s of %s was verified with %s", known, anchorName(d.target), got)
			}
		}
	}
	if r.exception == "LimitExceededException" {
		// Aliases stay, and in a long run an anchor has as many as a key may have.
		return r.ending
	}
	c.h.add(c.id, entity{"alias", name}, op, result, call, end)
	return r.ending
}

func anchorOf(name string) int {
	for i := range anchors {
		if anchorName(i) == name {
			return i
		}
	}
	return -1
}

func aliasOf(data map[string]any) *aliasState {
	target, _ := data["target_key_id"].(string)
	s := &aliasState{exists: true, target: anchorOf(target)}
	previous, _ := data["previous_keys"].([]any)
	for _, p := range previous {
		former, _ := p.(map[string]any)
		id, _ := former["key_id"].(string)
		if i := anchorOf(id); i >= 0 {
			s.previous = s.previous.with(i)
		}
	}
	return s
}

// grant carries out an operation on the grant of a key to an entity.
func (c *client) grant(ctx context.Context, d decision) ending {
	key := fmt.Sprintf("g/%d", d.generation)
	if !c.ensured[key] {
		// Any client may be the first: repeating a create changes nothing.
		r, _, _ := c.ask(ctx, decision{family: "grant", kind: "key", node: d.node}, c.tokens.owner, "POST", "keys/"+key, map[string]any{"key_spec": "HMAC_256"}, true)
		if !r.ok() {
			return r.ending
		}
		c.ensured[key] = true
	}
	name, who := grantName(d.generation, d.slot), c.tokens.entities[d.slot]
	c.shared.mu.Lock()
	seen := c.shared.grants[name]
	c.shared.mu.Unlock()

	op := grantOp{kind: d.kind}
	token, method, path, body, write := c.tokens.owner, "POST", "", map[string]any{}, true
	switch d.kind {
	case "create":
		path = "create-grant/" + key
		body = map[string]any{"name": "the-one", "grantee_principal": who.id, "operations": []string{"GenerateMac", "RetireGrant"}}
	case "revoke":
		op.id = seen.id
		path, body = "revoke-grant/"+key, map[string]any{"grant_id": seen.id}
	case "retire":
		op.id = seen.id
		token, path, body = who.token, "retire-grant", map[string]any{"grant_token": seen.token}
	case "use":
		write = false
		token, path, body = who.token, "granted/generate-mac/"+key, macBody(message(d.message))
	case "token":
		write = false
		op.id = seen.id
		path, body = "generate-mac/"+key, macBody(message(d.message))
		body["grant_tokens"] = []string{seen.token}
	case "list":
		method, path, body, write = "GET", "list-grants/"+key+"?grantee_principal="+who.id, nil, false
	}
	if seen.id == "" && (d.kind == "revoke" || d.kind == "retire" || d.kind == "token") {
		return done // nobody was given a grant yet
	}
	r, call, end := c.ask(ctx, d, token, method, path, body, write)
	if r.ending == unsent || r.ending == unknown && !write {
		return r.ending
	}
	result := grantResult{unknown: r.ending == unknown, exception: r.exception}
	if r.ok() {
		switch d.kind {
		case "create":
			result.id = r.text("grant_id")
			c.shared.mu.Lock()
			c.shared.grants[name] = grantSeen{result.id, r.text("grant_token")}
			c.shared.mu.Unlock()
		case "list":
			c.grantListed(entity{"grant", name}, r, call, end)
		case "use", "token":
			c.mac(key, message(d.message), r.text("mac"))
		}
	}
	if d.kind != "list" {
		c.h.add(c.id, entity{"grant", name}, op, result, call, end)
	}
	return r.ending
}

// grantListed enters a list of grants into the history of the one that it may
// show.
func (c *client) grantListed(e entity, r reply, call, end int64) {
	id, many := grantIn(r.data)
	if many {
		c.h.fault("two grants of one name: %v", r.data["grants"])
	}
	c.h.observe(e, observation{
		what: fmt.Sprintf("listed: %.8q", id), call: call, end: end,
		fits: func(state any) bool { return state.(string) == id || id != "" && state.(string) == unseen },
	})
}

// grantIn returns the id of the grant in a list of at most one.
func grantIn(data map[string]any) (id string, many bool) {
	list, _ := data["grants"].([]any)
	for _, item := range list {
		g, _ := item.(map[string]any)
		id, _ = g["grant_id"].(string)
	}
	return id, len(list) > 1
}

// list reads a list, and notes of each thing that it may show whether it does.
func (c *client) list(ctx context.Context, d decision) ending {
	switch d.kind {
	case "keys", "key-info":
		path := fmt.Sprintf("keys/k/%d/?list=true", d.generation)
		if d.kind == "key-info" {
			path += "&detailed=true"
		}
		r, call, end := c.ask(ctx, d, c.tokens.owner, "GET", path, nil, false)
		if names, ok := listed(r); ok {
			info, _ := r.data["key_info"].(map[string]any)
			for slot := range keySlots {
				c.keyListed(keyName(d.generation, slot), names, info, call, end)
			}
		}
		return r.ending
	case "new-keys":
		r, call, end := c.ask(ctx, d, c.tokens.owner, "GET", fmt.Sprintf("keys/new/%d/?list=true", d.generation), nil, false)
		if names, ok := listed(r); ok {
			c.shared.mu.Lock()
			fresh := slices.Clone(c.shared.fresh[d.generation])
			c.shared.mu.Unlock()
			for _, name := range fresh {
				c.keyListed(name, names, nil, call, end)
			}
		}
		return r.ending
	case "aliases":
		r, call, end := c.ask(ctx, d, c.tokens.owner, "GET", fmt.Sprintf("aliases/a/%d/?list=true&detailed=true", d.generation), nil, false)
		if names, ok := listed(r); ok {
			info, _ := r.data["key_info"].(map[string]any)
			for slot := range aliasSlots {
				c.aliasListed(d, slot, names[fmt.Sprint(slot)], info, call, end)
			}
		}
		return r.ending
	case "aliases-of":
		r, call, end := c.ask(ctx, d, c.tokens.owner, "GET", fmt.Sprintf("aliases/a/%d/?list=true&target_key_id=%s", d.generation, anchorName(d.target)), nil, false)
		if names, ok := listed(r); ok {
			for slot := range aliasSlots {
				there := names[fmt.Sprint(slot)]
				c.h.observe(entity{"alias", aliasName(d.generation, slot)}, observation{
					what: fmt.Sprintf("at %s: %v", anchorName(d.target), there), call: call, end: end,
					fits: func(state any) bool {
						a := state.(aliasState)
						return there == (a.exists && a.target == d.target)
					},
				})
			}
		}
		return r.ending
	}
	return c.batchThroughAlias(ctx, d)
}

// listed returns the names in a list; an empty one is absent.
func listed(r reply) (map[string]bool, bool) {
	if r.ending != done || r.exception != "" && r.exception != absent {
		return nil, false
	}
	names := map[string]bool{}
	keys, _ := r.data["keys"].([]any)
	for _, key := range keys {
		name, _ := key.(string)
		names[name] = true
	}
	return names, true
}

func (c *client) keyListed(name string, names map[string]bool, info map[string]any, call, end int64) {
	e, base := entity{"key", name}, path.Base(name)
	there := names[base]
	c.h.observe(e, observation{
		what: fmt.Sprintf("listed: %v", there), call: call, end: end,
		fits: func(state any) bool { return state.(bool) == there },
	})
	if of, ok := info[base].(map[string]any); ok {
		state, _ := of["key_state"].(string)
		c.h.add(c.id, e, keyOp{kind: "info"}, keyResult{state: state}, call, end)
	}
}

func (c *client) aliasListed(d decision, slot int, there bool, info map[string]any, call, end int64) {
	e := entity{"alias", aliasName(d.generation, slot)}
	c.h.observe(e, observation{
		what: fmt.Sprintf("listed: %v", there), call: call, end: end,
		fits: func(state any) bool { return state.(aliasState).exists == there },
	})
	if of, ok := info[fmt.Sprint(slot)].(map[string]any); ok {
		c.h.add(c.id, e, aliasOp{kind: "read"}, aliasResult{shown: aliasOf(of)}, call, end)
	}
}

// batchThroughAlias makes many MACs at once: all of one key.
func (c *client) batchThroughAlias(ctx context.Context, d decision) ending {
	name := aliasName(d.generation, d.slot)
	r, call, end := c.ask(ctx, d, c.tokens.owner, "POST", "generate-mac/alias/"+name,
		map[string]any{"mac_algorithm": "HMAC_SHA_256", "messages": batch()}, false)
	if r.ending != done {
		return r.ending
	}
	result := aliasResult{exception: r.exception}
	if r.ok() {
		result.key = anchorOf(r.text("key_id"))
		c.macs(d, r.text("key_id"), r)
	}
	c.h.add(c.id, entity{"alias", name}, aliasOp{kind: "mac"}, result, call, end)
	return r.ending
}
