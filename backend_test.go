package kmshmac

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// mount is a backend under test with its storage and its clock.
type mount struct {
	b       *backend
	storage *logical.InmemStorage
	clock   *clock
	entity  string // of the caller
	noCache bool
	wrap    logical.Storage // stands between the backend and storage, if set
}

func (m *mount) view() logical.Storage {
	if m.wrap != nil {
		return m.wrap
	}
	return m.storage
}

// clock is the time as the backend sees it.
type clock struct{ nanoseconds atomic.Int64 }

// testStart is when tests begin, as answers print it.
const testStart = "2026-11-22T10:20:30.456Z"

func newClock() *clock {
	start, err := time.Parse(time.RFC3339, testStart)
	if err != nil {
		panic(err)
	}
	c := &clock{}
	c.nanoseconds.Store(start.UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanoseconds.Load()) }
func (c *clock) advance(d time.Duration) { c.nanoseconds.Add(int64(d)) }

const day = 24 * time.Hour

func newMount(t testing.TB) *mount { return openMount(t, &logical.InmemStorage{}, newClock(), false) }

// openMount starts a backend on storage that may have been used before.
func openMount(t testing.TB, storage *logical.InmemStorage, c *clock, noCache bool) *mount {
	t.Helper()
	b, err := Factory(t.Context(), &logical.BackendConfig{
		Logger:      log.NewNullLogger(),
		StorageView: storage,
		System: &logical.StaticSystemView{
			CachingDisabledVal: noCache,
			EntityVal:          &logical.Entity{ID: "somebody"},
			PluginEnvironment:  &logical.PluginEnvironment{VaultVersion: "1.21.1"},
		},
	})
	require.NoError(t, err)
	m := &mount{b: b.(*backend), storage: storage, clock: c, noCache: noCache}
	m.b.now = c.now
	m.b.generateRSAKey = sharedRSAKey
	m.b.spawn = func(func()) {} // tests that are about it set their own
	return m
}

// other returns another node on the same storage, with a cache of its own.
func (m *mount) other(t testing.TB) *mount {
	t.Helper()
	return openMount(t, m.storage, m.clock, m.noCache)
}

// as returns the mount as a caller with this entity uses it.
func (m *mount) as(entity string) *mount {
	other := *m
	other.entity = entity
	return &other
}

// tidy is what Vault does about once a minute.
func (m *mount) tidy(t testing.TB) {
	t.Helper()
	require.NoError(t, m.b.periodic(t.Context(), &logical.Request{Storage: m.view()}))
}

// eachCache runs a test on a mount that caches and on one that must not.
func eachCache(t *testing.T, test func(t *testing.T, m *mount)) {
	t.Helper()
	for name, noCache := range map[string]bool{"cached": false, "force_no_cache": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, openMount(t, &logical.InmemStorage{}, newClock(), noCache))
		})
	}
}

type fields = map[string]any

// request is the only way in which tests reach the backend. It passes data
// both ways as JSON, as the plugin boundary does, and holds every good answer
// against the schema that the path documents.
func request(t testing.TB, m *mount, op logical.Operation, path string, data fields) (*logical.Response, error) {
	t.Helper()
	req := &logical.Request{
		ID: "test", Operation: op, Path: path, Storage: m.view(), EntityID: m.entity, Data: overJSON(t, data),
	}
	if op == logical.CreateOperation {
		req.Operation = writeOperation(t, m, req)
	}
	resp, err := m.b.HandleRequest(t.Context(), req)
	if err != nil || resp == nil {
		return nil, err
	}
	resp = &logical.Response{Data: overJSON(t, resp.Data), Warnings: resp.Warnings}
	if !resp.IsError() && op != logical.HelpOperation {
		requireSchema(t, m, req, resp)
	}
	return resp, nil
}

// writeOperation asks the backend, as Vault does, whether a write creates.
func writeOperation(t testing.TB, m *mount, req *logical.Request) logical.Operation {
	t.Helper()
	found, exists, err := m.b.HandleExistenceCheck(t.Context(), req)
	if err != nil || !found || exists {
		return logical.UpdateOperation
	}
	return logical.CreateOperation
}

