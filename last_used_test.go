package kmshmac

import (
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func lastUsed(t testing.TB, m *mount, id string) any {
	t.Helper()
	used := read(t, m, "keys/"+id)["last_used"]
	if used == nil {
		require.NotContains(t, read(t, m, "get-key-last-usage/"+id), "key_last_usage")
		return nil
	}
	require.Equal(t, used, read(t, m, "get-key-last-usage/"+id)["key_last_usage"])
	return used
}

func use(operation, at string) fields {
	return fields{"operation": operation, "timestamp": "2026-11-22T" + at + "Z"}
}

func TestLastUse(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		createKey(t, m, "a")
		require.Equal(t, fields{"key_id": "a", "key_creation_date": testStart, "tracking_start_date": testStart}, read(t, m, "get-key-last-usage/a"))
		require.Nil(t, lastUsed(t, m, "a"))
		m.clock.advance(time.Second)
		mac := macOf(t, m, "a", "m")
		require.Equal(t, use("GenerateMac", "10:20:31.456"), lastUsed(t, m, "a"))
		m.clock.advance(time.Second)
		write(t, m, "verify-mac/a", verifyFieldsOf("m", mac))
		require.Equal(t, use("VerifyMac", "10:20:32.456"), lastUsed(t, m, "a"))

		m.clock.advance(time.Second)
		requireWrongMac(t, m, "a", b64("x"))
		data := verifyFieldsOf("m", mac)
		data["dry_run"] = true
		writeRefused(t, m, "verify-mac/a", data, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
		require.Equal(t, use("VerifyMac", "10:20:32.456"), lastUsed(t, m, "a"), "only success counts")
		write(t, m, "generate-mac/a", fields{"messages": b64("m") + ",!", "mac_algorithm": "HMAC_SHA_256"})
		require.Equal(t, use("GenerateMac", "10:20:33.456"), lastUsed(t, m, "a"))
		write(t, m, "disable-key/a", nil)
		require.Equal(t, use("GenerateMac", "10:20:33.456"), lastUsed(t, m, "a"), "it outlives changes of the key")
	})
}

// Through an alias the use is that of the key that did the work.
func TestLastUseOfThePreviousKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	old := macOf(t, m, "a", "m")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	write(t, m, "aliases/x", fields{"target_key_id": "b", "overlap": "1h"})
	m.clock.advance(time.Second)
	write(t, m, "verify-mac/alias/x", verifyFieldsOf("m", old))
	require.Equal(t, use("VerifyMac", "10:20:31.456"), lastUsed(t, m, "a"))
	require.Nil(t, lastUsed(t, m, "b"))
}

// A flush comes at most every five minutes and writes only what has changed.
func TestLastUseFlush(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	createKey(t, m, "b")
	m.tidy(t)
	macOf(t, m, "a", "m")
	m.clock.advance(usageFlushInterval - time.Millisecond)
	m.tidy(t)
	require.Empty(t, storageKeys(t, m, usagePrefix))
	require.Nil(t, lastUsed(t, m.other(t), "a"))
	m.clock.advance(time.Millisecond)
	m.tidy(t)
	require.Len(t, storageKeys(t, m, usagePrefix), 1)
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, m.other(t), "a"))
	require.Nil(t, lastUsed(t, m.other(t), "b"))

	m.clock.advance(usageFlushInterval)
	m.storage.Underlying().FailPut(true)
	m.tidy(t) // nothing has changed
	macOf(t, m, "b", "m")
	m.clock.advance(usageFlushInterval)
	require.Error(t, m.b.periodic(t.Context(), &logical.Request{Storage: m.storage}))
	m.storage.Underlying().FailPut(false)
	m.clock.advance(usageFlushInterval)
	m.tidy(t)
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, m.other(t), "a"))
	require.Equal(t, use("GenerateMac", "10:30:30.456"), lastUsed(t, m.other(t), "b"), "a failed flush loses nothing")
}

// Two nodes merge: the later use wins, whoever flushes last.
func TestLastUseMerges(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	early := m.other(t)
	macOf(t, early, "a", "m")
	m.clock.advance(time.Minute)
	macOf(t, m, "a", "m")
	m.tidy(t)
	early.tidy(t)
	require.Equal(t, use("GenerateMac", "10:21:30.456"), lastUsed(t, m.other(t), "a"))
}

// Another node's memory of a deleted key says nothing of a new one with its id.
func TestLastUseOfAnEarlierKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	standby := m.other(t)
	macOf(t, standby, "a", "m")
	write(t, m, "schedule-key-deletion/a", nil)
	m.clock.advance(31 * day)
	m.tidy(t)
	createKey(t, m, "a")
	standby.b.InvalidateKey(t.Context(), keyPrefix+"a")
	require.Nil(t, lastUsed(t, standby, "a"))
	standby.tidy(t)
	require.Nil(t, lastUsed(t, m.other(t), "a"))
}

