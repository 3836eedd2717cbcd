package acceptance

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	kmshmac "vault-plugin-secrets-kms-hmac"
	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// secret is a value that must not turn up where it does not belong.
type secret struct {
	what  string
	forms []string
}

func secretBytes(what string, raw []byte) secret {
	return secret{what, []string{
		string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		strings.TrimRight(base64.StdEncoding.EncodeToString(raw), "="),
		strings.TrimRight(base64.URLEncoding.EncodeToString(raw), "="),
		jsonText(string(raw)),
	}}
}

func secretText(what, text string) secret { return secret{what, []string{text}} }

// jsonText returns a string as it looks inside a JSON document.
func jsonText(s string) string {
	encoded, _ := json.Marshal(s)
	return string(encoded[1 : len(encoded)-1])
}

func (s secret) in(text string) bool {
	return slices.ContainsFunc(s.forms, func(form string) bool { return strings.Contains(text, form) })
}

// leakTest collects what was secret and what was answered.
type leakTest struct {
	mount
	t       *testing.T
	secrets []secret
}

// send sends a request that has secrets in it, and expects its answer to have
// none of them but those allowed.
func (l *leakTest) send(method, path string, data any, allowed ...string) answer {
	l.t.Helper()
	a, err := l.request(l.t.Context(), method, path, data)
	must(l.t, err)
	for _, s := range l.secrets {
		if !slices.Contains(allowed, s.what) && s.in(a.raw) {
			l.t.Errorf("%s %s answers the %s: %d %s", method, path, s.what, a.status, a.raw)
		}
	}
	return a
}

// misplaced sends writes with a secret where KMS's contract has the answer quote
// what was sent: in place of a word of an enumeration, say. The caller learns
// nothing new by that, and the logs may not have it anyhow.
func (l *leakTest) misplaced(path string, writes ...body) {
	l.t.Helper()
	for _, data := range writes {
		a, err := l.request(l.t.Context(), "POST", path, data)
		must(l.t, err)
		a.mustBe(l.t, "ValidationException", path)
	}
}

func (l *leakTest) keep(s secret) { l.secrets = append(l.secrets, s) }

// TestNothingLeaks makes all kinds of requests, good and bad, and looks for what
// was secret in them in every answer, in the log at its chattiest, and in the
// audit log.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	server := testvault.Run(t, testvault.Config{
		Plugins:  []testvault.Plugin{testvault.EngineFor(t, kmshmac.Version)},
		LogLevel: "trace",
	})
	auditFile := filepath.Join(t.TempDir(), "audit.log")
	must(t, server.EnableAudit(t.Context(), auditFile))
	l := &leakTest{mount: mountAt(t, server, "kms"), t: t}

	// Text, so that raw copies would be found in JSON, too.
	message := []byte("message-" + rand.Text() + "-äöü")
	material := []byte("material-" + rand.Text())
	badBase64 := "%%" + rand.Text() + "%%"
	l.keep(secretBytes("message", message))
	l.keep(secretBytes("material", material))
	l.keep(secretText("bad base64", badBase64))
	l.keep(secretBytes("other material", []byte("material-"+rand.Text())))

	l.importing(material)
	l.maccing(message, badBase64)
	l.granting(message)

	// The plugin's log lines take a moment to get into Vault's log.
	time.Sleep(time.Second)
	log, err := server.Log()
	must(t, err)
	audit, err := os.ReadFile(auditFile)
	must(t, err)
	if !strings.Contains(log, "[TRACE]") || !strings.Contains(string(audit), "kms/verify-mac/imported") {
		t.Fatal("the log or the audit log is not what this test is about")
	}
	l.keep(secretText("root token", server.RootToken))
	for _, s := range l.secrets {
		if s.in(log) {
			t.Errorf("the log has the %s", s.what)
		}
		if s.in(string(audit)) {
			t.Errorf("the audit log has the %s", s.what)
		}
	}
}

