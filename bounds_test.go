package kmshmac

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// What a request may cost: a little for being one, and a multiple of its size.
// The largest honest answers are batches' of the shortest messages: a MAC of 88
// characters for each five. Allocations are those of HandleRequest, without
// decoding the request, which is the sdk's.
const (
	answerBase, answerFactor         = 64 << 10, 40
	allocationBase, allocationFactor = 128 << 10, 200
)

// boundedOperation is one operation of one path, by an URL of it.
type boundedOperation struct {
	op   logical.Operation
	url  string
	path *framework.Path
}

func boundedOperations(m *mount) []boundedOperation {
	var all []boundedOperation
	for _, route := range routes {
		path := m.b.Route(route.url)
		for _, op := range slices.Sorted(mapKeys(path.Operations)) {
			all = append(all, boundedOperation{op, route.url, path})
		}
	}
	return all
}

func mapKeys[V any](m map[logical.Operation]V) func(yield func(logical.Operation) bool) {
	return func(yield func(logical.Operation) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

// usedMount is a mount in which most of the URLs of the routes name something,
// and whose caller has a grant.
func usedMount(t testing.TB) *mount {
	t.Helper()
	m := newMount(t).as("somebody")
	createKey(t, m, "a")
	createKey(t, m, "p/a")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "create-grant/a", fields{"grantee_principal": "somebody", "operations": "GenerateMac,VerifyMac,DescribeKey,CreateGrant"})
	return m
}

// requireBounded makes a request and holds what it cost against its size. It
// must not run beside anything else that allocates.
func requireBounded(t testing.TB, m *mount, op logical.Operation, url string, body []byte) {
	t.Helper()
	size := len(url) + len(body)
	var answer, allocated int
	// Something of the runtime's may fall into one measurement, not into all.
	for range 3 {
		var data fields
		if json.Unmarshal(body, &data) != nil {
			return
		}
		req := &logical.Request{Operation: op, Path: url, Storage: m.storage, EntityID: m.entity, Data: data}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := m.b.HandleRequest(t.Context(), req)
		runtime.ReadMemStats(&after)
		allocated = int(after.TotalAlloc - before.TotalAlloc)
		answer = answerSize(t, resp, err)
		if allocated <= allocationBase+allocationFactor*size {
			break
		}
	}
	require.LessOrEqual(t, answer, answerBase+answerFactor*size, "bytes answered to %d: %s %.100s %.200s", size, op, url, body)
	require.LessOrEqual(t, allocated, allocationBase+allocationFactor*size, "bytes allocated for %d: %s %.100s %.200s", size, op, url, body)
}

func answerSize(t testing.TB, resp *logical.Response, err error) int {
	t.Helper()
	if err != nil {
		return len(err.Error())
	}
	if resp == nil {
		return 0
	}
	encoded, err := json.Marshal(resp)
	require.NoError(t, err)
	return len(encoded)
}

// attacks make values of some bytes that are meant to cost much.
var attacks = map[string]func(n int) any{
	"commas":          func(n int) any { return strings.Repeat(",", n) },
	"short elements":  func(n int) any { return strings.Repeat("a,", n/2) },
	"equals":          func(n int) any { return strings.Repeat("=", n) },
	"a long text":     func(n int) any { return strings.Repeat("ü", n/2) },
	"base64":          func(n int) any { return strings.Repeat("AAAA", n/4) },
	"empty texts":     func(n int) any { return slices.Repeat([]any{""}, n/3) },
	"empty objects":   func(n int) any { return slices.Repeat([]any{fields{}}, n/3) },
	"empty lists":     func(n int) any { return slices.Repeat([]any{[]any{}}, n/3) },
	"nulls":           func(n int) any { return slices.Repeat([]any{nil}, n/5) },
	"numbers":         func(n int) any { return slices.Repeat([]any{1}, n/2) },
	"pairs":           func(n int) any { return slices.Repeat([]any{"a=b"}, n/6) },
	"10,000 objects":  func(int) any { return slices.Repeat([]any{fields{}}, 10_000) },
	"10,000 messages": func(int) any { return strings.Repeat("QQ==,", 9_999) + "QQ==" },
	"10,000 faults":   func(int) any { return strings.Repeat(",", 9_999) },
	"200 faults":      func(int) any { return slices.Repeat([]any{""}, 200) },
	"200 long faults": func(n int) any { return slices.Repeat([]any{strings.Repeat("x", n/200)}, 200) },
	"many members": func(n int) any {
		members := fields{}
		for i := range n / 12 {
			members[fmt.Sprint(i)] = i
		}
		return members
	},
	"deep": func(n int) any {
		var value any = fields{}
		for range min(n/6, 5000) {
			value = fields{"a": value}
		}
		return value
	},
}

// TestEveryFieldIsBounded sends the attacks in each field of each operation.
func TestEveryFieldIsBounded(t *testing.T) {
	const size = 8 << 10
	bodies := map[string]any{}
	for name, attack := range attacks {
		bodies[name] = attack(size)
	}
	m := usedMount(t)
	for _, o := range boundedOperations(m) {
		if strings.Contains(o.url, "/alias/") || strings.HasPrefix(o.url, "p/") {
			continue
		}
		for _, field := range append(bodyFields(o.path), "unknown") {
			for name, value := range bodies {
				if _, isMac := macTaskOf(o.url); !isMac && strings.HasPrefix(name, "10,000") {
					continue
				}
				data := fields{"mac_algorithm": "HMAC_SHA_256", "grantee_principal": "p", "operations": "GenerateMac"}
				for other := range data {
					if o.path.Fields[other] == nil {
						delete(data, other)
					}
				}
				data[field] = value
				body, err := json.Marshal(data)
				require.NoError(t, err)
				t.Run(fmt.Sprint(o.op, " ", o.url, " ", field, " ", name), func(t *testing.T) {
					requireBounded(t, m, o.op, o.url, body)
				})
			}
		}
	}
}

// The name in the URL is a part of the request as well.
func TestEveryNameIsBounded(t *testing.T) {
	m := usedMount(t)
	for _, o := range boundedOperations(m) {
		for _, name := range []string{strings.Repeat("a", 32<<10), strings.Repeat("a/", 16<<10) + "a", strings.Repeat("ü", 16<<10)} {
			requireBounded(t, m, o.op, o.url+name, nil)
			requireBounded(t, m, o.op, o.url+name, []byte(`{}`))
		}
	}
}

// FuzzBounds looks for a request that costs more than its size allows.
func FuzzBounds(f *testing.F) {
	operations := boundedOperations(usedMount(f))
	index := func(url string) int {
		return slices.IndexFunc(operations, func(o boundedOperation) bool { return o.url == url })
	}
	const n = 32 << 10
	for url, body := range map[string]string{
		"generate-mac/a":               `{"mac_algorithm":"HMAC_SHA_256","message":"QQ==","grant_tokens":"` + strings.Repeat(",", n) + `"}`,
		"verify-mac/p/a":               `{"mac_algorithm":"HMAC_SHA_256","messages":"` + strings.Repeat(",", n) + `","macs":"` + strings.Repeat(",", n) + `"}`,
		"granted/verify-mac/a":         `{"mac_algorithm":"HMAC_SHA_256","batch_input":[{}` + strings.Repeat(",{}", 9999) + `]}`,
		"create-grant/a":               `{"grantee_principal":"p","operations":"` + strings.Repeat(",", n) + `"}`,
		"granted/create-grant/a":       `{"grantee_principal":"p","operations":[""` + strings.Repeat(`,""`, n/3) + `]}`,
		"tag-resource/a":               `{"tags":[{}` + strings.Repeat(",{}", n/3) + `]}`,
		"untag-resource/a":             `{"tag_keys":"` + strings.Repeat(",", n) + `"}`,
		"keys/a":                       `{"key_spec":"HMAC_256","tags":["` + strings.Repeat("=", n) + `"]}`,
		"aliases/x":                    `{"target_key_id":"` + strings.Repeat("a/", n/2) + `","overlap":"1h"}`,
		"config":                       `{"alias_scope":"` + strings.Repeat("a", n) + `"}`,
		"import-key-material/a":        `{"import_token":"` + strings.Repeat("AAAA", n/4) + `","encrypted_key_material":""}`,
		"retire-grant":                 `{"grant_token":"` + strings.Repeat("AAAA", n/4) + `"}`,
		"granted/generate-mac/alias/x": `{"mac_algorithm":"HMAC_SHA_256","messages":["QQ=="]}`,
	} {
		i := index(url)
		require.GreaterOrEqual(f, i, 0, url)
		f.Add(i, "", []byte(body))
	}
	f.Fuzz(func(t *testing.T, i int, name string, body []byte) {
		o := operations[((i%len(operations))+len(operations))%len(operations)]
		requireBounded(t, usedMount(t), o.op, o.url+name, body)
	})
}