func TestConcurrentUseAndFlush(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	var beside sync.WaitGroup
	m.b.spawn = func(work func()) { beside.Go(work) }
	createKey(t, m, "a")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 100 {
				macOf(t, m, "a", "m")
			}
		})
	}
	for range 50 {
		m.clock.advance(usageFlushInterval)
		m.tidy(t)
	}
	group.Wait()
	beside.Wait()
	m.clock.advance(usageFlushInterval)
	m.tidy(t)
	require.Equal(t, lastUsed(t, m, "a"), lastUsed(t, m.other(t), "a"))
}

// background lets a test run the work beside the requests when it likes.
func background(m *mount) (run func() int) {
	var mu sync.Mutex
	var works []func()
	m.b.spawn = func(work func()) {
		mu.Lock()
		defer mu.Unlock()
		works = append(works, work)
	}
	return func() int {
		mu.Lock()
		todo := works
		works = nil
		mu.Unlock()
		for _, work := range todo {
			work()
		}
		return len(todo)
	}
}

// The first use after an hour is stored at once, the others are not.
func TestFirstUseIsStoredAtOnce(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	run := background(m)
	createKey(t, m, "a")
	createKey(t, m, "b")
	macOf(t, m, "a", "m")
	macOf(t, m, "b", "m")
	require.Equal(t, 1, run(), "they are stored together")
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, m.other(t), "a"))
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, m.other(t), "b"))

	m.clock.advance(time.Hour)
	macOf(t, m, "a", "m")
	require.Zero(t, run())
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, m.other(t), "a"))
	m.clock.advance(time.Millisecond)
	macOf(t, m, "a", "m")
	macOf(t, m, "a", "m")
	require.Equal(t, 1, run())
	require.Equal(t, use("GenerateMac", "11:20:30.457"), lastUsed(t, m.other(t), "a"))

	// A node that knows nothing looks first whether there is anything to write.
	other := m.other(t)
	run = background(other)
	m.clock.advance(time.Minute)
	before := rawRecord(t, m, usagePrefix+storageKeys(t, m, usagePrefix)[0])
	macOf(t, other, "a", "m")
	require.Equal(t, 1, run())
	macOf(t, other, "a", "m")
	require.Zero(t, run())
	require.Equal(t, before, rawRecord(t, m, usagePrefix+storageKeys(t, m, usagePrefix)[0]))
}

func TestFirstUseWhereStorageCannotBeWritten(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	run := background(m)
	createKey(t, m, "a")
	m.storage.Underlying().FailPut(true)
	macOf(t, m, "a", "m")
	require.Equal(t, 1, run())
	m.clock.advance(time.Minute)
	macOf(t, m, "a", "m")
	require.Zero(t, run(), "it is not tried again with every use")
	m.storage.Underlying().FailPut(false)
	m.tidy(t)
	require.Equal(t, use("GenerateMac", "10:21:30.456"), lastUsed(t, m.other(t), "a"))

	standby := m.other(t)
	run = background(standby)
	standby.b.System().(*logical.StaticSystemView).ReplicationStateVal = consts.ReplicationPerformanceStandby
	m.clock.advance(2 * time.Hour)
	macOf(t, standby, "a", "m")
	run()
	standby.b.Cleanup(t.Context())
	require.Equal(t, use("GenerateMac", "10:21:30.456"), lastUsed(t, m.other(t), "a"))
}

// What a mount has not stored yet is stored when it ends.
func TestLastUseIsStoredAtTheEnd(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	macOf(t, m, "a", "m")
	m.tidy(t)
	m.clock.advance(time.Minute)
	macOf(t, m, "a", "m")
	m.b.Cleanup(t.Context())
	require.Equal(t, use("GenerateMac", "10:21:30.456"), lastUsed(t, m.other(t), "a"))

	m.storage.Underlying().FailPut(true)
	m.clock.advance(time.Minute)
	macOf(t, m, "a", "m")
	m.b.Cleanup(t.Context()) // and no more

	b, err := Factory(t.Context(), &logical.BackendConfig{})
	require.NoError(t, err)
	b.Cleanup(t.Context()) // as Vault does after it has asked for the version
}

// After a crash the answer says before when a later use must have been, if one
// is missing.
func TestLaterUseMayBeMissing(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	run := background(m)
	missing := func(m *mount, id string) any { return read(t, m, "get-key-last-usage/"+id)["later_use_missing_until"] }
	createKey(t, m, "a")
	createKey(t, m, "never")
	require.Nil(t, missing(m, "a"), "there is no time before this node")
	macOf(t, m, "a", "m")
	run()
	m.clock.advance(20 * time.Minute)
	macOf(t, m, "a", "m") // is lost
	require.Nil(t, missing(m, "a"), "this node knows")

	next := m.other(t)
	require.Equal(t, use("GenerateMac", "10:20:30.456"), lastUsed(t, next, "a"))
	require.Equal(t, "2026-11-22T10:40:30.456Z", missing(next, "a"), "before this node was there")
	m.clock.advance(10 * day)
	require.Equal(t, "2026-11-22T10:40:30.456Z", missing(next, "never"))
	later := m.other(t)
	require.Equal(t, "2026-11-22T11:25:30.456Z", missing(later, "a"), "else it would have been stored at once")
	macOf(t, later, "a", "m")
	require.Nil(t, missing(later, "a"))
	createKey(t, later, "new")
	require.Nil(t, missing(later, "new"))
}
