package acceptance

import (
	"context"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-kms-hmac/internal/dudect"
)

// TestTimeOfRefusals: the time of a refusal does not tell whether another team
// has a key or an alias of that name. One more storage access would be noticed:
// so is a pause as long as one.
func TestTimeOfRefusals(t *testing.T) {
	iso := newIsolation(t)
	m := iso.m.as(iso.callers["paymt"])
	native := func(path string, data body) func() {
		return func() {
			a, err := m.request(context.Background(), "POST", path, data)
			if err != nil || a.status != 403 {
				t.Errorf("%s: status %d, %v", path, a.status, err)
			}
		}
	}
	endpoint := func(name string) func() {
		in := body{"KeyId": name, "Message": "aGVsbG8=", "MacAlgorithm": "HMAC_SHA_256"}
		return func() {
			if status, raw := iso.endpoint(t, "", "paymt", attempt{path: "GenerateMac", data: in}); status != 400 || !strings.Contains(raw, "AccessDenied") {
				t.Errorf("%s: status %d, %s", name, status, raw)
			}
		}
	}
	mac := body{"message": "aGVsbG8=", "mac_algorithm": "HMAC_SHA_256"}
	const runs = 500 // of a request
	for what, refusal := range map[string]func(name string) func(){
		"writes of keys":                   func(name string) func() { return native("keys/order/"+name, body{"key_spec": "HMAC_256"}) },
		"writes of aliases":                func(name string) func() { return native("aliases/order/"+name, body{"target_key_id": "x"}) },
		"MACs":                             func(name string) func() { return native("generate-mac/order/"+name, mac) },
		"MACs through an alias":            func(name string) func() { return native("generate-mac/alias/order/"+name, mac) },
		"MACs by a grant":                  func(name string) func() { return native("granted/generate-mac/order/"+name, mac) },
		"MACs by the endpoint":             func(name string) func() { return endpoint("order/" + name) },
		"MACs by the endpoint, of aliases": func(name string) func() { return endpoint("alias/order/" + name) },
	} {
		names := [2]string{hereKey, noneKey}
		if differs, value := dudect.Differs(runs, func(class int) func() { return refusal(names[class]) }); differs {
			t.Errorf("refusals of %s that are there and that are not differ in time, t = %.1f", what, value)
		}
	}
	dudect.Finds(t, runs, func(class int) func() {
		here, extra := native("keys/order/"+hereKey, body{"key_spec": "HMAC_256"}), time.Duration(class)*400*time.Microsecond
		return func() {
			here()
			for end := time.Now().Add(extra); time.Now().Before(end); {
			}
		}
	})
}
