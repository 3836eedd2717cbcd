package kmshmac

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// standbyStorage is that of a performance standby, or of a secondary, as a
// plugin sees it.
type standbyStorage struct{ logical.Storage }

var errReadOnlyText = errors.New("rpc error: code = Unknown desc = " + logical.ErrReadOnly.Error())

func (standbyStorage) Put(context.Context, *logical.StorageEntry) error { return errReadOnlyText }
func (standbyStorage) Delete(context.Context, string) error             { return errReadOnlyText }

// Every change ends with the error by which Vault passes the request on to a node
// that can write, and a MAC is made where it is asked for.
func TestANodeThatCannotWritePassesChangesOn(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, id := range []string{"a", "p/a", "p/b"} {
		createKey(t, m, id, fields{"tags": fields{"t": "v"}})
	}
	createKey(t, m, "doomed")
	write(t, m, "schedule-key-deletion/doomed", nil)
	createKey(t, m, "disabled")
	write(t, m, "disable-key/disabled", nil)
	external(t, m, "mine")
	p := importParameters(t, m, "mine", "RSAES_OAEP_SHA_256", "RSA_2048")
	write(t, m, "aliases/p/x", fields{"target_key_id": "p/a"})
	id, token := createGrant(t, m, "a", "e", "GenerateMac,RetireGrant")

	node := m.other(t)
	node.wrap = standbyStorage{m.storage}
	for _, change := range []struct {
		op   logical.Operation
		path string
		data fields
	}{
		{logical.UpdateOperation, "keys", fields{"key_spec": "HMAC_256"}},
		{logical.UpdateOperation, "keys/new", fields{"key_spec": "HMAC_256"}},
		{logical.UpdateOperation, "keys/a", fields{"description": "x"}},
		{logical.DeleteOperation, "keys/a", nil},
		{logical.UpdateOperation, "enable-key/disabled", nil},
		{logical.UpdateOperation, "disable-key/a", nil},
		{logical.UpdateOperation, "schedule-key-deletion/a", nil},
		{logical.UpdateOperation, "cancel-key-deletion/doomed", nil},
		{logical.UpdateOperation, "tag-resource/a", fields{"tags": fields{"k": "v"}}},
		{logical.UpdateOperation, "untag-resource/a", fields{"tag_keys": "t"}},
		{logical.UpdateOperation, "aliases/y", fields{"target_key_id": "a"}},
		{logical.UpdateOperation, "aliases/p/x", fields{"target_key_id": "p/b", "overlap": "1h"}},
		{logical.DeleteOperation, "aliases/p/x", nil},
		{logical.UpdateOperation, "import-key-material/mine", fields{
			"import_token": p.token, "encrypted_key_material": p.wrap(t, material32), "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
		}},
		{logical.UpdateOperation, "get-parameters-for-import/mine", fields{"wrapping_algorithm": "RSAES_OAEP_SHA_1", "wrapping_key_spec": "RSA_2048"}},
		{logical.UpdateOperation, "create-grant/a", fields{"grantee_principal": "f", "operations": "GenerateMac"}},
		{logical.UpdateOperation, "revoke-grant/a", fields{"grant_id": id}},
		{logical.UpdateOperation, "retire-grant/a", fields{"grant_id": id}},
		{logical.UpdateOperation, "retire-grant", fields{"grant_token": token}},
		{logical.UpdateOperation, "config", fields{"pending_window_in_days": 9}},
		{logical.UpdateOperation, "bulk/disable-key/p", fields{"key_state": "Enabled"}},
		{logical.UpdateOperation, "bulk/schedule-key-deletion/p", fields{"key_state": "Enabled"}},
		{logical.UpdateOperation, "bulk/move-aliases/p", fields{"targets": fields{"p/x": "p/b"}}},
	} {
		_, err := request(t, node.as("e"), change.op, change.path, change.data)
		require.Equal(t, logical.ErrReadOnly, err, change.path)
	}
	macOf(t, node, "a", "m")
	macOf(t, node, "alias/p/x", "m")
	write(t, node, "bulk/disable-key/p", fields{"key_state": "Enabled", "dry_run": true})
	require.Equal(t, "Enabled", keyState(t, node, "p/a"))
}
