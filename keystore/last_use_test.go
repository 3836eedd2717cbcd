package keystore

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// lateStorage takes a millisecond for each write.
type lateStorage struct {
	logical.Storage
	puts atomic.Int64
}

func (s *lateStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	time.Sleep(time.Millisecond)
	s.puts.Add(1)
	return s.Storage.Put(ctx, entry)
}

// TestManyFirstUses: keys that are used for the first time, one after the other
// without end, are not stored without end. All of them are in the end.
func TestManyFirstUses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys = 1000
		storage := &lateStorage{Storage: &logical.InmemStorage{}}
		st := New(Options{
			Now:        time.Now,
			System:     func() logical.SystemView { return &logical.StaticSystemView{} },
			Random:     func() io.Reader { return rand.Reader },
			Background: func(work func(context.Context, logical.Storage)) { go work(t.Context(), storage) },
			Warn:       func(message string, args ...any) { t.Error(message, args) },
		})
		used := make([]*Key, keys)
		for i := range used {
			used[i] = st.publishKey(&keyRecord{Metadata: Metadata{ID: fmt.Sprint("k", i), Spec: kms.HMAC256}})
		}
		start := time.Now()
		for _, k := range used {
			k.Used(generateMac, time.Now())
			time.Sleep(time.Millisecond)
		}
		require.Equal(t, keys*time.Millisecond, time.Since(start))
		require.Positive(t, storage.puts.Load())
		require.LessOrEqual(t, storage.puts.Load(), int64(keys/5), "of so many milliseconds")

		stored := func(keys []*Key) (n int) {
			for _, k := range keys {
				if k.usage.stored.Load() == k.usage.packed.Load() {
					n++
				}
			}
			return n
		}
		time.Sleep(2 * longestPause)
		require.Equal(t, keys, stored(used))

		// A mount that ends waits for no pause.
		time.Sleep(2 * disuse)
		used[0].Used(generateMac, time.Now())
		synctest.Wait() // it is being stored, for a millisecond
		for _, k := range used {
			k.Used(generateMac, time.Now())
		}
		time.Sleep(5 * time.Millisecond) // and this is in the pause of nine
		require.Equal(t, 1, stored(used))
		start = time.Now()
		st.Close(t.Context(), storage)
		require.Equal(t, keys, stored(used))
		require.Less(t, time.Since(start), longestPause)
	})
}
