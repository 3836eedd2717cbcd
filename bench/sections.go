package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	// messageBytes is the length of a message unless length is the point:
	// about that of what tokens and webhooks authenticate.
	messageBytes = 32
	// variants is how many different requests a workload sends.
	variants = 64
)

// section is a table: workloads that are run in turn, each with every number
// of clients, and compared with the first one.
type section struct {
	id        string
	title     string
	workloads []*workload
	clients   []int
	goals     []goal
}

// goal is a ratio of throughputs that is to be reached.
type goal struct {
	workload, against string
	clients           int
	ratio             float64
	lowerP99          bool
}

const (
	transitOne    = "Transit"
	emptyOne      = "empty plugin"
	engineOne     = "generate-mac"
	enginePatch   = "generate-mac, PATCH"
	userPatch     = "generate-mac, PATCH, logged in"
	grantedPatch  = "granted/generate-mac, PATCH"
	endpointOne   = "KMS endpoint"
	endpointOwn   = "KMS endpoint, by a grant"
	transitBatch  = "Transit batch_input"
	engineBatch   = "batch_input"
	engineList    = "messages, a list"
	engineText    = "messages, one string"
	enginePatched = "messages, one string, PATCH"
	engineForm    = "messages, a form"
	emptyForm     = "empty plugin, a form"
	emptyPatched  = "empty plugin, one string, PATCH"
)

// sections returns what is measured. A section that needs many keys is there
// only if there are many.
func (l *lab) sections(clients []int, manyKeys int) []section {
	one, patched, user, granted := []vaultRequest{}, []vaultRequest{}, []vaultRequest{}, []vaultRequest{}
	empty := []vaultRequest{}
	transit := []vaultRequest{}
	kmsBodies := []string{}
	for range variants {
		m := message(messageBytes)
		r := generate("kms", keyName, m)
		one = append(one, r)
		r.form = patch
		patched = append(patched, r)
		r.token = l.user
		user = append(user, r)
		r.token = l.granted
		r.path = "kms/granted/generate-mac/" + keyName
		granted = append(granted, r)
		empty = append(empty, generate("empty", keyName, m))
		transit = append(transit, vaultRequest{path: "transit/hmac/tokens/sha2-256", body: fmt.Sprintf(`{"input":%q}`, m)})
		kmsBodies = append(kmsBodies, fmt.Sprintf(`{"KeyId":%q,"Message":%q,"MacAlgorithm":"HMAC_SHA_256"}`, keyName, m))
	}
	single := section{
		id: "one", title: "One MAC a request", clients: clients,
		workloads: []*workload{
			l.vaultWorkload(transitOne, 1, transit),
			l.vaultWorkload(emptyOne, 1, empty),
			l.vaultWorkload(engineOne, 1, one),
			l.vaultWorkload(enginePatch, 1, patched),
			l.vaultWorkload(userPatch, 1, user),
			l.vaultWorkload(grantedPatch, 1, granted),
			l.kmsWorkload(endpointOne, kmsBodies, l.token),
			l.kmsWorkload(endpointOwn, kmsBodies, l.granted),
		},
		goals: []goal{
			{workload: engineOne, against: emptyOne, clients: 16, ratio: 0.95},
			{workload: enginePatch, against: emptyOne, clients: 1, ratio: 1.35},
			{workload: enginePatch, against: emptyOne, clients: 16, ratio: 1.35},
			{workload: enginePatch, against: emptyOne, clients: 64, ratio: 1.35},
			{workload: enginePatch, against: transitOne, clients: 64, ratio: 0.7},
			{workload: grantedPatch, against: userPatch, clients: 1, ratio: 0.95},
			{workload: grantedPatch, against: userPatch, clients: 16, ratio: 0.95},
			{workload: endpointOne, against: transitOne, clients: 1, ratio: 0.33},
			{workload: endpointOne, against: transitOne, clients: 64, ratio: 2.5, lowerP99: true},
			{workload: endpointOne, against: transitOne, clients: 256, ratio: 3.5},
			{workload: endpointOwn, against: endpointOne, clients: 64, ratio: 0.9},
		},
	}
	sections := []section{single, l.callersSection(kmsBodies), l.batchSection(1000), l.batchSection(100), l.batchSizes()}
	if manyKeys > 0 {
		sections = append(sections, l.keysSection(manyKeys))
	}
	return append(sections, l.messageSizes(), l.mountsSection())
}

// callersSection shows what it costs that callers have a token each: calls of
// different tokens share no request.
func (l *lab) callersSection(bodies []string) section {
	one, own := l.kmsWorkload("one token", bodies, l.token), l.kmsWorkload(fmt.Sprintf("%d tokens", callers), bodies, l.tokens...)
	own.own = true
	return section{
		id: "callers", title: "Callers of the KMS endpoint with a token each", clients: []int{callers, 16 * callers},
		workloads: []*workload{one, own},
	}
}

// batchClients are few: one request is a lot of work.
var batchClients = []int{1, 16}

