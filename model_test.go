package kmshmac

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The model is the contract as a second, much simpler program. Random
// sequences of operations must end alike in it and in the backend, step by
// step: the same exception types, and the same keys and aliases to see.

var (
	modelIDs     = []string{"a", "b", "c", "p/d"}
	modelAliases = []string{"x", "y", "p/z"}
)

type model struct {
	now     time.Time
	keys    map[string]modelKey
	aliases map[string]modelAlias
	births  int // of keys, so that keys of one id can be told apart
}

type modelKey struct {
	birth             int
	spec, origin      string
	description, tags string
	disabled          bool
	deletion, validTo time.Time
	material, first   int // which material it has, and had first; 0 is none
	lastUse           string
	createdAt         time.Time
}

type modelAlias struct {
	target   string
	previous []modelPrevious
}

type modelPrevious struct {
	id    string
	birth int
	until time.Time
}

func (s *model) clone() *model {
	c := *s
	c.keys, c.aliases = maps.Clone(s.keys), maps.Clone(s.aliases)
	return &c
}

// pass lets time pass: what ends then is gone.
func (s *model) pass(d time.Duration) {
	s.now = s.now.Add(d)
	for id, k := range s.keys {
		if !k.deletion.IsZero() && !s.now.Before(k.deletion) {
			delete(s.keys, id)
			maps.DeleteFunc(s.aliases, func(_ string, a modelAlias) bool { return a.target == id })
			continue
		}
		if !k.validTo.IsZero() && !s.now.Before(k.validTo) {
			k.material, k.validTo = 0, time.Time{}
			s.keys[id] = k
		}
	}
	for name, a := range s.aliases {
		a.previous = slices.DeleteFunc(slices.Clone(a.previous), func(p modelPrevious) bool { return !s.now.Before(p.until) })
		s.aliases[name] = a
	}
}

func (k modelKey) state() string {
	switch {
	case !k.deletion.IsZero():
		return "PendingDeletion"
	case k.origin == "EXTERNAL" && k.material == 0:
		return "PendingImport"
	case k.disabled:
		return "Disabled"
	}
	return "Enabled"
}

// refusal is the exception of an operation that needs one of these states.
func (k modelKey) refusal(allowed ...string) string {
	switch state := k.state(); {
	case slices.Contains(allowed, state):
		return ""
	case state == "Disabled":
		return "DisabledException"
	}
	return "KMSInvalidStateException"
}

func (k modelKey) algorithm() string { return strings.Replace(k.spec, "HMAC_", "HMAC_SHA_", 1) }

// change applies a change to a key, if its state allows it.
func (s *model) change(id string, change func(k *modelKey) string, allowed ...string) string {
	k, ok := s.keys[id]
	if !ok {
		return "NotFoundException"
	}
	if refusal := k.refusal(allowed...); refusal != "" {
		return refusal
	}
	result := change(&k)
	if result == "" {
		s.keys[id] = k
	}
	return result
}

func (s *model) create(id, spec, origin string) string {
	if k, ok := s.keys[id]; ok {
		if k.spec != spec || k.origin != origin {
			return "AlreadyExistsException"
		}
		if !k.deletion.IsZero() {
			return "KMSInvalidStateException"
		}
		return ""
	}
	s.births++
	s.keys[id] = modelKey{birth: s.births, spec: spec, origin: origin, createdAt: s.now}
	return ""
}

func (s *model) describe(id, description string) string {
	return s.change(id, func(k *modelKey) string { k.description = description; return "" }, "Enabled", "Disabled", "PendingImport")
}

func (s *model) external(id string, change func(k *modelKey) string, allowed ...string) string {
	if k, ok := s.keys[id]; ok && k.origin != "EXTERNAL" {
		return "UnsupportedOperationException"
	}
	return s.change(id, change, allowed...)
}

func (s *model) importMaterial(id string, material int, validTo time.Time) string {
	return s.external(id, func(k *modelKey) string {
		if k.first != 0 && k.first != material {
			return "IncorrectKeyMaterialException"
		}
		k.first, k.material, k.disabled, k.validTo = material, material, false, validTo
		return ""
	}, "Enabled", "Disabled", "PendingImport")
}

