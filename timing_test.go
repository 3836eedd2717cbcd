package kmshmac

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/internal/dudect"
	"vault-plugin-secrets-kms-hmac/kms"
)

// handler returns a function that has the backend answer a request, which it
// must refuse with the exception, or answer if that is "".
func (m *mount) handler(t *testing.T, exception, path string, data fields) func() {
	t.Helper()
	req := &logical.Request{ID: "test", Operation: logical.UpdateOperation, Path: path, Storage: m.view(), EntityID: m.entity, Data: overJSON(t, data)}
	resp, err := m.b.HandleRequest(t.Context(), req)
	require.Equal(t, exception, exceptionType(t, resp, err))
	return func() { _, _ = m.b.HandleRequest(context.Background(), req) }
}

// TestTimeOfWrongMacs: the time of a verification does not tell where the first
// wrong byte is.
func TestTimeOfWrongMacs(t *testing.T) {
	for _, spec := range kms.HMACSpecs() {
		key := kms.NewMacKey(spec, make([]byte, spec.Bytes()))
		message := []byte("a message")
		mac := key.Append(nil, message)
		dudect.SameTime(t, func(class int) func() {
			wrong := dudect.Flipped(mac, class*(len(mac)-1))
			return func() { key.Verify(message, wrong) }
		}, dudect.EarlyExit(len(mac), 1))
	}

	m := newMount(t)
	write(t, m, "keys/k", fields{"key_spec": "HMAC_512"})
	data := fields{"message": "bWVzc2FnZQ==", "mac_algorithm": "HMAC_SHA_512"}
	mac, err := base64.StdEncoding.DecodeString(write(t, m, "generate-mac/k", data)["mac"].(string))
	require.NoError(t, err)
	dudect.SameTime(t, func(class int) func() {
		return m.handler(t, kms.TypeInvalidMac, "verify-mac/k", fields{
			"message": "bWVzc2FnZQ==", "mac_algorithm": "HMAC_SHA_512", "mac": base64.StdEncoding.EncodeToString(dudect.Flipped(mac, class*(len(mac)-1))),
		})
	}, dudect.EarlyExit(len(mac), 1))
}

// TestTimeOfOverlap: the time of a verification through an alias does not tell
// which of the keys that it accepts matched.
func TestTimeOfOverlap(t *testing.T) {
	m := newMount(t)
	data := fields{"message": "bWVzc2FnZQ==", "mac_algorithm": "HMAC_SHA_256"}
	var macs []string
	for i := range 5 {
		key := fmt.Sprint("k", i)
		write(t, m, "keys/"+key, fields{"key_spec": "HMAC_256"})
		write(t, m, "aliases/a", fields{"target_key_id": key, "overlap": "1h"})
		macs = append(macs, write(t, m, "generate-mac/"+key, data)["mac"].(string))
	}
	// request verifies the MAC by the first of two keys for class 0, and by the
	// second for class 1.
	request := func(first, second int) dudect.Work {
		return func(class int) func() {
			mac := macs[[]int{first, second}[class]]
			return m.handler(t, "", "verify-mac/alias/a", fields{"message": data["message"], "mac_algorithm": data["mac_algorithm"], "mac": mac})
		}
	}
	stopsAtTheFirst := func(class int) func() {
		key, tries := kms.NewMacKey(kms.HMAC256, make([]byte, 32)), 1+4*class
		return func() {
			for range tries {
				key.Verify([]byte("message"), make([]byte, 32))
			}
		}
	}
	const newest, middle, oldest = 4, 2, 0
	dudect.SameTime(t, request(newest, oldest), stopsAtTheFirst)
	if differs, value := dudect.Differs(dudect.Runs, request(middle, oldest)); differs {
		t.Errorf("two former keys differ, t = %.1f", value)
	}
}
