package keystore

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// slowStorage is storage behind a network, as a plugin has it: once slow, a
// write to a name commits when it is released, and whoever waits for it hears
// of that, or of the end of the context, whichever comes first.
type slowStorage struct {
	logical.Storage
	mu   sync.Mutex
	name string // "" for none; the first write only is slow

	// lost says that the answer to the write is lost, at once.
	lost bool

	begun, release, committed chan struct{}
}

func newSlowStorage(s logical.Storage) *slowStorage {
	return &slowStorage{Storage: s, begun: make(chan struct{}), release: make(chan struct{}), committed: make(chan struct{})}
}

var errLost = errors.New("the connection is lost")

func (s *slowStorage) slow(ctx context.Context, name string, write func(context.Context) error) error {
	s.mu.Lock()
	isSlow := name == s.name
	if isSlow {
		s.name = ""
	}
	s.mu.Unlock()
	if !isSlow {
		if err := ctx.Err(); err != nil {
			return err
		}
		return write(ctx)
	}
	close(s.begun)
	go func() {
		<-s.release
		_ = write(context.WithoutCancel(ctx)) // in-memory storage does not fail
		close(s.committed)
	}()
	if s.lost {
		return errLost
	}
	select {
	case <-s.committed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slowStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	return s.slow(ctx, entry.Key, func(ctx context.Context) error { return s.Storage.Put(ctx, entry) })
}

func (s *slowStorage) Delete(ctx context.Context, name string) error {
	return s.slow(ctx, name, func(ctx context.Context) error { return s.Storage.Delete(ctx, name) })
}

// fixtureGrant is the fixture's grant to e.
const fixtureGrant = "3fa4a05f54939e86e5a97d4b67b8fa96e5c0c239287010351111b6e5be117745"

// writes are one of each kind of change, with the record that it is about.
var writes = []struct {
	name   string
	record string
	write  func(ctx context.Context, st *Store, s logical.Storage) error
}{
	{"create a key", "key/p/new", func(ctx context.Context, st *Store, s logical.Storage) error {
		spec := kms.HMAC256
		_, err := st.WriteKey(ctx, s, "p/new", KeyInput{Spec: &spec})
		return err
	}},
	{"disable a key", "key/left", func(ctx context.Context, st *Store, s logical.Storage) error {
		return st.DisableKey(ctx, s, "left")
	}},
	{"schedule a deletion", "key/left", func(ctx context.Context, st *Store, s logical.Storage) error {
		_, err := st.ScheduleKeyDeletion(ctx, s, "left", 7)
		return err
	}},
	{"create a key with the id of one that is gone", "key/gone", func(ctx context.Context, st *Store, s logical.Storage) error {
		spec := kms.HMAC512
		_, err := st.WriteKey(ctx, s, "gone", KeyInput{Spec: &spec})
		return err
	}},
	{"create an alias", "alias/p/new", func(ctx context.Context, st *Store, s logical.Storage) error {
		_, err := st.WriteAlias(ctx, s, AliasInput{Name: "alias/p/new", TargetKeyID: "left"})
		return err
	}},
	{"move an alias", "alias/plain", func(ctx context.Context, st *Store, s logical.Storage) error {
		_, err := st.WriteAlias(ctx, s, AliasInput{Name: "alias/plain", TargetKeyID: "left"})
		return err
	}},
	{"delete an alias", "alias/plain", func(ctx context.Context, st *Store, s logical.Storage) error {
		return st.DeleteAlias(ctx, s, "alias/plain")
	}},
	{"revoke a grant", grantsOf("payments/HMAC_256") + fixtureGrant, func(ctx context.Context, st *Store, s logical.Storage) error {
		return st.EndGrant(ctx, s, "payments/HMAC_256", fixtureGrant, false, nil)
	}},
	{"settings", "config/mount", func(ctx context.Context, st *Store, s logical.Storage) error {
		_, err := st.ChangeSettings(ctx, s, func(settings *Settings) { settings.PendingWindowInDays = 9 })
		return err
	}},
}

// shown is what a store shows of what the writes change.
func shown(t *testing.T, st *Store, s logical.Storage, now time.Time) map[string]any {
	t.Helper()
	ctx, all := t.Context(), map[string]any{}
	for _, id := range []string{"p/new", "left", "gone"} {
		k, err := st.Key(ctx, s, id, now)
		require.NoError(t, err)
		if k != nil {
			all[id] = []any{k.State(now), k.Spec}
		}
	}
	for _, name := range []string{"alias/p/new", "alias/plain"} {
		a, _, err := st.Alias(ctx, s, name, now)
		require.NoError(t, err)
		if a != nil {
			all[name] = a.TargetKeyID
		}
	}
	for _, folder := range []string{"", "p/"} {
		names, err := st.ListKeys(ctx, s, folder, now)
		require.NoError(t, err)
		all["keys in "+folder] = slices.Clone(names)
		names, err = st.ListAliases(ctx, s, folder, now)
		require.NoError(t, err)
		all["aliases in "+folder] = slices.Clone(names)
	}
	g, err := st.FindGrant(ctx, s, "payments/HMAC_256", "e", "GenerateMac")
	require.NoError(t, err)
	all["granted"] = g != nil
	settings, err := st.Settings(ctx, s)
	require.NoError(t, err)
	all["settings"] = settings
	return all
}

// A write that has begun is finished, whether or not its caller stays.
func TestAWriteOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	for _, test := range writes {
		for name, noCache := range map[string]bool{"cached": false, "without cache": true} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				_, inmem := fixture(t)
				now := fixtureNow
				st := newTestStore(t, &now, noCache)
				before := shown(t, st, inmem, now)
				s := newSlowStorage(inmem)
				s.name = test.record
				ctx, cancel := context.WithCancel(t.Context())
				var group sync.WaitGroup
				var err error
				group.Go(func() { err = test.write(ctx, st, s) })
				<-s.begun
				cancel()
				// Reads may wait for the write, but not for ever: its caller is gone.
				var between map[string]any
				group.Go(func() {
					folder := "p/"
					if test.record == "key/left" || test.record == "key/gone" || test.record == "alias/plain" {
						folder = ""
					}
					_, _ = st.ListKeys(t.Context(), s, folder, now)
					_, _ = st.ListAliases(t.Context(), s, folder, now)
					between = shown(t, st, s, now)
				})
				time.Sleep(20 * time.Millisecond) // lets the reader be first, if it can
				close(s.release)
				group.Wait()
				<-s.committed
				fresh := shown(t, newTestStore(t, &now, true), inmem, now)
				if test.record == "key/gone" {
					// What is slow is the removal of the former key, a change of
					// its own; the next is not begun without a caller.
					require.ErrorIs(t, err, context.Canceled)
				} else {
					require.NoError(t, err, "the caller is gone, the write is not")
					require.NotEqual(t, before, fresh)
				}
				require.Equal(t, fresh, shown(t, st, inmem, now))
				require.NotEmpty(t, between)
			})
		}
	}
}

