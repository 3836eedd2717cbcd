package acceptance

import (
	"context"
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
	refusal := func(path string, data body) func() {
		return func() {
			a, err := m.request(context.Background(), "POST", path, data)
			if err != nil || a.status != 403 {
				t.Errorf("%s: status %d, %v", path, a.status, err)
			}
		}
	}
	measure := func(classes [2]func()) (t float64) {
		for range 3 {
			if t = dudect.Measure(600, classes); t < dudect.Threshold {
				break
			}
		}
		return t
	}
	key, alias := body{"key_spec": "HMAC_256"}, body{"target_key_id": "x"}
	here := refusal("keys/order/"+hereKey, key)
	if value := measure([2]func(){here, refusal("keys/order/"+noneKey, key)}); value >= dudect.Threshold {
		t.Errorf("writes of keys that are there and that are not differ in time, t = %.1f", value)
	}
	if value := measure([2]func(){refusal("aliases/order/"+hereKey, alias), refusal("aliases/order/"+noneKey, alias)}); value >= dudect.Threshold {
		t.Errorf("writes of aliases that are there and that are not differ in time, t = %.1f", value)
	}
	slower := func() {
		here()
		for end := time.Now().Add(400 * time.Microsecond); time.Now().Before(end); {
		}
	}
	for range 4 {
		if dudect.Measure(600, [2]func(){here, slower}) >= dudect.Threshold {
			return
		}
	}
	t.Error("a planted difference goes unnoticed")
}
