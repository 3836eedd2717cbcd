package acceptance

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestBatch makes and verifies MACs by the thousand, in each of the shapes.
func TestBatch(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	s := hmac256
	material := random(s.bytes)
	m.importKey(t, "k", s, material)
	for _, n := range []int{1, 1000, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			messages, macs := make([]string, n), make([]string, n)
			for i := range n {
				message := random(1 + i%60) // 10,000 in one string must fit Vault's limit of 1 MiB
				messages[i], macs[i] = b64(message), b64(s.mac(material, message))
			}
			t.Run("objects", func(t *testing.T) { batchOfObjects(t, m, messages, macs) })
			t.Run("lists", func(t *testing.T) { batchOfLists(t, m, messages, macs) })
			t.Run("strings", func(t *testing.T) { batchOfStrings(t, m, messages, macs) })
			t.Run("form", func(t *testing.T) { batchAsForm(t, m, messages, macs) })
		})
	}
}

func batchOfObjects(t *testing.T, m mount, messages, macs []string) {
	input := make([]body, len(messages))
	for i := range messages {
		input[i] = body{"message": messages[i], "reference": fmt.Sprint("r", i)}
	}
	request := body{"mac_algorithm": "HMAC_SHA_256", "batch_input": input}
	data := m.write(t, "generate-mac/k", request)
	holds(t, data, body{"key_id": "k", "mac_algorithm": "HMAC_SHA_256"})
	results := data["batch_results"].([]any)
	if len(results) != len(messages) {
		t.Fatalf("%d results", len(results))
	}
	for i, result := range results {
		holds(t, result.(body), body{"mac": macs[i], "reference": fmt.Sprint("r", i)})
		input[i]["mac"] = macs[i]
	}
	// One wrong MAC in the middle is nobody else's.
	wrong := len(messages) / 2
	input[wrong]["mac"] = b64(random(32))
	for i, result := range m.write(t, "verify-mac/k", request)["batch_results"].([]any) {
		result := result.(body)
		if i != wrong {
			holds(t, result, body{"mac_valid": true, "reference": fmt.Sprint("r", i)})
		} else if failure, _ := result["error"].(body); failure["type"] != "KMSInvalidMacException" || result["mac_valid"] != nil {
			t.Errorf("the wrong MAC is %v", result)
		}
	}
}

func batchOfLists(t *testing.T, m mount, messages, macs []string) {
	data := m.write(t, "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": messages})
	for i, mac := range stringsOf(data["macs"]) {
		if mac != macs[i] {
			t.Fatalf("mac %d is %s, want %s", i, mac, macs[i])
		}
	}
	wrong := len(messages) / 2
	given := append([]string{}, macs...)
	given[wrong] = b64(random(20))
	data = m.write(t, "verify-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": messages, "macs": given})
	valid := data["macs_valid"].([]any)
	if len(valid) != len(messages) {
		t.Fatalf("%d verdicts", len(valid))
	}
	for i, verdict := range valid {
		if verdict != (i != wrong) {
			t.Fatalf("verdict %d is %v", i, verdict)
		}
	}
	failure := data["errors"].(body)[fmt.Sprint(wrong)].(body)
	if failure["type"] != "KMSInvalidMacException" || len(data["errors"].(body)) != 1 {
		t.Errorf("errors %v", data["errors"])
	}
}

func batchOfStrings(t *testing.T, m mount, messages, macs []string) {
	data := m.write(t, "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": strings.Join(messages, ",")})
	if data["macs"] != strings.Join(macs, ",") {
		t.Fatal("the MACs differ")
	}
	data = m.write(t, "verify-mac/k", body{
		"mac_algorithm": "HMAC_SHA_256", "messages": strings.Join(messages, ","), "macs": strings.Join(macs, ","),
	})
	if data["macs_valid"] != strings.TrimSuffix(strings.Repeat("true,", len(messages)), ",") || data["errors"] != nil {
		t.Fatal("the verdicts differ")
	}
}

func batchAsForm(t *testing.T, m mount, messages, macs []string) {
	form := url.Values{"mac_algorithm": {"HMAC_SHA_256"}, "messages": {strings.Join(messages, ",")}}
	if data := m.write(t, "generate-mac/k", form); data["macs"] != strings.Join(macs, ",") || data["errors"] != nil {
		t.Fatal("the MACs differ")
	}
	form.Set("macs", strings.Join(macs, ","))
	if data := m.write(t, "verify-mac/k", form); data["macs_valid"] != strings.TrimSuffix(strings.Repeat("true,", len(messages)), ",") {
		t.Fatal("the verdicts differ")
	}
}

