package kmshmac

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// rootPolicy means what KMS's default policy means.
const rootPolicy = `{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`

func TestKeyPolicies(t *testing.T) {
	t.Parallel()
	for _, uncached := range []bool{false, true} {
		m := openMount(t, &logical.InmemStorage{}, newClock(), uncached)
		createKey(t, m, "a")
		require.Equal(t, fields{"key_id": "a", "policy_name": "default"}, read(t, m, "get-key-policy/a"))
		require.Nil(t, write(t, m, "put-key-policy/a", fields{"policy": rootPolicy}))
		requirePolicy := func(id, policy string) {
			t.Helper()
			require.Equal(t, fields{"key_id": id, "policy": policy, "policy_name": "default"}, read(t, m, "get-key-policy/"+id))
		}
		requirePolicy("a", rootPolicy)

		// Whatever else becomes of the key, its policy stays.
		write(t, m, "keys/a", fields{"description": "new"})
		write(t, m, "tag-resource/a", fields{"tags": fields{"team": "x"}})
		write(t, m, "disable-key/a", nil)
		read(t, m, "keys/a")
		write(t, m, "enable-key/a", nil)
		requirePolicy("a", rootPolicy)
		require.NotContains(t, read(t, m, "keys/a"), "policy")

		longer := rootPolicy + " "
		write(t, m, "keys/a", fields{"policy": longer})
		requirePolicy("a", longer)
		write(t, m, "keys/b", fields{"key_spec": "HMAC_256", "policy": rootPolicy})
		requirePolicy("b", rootPolicy)
	}
}

func TestKeyPolicyRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	createKey(t, m, "a")
	const unsupported = "Only key policies that mean what the default key policy means are supported. Vault policies decide who may use a key."
	other := strings.Replace(rootPolicy, "kms:*", "kms:GenerateMac", 1)
	for _, path := range []string{"put-key-policy/a", "keys/a"} {
		writeRefused(t, m, path, fields{"policy": other}, "UnsupportedOperationException", unsupported)
		writeRefused(t, m, path, fields{"policy": "x"}, "MalformedPolicyDocumentException", "")
		writeRefused(t, m, path, fields{"policy": rootPolicy + strings.Repeat(" ", 32768)}, "LimitExceededException", "The key policy exceeds the quota of 32768 bytes.")
	}
	writeRefused(t, m, "put-key-policy/a", nil, "ValidationException", "1 validation error detected: Value null at 'policy' failed to satisfy constraint: Member must not be null")
	writeRefused(t, m, "put-key-policy/b", fields{"policy": other}, "NotFoundException", "Key 'b' does not exist")
	writeRefused(t, m, "put-key-policy/alias/a", fields{"policy": rootPolicy}, "InvalidArnException", "Key Aliases are not supported for this operation.")
	writeRefused(t, m, "keys/b", fields{"key_spec": "HMAC_256", "policy": other}, "UnsupportedOperationException", unsupported)
	require.Equal(t, fields{"key_id": "a", "policy_name": "default"}, read(t, m, "get-key-policy/a"))
}
