package kmshmac

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What the operations answer that succeed; their refusals are in
// TestOperationsInEveryKeyState.
func TestOtherOperationsThatSucceed(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "p/a")
	require.Nil(t, write(t, m, "disable-key-rotation/p/a", nil))
	require.Equal(t, fields{"key_id": "p/a", "key_rotation_enabled": false}, write(t, m, "get-key-rotation-status/p/a", nil))
	require.Equal(t, fields{"rotations": []any{}, "truncated": false}, write(t, m, "list-key-rotations/p/a", nil))
}

func TestOtherOperationsThroughAliases(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	write(t, m, "aliases/x", fields{"target_key_id": "a"})
	writeRefused(t, m, "encrypt/alias/x", nil, "InvalidKeyUsageException", "a key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.")
	writeRefused(t, m, "get-public-key/alias/x", nil, "UnsupportedOperationException", "")
	writeRefused(t, m, "sign/alias/y", nil, "NotFoundException", "Alias alias/y is not found.")
	writeRefused(t, m, "sign/alias/a.b", nil, "NotFoundException", "Alias alias/a.b is not found.")
	writeRefused(t, m, "sign/b", nil, "NotFoundException", "Key 'b' does not exist")
	writeRefused(t, m, "sign/a..b", nil, "NotFoundException", "Invalid keyId 'a..b'")
	writeRefused(t, m, "rotate-key-on-demand/alias/x", nil, "InvalidArnException", "Key Aliases are not supported for this operation.")
}
