package keystore

// Imported key material.

import (
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RSAES_OAEP_SHA_1 is in KMS's contract; OAEP does not need collision resistance
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-kms-hmac/kms"
)

// ImportParameters are what an import of key material needs.
type ImportParameters struct {
	PublicKey []byte // DER, a SubjectPublicKeyInfo
	Token     []byte
	ValidTo   time.Time
}

// ImportParameters returns the public key and the token with which material can
// be imported into a key for the next 24 hours, with an RSA key of so many bits
// and a wrapping algorithm of KMS's. RSA keys are made one at a time and at a
// limited rate; who asks for more is told to slow down.
func (st *Store) ImportParameters(ctx context.Context, s logical.Storage, k *Key, algorithm string, bits int, now time.Time) (*ImportParameters, error) {
	w, err := st.wrappingKeyFor(ctx, s, k.ID, bits)
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
	return &ImportParameters{PublicKey: public, Token: token, ValidTo: validTo}, nil
}

// Import is key material to import into a key.
type Import struct {
	Token             []byte
	EncryptedMaterial []byte
	ExpirationModel   string    // "" for KMS's default
	ValidTo           time.Time // zero for none

	// Unsupported is a member of the request that KMS does not take for HMAC
	// keys, "" for none. It is refused in KMS's order of checks.
	Unsupported string
}

// ImportKeyMaterial imports key material and enables the key. It checks in the
// order key, origin, state, parameters, token, decryption, length, identity,
// and writes once, at the end.
func (st *Store) ImportKeyMaterial(ctx context.Context, s logical.Storage, id string, in Import) (*Key, error) {
	return st.changeKey(ctx, s, "ImportKeyMaterial", id, func(r *keyRecord, now time.Time) (bool, error) {
		if in.Unsupported != "" {
			return false, kms.NotForHMACImport(in.Unsupported, r.Spec)
		}
		model, validTo, err := kms.CheckExpiration(in.ExpirationModel, in.ValidTo, now)
		if err != nil {
			return false, err
		}
		material, err := unwrap(ctx, s, r, in, now)
		if err != nil {
			return false, err
		}
		if err := st.adopt(r, material); err != nil {
			return false, err
		}
		r.ExpirationModel, r.ValidTo, r.Disabled = model, validTo, false
		return true, nil
	})
}

// DeleteImportedKeyMaterial deletes imported key material, not the key.
// unsupported is that of Import.
func (st *Store) DeleteImportedKeyMaterial(ctx context.Context, s logical.Storage, id, unsupported string) (*Key, error) {
	return st.changeKey(ctx, s, "DeleteImportedKeyMaterial", id, func(r *keyRecord, _ time.Time) (bool, error) {
		if unsupported != "" {
			return false, kms.NotForHMACImport(unsupported, r.Spec)
		}
		changed := len(r.Material) > 0
		r.dropMaterial()
		return changed, nil
	})
}

// unwrap checks the token and returns the key material that came encrypted.
func unwrap(ctx context.Context, s logical.Storage, r *keyRecord, in Import, now time.Time) ([]byte, error) {
	w, algorithm, err := openImportToken(ctx, s, in.Token, r.ID, now)
	if err != nil {
		return nil, err
	}
	private, err := w.private()
	if err != nil {
		return nil, err
	}
	material, err := rsa.DecryptOAEP(oaepHash(algorithm), nil, private, in.EncryptedMaterial, nil)
	if err != nil {
		return nil, kms.InvalidCiphertext("encrypted_key_material cannot be decrypted: encrypt the raw key material with the public key and the wrapping algorithm of this import token")
	}
	return material, kms.CheckMaterialLength(r.Spec, len(material))
}

func oaepHash(algorithm string) hash.Hash {
	if algorithm == kms.WrapOAEPSHA1 {
		return sha1.New() //nolint:gosec // see the import
	}
	return sha256.New()
}

// adopt makes the material the key's, if it is the first or the same again.
func (st *Store) adopt(r *keyRecord, material []byte) error {
	if r.MaterialID == "" {
		r.MaterialSalt = make([]byte, sha256.Size)
		if _, err := io.ReadFull(st.random(), r.MaterialSalt); err != nil {
			return fmt.Errorf("choosing a salt: %w", err)
		}
		r.MaterialID = hex.EncodeToString(materialID(r.MaterialSalt).Append(nil, material))
	}
	id, err := hex.DecodeString(r.MaterialID)
	if err != nil || !materialID(r.MaterialSalt).Verify(material, id) {
		return kms.IncorrectMaterial(r.MaterialID)
	}
	r.Material = material
	return nil
}

// materialID computes identifiers of key material. They are shown to callers,
// so they are MACs under a secret salt, not hashes, which would let a caller
// test guesses of weak material.
func materialID(salt []byte) *kms.MacKey { return kms.NewMacKey(kms.HMAC256, salt) }