// batchSection compares the forms of a batch with Transit's. The floor, again,
// is what it costs to carry the fastest ones to a plugin and to decode them there.
func (l *lab) batchSection(size int) section {
	const path = "kms/generate-mac/" + keyName
	workloads := map[string][]vaultRequest{}
	add := func(name string, r vaultRequest) { workloads[name] = append(workloads[name], r) }
	for range variants / 16 {
		messages := make([]string, size)
		inputs, objects := make([]string, size), make([]string, size)
		for i := range messages {
			m := message(messageBytes)
			messages[i] = m
			inputs[i] = fmt.Sprintf(`{"input":%q}`, m)
			objects[i] = fmt.Sprintf(`{"message":%q}`, m)
		}
		text := strings.Join(messages, ",")
		add(transitBatch, vaultRequest{path: "transit/hmac/tokens/sha2-256", body: `{"batch_input":[` + strings.Join(inputs, ",") + `]}`})
		add(engineBatch, vaultRequest{path: path, body: `{"mac_algorithm":"HMAC_SHA_256","batch_input":[` + strings.Join(objects, ",") + `]}`})
		add(engineList, vaultRequest{path: path, body: `{"mac_algorithm":"HMAC_SHA_256","messages":["` + strings.Join(messages, `","`) + `"]}`})
		add(engineText, vaultRequest{path: path, body: `{"mac_algorithm":"HMAC_SHA_256","messages":"` + text + `"}`})
		add(enginePatched, vaultRequest{path: path, body: `{"mac_algorithm":"HMAC_SHA_256","messages":"` + text + `"}`, form: patch})
		add(engineForm, compactForm("kms/generate-mac/", messages))
		add(emptyForm, compactForm("empty/generate-mac/", messages))
		add(emptyPatched, vaultRequest{path: "empty/generate-mac/" + keyName, body: `{"mac_algorithm":"HMAC_SHA_256","messages":"` + text + `"}`, form: patch})
	}
	s := section{
		id: fmt.Sprintf("batch%d", size), title: fmt.Sprintf("Batches of %d", size), clients: batchClients,
	}
	for _, name := range []string{transitBatch, engineBatch, engineList, engineText, enginePatched, engineForm, emptyForm, emptyPatched} {
		w := l.vaultWorkload(name, size, workloads[name])
		if name == emptyForm || name == emptyPatched {
			w.answered = 1
		}
		s.workloads = append(s.workloads, w)
	}
	if size == 100 {
		s.goals = []goal{{workload: enginePatched, against: transitBatch, clients: 1, ratio: 0.85}}
	} else {
		s.goals = []goal{{workload: engineForm, against: transitBatch, clients: 16, ratio: 2.2}}
	}
	return s
}

// batchSizes shows how cost grows with the size of a batch.
func (l *lab) batchSizes() section {
	s := section{id: "batchsize", title: "Size of a batch (" + engineForm + ")", clients: []int{4}}
	for _, size := range []int{1, 10, 100, 1000, 10000} {
		messages := make([]string, size)
		for i := range messages {
			messages[i] = message(messageBytes)
		}
		requests := []vaultRequest{compactForm("kms/generate-mac/", messages)}
		s.workloads = append(s.workloads, l.vaultWorkload(fmt.Sprintf("batch of %d", size), size, requests))
	}
	return s
}

func (l *lab) keysSection(many int) section {
	name := func(n int) string { return fmt.Sprintf("%d keys", n) }
	s := section{
		id: "keys", title: "Keys in use, uniformly", clients: []int{16},
		goals: []goal{{workload: name(many), against: name(fewKeys), clients: 16, ratio: 0.9}},
	}
	use := func(mount string, n int) *workload {
		var requests []vaultRequest
		for i := range n {
			requests = append(requests, generate(mount, manyKeyName(i), message(messageBytes)))
		}
		return l.vaultWorkload(name(n), 1, requests)
	}
	s.workloads = []*workload{use("kms", fewKeys), use("many", many)}
	return s
}

// messageSizes shows how cost grows with the message.
func (l *lab) messageSizes() section {
	s := section{id: "message", title: "Size of the message", clients: []int{16}}
	for _, size := range []int{16, 64, 1024, 4096} {
		var requests []vaultRequest
		for range variants {
			requests = append(requests, generate("kms", keyName, message(size)))
		}
		s.workloads = append(s.workloads, l.vaultWorkload(fmt.Sprintf("%d bytes", size), 1, requests))
	}
	return s
}

// mountsSection shows what it costs that one process serves several mounts.
func (l *lab) mountsSection() section {
	s := section{id: "mounts", title: "Mounts in use, uniformly", clients: []int{16}}
	for _, n := range []int{1, mounts} {
		var requests []vaultRequest
		for i := range variants {
			requests = append(requests, generate(mountName(i%n), keyName, message(messageBytes)))
		}
		s.workloads = append(s.workloads, l.vaultWorkload(fmt.Sprintf("mounts: %d", n), 1, requests))
	}
	return s
}

func generate(mount, key, m string) vaultRequest {
	return vaultRequest{path: mount + "/generate-mac/" + key, body: fmt.Sprintf(`{"mac_algorithm":"HMAC_SHA_256","message":%q}`, m)}
}

// compactForm is a batch in its compact form, one comma-separated string, sent
// as a form. It escapes what has a meaning in a form, which is the plus sign.
func compactForm(path string, messages []string) vaultRequest {
	text := strings.ReplaceAll(strings.Join(messages, ","), "+", "%2B")
	return vaultRequest{path: path + keyName, body: "mac_algorithm=HMAC_SHA_256&messages=" + text, form: form}
}

// message returns a new random message of so many bytes, in base64.
func message(size int) string {
	raw := make([]byte, size)
	_, _ = rand.Read(raw) // never fails
	return base64.StdEncoding.EncodeToString(raw)
}