// writeAlias follows aliases/<name>. overlap -1 is none given.
func (s *model) writeAlias(name, target string, overlap time.Duration, mustExist string) string {
	if strings.Contains(name, "/") != strings.Contains(target, "/") {
		return "ValidationException"
	}
	if refusal := s.change(target, func(*modelKey) string { return "" }, "Enabled", "Disabled", "PendingImport"); refusal != "" {
		return refusal
	}
	a, ok := s.aliases[name]
	switch {
	case !ok && mustExist == "true":
		return "NotFoundException"
	case ok && mustExist == "false":
		return "AlreadyExistsException"
	case !ok:
		s.aliases[name] = modelAlias{target: target}
	case a.target == target && overlap == 0, a.target != target && overlap <= 0:
		s.aliases[name] = modelAlias{target: target}
	case a.target != target:
		former := modelPrevious{a.target, s.keys[a.target].birth, s.now.Add(overlap)}
		previous := append(slices.Clone(a.previous), former)
		previous = slices.DeleteFunc(previous, func(p modelPrevious) bool { return p.id == target })
		s.aliases[name] = modelAlias{target: target, previous: previous}
	}
	return ""
}

func (s *model) deleteAlias(name string) string {
	if _, ok := s.aliases[name]; !ok {
		return "NotFoundException"
	}
	delete(s.aliases, name)
	return ""
}