func requireSchema(t testing.TB, m *mount, req *logical.Request, resp *logical.Response) {
	t.Helper()
	tt, ok := t.(*testing.T)
	if !ok {
		return // a fuzz target's or a benchmark's
	}
	schema.ValidateResponse(tt, schema.GetResponseSchema(tt, m.b.Route(req.Path), req.Operation), resp, true)
}

func overJSON(t testing.TB, data fields) fields {
	t.Helper()
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	var out fields
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

// do makes a request that must succeed, and returns the answer's data.
func do(t testing.TB, m *mount, op logical.Operation, path string, data fields) fields {
	t.Helper()
	resp, err := request(t, m, op, path, data)
	require.NoError(t, err)
	if resp == nil {
		return nil
	}
	require.False(t, resp.IsError(), "%s %s: %v", op, path, resp.Data["error"])
	return resp.Data
}

func write(t testing.TB, m *mount, path string, data fields) fields {
	t.Helper()
	return do(t, m, logical.CreateOperation, path, data)
}

func read(t testing.TB, m *mount, path string) fields {
	t.Helper()
	return do(t, m, logical.ReadOperation, path, nil)
}

// refused makes a request that must fail with an exception, and returns what
// the answer says besides type and message. message "" means that KMS sends
// none; the caller then gets a sentence all the same.
func refused(t testing.TB, m *mount, op logical.Operation, path string, data fields, wantType, wantMessage string) fields {
	t.Helper()
	resp, err := request(t, m, op, path, data)
	require.NoError(t, err)
	require.NotNil(t, resp, "%s %s succeeded", op, path)
	require.True(t, resp.IsError(), "%s %s succeeded: %v", op, path, resp.Data)
	return requireExceptionData(t, resp, wantType, wantMessage)
}

func requireExceptionData(t testing.TB, resp *logical.Response, wantType, wantMessage string) fields {
	t.Helper()
	text := resp.Data["error"].(string)
	data := maps.Clone(resp.Data["data"].(fields))
	require.Equal(t, wantType, data["type"], "%s", text)
	message, _ := data["message"].(string)
	require.Equal(t, wantMessage, message)
	require.Contains(t, text, wantType+": "+wantMessage)
	require.Greater(t, len(text), len(wantType+": "))
	delete(data, "type")
	delete(data, "message")
	return data
}

func writeRefused(t testing.TB, m *mount, path string, data fields, wantType, wantMessage string) fields {
	t.Helper()
	return refused(t, m, logical.CreateOperation, path, data, wantType, wantMessage)
}

// exceptionType returns the type of a refusal, "" for success and "500" for an
// error that is no exception.
func exceptionType(t testing.TB, resp *logical.Response, err error) string {
	t.Helper()
	switch {
	case err != nil:
		return "500"
	case resp.IsError():
		return resp.Data["data"].(fields)["type"].(string)
	}
	return ""
}

func b64(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }

// createKey makes a key of HMAC_256 unless more is said.
func createKey(t testing.TB, m *mount, id string, more ...fields) fields {
	t.Helper()
	data := fields{"key_spec": "HMAC_256"}
	for _, f := range more {
		maps.Copy(data, f)
	}
	return write(t, m, "keys/"+id, data)
}

// macOf returns a message's MAC under a key, or through an alias, in base64.
func macOf(t testing.TB, m *mount, key, message string) string {
	t.Helper()
	data := write(t, m, "generate-mac/"+key, macFields(message))
	return data["mac"].(string)
}

func macFields(message string) fields {
	return fields{"message": b64(message), "mac_algorithm": "HMAC_SHA_256"}
}

func verifyFieldsOf(message, mac string) fields {
	return fields{"message": b64(message), "mac": mac, "mac_algorithm": "HMAC_SHA_256"}
}

// keyState reads a key's state, "" if there is no key.
func keyState(t testing.TB, m *mount, id string) string {
	t.Helper()
	data := read(t, m, "keys/"+id)
	if data == nil {
		return ""
	}
	return data["key_state"].(string)
}

// names makes a list's answer comparable.
func names(t testing.TB, m *mount, path string, data fields) []string {
	t.Helper()
	list, _ := do(t, m, logical.ListOperation, path, data)["keys"].([]any)
	out := make([]string, len(list))
	for i, name := range list {
		out[i] = name.(string)
	}
	return out
}

func TestFactoryAsksNothing(t *testing.T) {
	t.Parallel()
	b, err := Factory(t.Context(), &logical.BackendConfig{})
	require.NoError(t, err, "Vault calls Factory so to learn the version")
	require.Equal(t, Version, b.(*backend).RunningVersion)
	require.Equal(t, logical.TypeLogical, b.Type())
}

// Seal wrap and invalidation take a name for a prefix only if it ends in a
// slash, and everything secret must be sealed.
func TestSealWrapCoversAllSecrets(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	write(t, m, "create-grant/a", fields{"grantee_principal": "somebody", "operations": "GenerateMac"})
	external(t, m, "b")
	importParameters(t, m, "b", "RSAES_OAEP_SHA_256", "RSA_2048")

	secrets := map[string]bool{"material": true, "material_salt": true, "pkcs8": true, "secret": true}
	for _, name := range storageKeys(t, m, "") {
		entry, err := m.storage.Get(t.Context(), name)
		require.NoError(t, err)
		var record fields
		require.NoError(t, json.Unmarshal(entry.Value, &record))
		for member := range record {
			if secrets[member] {
				require.True(t, isSealWrapped(m.b, name), "%s has %s", name, member)
			}
		}
	}
}

func isSealWrapped(b *backend, name string) bool {
	for _, prefix := range b.SpecialPaths().SealWrapStorage {
		if prefix[len(prefix)-1] == '/' && len(name) > len(prefix) && name[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

// A panic in a handler must not take the process, and all other mounts, down.
func TestPanicIsAnInternalError(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.b.now = func() time.Time { panic("marker") }
	for _, path := range []string{"keys/a", "generate-mac/a"} {
		_, err := request(t, m, logical.UpdateOperation, path, macOrKeyFields(path))
		require.EqualError(t, err, "KMSInternalException: the request failed unexpectedly")
	}
	_, _, err := m.b.HandleExistenceCheck(t.Context(), &logical.Request{Operation: logical.CreateOperation, Path: "keys/a", Storage: m.storage})
	require.EqualError(t, err, "KMSInternalException: the request failed unexpectedly")
}

func macOrKeyFields(path string) fields {
	if path == "keys/a" {
		return fields{"key_spec": "HMAC_256"}
	}
	return macFields("m")
}

var testSpecs = []struct {
	spec      kms.KeySpec
	algorithm kms.MacAlgorithm
	bytes     int
}{
	{"HMAC_224", "HMAC_SHA_224", 28},
	{"HMAC_256", "HMAC_SHA_256", 32},
	{"HMAC_384", "HMAC_SHA_384", 48},
	{"HMAC_512", "HMAC_SHA_512", 64},
}

func jsonObject(raw string) (fields, bool) {
	var data fields
	err := json.Unmarshal([]byte(raw), &data)
	return data, err == nil
}

// Where storage cannot be written, the periodic function does not try.
func TestPeriodicLeavesReadOnlyNodesAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		state consts.ReplicationState
	}{
		{"performance standby", consts.ReplicationPerformanceStandby},
		{"performance secondary", consts.ReplicationPerformanceSecondary},
		{"disaster recovery secondary", consts.ReplicationDRSecondary},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMount(t)
			createKey(t, m, "a")
			macOf(t, m, "a", "m")
			do(t, m, logical.DeleteOperation, "keys/a", nil)
			m.clock.advance(31 * day)
			m.b.System().(*logical.StaticSystemView).ReplicationStateVal = test.state
			before := storageKeys(t, m, "")
			m.storage.Underlying().FailPut(true)
			m.storage.Underlying().FailDelete(true)
			m.tidy(t)
			require.Equal(t, before, storageKeys(t, m, ""))
			require.Nil(t, read(t, m, "keys/a"), "it is gone all the same")
		})
	}
}
