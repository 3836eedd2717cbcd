package kmshmac

import (
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RSAES_OAEP_SHA_1 is in KMS's contract; OAEP does not need collision resistance
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

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
	k, err := b.keyByID(ctx, req.Storage, d.Get("key_id").(string), now)
	if err != nil {
		return nil, err
	}
	if err := kms.Check("GetParametersForImport", k.facts(now)); err != nil {
		return nil, err
	}
	algorithm, wrappingSpec := text(in, "WrappingAlgorithm"), text(in, "WrappingKeySpec")
	bits, err := kms.CheckWrapping(k.Spec, algorithm, wrappingSpec)
	if err != nil {
		return nil, err
	}
	w, err := b.wrappingKeyFor(ctx, req.Storage, k.ID, bits)
	if err != nil {
		return nil, err
	}
	private, err := w.private()
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	validTo := now.UTC().Add(kms.ImportParametersHours * time.Hour).Truncate(time.Millisecond)
	token, err := w.token(algorithm, validTo)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"key_id":              k.ID,
		"public_key":          base64.StdEncoding.EncodeToString(public),
		"import_token":        base64.StdEncoding.EncodeToString(token),
		"parameters_valid_to": formatTime(validTo),
	}}, nil
}

// pathImportKeyMaterial checks in the order key, origin, state, parameters,
// token, decryption, length, identity, and writes once, at the end.
func (b *backend) pathImportKeyMaterial(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("ImportKeyMaterial", d, nil)
	if err != nil {
		return nil, err
	}
	k, err := b.changeKey(ctx, req.Storage, "ImportKeyMaterial", d.Get("key_id").(string), func(k *key, now time.Time) (bool, error) {
		for _, member := range []string{"ImportType", "KeyMaterialId", "KeyMaterialDescription"} {
			if in[member] != nil {
				return false, kms.NotForHMACImport(member, k.Spec)
			}
		}
		validTo, _ := in["ValidTo"].(time.Time)
		model, validTo, err := kms.CheckExpiration(text(in, "ExpirationModel"), validTo, now)
		if err != nil {
			return false, err
		}
		material, err := b.unwrap(ctx, req.Storage, k, in, now)
		if err != nil {
			return false, err
		}
		if err := b.adopt(k, material); err != nil {
			return false, err
		}
		k.ExpirationModel, k.ValidTo, k.Disabled = model, validTo, false
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return b.keyStateResponse(k), nil
}

// unwrap checks the token and returns the key material that came encrypted.
func (b *backend) unwrap(ctx context.Context, s logical.Storage, k *key, in map[string]any, now time.Time) ([]byte, error) {
	token, _ := in["ImportToken"].([]byte)
	encrypted, _ := in["EncryptedKeyMaterial"].([]byte)
	w, algorithm, err := openImportToken(ctx, s, token, k.ID, now)
	if err != nil {
		return nil, err
	}
	private, err := w.private()
	if err != nil {
		return nil, err
	}
	material, err := rsa.DecryptOAEP(oaepHash(algorithm), nil, private, encrypted, nil)
	if err != nil {
		return nil, kms.InvalidCiphertext("encrypted_key_material cannot be decrypted: encrypt the raw key material with the public key and the wrapping algorithm of this import token")
	}
	return material, kms.CheckMaterialLength(k.Spec, len(material))
}

func oaepHash(algorithm string) hash.Hash {
	if algorithm == kms.WrapOAEPSHA1 {
		return sha1.New() //nolint:gosec // see the import
	}
	return sha256.New()
}

// adopt makes the material the key's, if it is the first or the same again.
func (b *backend) adopt(k *key, material []byte) error {
	if k.MaterialID == "" {
		k.MaterialSalt = make([]byte, sha256.Size)
		if _, err := io.ReadFull(b.GetRandomReader(), k.MaterialSalt); err != nil {
			return fmt.Errorf("choosing a salt: %w", err)
		}
		k.MaterialID = hex.EncodeToString(materialID(k.MaterialSalt).Append(nil, material))
	}
	id, err := hex.DecodeString(k.MaterialID)
	if err != nil || !materialID(k.MaterialSalt).Verify(material, id) {
		return kms.IncorrectMaterial(k.MaterialID)
	}
	k.Material = material
	return nil
}

// materialID computes identifiers of key material. They are shown to callers,
// so they are MACs under a secret salt, not hashes, which would let a caller
// test guesses of weak material.
func materialID(salt []byte) *kms.MacKey { return kms.NewMacKey(kms.HMAC256, salt) }

func (b *backend) pathDeleteImportedKeyMaterial(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	in, err := modelInput("DeleteImportedKeyMaterial", d, nil)
	if err != nil {
		return nil, err
	}
	k, err := b.changeKey(ctx, req.Storage, "DeleteImportedKeyMaterial", d.Get("key_id").(string), func(k *key, _ time.Time) (bool, error) {
		if in["KeyMaterialId"] != nil {
			return false, kms.NotForHMACImport("KeyMaterialId", k.Spec)
		}
		changed := len(k.Material) > 0
		k.dropMaterial()
		return changed, nil
	})
	if err != nil {
		return nil, err
	}
	return b.keyStateResponse(k), nil
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
