package keystore

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// TestNewerRecordsStayAsTheyAre: a record in a format that this version does not
// know is refused, by every operation and by the tidy, and nobody writes to it.
// So is every operation on what hangs on it.
func TestNewerRecordsStayAsTheyAre(t *testing.T) {
	_, storage := fixture(t)
	now := fixtureNow
	ctx := t.Context()
	var keys, aliases []string
	for _, name := range allNames(t, storage, "") {
		isKey := strings.HasPrefix(name, keyPrefix)
		if !isKey && !strings.HasPrefix(name, aliasPrefix) {
			continue
		}
		entry, err := storage.Get(ctx, name)
		require.NoError(t, err)
		var record map[string]any
		require.NoError(t, json.Unmarshal(entry.Value, &record))
		record["version"], record["new_in_this_format"] = 99, "a secret to keep"
		value, err := json.Marshal(record)
		require.NoError(t, err)
		require.NoError(t, storage.Put(ctx, &logical.StorageEntry{Key: name, Value: value}))
		if isKey {
			keys = append(keys, strings.TrimPrefix(name, keyPrefix))
		} else {
			aliases = append(aliases, name)
		}
	}
	require.NotEmpty(t, keys)
	require.NotEmpty(t, aliases)
	before := records(t, storage)

	st := newTestStore(t, &now, false)
	newer := func(what string, err error) {
		t.Helper()
		require.Error(t, err, what)
		require.Contains(t, err.Error(), "was written by a newer version of this plugin", what)
		require.NotContains(t, err.Error(), "a secret to keep", what)
	}
	spec, description, overlap := kms.HMAC256, "mine", time.Hour
	for _, id := range keys {
		_, err := st.Key(ctx, storage, id, now)
		newer("reading", err)
		_, err = st.WriteKey(ctx, storage, id, KeyInput{Spec: &spec, Description: &description})
		newer("writing", err)
		newer("enabling", st.EnableKey(ctx, storage, id))
		newer("disabling", st.DisableKey(ctx, storage, id))
		_, err = st.ScheduleKeyDeletion(ctx, storage, id, 7)
		newer("scheduling", err)
		_, err = st.CancelKeyDeletion(ctx, storage, id)
		newer("cancelling", err)
		newer("tagging", st.TagKey(ctx, storage, id, map[string]string{"a": "b"}))
		newer("untagging", st.UntagKey(ctx, storage, id, []string{"a"}))
		_, err = st.ImportKeyMaterial(ctx, storage, id, Import{})
		newer("importing", err)
		_, err = st.DeleteImportedKeyMaterial(ctx, storage, id, "")
		newer("deleting material", err)
		_, _, err = st.CreateGrant(ctx, storage, Grant{KeyID: id, GranteePrincipal: "x", Operations: []string{"GenerateMac"}}, false)
		newer("granting", err)
		_, err = st.WriteAlias(ctx, storage, AliasInput{Name: "alias/" + id, TargetKeyID: id, Overlap: &overlap})
		newer("an alias", err)
	}
	for _, name := range aliases {
		_, _, err := st.Alias(ctx, storage, name, now)
		newer("reading", err)
		newer("deleting", st.DeleteAlias(ctx, storage, name))
	}
	// When all deletion dates have passed, and the hours of all hints.
	now = now.AddDate(2, 0, 0)
	newer("the tidy", st.Tidy(ctx, storage))
	after := records(t, storage)
	for name, value := range before {
		if strings.HasPrefix(name, keyPrefix) || strings.HasPrefix(name, aliasPrefix) || strings.HasPrefix(name, duePrefix) || strings.HasPrefix(name, grantPrefix) {
			require.Equal(t, value, after[name], name)
		}
	}
}

func allNames(t *testing.T, storage logical.Storage, prefix string) []string {
	t.Helper()
	names, err := collect(t.Context(), storage, prefix)
	require.NoError(t, err)
	return names
}

func records(t *testing.T, storage logical.Storage) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range allNames(t, storage, "") {
		entry, err := storage.Get(t.Context(), name)
		require.NoError(t, err)
		all[name] = string(entry.Value)
	}
	return all
}
