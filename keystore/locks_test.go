package keystore

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// A change must not wait for a lock that it may hold itself: names are chosen by
// callers, and one in 256 has the lock of the mount's settings.
func TestNoChangeWaitsForItself(t *testing.T) {
	for _, noCache := range []bool{false, true} {
		now, storage := fixtureNow, &logical.InmemStorage{}
		st := newTestStore(t, &now, noCache)
		_, err := st.ChangeSettings(t.Context(), storage, func(s *Settings) { s.AliasScope = ScopeAny })
		require.NoError(t, err)
		spec := kms.HMAC256
		for _, id := range []string{"a/1", "b/1", "b/2"} {
			_, err := st.WriteKey(t.Context(), storage, id, KeyInput{Spec: &spec})
			require.NoError(t, err)
		}
		name := ""
		for i := 0; name == ""; i++ {
			try := fmt.Sprintf("alias/b/%d", i)
			if locksutil.LockForKey(st.locks, try) == locksutil.LockForKey(st.locks, settingsKey) {
				name = try
			}
		}
		overlap := time.Hour
		for _, target := range []string{"a/1", "b/1", "b/2"} {
			st.Invalidate(settingsKey)
			done := make(chan error, 1)
			go func() {
				_, err := st.WriteAlias(t.Context(), storage, AliasInput{Name: name, TargetKeyID: target, Overlap: &overlap})
				done <- err
			}()
			select {
			case err := <-done:
				require.NoError(t, err)
			case <-time.After(time.Minute):
				t.Fatalf("moving %s to %s waits for itself", name, target)
			}
		}
		a, _, err := st.Alias(t.Context(), storage, name, now)
		require.NoError(t, err)
		require.Len(t, a.Previous, 2)
	}
}
