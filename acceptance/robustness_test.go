package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// TestMalformedRequests sends what no client should, to every path. The plugin's
// process survives all of it, and nothing is answered with a status 500.
func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	server := ownServer(t) // to watch the plugin's process
	m := mountAt(t, server, "kms")
	m.newKey(t, "f/k", hmac256)
	m.write(t, "aliases/f/a", body{"target_key_id": "f/k"})
	pid := pluginPid(t, server)

	var requests []request
	for path, p := range openAPI(t, m).Paths {
		ids := strangeIDs()
		if !makesIDs(path) { // the same code reads them: a sample is enough
			rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			ids = ids[:20]
		}
		for _, id := range ids {
			requests = append(requests, strangePath(path, p, id)...)
		}
		if p.Post != nil {
			path := urlParameter.ReplaceAllString(path, "f/k")
			for _, content := range strangeBodies(t, openAPI(t, m), p) {
				requests = append(requests, request{"POST", path, content})
			}
		}
	}
	inParallel(t, 8, len(requests), func(i int) error {
		r := requests[i]
		a, err := m.request(t.Context(), r.method, r.path, r.content)
		if err != nil {
			if _, parseErr := url.Parse("http://x/" + r.path); parseErr != nil {
				return nil // no client would send it
			}
			return fmt.Errorf("%s %.100q: %w", r.method, r.path, err)
		}
		if a.status >= 500 && !r.endsAtVault() {
			return fmt.Errorf("%s %.100q with %.200q: status %d, %.300q", r.method, r.path, r.content, a.status, a.raw)
		}
		return nil
	})
	t.Logf("%d requests", len(requests))

	if again := pluginPid(t, server); again != pid {
		t.Errorf("the plugin's process was %d and is %d", pid, again)
	}
	log, err := server.Log()
	must(t, err)
	for _, word := range []string{"panic", "please report this"} {
		if strings.Contains(log, word) {
			t.Errorf("the log has %q", word)
		}
	}
	// What happened to the key in between was legal; it still serves.
	m.request(t.Context(), "POST", "cancel-key-deletion/f/k", nil)
	m.write(t, "enable-key/f/k", nil)
	m.mac(t, "f/k", hmac256, []byte("x"))
}

type request struct {
	method, path string
	content      any // nil or a string
}

// endsAtVault reports whether Vault itself refuses the request, which it does
// with a status 500: it cannot hand a path that is not UTF-8 to a plugin, and
// what is not a JSON object to nobody.
func (r request) endsAtVault() bool {
	if decoded, err := url.PathUnescape(r.path); err != nil || !utf8.ValidString(decoded) {
		return true
	}
	content, _ := r.content.(string)
	return content != "" && json.Unmarshal([]byte(content), &body{}) != nil
}

// strangeIDs are key ids and the like, as they stand in a URL.
func strangeIDs() []string {
	ids := []string{
		"..", "../x", "x/../y", "%2e%2e", "%2e%2e%2f%2e%2e%2fconfig", "x%2fy", "%2f", "%2f%2f", "x%2f", "%00", "x%00y", "%ff%fe", "%c3%28",
		"%e2%80%ae", "%0a", "x%0d%0ay", "%20", "x%20y", "%25", "%25%32%65", "x%3fy", "x%23y", "x;y", "x%3by", "+", "*", "%2a", "$", "'", "%22", "%5c",
		"..%5c..", "%7b%7d", "%3c%3e", "alias", "alias/", "alias/x", "alias/f/a", "alias/../f/k", "alias/aws/x", "ALIAS/x", ".", "./.", "x/.", ".x",
		"f/k/", "f//k", "//f/k", "arn:aws:kms:us-east-1:111122223333:key/x", "é", "日本", "😀",
		strings.Repeat("a", 256), strings.Repeat("a", 257), strings.Repeat("a", 2048), strings.Repeat("a", 8000), strings.Repeat("a/", 120) + "a",
		strings.Repeat("%2e%2e%2f", 300), strings.Repeat("..", 100), "00000000-0000-0000-0000-000000000000", "mrk-1234",
	}
	for range 20 { // bytes at random
		raw := random(1 + rand.IntN(40))
		var id strings.Builder
		for _, b := range raw {
			fmt.Fprintf(&id, "%%%02x", b)
		}
		ids = append(ids, id.String())
	}
	return ids
}