// A write whose end is unknown leaves nothing cached that it may have changed,
// nor does what is read before it commits after all.
func TestAWriteOfUnknownEnd(t *testing.T) {
	t.Parallel()
	for _, test := range writes {
		for name, noCache := range map[string]bool{"cached": false, "without cache": true} {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				_, inmem := fixture(t)
				now := fixtureNow
				st := newTestStore(t, &now, noCache)
				before := shown(t, st, inmem, now)
				s := newSlowStorage(inmem)
				s.name, s.lost = test.record, true
				require.ErrorIs(t, test.write(t.Context(), st, s), errLost)

				require.Equal(t, before, shown(t, st, inmem, now), "it has not happened yet")
				close(s.release)
				<-s.committed
				fresh := shown(t, newTestStore(t, &now, true), inmem, now)
				require.Equal(t, fresh, shown(t, st, inmem, now), "it has happened after all")
			})
		}
	}
}

// A doubt ends with the next write to the name, and in time.
func TestDoubtsEnd(t *testing.T) {
	t.Parallel()
	_, inmem := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	disable := func(err error) {
		t.Helper()
		s := newSlowStorage(inmem)
		s.name, s.lost = "key/left", err != nil
		close(s.release)
		require.ErrorIs(t, st.DisableKey(t.Context(), s, "left"), err)
		<-s.committed
	}
	cached := func() bool {
		t.Helper()
		_, err := st.Key(t.Context(), inmem, "left", now)
		require.NoError(t, err)
		_, err = st.ListKeys(t.Context(), inmem, "", now)
		require.NoError(t, err)
		_, listed := st.names.known.Peek(keyPrefix)
		require.Equal(t, listed, st.keys.Contains("left"))
		return listed
	}
	disable(errLost)
	require.False(t, cached())
	require.NoError(t, st.EnableKey(t.Context(), inmem, "left"))
	require.True(t, cached(), "a later write has happened")

	disable(errLost)
	now = now.Add(doubtFor - 1)
	require.False(t, cached())
	now = now.Add(1)
	require.True(t, cached(), "it has happened by now, or never will")
}

