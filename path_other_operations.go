package kmshmac

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

// otherOperations are KMS's operations on keys that do nothing for HMAC keys,
// by their names in the AWS CLI. alias says whether KMS takes an alias.
var otherOperations = []struct {
	name      string
	operation string
	alias     bool
}{
	{"encrypt", "Encrypt", true},
	{"decrypt", "Decrypt", true},
	{"re-encrypt", "ReEncrypt", true},
	{"sign", "Sign", true},
	{"verify", "Verify", true},
	{"generate-data-key", "GenerateDataKey", true},
	{"generate-data-key-without-plaintext", "GenerateDataKeyWithoutPlaintext", true},
	{"generate-data-key-pair", "GenerateDataKeyPair", true},
	{"generate-data-key-pair-without-plaintext", "GenerateDataKeyPairWithoutPlaintext", true},
	{"derive-shared-secret", "DeriveSharedSecret", true},
	{"encapsulate", "Encapsulate", true},
	{"decapsulate", "Decapsulate", true},
	{"get-public-key", "GetPublicKey", true},
	{"enable-key-rotation", "EnableKeyRotation", false},
	{"disable-key-rotation", "DisableKeyRotation", false},
	{"rotate-key-on-demand", "RotateKeyOnDemand", false},
	{"get-key-rotation-status", "GetKeyRotationStatus", false},
	{"list-key-rotations", "ListKeyRotations", false},
	{"replicate-key", "ReplicateKey", false},
	{"update-primary-region", "UpdatePrimaryRegion", false},
}

func (b *backend) pathOtherOperations() []*framework.Path {
	paths := make([]*framework.Path, len(otherOperations))
	for i, o := range otherOperations {
		verb, suffix, _ := strings.Cut(o.name, "-")
		if suffix == "" {
			suffix = "with-key"
		}
		paths[i] = operationPath(o.name+`/(?P<key>.+)`, verb, suffix, macKeyField(), logical.UpdateOperation, &framework.PathOperation{
			Callback: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
				return b.otherOperation(ctx, req.Storage, o.operation, d.Get("key").(string), o.alias)
			},
			Summary: "Not for HMAC keys: answers as KMS does (" + o.operation + ").",
			Responses: responds(200, "OK", map[string]*framework.FieldSchema{
				"key_id":               optional(framework.TypeString, "The key's id."),
				"key_rotation_enabled": optional(framework.TypeBool, "false: HMAC keys do not rotate."),
				"rotations":            optional(framework.TypeSlice, "Empty."),
				"truncated":            optional(framework.TypeBool, "false."),
			}),
		}, otherOperationsHelp)
	}
	return paths
}

func (b *backend) otherOperation(ctx context.Context, s logical.Storage, operation, name string, takesAlias bool) (*logical.Response, error) {
	now := b.now()
	k, err := b.keyOrAlias(ctx, s, name, takesAlias, now)
	if err != nil {
		return nil, err
	}
	if err := kms.Check(operation, k.Facts(now)); err != nil {
		return nil, err
	}
	switch operation {
	case "GetKeyRotationStatus":
		return &logical.Response{Data: map[string]any{"key_id": k.ID, "key_rotation_enabled": false}}, nil
	case "ListKeyRotations":
		return &logical.Response{Data: map[string]any{"rotations": []any{}, "truncated": false}}, nil
	}
	return nil, nil
}

func (b *backend) keyOrAlias(ctx context.Context, s logical.Storage, name string, takesAlias bool, now time.Time) (*keystore.Key, error) {
	if takesAlias {
		return b.store.Resolve(ctx, s, name, now)
	}
	return b.store.KeyByID(ctx, s, name, now)
}

const otherOperationsHelp = `
HMAC keys generate and verify MACs; they do not encrypt, sign, rotate or have a
public key. This path gives programs written for KMS the answer that KMS gives.
To rotate, move an alias to a new key: see the help of aliases/<name>.
`