// TestForm sends other things as forms, in which all values are strings.
func TestForm(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	material := random(hmac256.bytes)
	m.importKey(t, "k", hmac256, material)
	message := []byte{0xfb, 0xef, 0xbe} // ++++ in base64
	form := url.Values{"mac_algorithm": {hmac256.algorithm}, "message": {b64(message)}}
	holds(t, m.write(t, "generate-mac/k", form), body{"mac": b64(hmac256.mac(material, message))})
	form.Set("dry_run", "true")
	m.refused(t, "DryRunOperationException", "generate-mac/k", form)
	form.Set("grant_tokens", "none")
	m.refused(t, "InvalidGrantTokenException", "generate-mac/k", form)

	// Beyond what Vault takes as one JSON string, and beyond the engine's limit.
	long := strings.Repeat(b64(random(100))+",", 9999) + "eA=="
	data := m.write(t, "generate-mac/k", url.Values{"mac_algorithm": {hmac256.algorithm}, "messages": {long}})
	if macs, _ := data["macs"].(string); strings.Count(macs, ",") != 9999 || data["errors"] != nil {
		t.Errorf("%d commas in the answer, errors %v", strings.Count(macs, ","), data["errors"])
	}
	m.refused(t, "ValidationException", "generate-mac/k", url.Values{"mac_algorithm": {hmac256.algorithm}, "messages": {long + "," + long}})

	// Vault joins a field's values by commas.
	short := url.Values{"mac_algorithm": {hmac256.algorithm}, "messages": {b64(message), b64(message)}}
	mac := b64(hmac256.mac(material, message))
	holds(t, m.write(t, "generate-mac/k", short), body{"macs": mac + "," + mac})

	// A plus sign that was not escaped.
	text := m.refused(t, "ValidationException", "generate-mac/k", url.Values{"mac_algorithm": {hmac256.algorithm}, "message": {"    "}})
	if !strings.Contains(text, "%2B") {
		t.Error(text)
	}
}

// TestBatchLimits goes to the limits of a batch and beyond: the engine's, and
// those of Vault's listener, which apply first.
func TestBatchLimits(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.newKey(t, "k", hmac256)
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat("eA==,", n), ",") }
	for _, n := range []int{10_001, 100_000} {
		text := m.refused(t, "ValidationException", "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": many(n)})
		if !strings.Contains(text, "10000") || !strings.Contains(text, fmt.Sprint(n)) {
			t.Errorf("too many messages: %s", text)
		}
	}
	for _, data := range []body{
		{"messages": []string{}}, {"batch_input": []string{}}, {"messages": "eA==", "message": "eA=="},
		{"messages": "eA==", "batch_input": []body{{"message": "eA=="}}}, {"messages": 1}, {"messages": []any{1}}, {"batch_input": "eA=="},
	} {
		data["mac_algorithm"] = "HMAC_SHA_256"
		m.refused(t, "ValidationException", "generate-mac/k", data)
	}
	m.refused(t, "ValidationException", "verify-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": "eA==,eA==", "macs": "eA=="})

	// What concerns all items fails the request.
	m.refused(t, "InvalidKeyUsageException", "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_512", "messages": "eA=="})
	m.refused(t, "NotFoundException", "generate-mac/none", body{"mac_algorithm": "HMAC_SHA_256", "messages": "eA=="})

	// A dry run is an item's failure: other items may have worse ones.
	data := m.write(t, "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": "eA==,", "dry_run": true})
	failures, _ := data["errors"].(body)
	if dry, _ := failures["0"].(body); data["macs"] != "," || len(failures) != 2 || dry["type"] != "DryRunOperationException" {
		t.Errorf("a dry run answers %v", data)
	}

	// Vault's own limits on JSON: lists of 10,000 elements, strings of 1 MiB.
	// They are the listener's to raise.
	list := strings.Split(many(10_001), ",")
	for _, messages := range []any{list, strings.Repeat("eHh4,", 1<<18)} {
		a, err := m.request(t.Context(), "POST", "generate-mac/k", body{"mac_algorithm": "HMAC_SHA_256", "messages": messages})
		must(t, err)
		if a.status < 400 || len(a.Errors) != 1 || !strings.Contains(a.Errors[0], "exceeds allowed") {
			t.Errorf("beyond Vault's limits: status %d, %q", a.status, a.Errors)
		}
	}
}

// TestLongMessages sends as many of the longest messages as one request can
// have: almost 30 MB.
func TestLongMessages(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	s := specs[3]
	material := random(s.bytes)
	m.importKey(t, "k", s, material)
	messages := make([]string, 5000)
	macs := make([]string, len(messages))
	for i := range messages {
		message := random(4096)
		messages[i], macs[i] = b64(message), b64(s.mac(material, message))
	}
	data := m.write(t, "generate-mac/k", body{"mac_algorithm": s.algorithm, "messages": messages})
	for i, mac := range stringsOf(data["macs"]) {
		if mac != macs[i] {
			t.Fatalf("mac %d differs", i)
		}
	}
	if data["errors"] != nil {
		t.Errorf("errors %v", data["errors"])
	}
	// More than Vault's 32 MiB.
	a, err := m.request(t.Context(), "POST", "generate-mac/k", body{"mac_algorithm": s.algorithm, "messages": append(messages, messages...)})
	if err == nil && (a.status < 400 || a.status >= 500) {
		t.Errorf("a request of 55 MB: status %d, %q", a.status, a.Errors)
	}
	m.mac(t, "k", s, []byte("x"))
}
