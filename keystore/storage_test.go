package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// fixtureNow is when the fixture of storage was written.
var fixtureNow = time.Date(2026, 11, 29, 12, 0, 30, 456e6, time.UTC)

// newTestStore returns a store with a clock that stands still.
func newTestStore(t testing.TB, now *time.Time, noCache bool) *Store {
	t.Helper()
	return New(Options{
		Now:            func() time.Time { return *now },
		System:         func() logical.SystemView { return &logical.StaticSystemView{CachingDisabledVal: noCache} },
		Random:         func() io.Reader { return rand.Reader },
		Warn:           func(message string, args ...any) { t.Log(append([]any{message}, args...)...) },
		GenerateRSAKey: rsa.GenerateKey,
		Background:     func(func(context.Context, logical.Storage)) {},
	})
}

// fixture is storage as version 0.1.0 wrote it, with keys in each state,
// aliases with overlaps, grants, wrapping keys, settings, last uses and hints.
func fixture(t testing.TB) (map[string]string, *logical.InmemStorage) {
	t.Helper()
	raw, err := os.ReadFile("testdata/storage-v0.1.0.json")
	require.NoError(t, err)
	var records map[string]string
	require.NoError(t, json.Unmarshal(raw, &records))
	storage := &logical.InmemStorage{}
	for name, value := range records {
		require.NoError(t, storage.Put(t.Context(), &logical.StorageEntry{Key: name, Value: []byte(value)}))
	}
	return records, storage
}

// Every record, read and written again, is the same to the byte.
func TestRecordsOfV010AreKeptToTheByte(t *testing.T) {
	t.Parallel()
	records, before := fixture(t)
	after := &logical.InmemStorage{}
	now := fixtureNow
	_, w, err := newTestStore(t, &now, true).begin(t.Context(), after)
	require.NoError(t, err)
	defer w.end()
	kinds := map[string]func(context.Context, logical.Storage, *write, string) error{
		keyPrefix:          again[keyRecord],
		aliasPrefix:        again[Alias],
		aliasIndexPrefix:   again[struct{}],
		duePrefix:          again[struct{}],
		wrappingKeyPrefix:  again[wrappingKey],
		grantPrefix:        again[grantRecord],
		granteeIndexPrefix: again[struct{}],
		retireeIndexPrefix: again[grantRef],
		usagePrefix:        again[usageShard],
		configPrefix:       again[Settings],
	}
	seen := map[string]bool{}
	for name, value := range records {
		prefix := name[:strings.Index(name, "/")+1]
		require.Contains(t, kinds, prefix)
		seen[prefix] = true
		require.NoError(t, kinds[prefix](t.Context(), before, w, name))
		entry, err := after.Get(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, value, string(entry.Value), name)
	}
	require.Len(t, seen, len(kinds), "the fixture has something of every kind")
}

// again reads a record and writes it elsewhere.
func again[T any](ctx context.Context, from logical.Storage, to *write, name string) error {
	record, err := load[T](ctx, from, name)
	if err != nil {
		return err
	}
	return to.put(name, record)
}

// The names under which the store writes are those of the fixture.
func TestNamesOfV010(t *testing.T) {
	t.Parallel()
	_, storage := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	written := &recordingStorage{Storage: storage}
	_, w, err := st.begin(t.Context(), written)
	require.NoError(t, err)
	for _, id := range []string{"disabled", "expiring", "deleting"} {
		k, err := st.Key(t.Context(), storage, id, now)
		require.NoError(t, err)
		_, err = w.saveKey(k.record)
		require.NoError(t, err)
	}
	a, _, err := st.Alias(t.Context(), storage, "alias/payments/current", now)
	require.NoError(t, err)
	require.NoError(t, w.saveAlias(a))
	grants, err := st.ListGrants(t.Context(), storage, "payments/HMAC_256", "e")
	require.NoError(t, err)
	require.Len(t, grants.IDs, 1)
	g, err := loadGrant(t.Context(), storage, "payments/HMAC_256", grants.IDs[0])
	require.NoError(t, err)
	require.NoError(t, w.saveGrant(g))
	w.end()
	_, err = st.ChangeSettings(t.Context(), written, func(*Settings) {})
	require.NoError(t, err)
	k, err := st.Key(t.Context(), storage, "left", now)
	require.NoError(t, err)
	k.Used(generateMac, now.Add(time.Second))
	require.NoError(t, st.flushUsages(t.Context(), written, now))
	records, _ := fixture(t)
	require.Len(t, written.names, 12)
	for _, name := range written.names {
		require.Contains(t, records, name)
	}
}

// recordingStorage records the names that are written.
type recordingStorage struct {
	logical.Storage
	names []string
}

func (s *recordingStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	s.names = append(s.names, entry.Key)
	return s.Storage.Put(ctx, entry)
}

// The states of the fixture's keys.
func TestStatesOfV010(t *testing.T) {
	t.Parallel()
	_, storage := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	for id, want := range map[string]kms.KeyState{
		"left": kms.Enabled, "payments/HMAC_512": kms.Enabled, "disabled": kms.Disabled, "deleting": kms.PendingDeletion,
		"pending-import": kms.PendingImport, "imported": kms.Enabled, "emptied": kms.PendingImport, "expiring": kms.Enabled,
		"expired": kms.PendingImport, "gone": "",
	} {
		k, err := st.Key(t.Context(), storage, id, now)
		require.NoError(t, err)
		var state kms.KeyState
		if k != nil {
			state = k.State(now)
		}
		require.Equal(t, want, state, id)
	}
}

// Without a cache nothing is kept.
func TestNothingIsKeptWithoutACache(t *testing.T) {
	t.Parallel()
	_, storage := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, true)
	_, _, err := st.ResolveWithPrevious(t.Context(), storage, "alias/payments/current", now)
	require.NoError(t, err)
	_, err = st.ListKeys(t.Context(), storage, "", now)
	require.NoError(t, err)
	require.Zero(t, st.keys.Len())
	require.Zero(t, st.aliases.Len())
	_, _, err = st.Inventory(t.Context(), storage, "", "", 100, InventoryFilter{}, now)
	require.NoError(t, err)
	require.Zero(t, st.names.known.Len()+st.hints.known.Len()+st.grantCounts.known.Len()+st.shards.known.Len()+st.glances.known.Len())
}