// makesIDs reports whether keys or aliases are created at a path, or used the
// short way.
func makesIDs(path string) bool {
	return strings.HasPrefix(path, "keys/") || strings.HasPrefix(path, "aliases/") || strings.HasPrefix(path, "generate-mac/")
}

// strangePath puts an id into a path: with the methods that the path has, and
// where ids are made also with those that it has not.
func strangePath(path string, p openAPIPath, id string) []request {
	if !strings.Contains(path, "{") {
		return nil
	}
	strange := urlParameter.ReplaceAllLiteralString(path, id)
	content := `{"key_spec":"HMAC_256","mac_algorithm":"HMAC_SHA_256","message":"eA=="}`
	if strings.HasPrefix(path, "aliases/") {
		content = `{"target_key_id":"f/k"}`
	}
	post, get := request{"POST", strange, content}, request{"GET", strange, nil}
	switch {
	case makesIDs(path):
		return []request{post, get, {"LIST", strange, nil}, {"DELETE", strange, nil}, {"GET", strange + "?help=1", nil}}
	case p.Post != nil:
		return []request{post}
	}
	return []request{get}
}

// strangeBodies are contents of requests to a path: broken ones, and for each of
// its fields values of wrong types, sizes and kinds.
func strangeBodies(t *testing.T, doc openAPIDocument, p openAPIPath) []any {
	t.Helper()
	contents := []any{
		nil, ``, `{`, `}`, `[]`, `[1]`, `null`, `true`, `1`, `"x"`, `{"a":1}`, `{"a":1}{"b":2}`,
		strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200), strings.Repeat(`[`, 5000) + strings.Repeat(`]`, 5000),
		`{"` + strings.Repeat("x", 100_000) + `":1}`, "\x00\x01\x02", "{\"a\":\"\xff\xfe\"}", `{"":""}`,
	}
	if p.Post.RequestBody == nil {
		return contents
	}
	fields := resolved(doc, p.Post.RequestBody.Content["application/json"].Schema).Properties
	long := strings.Repeat("A", 50_000)
	deep := json.RawMessage(strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100))
	values := []any{
		nil, true, false, 0, -1, 1e300, -1e18, json.RawMessage("9223372036854775808"), json.RawMessage("0.0000000001"), "", " ", "\x00", "\u202e", "é", long, "1h", "-1h", "NaN", "2026-13-45",
		[]any{}, []any{nil}, []any{1, "x", nil, []any{}, body{}}, []any{[]any{[]any{}}}, bytes.Repeat([]byte{255}, 300),
		body{}, body{"a": nil}, body{"": ""}, body{"a": body{"b": []any{1}}}, deep,
		[]any{body{"message": 1}, body{"message": nil}, body{"mac": []any{}}, body{"reference": deep}, nil, "x", 7},
	}
	for name := range fields {
		for _, value := range values {
			// Among good ones, so that it is not another field that is refused.
			encoded, err := json.Marshal(merged(body{
				"mac_algorithm": "HMAC_SHA_256", "message": "eA==", "mac": "eA==", "key_spec": "HMAC_256", "target_key_id": "f/k",
				"operations": "GenerateMac", "grantee_principal": "x", "wrapping_algorithm": "RSAES_OAEP_SHA_256", "tags": body{"a": "b"},
				"grant_id": strings.Repeat("ab", 32), "import_token": "eA==", "encrypted_key_material": "eA==",
			}, fields, name, value))
			must(t, err)
			contents = append(contents, string(encoded))
		}
	}
	return contents
}

// merged returns the good values of the fields that a path has, and one other.
func merged(good body, fields map[string]openAPISchema, name string, value any) body {
	out := body{}
	for field := range fields {
		if v, ok := good[field]; ok {
			out[field] = v
		}
	}
	out[name] = value
	return out
}
