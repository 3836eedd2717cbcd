package kmshmac

import (
	"context"
	"fmt"
	"testing"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// countingStorage counts the calls that reach storage: each is a round trip
// from the plugin to Vault.
type countingStorage struct {
	logical.Storage
	calls int
}

func (s *countingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.calls++
	return s.Storage.Get(ctx, key)
}

func (s *countingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.calls++
	return s.Storage.Put(ctx, entry)
}

func (s *countingStorage) Delete(ctx context.Context, key string) error {
	s.calls++
	return s.Storage.Delete(ctx, key)
}

func (s *countingStorage) List(ctx context.Context, prefix string) ([]string, error) {
	s.calls++
	return s.Storage.List(ctx, prefix)
}

// detachableSystem is Vault's system view, of which every method is a round
// trip as well. Once detached, calling any of them panics, whichever it is, and
// the request fails.
type detachableSystem struct{ logical.SystemView }

// newHotMount returns a mount with keys in use, storage that counts and a
// system view to detach.
func newHotMount(t testing.TB) (*mount, *countingStorage, *detachableSystem) {
	t.Helper()
	system := &detachableSystem{&logical.StaticSystemView{}}
	storage := &logical.InmemStorage{}
	b, err := Factory(t.Context(), &logical.BackendConfig{
		Logger: log.NewNullLogger(), StorageView: storage, System: system,
	})
	require.NoError(t, err)
	m := &mount{b: b.(*backend), storage: storage, clock: newClock()}
	m.b.now = m.clock.now
	m.b.spawn = func(func()) {}
	createKey(t, m, "team/old")
	createKey(t, m, "team/new")
	write(t, m, "aliases/team/current", fields{"target_key_id": "team/old"})
	write(t, m, "aliases/team/current", fields{"target_key_id": "team/new", "overlap": "24h"})
	for _, key := range []string{"team/old", "team/new"} {
		write(t, m, "create-grant/"+key, fields{"grantee_principal": "grantee", "operations": "GenerateMac,VerifyMac"})
	}
	write(t, m, "create-grant/team/new", fields{"grantee_principal": "of-new-only", "operations": "VerifyMac"})
	return m, &countingStorage{Storage: storage}, system
}

// TestWarmMacMakesNoCalls is what makes a warm MAC as fast as the plugin
// boundary allows, and lets nodes serve it that cannot write.
func TestWarmMacMakesNoCalls(t *testing.T) {
	m, storage, system := newHotMount(t)
	of := func(key string) string { return macOf(t, m, key, "hello") }
	oldMac, newMac := of("team/old"), of("team/new")
	batch := fields{"mac_algorithm": "HMAC_SHA_256", "messages": b64("hello") + "," + b64("hello")}
	tests := map[string]struct {
		path string
		data fields
	}{
		"generate":                       {"generate-mac/team/new", macFields("hello")},
		"generate through an alias":      {"generate-mac/alias/team/current", macFields("hello")},
		"generate a batch":               {"generate-mac/alias/team/current", batch},
		"verify":                         {"verify-mac/team/new", verifyFieldsOf("hello", newMac)},
		"verify through an alias":        {"verify-mac/alias/team/current", verifyFieldsOf("hello", newMac)},
		"verify with the alias' old key": {"verify-mac/alias/team/current", verifyFieldsOf("hello", oldMac)},
		"a wrong MAC":                    {"verify-mac/alias/team/current", verifyFieldsOf("hello", b64("wrong"))},
		"a wrong algorithm":              {"generate-mac/team/new", fields{"message": b64("hello"), "mac_algorithm": "HMAC_SHA_512"}},
	}
	// A node that has just started, made warm by one request of each kind.
	node := m.otherWith(t, system)
	send := func(path, entity string, op logical.Operation, data fields) (*logical.Response, error) {
		req := &logical.Request{Operation: op, Path: path, Storage: storage, Data: overJSON(t, data), EntityID: entity}
		found, exists, err := node.b.HandleExistenceCheck(t.Context(), req)
		require.NoError(t, err)
		require.False(t, found && exists)
		return node.b.HandleRequest(t.Context(), req)
	}
	sendAll := func(check func(name string, err error)) {
		for name, test := range tests {
			for _, op := range []logical.Operation{logical.UpdateOperation, logical.PatchOperation} {
				_, err := send(test.path, "", op, test.data)
				check(name, err)
				_, err = send("granted/"+test.path, "grantee", op, test.data)
				check(name+" by grant", err)
			}
		}
		_, err := send("granted/verify-mac/alias/team/current", "of-new-only", logical.PatchOperation, verifyFieldsOf("hello", newMac))
		check("by a grant that does not name the alias's old key", err)
	}
	sendAll(func(name string, err error) { require.NoError(t, err, name) })
	require.Positive(t, storage.calls, "a cold node reads storage, or nothing is counted")

	storage.calls = 0
	system.SystemView = nil
	sendAll(func(name string, err error) {
		require.NoError(t, err, "%s: a call to Vault's system view", name)
		require.Zero(t, storage.calls, "%s: calls to storage", name)
	})
}

// otherWith is other with a system view of one's own.
func (m *mount) otherWith(t testing.TB, system logical.SystemView) *mount {
	t.Helper()
	b, err := Factory(t.Context(), &logical.BackendConfig{
		Logger: log.NewNullLogger(), StorageView: m.storage, System: system,
	})
	require.NoError(t, err)
	other := &mount{b: b.(*backend), storage: m.storage, clock: m.clock}
	other.b.now = m.clock.now
	other.b.spawn = func(func()) {}
	return other
}

// TestDetachedSystemFails shows that the test above would notice a call.
func TestDetachedSystemFails(t *testing.T) {
	m, _, system := newHotMount(t)
	system.SystemView = nil
	_, err := m.b.HandleRequest(t.Context(), &logical.Request{
		Operation: logical.ReadOperation, Path: "keys/team/new", Storage: m.storage,
	})
	require.Error(t, err, "the framework asks for the replication state")
}

// BenchmarkGenerateMac is what the engine itself adds to a request.
func BenchmarkGenerateMac(b *testing.B) {
	m, storage, _ := newHotMount(b)
	benchmarkRequest(b, m, storage, "generate-mac/team/new", macFields("a message of thirty-two bytes..."))
}

// BenchmarkGrantedMac is BenchmarkGenerateMac by a grant.
func BenchmarkGrantedMac(b *testing.B) {
	m, storage, _ := newHotMount(b)
	benchmarkRequest(b, m.as("grantee"), storage, "granted/generate-mac/team/new", macFields("a message of thirty-two bytes..."))
}

func BenchmarkVerifyMac(b *testing.B) {
	m, storage, _ := newHotMount(b)
	data := verifyFieldsOf("hello", macOf(b, m, "team/new", "hello"))
	benchmarkRequest(b, m, storage, "verify-mac/team/new", data)
}

// BenchmarkGenerateMacs makes a thousand MACs in one request, in each form.
func BenchmarkGenerateMacs(b *testing.B) {
	m, storage, _ := newHotMount(b)
	const size = 1000
	var list, objects []any
	text := ""
	for i := range size {
		message := b64(fmt.Sprintf("a message of thirty-two bytes%03d", i))
		list = append(list, message)
		objects = append(objects, fields{"message": message})
		text += "," + message
	}
	for name, data := range map[string]fields{
		"batch_input": {"batch_input": objects},
		"list":        {"messages": list},
		"string":      {"messages": text[1:]},
	} {
		data["mac_algorithm"] = "HMAC_SHA_256"
		b.Run(name, func(b *testing.B) {
			benchmarkRequest(b, m, storage, "generate-mac/team/new", data)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/MAC")
		})
	}
}

func benchmarkRequest(b *testing.B, m *mount, storage logical.Storage, path string, data fields) {
	b.Helper()
	data = overJSON(b, data)
	b.ReportAllocs()
	for b.Loop() {
		req := &logical.Request{Operation: logical.UpdateOperation, Path: path, Storage: storage, Data: data, EntityID: m.entity}
		resp, err := m.b.HandleRequest(b.Context(), req)
		if err != nil || resp.IsError() {
			b.Fatal(resp, err)
		}
	}
}

// BenchmarkManyKeys uses keys of a large mount uniformly. What grows with their
// number is misses of the processor's caches, and what the garbage collector
// walks through.
func BenchmarkManyKeys(b *testing.B) {
	for _, keys := range []int{10, 100000} {
		m := newMount(b)
		requests := make([]*logical.Request, keys)
		for i := range requests {
			id := fmt.Sprintf("team-%03d/key-%06d", i%100, i)
			putKey(b, m, id)
			macOf(b, m, id, "warm")
			requests[i] = &logical.Request{
				Operation: logical.UpdateOperation, Path: "generate-mac/" + id, Storage: m.storage, Data: overJSON(b, macFields("hello")),
			}
		}
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				resp, err := m.b.HandleRequest(b.Context(), requests[i*7919%keys])
				if err != nil || resp.IsError() {
					b.Fatal(resp, err)
				}
			}
		})
	}
}
