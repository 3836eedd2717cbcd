package kmshmac

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// slowStorage holds up writes of records whose name contains a word until it is
// told to go on.
type slowStorage struct {
	logical.Storage
	slow    string
	waiting chan struct{} // one for each write that has begun
	goOn    chan struct{} // closed: writes go on
}

func (s *slowStorage) Put(ctx context.Context, entry *logical.StorageEntry) error {
	if strings.Contains(entry.Key, s.slow) {
		s.waiting <- struct{}{}
		<-s.goOn
	}
	return s.Storage.Put(ctx, entry)
}

// TestSlowDisk: while storage takes its time over a write, MACs go on, with the
// key that is being written as well, and so do lists and writes of other keys.
// The state that is being written is nobody's answer before it is stored.
func TestSlowDisk(t *testing.T) {
	m := newMount(t)
	createKey(t, m, "slow")
	createKey(t, m, "other")
	mac := fields{"message": "bWVzc2FnZQ==", "mac_algorithm": "HMAC_SHA_256"}
	before := write(t, m, "generate-mac/slow", mac)["mac"]
	slow := &slowStorage{Storage: m.storage, slow: "key/slow", waiting: make(chan struct{}, 1), goOn: make(chan struct{})}
	m.wrap = slow

	answered := make(chan error, 1)
	go func() {
		_, err := m.b.HandleRequest(context.Background(), &logical.Request{
			ID: "test", Operation: logical.UpdateOperation, Path: "disable-key/slow", Storage: slow,
		})
		answered <- err
	}()
	<-slow.waiting

	require.Equal(t, before, write(t, m, "generate-mac/slow", mac)["mac"])
	require.Equal(t, "Enabled", read(t, m, "keys/slow")["key_state"])
	write(t, m, "generate-mac/other", mac)
	write(t, m, "tag-resource/other", fields{"tags": fields{"a": "b"}})
	createKey(t, m, "new")
	require.Len(t, do(t, m, logical.ListOperation, "keys/", nil)["keys"], 3)
	select {
	case err := <-answered:
		t.Fatalf("the write was answered before it was stored: %v", err)
	default:
	}

	close(slow.goOn)
	require.NoError(t, <-answered)
	writeRefused(t, m, "generate-mac/slow", mac, "DisabledException", "slow is disabled.")
}
