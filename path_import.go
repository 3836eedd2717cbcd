package kmshmac

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/keystore"
	"vault-plugin-secrets-kms-hmac/kms"
)

func (b *backend) pathImport() []*framework.Path {
	return []*framework.Path{
		keyOperation("get-parameters-for-import", "get", "parameters-for-import", map[string]*framework.FieldSchema{
			"wrapping_algorithm": {
				Type: framework.TypeString, Required: true, AllowedValues: []any{kms.WrapOAEPSHA256, kms.WrapOAEPSHA1},
				Description: "How you will encrypt the key material: RSAES_OAEP_SHA_256 or RSAES_OAEP_SHA_1.",
			},
			"wrapping_key_spec": {
				Type: framework.TypeString, Required: true, AllowedValues: []any{"RSA_2048", "RSA_3072", "RSA_4096"},
				Description: "The kind of public key you want to encrypt it with: RSA_2048, RSA_3072 or RSA_4096.",
			},
		}, &framework.PathOperation{
			Callback: b.pathGetParametersForImport,
			Summary:  "Get the public key and the token to import key material with (GetParametersForImport).",
			// A node that cannot store the key pair should not make one.
			ForwardPerformanceStandby:   true,
			ForwardPerformanceSecondary: true,
			Responses: responds(200, "OK", map[string]*framework.FieldSchema{
				"key_id":              field(framework.TypeString, "The key's id."),
				"public_key":          field(framework.TypeString, "A DER SubjectPublicKeyInfo in base64."),
				"import_token":        field(framework.TypeString, "What import-key-material wants with the encrypted key material."),
				"parameters_valid_to": field(framework.TypeTime, "Until when the two are good: 24 hours."),
			}),
		}, getParametersHelp),
		keyOperation("import-key-material", "import", "key-material", map[string]*framework.FieldSchema{
			"import_token": {
				Type: framework.TypeString, Required: true, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
				Description: "The token that get-parameters-for-import answered for this key.",
			},
			"encrypted_key_material": {
				Type: framework.TypeString, Required: true, DisplayAttrs: &framework.DisplayAttributes{Sensitive: true},
				Description: "The key material, encrypted with the public key, in base64.",
			},
			"expiration_model": {
				Type: framework.TypeString, AllowedValues: []any{kms.MaterialExpires, kms.MaterialDoesNotExpire},
				Description: "KEY_MATERIAL_EXPIRES, the default, which takes valid_to, or KEY_MATERIAL_DOES_NOT_EXPIRE.",
			},
			"valid_to": {
				Type:        framework.TypeTime,
				Description: "When the key material expires: RFC 3339 or seconds since the epoch, at most 365 days ahead.",
			},
			"import_type":              {Type: framework.TypeString, Description: "Not for HMAC keys."},
			"key_material_id":          {Type: framework.TypeString, Description: "Not for HMAC keys."},
			"key_material_description": {Type: framework.TypeString, Description: "Not for HMAC keys."},
		}, &framework.PathOperation{
			Callback:  b.pathImportKeyMaterial,
			Summary:   "Import key material into a key with origin EXTERNAL (ImportKeyMaterial).",
			Responses: responds(200, "OK", keyStateSchema()),
		}, importHelp),
		keyOperation("delete-imported-key-material", "delete", "imported-key-material", map[string]*framework.FieldSchema{
			"key_material_id": {Type: framework.TypeString, Description: "Not for HMAC keys."},
		}, &framework.PathOperation{
			Callback:  b.pathDeleteImportedKeyMaterial,
			Summary:   "Delete imported key material, not the key (DeleteImportedKeyMaterial).",
			Responses: responds(200, "OK", keyStateSchema()),
		}, deleteImportedHelp),
	}
}

func (b *backend) pathGetParametersForImport(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("GetParametersForImport", d, nil)
	if err != nil {
		return nil, err
	}
	now := b.now()
	k, err := b.store.KeyByID(ctx, req.Storage, d.Get("key_id").(string), now)
	if err != nil {
		return nil, err
	}
	if err := kms.Check("GetParametersForImport", k.Facts(now)); err != nil {
		return nil, err
	}
	algorithm, wrappingSpec := text(in, "WrappingAlgorithm"), text(in, "WrappingKeySpec")
	bits, err := kms.CheckWrapping(k.Spec, algorithm, wrappingSpec)
	if err != nil {
		return nil, err
	}
	p, err := b.store.ImportParameters(ctx, req.Storage, k, algorithm, bits, now)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"key_id":              k.ID,
		"public_key":          base64.StdEncoding.EncodeToString(p.PublicKey),
		"import_token":        base64.StdEncoding.EncodeToString(p.Token),
		"parameters_valid_to": formatTime(p.ValidTo),
	}}, nil
}

func (b *backend) pathImportKeyMaterial(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("ImportKeyMaterial", d, nil)
	if err != nil {
		return nil, err
	}
	wanted := keystore.Import{
		ExpirationModel: text(in, "ExpirationModel"),
		Unsupported:     firstOf(in, "ImportType", "KeyMaterialId", "KeyMaterialDescription"),
	}
	wanted.Token, _ = in["ImportToken"].([]byte)
	wanted.EncryptedMaterial, _ = in["EncryptedKeyMaterial"].([]byte)
	wanted.ValidTo, _ = in["ValidTo"].(time.Time)
	k, err := b.store.ImportKeyMaterial(ctx, req.Storage, d.Get("key_id").(string), wanted)
	if err != nil {
		return nil, err
	}
	return b.keyStateResponse(k), nil
}

func (b *backend) pathDeleteImportedKeyMaterial(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("DeleteImportedKeyMaterial", d, nil)
	if err != nil {
		return nil, err
	}
	k, err := b.store.DeleteImportedKeyMaterial(ctx, req.Storage, d.Get("key_id").(string), firstOf(in, "KeyMaterialId"))
	if err != nil {
		return nil, err
	}
	return b.keyStateResponse(k), nil
}

// firstOf returns the first of the members that the input has, "" for none.
func firstOf(in map[string]any, members ...string) string {
	for _, member := range members {
		if in[member] != nil {
			return member
		}
	}
	return ""
}

const getParametersHelp = `
The first step of an import, for a key created with origin=EXTERNAL. The public
key and the token are good for 24 hours and for any number of imports.

    $ vault write kms/keys/payments/theirs key_spec=HMAC_256 origin=EXTERNAL
    $ vault write kms/get-parameters-for-import/payments/theirs \
        wrapping_algorithm=RSAES_OAEP_SHA_256 wrapping_key_spec=RSA_4096
`

const importHelp = `
Takes key material of the spec's length (28, 32, 48 or 64 bytes) up to 128 bytes,
encrypted with the public key of get-parameters-for-import, and enables the key.
A key only ever takes the same material again.

    $ openssl pkeyutl -encrypt -in material.bin -out wrapped.bin \
        -inkey public.der -keyform DER -pubin \
        -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256
    $ vault write kms/import-key-material/payments/theirs \
        import_token=@token.b64 encrypted_key_material="$(base64 wrapped.bin)" \
        expiration_model=KEY_MATERIAL_DOES_NOT_EXPIRE
`

const deleteImportedHelp = `
The key goes back to PendingImport until the same material is imported again.

    $ vault write -f kms/delete-imported-key-material/payments/theirs
`
