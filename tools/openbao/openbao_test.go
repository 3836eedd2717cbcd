package openbao

import (
	"encoding/base64"
	"testing"

	"github.com/openbao/openbao/sdk/v2/logical"
	"github.com/stretchr/testify/require"
)

const (
	read   = logical.ReadOperation
	list   = logical.ListOperation
	update = logical.UpdateOperation
	patch  = logical.PatchOperation
)

func message() map[string]any {
	return map[string]any{"message": base64.StdEncoding.EncodeToString([]byte("pay 10 EUR")), "mac_algorithm": "HMAC_SHA_256"}
}

func with(data map[string]any, name string, value any) map[string]any {
	data[name] = value
	return data
}

// What OpenBao's server asks of a plugin before it mounts it.
func TestPluginTellsWhatItIs(t *testing.T) {
	m := newHost(t).mount(t, &logical.InmemStorage{}, logical.StaticSystemView{})
	require.Equal(t, logical.TypeLogical, m.backend.Type())
	paths := m.backend.SpecialPaths()
	require.NotEmpty(t, paths.SealWrapStorage, "key records are to be seal wrapped")
	require.Equal(t, []string{"ready"}, paths.Unauthenticated)
	version := m.backend.(interface{ PluginVersion() logical.PluginVersion }).PluginVersion()
	require.Regexp(t, `^v\d+\.\d+\.\d+`, version.Version)
	require.NotEmpty(t, m.ok(t, logical.HelpOperation, "generate-mac/x", nil))
}

// The life of a key, by both verbs, with the statuses and exceptions of KMS.
// OpenBao's host has no event bus: what the engine tells about keys is dropped.
func TestLifeOfAKey(t *testing.T) {
	m := newHost(t).mount(t, &logical.InmemStorage{}, logical.StaticSystemView{})
	m.ok(t, update, "keys/payments/tokens", map[string]any{"key_spec": "HMAC_256"})
	m.ok(t, update, "aliases/payments/current", map[string]any{"target_key_id": "payments/tokens"})

	mac := m.ok(t, update, "generate-mac/payments/tokens", message())["mac"]
	for _, verb := range []logical.Operation{update, patch} {
		require.Equal(t, mac, m.ok(t, verb, "generate-mac/alias/payments/current", message())["mac"])
		verified := m.ok(t, verb, "verify-mac/payments/tokens", with(message(), "mac", mac))
		require.Equal(t, true, verified["mac_valid"])
		status, answer := m.call(t, verb, "verify-mac/payments/tokens", "", with(message(), "mac", "AAAA"))
		require.Equal(t, 400, status)
		require.Equal(t, "KMSInvalidMacException", answer["data"].(map[string]any)["type"])
	}
	require.Equal(t, []any{"tokens"}, m.ok(t, list, "keys/payments/", nil)["keys"])
	require.Len(t, m.ok(t, read, "inventory/payments", nil)["keys"], 1)

	m.ok(t, update, "schedule-key-deletion/payments/tokens", map[string]any{"pending_window_in_days": 7})
	status, answer := m.call(t, patch, "generate-mac/payments/tokens", "", message())
	require.Equal(t, 400, status)
	require.Contains(t, answer["error"], "KMSInvalidStateException")
	status, _ = m.call(t, read, "keys/none", "", nil)
	require.Equal(t, 404, status)
}

// Two mounts in one process do not see each other's keys, and a process that is
// started anew finds in OpenBao's storage what the one before it stored.
func TestMountsAndRestart(t *testing.T) {
	storage := &logical.InmemStorage{}
	first := newHost(t)
	m, other := first.mount(t, storage, logical.StaticSystemView{}), first.mount(t, &logical.InmemStorage{}, logical.StaticSystemView{})
	for _, mount := range []*mount{m, other} {
		mount.ok(t, update, "keys/a", map[string]any{"key_spec": "HMAC_256"})
	}
	mac := m.ok(t, patch, "generate-mac/a", message())["mac"]
	require.NotEqual(t, mac, other.ok(t, patch, "generate-mac/a", message())["mac"])

	m.backend.Cleanup(t.Context())
	require.NotEmpty(t, other.ok(t, patch, "generate-mac/a", message())["mac"], "the other mount goes on")
	first.client.Kill()
	again := newHost(t).mount(t, storage, logical.StaticSystemView{})
	require.Equal(t, mac, again.ok(t, patch, "generate-mac/a", message())["mac"])
}

// A node that does not write hears from OpenBao which entries others have
// changed, and takes nothing of them from memory any more.
func TestInvalidation(t *testing.T) {
	storage := &logical.InmemStorage{}
	h := newHost(t)
	active, standby := h.mount(t, storage, logical.StaticSystemView{}), h.mount(t, storage, logical.StaticSystemView{})
	active.ok(t, update, "keys/a", map[string]any{"key_spec": "HMAC_256"})
	standby.ok(t, patch, "generate-mac/a", message())
	active.ok(t, update, "disable-key/a", nil)
	standby.backend.InvalidateKey(t.Context(), "key/a")
	status, answer := standby.call(t, patch, "generate-mac/a", "", message())
	require.Equal(t, 400, status)
	require.Contains(t, answer["error"], "DisabledException")
}

// Grants go by the entity of the request, and by the groups that OpenBao knows
// of it.
func TestGrants(t *testing.T) {
	m := newHost(t).mount(t, &logical.InmemStorage{}, logical.StaticSystemView{
		EntityVal: &logical.Entity{ID: "member"},
		GroupsVal: []*logical.Group{{ID: "signers", Name: "signers"}},
	})
	m.ok(t, update, "keys/a", map[string]any{"key_spec": "HMAC_256"})
	status, _ := m.call(t, patch, "granted/generate-mac/a", "member", message())
	require.Equal(t, 403, status)
	m.ok(t, update, "create-grant/a", map[string]any{"grantee_principal": "group/signers", "operations": []any{"GenerateMac"}})
	status, answer := m.call(t, patch, "granted/generate-mac/a", "member", message())
	require.Equal(t, 200, status, "%v", answer)
	status, _ = m.call(t, patch, "granted/verify-mac/a", "member", with(message(), "mac", answer["mac"]))
	require.Equal(t, 403, status)
}