// candidates are the keys that a MAC operation may use, the current one first.
func (s *model) candidates(key string, verify bool) []string {
	name, isAlias := strings.CutPrefix(key, "alias/")
	if !isAlias {
		return []string{key}
	}
	a, ok := s.aliases[name]
	if !ok {
		return nil
	}
	ids := []string{a.target}
	for _, p := range a.previous {
		if k, ok := s.keys[p.id]; ok && verify && k.birth == p.birth && k.state() == "Enabled" {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// mac returns the key that does the work, or the exception. For verify-mac
// birth says which key made the MAC, 0 that none did.
func (s *model) mac(key, algorithm string, verify bool, birth int) (id, refusal string) {
	ids := s.candidates(key, verify)
	if len(ids) == 0 {
		return "", "NotFoundException"
	}
	current, ok := s.keys[ids[0]]
	if !ok {
		return "", "NotFoundException"
	}
	if refusal := current.refusal("Enabled"); refusal != "" {
		return "", refusal
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return s.keys[id].algorithm() != algorithm })
	if len(ids) == 0 {
		return "", "InvalidKeyUsageException"
	}
	if !verify {
		return ids[0], ""
	}
	for _, id := range ids {
		if s.keys[id].birth == birth {
			return id, ""
		}
	}
	return "", "KMSInvalidMacException"
}

func (s *model) used(id, operation string) {
	k := s.keys[id]
	k.lastUse = operation + " " + formatTime(s.now)
	s.keys[id] = k
}

// view is what is to be seen of keys and aliases, as observe sees it.
func (s *model) view() map[string]string {
	view := map[string]string{}
	for id, k := range s.keys {
		view["key "+id] = fmt.Sprint(k.state(), k.spec, k.origin, k.description, k.tags, formatZero(k.deletion), formatZero(k.validTo), formatTime(k.createdAt))
	}
	for name, a := range s.aliases {
		text := "alias/" + name + " " + a.target
		for _, p := range a.previous {
			text += " " + p.id + " " + formatTime(p.until)
		}
		view["alias "+name] = text
	}
	return view
}

func formatZero(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return formatTime(t)
}

// observe reads the same from the backend.
func observe(t testing.TB, m *mount) map[string]string {
	view := map[string]string{}
	member := func(data fields, name string) any {
		if data[name] == nil {
			return "-"
		}
		return data[name]
	}
	for _, id := range modelIDs {
		if d := read(t, m, "keys/"+id); d != nil {
			tags, _ := d["tags"].(fields)["k"].(string)
			view["key "+id] = fmt.Sprint(d["key_state"], d["key_spec"], d["origin"], d["description"], tags, member(d, "deletion_date"), member(d, "valid_to"), d["creation_date"])
		}
	}
	for _, name := range modelAliases {
		d := read(t, m, "aliases/"+name)
		if d == nil {
			continue
		}
		text := fmt.Sprint(d["alias_name"], " ", d["target_key_id"])
		previous, _ := d["previous_keys"].([]any)
		for _, p := range previous {
			text += fmt.Sprint(" ", p.(fields)["key_id"], " ", p.(fields)["valid_to"])
		}
		view["alias "+name] = text
	}
	return view
}

// step is one random operation: what it does to the model, and the request
// that does it to the backend.
type step struct {
	name  string
	apply func(s *model) (refusal string)
	op    logical.Operation
	path  string
	data  func(t testing.TB, m *mount) fields
	// check looks at the answer of a success.
	check func(t testing.TB, s *model, answer fields)
}

// walker takes model and backend through the same steps.
type walker struct {
	m     *mount
	other *mount // on the same storage; asked with an empty cache
	model *model
	macs  map[int]string // by birth of the key that made them
}

func newWalker(t testing.TB, noCache bool) *walker {
	m := openMount(t, &logical.InmemStorage{}, newClock(), noCache)
	return &walker{
		m: m, other: m.other(t), macs: map[int]string{},
		model: &model{now: m.clock.now(), keys: map[string]modelKey{}, aliases: map[string]modelAlias{}},
	}
}

func draw[T any](t *rapid.T, label string, values ...T) T {
	return rapid.SampledFrom(values).Draw(t, label)
}

func simple(op logical.Operation, path string, data fields, apply func(s *model) string) step {
	return step{name: path, op: op, path: path, data: func(testing.TB, *mount) fields { return data }, apply: apply}
}

// next draws an operation.
func (w *walker) next(t *rapid.T) step {
	id, alias := draw(t, "id", modelIDs...), draw(t, "alias", modelAliases...)
	notDeleting := []string{"Enabled", "Disabled", "PendingImport"}
	switch draw(t, "operation", "create", "create", "describe", "enable", "disable", "schedule", "cancel", "import", "import",
		"delete material", "write alias", "write alias", "delete alias", "tag", "untag", "generate", "generate", "verify", "verify") {
	case "create":
		spec, origin := draw(t, "spec", "HMAC_256", "HMAC_512"), draw(t, "origin", "AWS_KMS", "EXTERNAL")
		return simple(logical.CreateOperation, "keys/"+id, fields{"key_spec": spec, "origin": origin}, func(s *model) string { return s.create(id, spec, origin) })
	case "describe":
		text := draw(t, "description", "", "one", "two")
		return simple(logical.CreateOperation, "keys/"+id, fields{"description": text}, func(s *model) string { return s.describe(id, text) })
	case "enable":
		return simple(logical.UpdateOperation, "enable-key/"+id, nil, func(s *model) string {
			return s.change(id, func(k *modelKey) string { k.disabled = false; return "" }, "Enabled", "Disabled")
		})
	case "disable":
		return simple(logical.UpdateOperation, "disable-key/"+id, nil, func(s *model) string {
			return s.change(id, func(k *modelKey) string { k.disabled = true; return "" }, "Enabled", "Disabled")
		})
	case "schedule":
		days := draw(t, "days", 7, 8, 30)
		return simple(logical.UpdateOperation, "schedule-key-deletion/"+id, fields{"pending_window_in_days": days}, func(s *model) string {
			return s.change(id, func(k *modelKey) string {
				k.deletion = s.now.Add(time.Duration(days) * day)
				return ""
			}, notDeleting...)
		})
	case "cancel":
		return simple(logical.UpdateOperation, "cancel-key-deletion/"+id, nil, func(s *model) string {
			return s.change(id, func(k *modelKey) string {
				if k.deletion.IsZero() {
					return "KMSInvalidStateException"
				}
				k.deletion, k.disabled = time.Time{}, true
				return ""
			}, "Enabled", "Disabled", "PendingImport", "PendingDeletion")
		})
	case "import":
		return w.importStep(t, id)
	case "delete material":
		return simple(logical.UpdateOperation, "delete-imported-key-material/"+id, nil, func(s *model) string {
			return s.external(id, func(k *modelKey) string {
				k.material, k.validTo = 0, time.Time{}
				return ""
			}, "Enabled", "Disabled", "PendingImport", "PendingDeletion")
		})
	case "write alias":
		overlap, mustExist := draw(t, "overlap", -1, 0, 3600, 36000), draw(t, "must exist", "", "", "true", "false")
		data := fields{"target_key_id": id}
		if overlap >= 0 {
			data["overlap"] = overlap
		}
		if mustExist != "" {
			data["must_exist"] = mustExist
		}
		return simple(logical.CreateOperation, "aliases/"+alias, data, func(s *model) string {
			return s.writeAlias(alias, id, time.Duration(overlap)*time.Second, mustExist)
		})
	case "delete alias":
		return simple(logical.DeleteOperation, "aliases/"+alias, nil, func(s *model) string { return s.deleteAlias(alias) })
	case "tag":
		value := draw(t, "value", "one", "two")
		return simple(logical.UpdateOperation, "tag-resource/"+id, fields{"tags": fields{"k": value}}, func(s *model) string {
			return s.change(id, func(k *modelKey) string { k.tags = value; return "" }, notDeleting...)
		})
	case "untag":
		return simple(logical.UpdateOperation, "untag-resource/"+id, fields{"tag_keys": "k"}, func(s *model) string {
			return s.change(id, func(k *modelKey) string { k.tags = ""; return "" }, notDeleting...)
		})
	case "generate":
		return w.generateStep(t, draw(t, "key", id, "alias/"+alias))
	}
	return w.verifyStep(t, draw(t, "key", id, "alias/"+alias))
}

func (w *walker) importStep(t *rapid.T, id string) step {
	material, hours := draw(t, "material", 1, 1, 1, 2), draw(t, "hours", 0, 5, 500)
	birth := w.model.keys[id].birth
	var validTo time.Time
	if hours > 0 {
		validTo = w.model.now.Add(time.Duration(hours) * time.Hour).Truncate(time.Second)
	}
	return step{
		name: "import", op: logical.UpdateOperation, path: "import-key-material/" + id,
		apply: func(s *model) string { return s.importMaterial(id, material, validTo) },
		data: func(t testing.TB, m *mount) fields {
			p := putWrappingKey(t, m, id)
			data := p.fields(t, bytes.Repeat([]byte{byte(material), byte(birth), byte(birth >> 8)}, 30))
			if hours > 0 {
				data["expiration_model"], data["valid_to"] = "KEY_MATERIAL_EXPIRES", validTo.Format(time.RFC3339)
			}
			return data
		},
	}
}

func (w *walker) generateStep(t *rapid.T, key string) step {
	algorithm := draw(t, "algorithm", "HMAC_SHA_256", "HMAC_SHA_512")
	s := simple(logical.UpdateOperation, "generate-mac/"+key, fields{"message": b64("m"), "mac_algorithm": algorithm}, func(s *model) string {
		id, refusal := s.mac(key, algorithm, false, 0)
		if refusal == "" {
			s.used(id, "GenerateMac")
		}
		return refusal
	})
	s.check = func(t testing.TB, s *model, answer fields) {
		id, _ := s.mac(key, algorithm, false, 0)
		require.Equal(t, id, answer["key_id"])
		birth, mac := s.keys[id].birth, answer["mac"].(string)
		if known, ok := w.macs[birth]; ok {
			require.Equal(t, known, mac, "a key's MACs never change")
		}
		for other, theirs := range w.macs {
			require.True(t, other == birth || theirs != mac, "two keys make the same MAC")
		}
		w.macs[birth] = mac
	}
	return s
}

func (w *walker) verifyStep(t *rapid.T, key string) step {
	algorithm := draw(t, "algorithm", "HMAC_SHA_256", "HMAC_SHA_512")
	births := append([]int{0}, slices.Sorted(maps.Keys(w.macs))...)
	birth := draw(t, "MAC of", births...)
	mac, ok := w.macs[birth]
	if !ok {
		mac = b64("nobody's")
	}
	s := simple(logical.UpdateOperation, "verify-mac/"+key, fields{"message": b64("m"), "mac": mac, "mac_algorithm": algorithm}, func(s *model) string {
		id, refusal := s.mac(key, algorithm, true, birth)
		if refusal == "" {
			s.used(id, "VerifyMac")
		}
		return refusal
	})
	s.check = func(t testing.TB, s *model, answer fields) {
		id, _ := s.mac(key, algorithm, true, birth)
		require.Equal(t, fields{"key_id": id, "mac_algorithm": algorithm, "mac_valid": true}, answer)
	}
	return s
}

// take takes a step with healthy storage.
func (w *walker) take(t testing.TB, s step) {
	data := s.data(t, w.m)
	want := s.apply(w.model)
	resp, err := request(t, w.m, s.op, s.path, data)
	require.NoError(t, err)
	require.Equal(t, want, exceptionType(t, resp, err), "%s: %v", s.name, resp)
	if want == "" && s.check != nil {
		s.check(t, w.model, resp.Data)
	}
}

// takeFailing takes a step while storage fails. It must end as ever or with an
// internal error, and then have happened entirely or not at all.
func (w *walker) takeFailing(t testing.TB, s step, fail failure) {
	data := s.data(t, w.m)
	after := w.model.clone()
	want := s.apply(after)
	w.m.wrap = fail.of(w.m.storage)
	resp, err := request(t, w.m, s.op, s.path, data)
	w.m.wrap = nil
	if err == nil {
		require.Equal(t, want, exceptionType(t, resp, err), "%s: %v", s.name, resp)
		w.model = after
		if want == "" && s.check != nil {
			s.check(t, w.model, resp.Data)
		}
		return
	}
	require.Contains(t, err.Error(), "KMSInternalException: ")
	seen := observe(t, w.m)
	if !maps.Equal(seen, w.model.view()) {
		require.Equal(t, after.view(), seen, "%s has happened in part", s.name)
		w.model = after
	}
}

// agree checks that backend, storage and model show the same.
func (w *walker) agree(t testing.TB) {
	want := w.model.view()
	require.Equal(t, want, observe(t, w.m))
	w.other = w.m.other(t)
	require.Equal(t, want, observe(t, w.other), "the cache and storage differ")

	require.Equal(t, w.keyNames(""), withoutFolders(names(t, w.m, "keys/", nil)))
	require.Equal(t, w.keyNames("p/"), withoutFolders(names(t, w.m, "keys/p/", nil)))
	for id, k := range w.model.keys {
		var aliases []string
		for name, a := range w.model.aliases {
			if a.target == id {
				aliases = append(aliases, name)
			}
		}
		slices.Sort(aliases)
		require.ElementsMatch(t, aliases, names(t, w.m, "aliases/", fields{"target_key_id": id}))
		used := "never"
		if last, ok := read(t, w.m, "get-key-last-usage/"+id)["key_last_usage"].(fields); ok {
			used = fmt.Sprint(last["operation"], " ", last["timestamp"])
		}
		if k.lastUse != "" {
			require.Equal(t, k.lastUse, used)
		}
	}
}

func (w *walker) keyNames(folder string) []string {
	out := []string{}
	for id := range w.model.keys {
		if name, ok := strings.CutPrefix(id, folder); ok && !strings.Contains(name, "/") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func withoutFolders(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "/") })
}

// pass lets time pass, for the model and the backend.
func (w *walker) pass(t *rapid.T) {
	d := draw(t, "time", time.Millisecond, 20*time.Minute, time.Hour, 5*time.Hour, day, 7*day, 30*day)
	w.m.clock.advance(d)
	w.model.pass(d)
}

// rapidTB lets helpers for tests fail a rapid check.
type rapidTB struct {
	testing.TB
	r *rapid.T
}

func (t rapidTB) Helper()                           {}
func (t rapidTB) Context() context.Context          { return t.TB.Context() }
func (t rapidTB) Errorf(format string, args ...any) { t.r.Errorf(format, args...) }
func (t rapidTB) FailNow()                          { t.r.FailNow() }
func (t rapidTB) Fatalf(format string, args ...any) { t.r.Fatalf(format, args...) }

func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		tb := rapidTB{t, r}
		w := newWalker(tb, rapid.Bool().Draw(r, "force_no_cache"))
		r.Repeat(map[string]func(*rapid.T){
			"operation": func(r *rapid.T) { w.take(tb, w.next(r)) },
			"another":   func(r *rapid.T) { w.take(tb, w.next(r)) },
			"a third":   func(r *rapid.T) { w.take(tb, w.next(r)) },
			"time":      func(r *rapid.T) { w.pass(r) },
			"tidy":      func(*rapid.T) { w.m.tidy(tb) },
			"":          func(*rapid.T) { w.agree(tb) },
		})
		w.m.tidy(tb)
		require.Equal(tb, w.model.view(), observe(tb, w.m.other(tb)))
	})
}

