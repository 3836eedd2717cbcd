package gateway

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// What a call may cost before any token is checked: these many bytes, and these
// many for each byte of the body. An answer repeats no more than excerpts.
const (
	boundAnswer       = 48 << 10
	boundAllocs       = 512 << 10
	boundAllocsFactor = 8
)

// denyAll is a Vault that lets nobody do anything.
type denyAll struct{}

func (denyAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusForbidden, Body: http.NoBody, Request: r}, nil
}

func newDeniedGateway(t testing.TB) *Gateway {
	t.Helper()
	vault, err := NewVault("http://127.0.0.1:1", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	vault.http.Transport = denyAll{}
	g, err := New(Config{Vault: vault, Mount: "kms", ARNs: testARNs, MaxBody: 2 << 20, MaxConcurrency: 64})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// allocatedBytes returns how much the program has allocated so far.
func allocatedBytes() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// requireBounded makes a call and fails if its answer or what it allocates is
// out of proportion to its body.
func requireBounded(t *testing.T, g *Gateway, operation, body string) {
	t.Helper()
	post(g, "/", operation, body) // patterns are compiled once
	before := allocatedBytes()
	w := post(g, "/", operation, body)
	allocated := allocatedBytes() - before
	if len(w.body) > boundAnswer {
		t.Fatalf("%s: a body of %d bytes is answered with %d", operation, len(body), len(w.body))
	}
	if most := boundAllocs + boundAllocsFactor*uint64(len(body)); allocated > most {
		t.Fatalf("%s: a body of %d bytes makes %d of garbage, more than %d", operation, len(body), allocated, most)
	}
}

// attacks are bodies of about n bytes that used to be answered with, or to
// occupy, many times their size, and their like.
func attacks(n int) map[string]string {
	fill := func(begin, element, end string) string {
		return begin + strings.Repeat(element+",", n/(len(element)+1)) + element + end
	}
	deep := strings.Repeat(`{"a":[`, 15)
	return map[string]string{
		"empty operations":   fill(`{"KeyId":"k","GranteePrincipal":"g","Operations":[`, `""`, `]}`),
		"operations":         fill(`{"KeyId":"k","GranteePrincipal":"arn:aws:iam::111122223333:user/x","Operations":[`, `"GenerateMac"`, `]}`),
		"empty tags":         fill(`{"KeyId":"k","Tags":[`, `{}`, `]}`),
		"tags":               fill(`{"KeyId":"k","Tags":[`, `{"TagKey":"a","TagValue":""}`, `]}`),
		"empty tag keys":     fill(`{"KeyId":"k","TagKeys":[`, `""`, `]}`),
		"tag keys":           fill(`{"KeyId":"k","TagKeys":[`, `"ab"`, `]}`),
		"grant tokens":       fill(`{"KeyId":"k","Message":"aGk=","MacAlgorithm":"HMAC_SHA_256","GrantTokens":[`, `""`, `]}`),
		"long grant tokens":  `{"KeyId":"k","GrantTokens":["` + strings.Repeat("x", n) + `"]}`,
		"nulls":              fill(`{"KeyId":"k","GrantTokens":[`, `null`, `]}`),
		"context":            fill(`{"KeyId":"k","EncryptionContext":{`, `"":""`, `}}`),
		"constraints":        fill(`{"KeyId":"k","Constraints":{"EncryptionContextEquals":{`, `"":""`, `}}}`),
		"long key id":        `{"KeyId":"` + strings.Repeat("x", n) + `"}`,
		"key id not ASCII":   `{"KeyId":"` + strings.Repeat("é", n/2) + `"}`,
		"escaped key id":     `{"KeyId":"` + strings.Repeat(`\u00e9`, n/6) + `"}`,
		"control characters": `{"KeyId":"` + strings.Repeat(`\u0001`, n/6) + `"}`,
		"message":            `{"KeyId":"k","MacAlgorithm":"HMAC_SHA_256","Message":"` + strings.Repeat("AAAA", n/4) + `"}`,
		"many members":       fill(`{`, `"a":1`, `}`),
		"members without":    fill(`{`, `"":[]`, `}`),
		"member given again": fill(`{`, `"KeyId":"k"`, `}`),
		"lists given again":  fill(`{`, `"Tags":[{},{},{},{},{},{},{},{}]`, `}`),
		"tag given again":    fill(`{"Tags":[{`, `"TagKey":"k"`, `}]}`),
		"null given again":   fill(`{`, `"Tags":null`, `}`),
		"numbers":            fill(`{"x":[`, `12`, `]}`),
		"long number":        `{"Limit":` + strings.Repeat("1", n) + `}`,
		"long exponent":      `{"Limit":1e` + strings.Repeat("0", n) + `}`,
		"escaped names":      fill(`{`, `"\n":1`, `}`),
		"objects":            fill(`{"x":[`, `{}`, `]}`),
		"deep objects":       fill(`{"x":[`, deep+strings.Repeat(`]}`, 15), `]}`),
		"too deep":           strings.Repeat(`{"a":`, n/5),
		"deep tags":          `{"Tags":` + strings.Repeat(`[`, n),
		"policy of lists":    fill(`{"KeyId":"k","Policy":"[`, `[]`, `]"}`),
		"policy of objects":  fill(`{"KeyId":"k","Policy":"[`, `{}`, `]"}`),
		"not JSON":           strings.Repeat("x", n),
	}
}

// Before any token is checked, work and answer are bounded by the request's
// size, whatever is in it.
func TestCallsAreBounded(t *testing.T) {
	g := newDeniedGateway(t)
	for _, size := range []int{1 << 12, 1 << 17} {
		for name, body := range attacks(size) {
			t.Run(name, func(t *testing.T) {
				for _, operation := range kms.Operations() {
					requireBounded(t, g, operation, body)
				}
			})
		}
	}
}

func FuzzCallsAreBounded(f *testing.F) {
	operations := kms.Operations()
	for _, body := range attacks(1 << 10) {
		f.Add(byte(slices.Index(operations, "CreateGrant")), body)
		f.Add(byte(slices.Index(operations, "TagResource")), body)
	}
	g := newDeniedGateway(f)
	f.Fuzz(func(t *testing.T, operation byte, body string) {
		requireBounded(t, g, operations[int(operation)%len(operations)], body)
	})
}

// Values of sensitive members come back in no answer, in whatever way they are
// refused, and lists of them neither.
func TestSensitiveMembersAreNotEchoed(t *testing.T) {
	g := newDeniedGateway(t)
	const secret = "s3cr3t"
	seen := map[string]bool{}
	for _, operation := range kms.Operations() {
		members, _ := kms.Input(operation)
		for _, m := range members {
			list := m.Shape.Type == kms.List
			if !m.Shape.Sensitive && !(list && m.Shape.Element.Sensitive) {
				continue
			}
			seen[m.Name] = true
			for _, value := range []string{secret, strings.Repeat(secret, 1500), "\u00e9" + secret} {
				values := []string{quoted(value), "[" + quoted(value) + "]", "{" + quoted(value) + ":" + quoted(value) + "}"}
				if list {
					values = append(values, "["+strings.Repeat(quoted(value)+",", 10)+quoted(value)+"]", "["+strings.Repeat(quoted(value)+",", 90)+quoted(value)+"]")
				}
				for _, v := range values {
					w := post(g, "/", operation, `{"KeyId":"k",`+quoted(m.Name)+`:`+v+`}`)
					require.Equal(t, http.StatusBadRequest, w.status)
					require.NotContains(t, w.body, secret, "%s of %s", m.Name, operation)
				}
			}
		}
	}
	require.Subset(t, slices.Collect(maps.Keys(seen)), []string{"GrantTokens", "GrantToken", "KeyStorePassword", "Plaintext"})
}
