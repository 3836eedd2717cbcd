package keystore

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// newKeyWithGrants returns a store with the key a, and a grant of it to each
// grantee.
func newKeyWithGrants(t *testing.T, now *time.Time, grantees ...string) (*Store, *logical.InmemStorage) {
	t.Helper()
	st, storage := newTestStore(t, now, false), &logical.InmemStorage{}
	spec := kms.HMAC256
	_, err := st.WriteKey(t.Context(), storage, "a", KeyInput{Spec: &spec})
	require.NoError(t, err)
	for _, grantee := range grantees {
		require.NoError(t, grant(t, st, storage, grantee, "name"))
	}
	return st, storage
}

func grant(t *testing.T, st *Store, s logical.Storage, grantee, name string) error {
	_, _, err := st.CreateGrant(t.Context(), s, Grant{KeyID: "a", Name: name, GranteePrincipal: grantee, Operations: []string{"GenerateMac"}}, false)
	return err
}

// Who looks for a grant of a grantee reads all that name it, under the lock of
// the key, so there may not be as many as there may be grants.
func TestGrantsPerGrantee(t *testing.T) {
	for grantee, index := range map[string]string{"e": "e", "group/g": GroupPrincipal} {
		now := fixtureNow
		st, storage := newKeyWithGrants(t, &now, grantee)
		for i := range MaxGrantsPerGrantee - 2 {
			entry := &logical.StorageEntry{Key: granteeIndex("a", index) + fmt.Sprintf("%064x", i), Value: []byte("{}")}
			require.NoError(t, storage.Put(t.Context(), entry))
		}
		require.NoError(t, grant(t, st, storage, grantee, "last"))
		require.EqualError(t, grant(t, st, storage, grantee, "too many"),
			"LimitExceededException: At most 1000 grants of a key can name the same grantee, or groups: current usage is 1000.")
		require.NoError(t, grant(t, st, storage, grantee, "name"), "the same grant once more is no further one")
		require.NoError(t, grant(t, st, storage, "other", ""))
	}
}

// The lock of a key is that of one key in 256: to delete many grants must not
// keep it for all the time that takes.
func TestThePurgeOfManyGrantsGivesWay(t *testing.T) {
	now := fixtureNow
	grantees := make([]string, 2*purgedGrants+1)
	for i := range grantees {
		grantees[i] = fmt.Sprint(i)
	}
	st, storage := newKeyWithGrants(t, &now, grantees...)
	_, err := st.ScheduleKeyDeletion(t.Context(), storage, "a", 7)
	require.NoError(t, err)
	now = now.AddDate(0, 0, 8)
	for _, left := range []int{purgedGrants + 1, 1, 0} {
		done, _, err := st.purgeLocked(t.Context(), storage, "a", nil)
		require.NoError(t, err)
		require.Equal(t, left == 0, done)
		ids, err := list(t.Context(), storage, grantsOf("a"))
		require.NoError(t, err)
		require.Len(t, ids, left)
	}
	require.NoError(t, st.Tidy(t.Context(), storage))
	left, err := collect(t.Context(), storage, "")
	require.NoError(t, err)
	require.Empty(t, left)
}
