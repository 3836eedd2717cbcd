package keystore

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Whoever asks for many pairs is told to slow down.
func TestWrappingKeysAreRationed(t *testing.T) {
	t.Parallel()
	_, storage := fixture(t)
	now := fixtureNow
	st := newTestStore(t, &now, false)
	k, err := st.KeyByID(t.Context(), storage, "pending-import", now)
	require.NoError(t, err)
	before, err := collect(t.Context(), storage, wrappingKeyPrefix)
	require.NoError(t, err)

	st.wrappingKeys.limit.SetBurst(0)
	_, err = st.ImportParameters(t.Context(), storage, k, kms.WrapOAEPSHA256, 4096, now)
	require.Equal(t, kms.Throttled(), err)
	after, err := collect(t.Context(), storage, wrappingKeyPrefix)
	require.NoError(t, err)
	require.Equal(t, before, after)
}