// lostStorage answers no write, and may do them later.
type lostStorage struct {
	logical.Storage
	mu     sync.Mutex
	writes []func() error
}

func (s *lostStorage) Put(_ context.Context, entry *logical.StorageEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, func() error { return s.Storage.Put(context.Background(), entry) })
	return errLost
}

// Where there is doubt about everything, what happens late shows, whatever it is
// about, and so does what is changed meanwhile.
func TestDoubtAboutEverything(t *testing.T) {
	t.Parallel()
	_, inmem := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	ctx, spec := t.Context(), kms.HMAC256
	create := func(s logical.Storage, id string) error {
		_, err := st.WriteKey(ctx, s, id, KeyInput{Spec: &spec})
		return err
	}
	there := func(id string) bool {
		t.Helper()
		k, err := st.Key(ctx, inmem, id, now)
		require.NoError(t, err)
		names, err := st.ListKeys(ctx, inmem, path.Dir(id)+"/", now)
		require.NoError(t, err)
		require.Equal(t, k != nil, slices.Contains(names, path.Base(id)))
		return k != nil
	}
	require.NoError(t, create(inmem, "before/a"))
	require.True(t, there("before/a"))

	lost := &lostStorage{Storage: inmem}
	name := func(i int) string { return fmt.Sprintf("lost-%d/k", i) }
	for i := range maxDoubts {
		require.ErrorIs(t, create(lost, name(i)), errLost)
		now = now.Add(time.Millisecond)
	}
	require.Len(t, st.doubts.until, maxDoubts)
	require.NoError(t, create(inmem, "between/a"))
	require.True(t, there("between/a"))
	require.True(t, st.keys.Contains("between/a"), "there is no doubt about it")
	begun := now
	for i := maxDoubts; i < 2*maxDoubts; i++ {
		require.ErrorIs(t, create(lost, name(i)), errLost)
		now = now.Add(time.Millisecond)
	}
	require.True(t, st.doubts.about("any", now))

	// The first of them happens now, the last, and one in between, and what is in
	// the cache already stays right.
	for _, i := range []int{0, maxDoubts - 1, maxDoubts, 2*maxDoubts - 1} {
		require.False(t, there(name(i)))
		require.NoError(t, lost.writes[i]())
		require.True(t, there(name(i)))
	}
	for _, id := range []string{"before/a", "between/a"} {
		require.True(t, there(id))
		require.NoError(t, st.DisableKey(ctx, inmem, id))
		k, err := st.Key(ctx, inmem, id, now)
		require.NoError(t, err)
		require.Equal(t, kms.Disabled, k.State(now))
	}
	// No write settles anything, and nothing is let in.
	require.NoError(t, st.DisableKey(ctx, inmem, name(0)))
	require.True(t, there(name(0)))
	require.False(t, st.keys.Contains(name(0)))
	require.False(t, st.keys.Contains("between/a"))

	// In time, there is doubt about the later ones only, and then about none.
	last := name(2*maxDoubts - 1)
	now = begun.Add(doubtFor)
	require.True(t, there(name(0)))
	require.True(t, st.keys.Contains(name(0)))
	require.True(t, there(last))
	require.False(t, st.keys.Contains(last))
	now = now.Add(maxDoubts * time.Millisecond)
	require.True(t, there(last))
	require.True(t, st.keys.Contains(last))
}