// The same while storage fails at random. Nothing is lost, nothing half-done
// shows, and the cache never says anything else than storage.
func TestModelWithFailingStorage(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		tb := rapidTB{t, r}
		w := newWalker(tb, rapid.Bool().Draw(r, "force_no_cache"))
		failing := func(r *rapid.T) { w.takeFailing(tb, w.next(r), drawFailure(r)) }
		r.Repeat(map[string]func(*rapid.T){
			"operation": func(r *rapid.T) { w.take(tb, w.next(r)) },
			"failing":   failing,
			"another":   failing,
			"time":      func(r *rapid.T) { w.pass(r) },
			"tidy":      func(*rapid.T) { w.m.tidy(tb) },
			"failing tidy": func(r *rapid.T) {
				_ = w.m.b.periodic(t.Context(), &logical.Request{Storage: drawFailure(r).of(w.m.storage)})
			},
			"": func(*rapid.T) { w.agree(tb) },
		})
		w.m.tidy(tb)
		require.Equal(tb, w.model.view(), observe(tb, w.m.other(tb)))
	})
}

func drawFailure(r *rapid.T) failure {
	return failure{
		kind: draw(r, "failing", "get", "put", "delete", "list", "any", "any"),
		from: draw(r, "from call", 0, 0, 1, 2, 3, 4, 5, 6), once: rapid.Bool().Draw(r, "once"),
	}
}
