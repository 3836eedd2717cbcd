package kmshmac

import (
	"context"
	"io"
	"strings"
	"testing"

	log "github.com/hashicorp/go-hclog"
	gplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/plugin"
	"github.com/stretchr/testify/require"
)

// overGRPC returns the backend as Vault has it: behind the plugin boundary.
func overGRPC(t *testing.T, storage logical.Storage) logical.Backend {
	t.Helper()
	client, _ := gplugin.TestPluginGRPCConn(t, false, map[string]gplugin.Plugin{
		plugin.BackendPluginName: &plugin.GRPCBackendPlugin{Factory: Factory, Logger: log.New(&log.LoggerOptions{Output: io.Discard})},
	})
	t.Cleanup(func() { _ = client.Close() })
	raw, err := client.Dispense(plugin.BackendPluginName)
	require.NoError(t, err)
	b := raw.(logical.Backend)
	require.NoError(t, b.Setup(t.Context(), &logical.BackendConfig{
		Logger:      log.NewNullLogger(),
		System:      &logical.StaticSystemView{PluginEnvironment: &logical.PluginEnvironment{}},
		StorageView: storage,
	}))
	return b
}

// What a client sees of each kind of answer: the status that Vault makes of
// it, the errors and the data.
func TestAnswersOverThePluginBoundary(t *testing.T) {
	t.Parallel()
	storage := &logical.InmemStorage{}
	m := openMount(t, storage, newClock(), false)
	createKey(t, m, "a")
	external(t, m, "x")
	require.NoError(t, storage.Put(t.Context(), &logical.StorageEntry{Key: keyPrefix + "damaged", Value: []byte("{")}))
	b := overGRPC(t, storage)

	tests := []struct {
		name       string
		op         logical.Operation
		path       string
		data       fields
		wantStatus int // 0 is success
		wantError  string
		wantData   fields
	}{
		{"success", "update", "generate-mac/a", macFields("m"), 0, "", nil},
		{"success without data", "update", "disable-key-rotation/a", nil, 0, "", nil},
		{"read of what is not there", "read", "keys/none", nil, 404, "", nil},
		{"alias that is not there", "read", "aliases/none", nil, 404, "", nil},
		{"empty list", "list", "keys/none/", nil, 404, "", nil},
		{"exception with a resource", "update", "generate-mac/x", macFields("m"), 400, "KMSInvalidStateException: x is pending import.", fields{"type": "KMSInvalidStateException", "message": "x is pending import.", "key_id": "x"}},
		{"exception without message", "update", "verify-mac/a", verifyFieldsOf("m", b64("x")), 400, "KMSInvalidMacException: the MAC does not belong to this message, key and algorithm", fields{"type": "KMSInvalidMacException"}},
		{"exception of the framework's path", "update", "tag-resource/a", nil, 400, "ValidationException: 1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null", fields{"type": "ValidationException", "message": "1 validation error detected: Value null at 'tags' failed to satisfy constraint: Member must not be null"}},
		{"no such key", "update", "enable-key/none", nil, 400, "NotFoundException: Key 'none' does not exist", fields{"type": "NotFoundException", "message": "Key 'none' does not exist", "key_id": "none"}},
		{"no grant", "update", "granted/generate-mac/a", macFields("m"), 403, "", nil},
		{"damaged record", "update", "generate-mac/damaged", macFields("m"), 500, "KMSInternalException: ", nil},
		{"no such path", "update", "nowhere", nil, 404, "", nil},
		{"no such operation", "delete", "config", nil, 405, "", nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			req := &logical.Request{Operation: test.op, Path: test.path, Storage: storage, Data: overJSON(t, test.data)}
			resp, err := b.HandleRequest(t.Context(), req)
			status, codedErr := logical.RespondErrorCommon(req, resp, err)
			require.Equal(t, test.wantStatus, status, "%v %v", resp, err)
			switch {
			case status == 500:
				require.Truef(t, strings.HasPrefix(codedErr.Error(), test.wantError), "%v", codedErr)
				require.Nil(t, resp)
			case test.wantError != "":
				require.Equal(t, test.wantError, resp.Data["error"])
				require.Equal(t, test.wantData, resp.Data["data"])
			}
		})
	}
}

// Sentinels are compared on the other side of the boundary, never unwrapped.
func TestSentinelsCrossThePluginBoundary(t *testing.T) {
	t.Parallel()
	storage := &logical.InmemStorage{}
	createKey(t, openMount(t, storage, newClock(), false), "a")
	b := overGRPC(t, storage)
	_, err := b.HandleRequest(t.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: "granted/describe-key/a", Storage: storage})
	require.Equal(t, logical.ErrPermissionDenied, err)
	_, err = b.HandleRequest(t.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: "nowhere", Storage: storage})
	require.Equal(t, logical.ErrUnsupportedPath, err)
	_, err = b.HandleRequest(t.Context(), &logical.Request{Operation: logical.DeleteOperation, Path: "config", Storage: storage})
	require.Equal(t, logical.ErrUnsupportedOperation, err)
}

// Storage errors reach the plugin as text. What Vault's own nodes forward by
// must stay recognizable.
func TestStorageErrorsOverThePluginBoundary(t *testing.T) {
	t.Parallel()
	storage := &readOnlyStorage{}
	b := overGRPC(t, storage)
	_, err := b.HandleRequest(t.Context(), &logical.Request{
		Operation: logical.UpdateOperation, Path: "keys/a", Storage: storage, Data: fields{"key_spec": "HMAC_256"},
	})
	require.ErrorContains(t, err, logical.ErrReadOnly.Error())
	require.NotContains(t, err.Error(), "KMSInternalException", "Vault compares the whole text")

	failing := &logical.InmemStorage{}
	b = overGRPC(t, failing)
	failing.Underlying().FailGet(true)
	_, err = b.HandleRequest(t.Context(), &logical.Request{Operation: logical.UpdateOperation, Path: "generate-mac/a", Storage: failing, Data: macFields("m")})
	require.ErrorContains(t, err, "KMSInternalException: ")
}

type readOnlyStorage struct{ logical.InmemStorage }

func (s *readOnlyStorage) Put(context.Context, *logical.StorageEntry) error {
	return logical.ErrReadOnly
}

func TestExistenceCheckOverThePluginBoundary(t *testing.T) {
	t.Parallel()
	storage := &logical.InmemStorage{}
	m := openMount(t, storage, newClock(), false)
	createKey(t, m, "p/a")
	write(t, m, "aliases/p/x", fields{"target_key_id": "p/a"})
	b := overGRPC(t, storage)
	tests := []struct {
		name, path    string
		found, exists bool
	}{
		{"key", "keys/p/a", true, true},
		{"new key", "keys/p/b", true, false},
		{"impossible key", "keys/a..b", true, false},
		{"alias", "aliases/p/x", true, true},
		{"new alias", "aliases/p/y", true, false},
		{"impossible alias", "aliases/a.b", true, false},
		{"MAC", "generate-mac/p/a", false, false},
		{"generated id", "keys", false, false},
		{"config", "config", false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			found, exists, err := b.HandleExistenceCheck(t.Context(), &logical.Request{Operation: logical.CreateOperation, Path: test.path, Storage: storage})
			require.NoError(t, err)
			require.Equal(t, test.found, found)
			require.Equal(t, test.exists, exists)
		})
	}
}