// A node that cannot write has not: Vault forwards the request to one that can.
func TestNoDoubtOnANodeThatCannotWrite(t *testing.T) {
	t.Parallel()
	_, inmem := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	readOnly := &refusingStorage{Storage: inmem, err: errors.New("rpc error: " + logical.ErrReadOnly.Error())}
	require.ErrorIs(t, st.DisableKey(t.Context(), readOnly, "left"), readOnly.err)
	_, err := st.Key(t.Context(), inmem, "left", now)
	require.NoError(t, err)
	require.True(t, st.keys.Contains("left"))
}

type refusingStorage struct {
	logical.Storage
	err error
}

func (s *refusingStorage) Put(context.Context, *logical.StorageEntry) error { return s.err }

// A write that storage never answers ends at its limit, and its locks with it.
func TestAWriteHasALimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, inmem := fixture(t)
		now := fixtureNow
		st := newTestStore(t, &now, false)
		s := newSlowStorage(inmem)
		s.name = "key/left"
		start := time.Now()
		require.ErrorIs(t, st.DisableKey(t.Context(), s, "left"), context.Canceled)
		require.Equal(t, writeLimit, time.Since(start))
		close(s.release)
		<-s.committed
		k, err := st.Key(t.Context(), inmem, "left", now)
		require.NoError(t, err)
		require.Equal(t, kms.Disabled, k.State(now))
	})
}

// Who has given up before a change begins gets nothing done.
func TestNothingBeginsWithoutACaller(t *testing.T) {
	t.Parallel()
	_, inmem := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range writes {
		require.ErrorIs(t, test.write(ctx, st, &refusingStorage{Storage: inmem, err: errLost}), context.Canceled, test.name)
	}
}

// Storage that does not answer keeps the end of a mount waiting for a moment
// only: all mounts of the plugin wait for it.
func TestCloseDoesNotWaitForStorage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, inmem := fixture(t)
		now := fixtureNow
		st := newTestStore(t, &now, false)
		k, err := st.Key(t.Context(), inmem, "left", now)
		require.NoError(t, err)
		k.Used(generateMac, now.Add(time.Second))
		s := newSlowStorage(inmem)
		s.name = usageShardKey("left")
		start := time.Now()
		st.Close(t.Context(), s)
		require.Equal(t, lastFlushLimit, time.Since(start))
		close(s.release)
		<-s.committed
	})
}

// Storage that fails for long leaves any number of writes in doubt, and who sends
// them chooses their names.
func TestDoubtsAreBounded(t *testing.T) {
	var d doubts
	now := fixtureNow
	for i := range 3 * maxDoubts {
		d.raise(fmt.Sprintf("key/%d", i), now)
		require.LessOrEqual(t, len(d.until), maxDoubts)
	}
	require.True(t, d.about("key/0", now))
	require.True(t, d.below("grant/", now), "of more than can be known, everything is in doubt")
	d.settle("key/0")
	require.True(t, d.about("key/0", now))
	now = now.Add(doubtFor)
	require.False(t, d.about("key/0", now))
	require.False(t, d.below("key/", now))

	d.raise("key/x", now)
	require.False(t, d.about("key/y", now), "what is over is forgotten")
	require.True(t, d.about("key/x", now))
}
