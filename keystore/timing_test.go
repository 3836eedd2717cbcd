package keystore

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/internal/dudect"
	"vault-plugin-secrets-kms-hmac/kms"
)

// TestTimeOfTokens: grant tokens and import tokens begin with a MAC. The time
// that a wrong one takes does not tell where its first wrong byte is.
func TestTimeOfTokens(t *testing.T) {
	ctx, storage, now := context.Background(), &logical.InmemStorage{}, fixtureNow
	st := newTestStore(t, &now, false)
	spec, origin := kms.HMAC256, kms.OriginExternal
	for _, id := range []string{"k", "e"} {
		in := KeyInput{Spec: &spec}
		if id == "e" {
			in.Origin = &origin
		}
		_, err := st.WriteKey(ctx, storage, id, in)
		require.NoError(t, err)
	}

	_, text, err := st.CreateGrant(ctx, storage, Grant{KeyID: "k", GranteePrincipal: "somebody", Operations: []string{"GenerateMac"}}, false)
	require.NoError(t, err)
	token, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	grant := func(class int) func() {
		wrong := base64.RawURLEncoding.EncodeToString(dudect.Flipped(token, 31*class))
		_, err := st.OpenGrantToken(ctx, storage, wrong)
		require.Equal(t, kms.InvalidGrantToken(), err)
		return func() { _, _ = st.OpenGrantToken(ctx, storage, wrong) }
	}
	dudect.SameTime(t, grant, dudect.EarlyExit(32, 10))

	w, err := st.wrappingKeyFor(ctx, storage, "e", 2048)
	require.NoError(t, err)
	token, err = w.token(kms.WrapOAEPSHA256, now.Add(time.Hour))
	require.NoError(t, err)
	_, _, err = openImportToken(ctx, storage, token, "e", now)
	require.NoError(t, err)
	imported := func(class int) func() {
		wrong := dudect.Flipped(token, 31*class)
		_, _, err := openImportToken(ctx, storage, wrong, "e", now)
		require.Equal(t, kms.InvalidImportToken(), err)
		return func() { _, _, _ = openImportToken(ctx, storage, wrong, "e", now) }
	}
	dudect.SameTime(t, imported, dudect.EarlyExit(32, 10))
}