// importing imports the material, well and badly.
func (l *leakTest) importing(material []byte) {
	l.write(l.t, "keys/imported", body{"key_spec": "HMAC_256", "origin": "EXTERNAL"})
	token, wrapped := l.wrap(l.t, "imported", material)
	l.keep(secretText("import token", token))
	l.keep(secretText("encrypted material", wrapped))
	good := func() body {
		return body{"import_token": token, "encrypted_key_material": wrapped, "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
	}
	with := func(name string, value any) body {
		data := good()
		data[name] = value
		return data
	}
	for _, data := range []body{
		with("import_token", wrapped), with("encrypted_key_material", token), with("import_token", token+"A"),
		with("encrypted_key_material", b64(material)), with("import_token", []string{token, token}),
		with("valid_to", token), with(token[:40], "x"),
		with("encrypted_key_material", map[string]any{"a": wrapped}), with("unknown", wrapped),
	} {
		l.send("POST", "import-key-material/imported", data)
	}
	l.misplaced("import-key-material/imported", with("expiration_model", token), with("key_material_id", wrapped))
	if a := l.send("POST", "import-key-material/imported", good()); a.status != 200 {
		l.t.Fatalf("import: %d %q", a.status, a.Errors)
	}
	_, other := l.wrap(l.t, "imported", random(32))
	l.send("POST", "import-key-material/imported", with("encrypted_key_material", other))
	l.send("POST", "import-key-material/imported", good())
}

// maccing makes and verifies MACs, well and badly.
func (l *leakTest) maccing(message []byte, badBase64 string) {
	encoded := b64(message)
	generate := body{"message": encoded, "mac_algorithm": "HMAC_SHA_256"}
	mac := l.send("POST", "generate-mac/imported", generate).Data["mac"]
	l.keep(secretBytes("mac", unb64(l.t, mac)))
	verify := func(members ...any) body {
		data := body{"message": encoded, "mac_algorithm": "HMAC_SHA_256", "mac": mac}
		for i := 0; i < len(members); i += 2 {
			data[members[i].(string)] = members[i+1]
		}
		return data
	}
	if a := l.send("POST", "verify-mac/imported", verify()); a.status != 200 {
		l.t.Fatalf("verify-mac: %d %q", a.status, a.Errors)
	}
	for _, data := range []body{
		verify("mac", b64(random(32))), verify("mac", encoded), verify("message", badBase64), verify("mac", badBase64),
		verify("mac_algorithm", "HMAC_SHA_512"), verify("dry_run", encoded),
		verify("grant_tokens", mac), verify("grant_tokens", []any{encoded}), verify("message", []any{encoded}), verify("mac", body{"a": mac}),
		verify("messages", encoded), verify("batch_input", encoded), verify("batch_input", []any{mac}), verify("unknown", mac),
		{"batch_input": []any{body{"message": encoded, "mac": b64(random(32))}, encoded, body{"message": badBase64, "mac": mac}, body{"message": 1}}, "mac_algorithm": "HMAC_SHA_256"},
		{"messages": encoded + "," + encoded + "," + badBase64, "macs": "AAAA," + mac.(string) + ",AAAA", "mac_algorithm": "HMAC_SHA_256"},
		{"messages": []any{encoded, 1}, "macs": []any{mac, mac}, "mac_algorithm": "HMAC_SHA_256"},
	} {
		l.send("POST", "verify-mac/imported", data)
		l.send("POST", "verify-mac/none", data)
		delete(data, "mac")
		delete(data, "macs")
		l.send("POST", "generate-mac/imported", data, "mac")
	}
	l.misplaced("verify-mac/imported", verify("mac_algorithm", mac), verify("mac_algorithm", encoded))
	l.send("POST", "generate-mac/imported", `{"message":"`+encoded+`","mac_algorithm":`)
	l.send("POST", "generate-mac/imported", `["`+encoded+`"]`)
	l.send("POST", "disable-key/imported", nil)
	l.send("POST", "verify-mac/imported", verify())
	l.send("POST", "generate-mac/imported", generate)
	l.send("POST", "enable-key/imported", nil)
}

// granting uses grant tokens, well and badly.
func (l *leakTest) granting(message []byte) {
	token, _ := l.send("POST", "create-grant/imported", body{"operations": "GenerateMac", "grantee_principal": "nobody"}).Data["grant_token"].(string)
	if token == "" {
		l.t.Fatal("no grant token")
	}
	l.keep(secretText("grant token", token))
	generate := body{"message": b64(message), "mac_algorithm": "HMAC_SHA_256", "grant_tokens": []any{token}}
	l.send("POST", "generate-mac/imported", generate, "mac")
	generate["grant_tokens"] = []any{token, token + "A"}
	l.send("POST", "generate-mac/imported", generate)
	l.send("POST", "retire-grant", body{"grant_token": token + "A"})
	l.send("POST", "retire-grant", body{"grant_token": token, "dry_run": true})
	l.send("POST", "retire-grant", body{"grant_token": token})
	l.send("POST", "retire-grant/f/k", body{"grant_token": token})
}

// base64Like finds what could be key material in an answer.
var base64Like = regexp.MustCompile(`[A-Za-z0-9+/_-]{20,}`)

// TestNoPathAnswersKeyMaterial calls every path that the engine has, in every
// way that needs no input, and tries whatever looks like bytes in the answers as
// the key.
func TestNoPathAnswersKeyMaterial(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	message := []byte("hello")
	m.newKey(t, "crawl/generated", hmac256)
	material := random(32)
	m.importKey(t, "crawl/imported", hmac256, material)
	macs := map[string]string{}
	for _, name := range []string{"generated", "imported"} {
		macs[name] = m.mac(t, "crawl/"+name, hmac256, message)
		m.write(t, "aliases/crawl/"+name, body{"target_key_id": "crawl/" + name})
		m.write(t, "create-grant/crawl/"+name, body{"operations": "GenerateMac", "grantee_principal": "nobody", "retiring_principal": "nobody"})
	}
	isKey := func(candidate []byte) bool {
		mac := b64(hmac256.mac(candidate, message))
		return mac == macs["generated"] || mac == macs["imported"]
	}
	if !isKey(material) {
		t.Fatal("this test would not find key material")
	}

	requests := 0
	for pattern := range openAPI(t, m).Paths {
		path := pattern
		for _, parameter := range []string{"{key_id}", "{key}", "{name}"} {
			path = strings.ReplaceAll(path, parameter, "crawl/imported")
		}
		path = strings.ReplaceAll(path, "{folder}", "crawl")
		for _, suffix := range []string{"", "?list=true", "?list=true&detailed=true", "?help=1", "?retiring_principal=nobody"} {
			for _, path := range []string{path, strings.ReplaceAll(path, "imported", "generated")} {
				a, err := m.request(t.Context(), "GET", path+suffix, nil)
				must(t, err)
				requests++
				if a.status >= 500 {
					t.Errorf("GET %s%s: status %d", path, suffix, a.status)
				}
				for _, candidate := range candidates(a.raw) {
					if isKey(candidate) {
						t.Errorf("GET %s%s answers key material", path, suffix)
					}
				}
			}
		}
	}
	if requests < 200 {
		t.Errorf("only %d requests", requests)
	}
}

// candidates returns the bytes that a text may stand for.
func candidates(text string) [][]byte {
	var all [][]byte
	for _, word := range base64Like.FindAllString(text, -1) {
		all = append(all, []byte(word))
		if raw, err := hex.DecodeString(word); err == nil {
			all = append(all, raw)
		}
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if raw, err := encoding.DecodeString(word); err == nil {
				all = append(all, raw)
			}
		}
	}
	return all
}
