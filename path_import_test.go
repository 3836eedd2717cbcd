package kmshmac

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"hash"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/kms"
)

// external makes a key that waits for its material.
func external(t testing.TB, m *mount, id string, more ...fields) {
	t.Helper()
	createKey(t, m, id, append([]fields{{"origin": "EXTERNAL"}}, more...)...)
}

// parameters are what an import needs.
type parameters struct {
	algorithm, token string
	public           *rsa.PublicKey
}

func importParameters(t testing.TB, m *mount, id, algorithm, wrappingSpec string) parameters {
	t.Helper()
	data := write(t, m, "get-parameters-for-import/"+id, fields{"wrapping_algorithm": algorithm, "wrapping_key_spec": wrappingSpec})
	der, err := base64.StdEncoding.DecodeString(data["public_key"].(string))
	require.NoError(t, err)
	public, err := x509.ParsePKIXPublicKey(der)
	require.NoError(t, err)
	return parameters{algorithm: algorithm, token: data["import_token"].(string), public: public.(*rsa.PublicKey)}
}

// wrap encrypts key material as the importer does.
func (p parameters) wrap(t testing.TB, material []byte) string {
	t.Helper()
	h := map[string]func() hash.Hash{"RSAES_OAEP_SHA_1": sha1.New, "RSAES_OAEP_SHA_256": sha256.New}[p.algorithm]
	encrypted, err := rsa.EncryptOAEP(h(), rand.Reader, p.public, material, nil)
	require.NoError(t, err)
	return base64.StdEncoding.EncodeToString(encrypted)
}

// fields are those of an import that never expires.
func (p parameters) fields(t testing.TB, material []byte) fields {
	t.Helper()
	return fields{
		"import_token": p.token, "encrypted_key_material": p.wrap(t, material),
		"expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
	}
}

// importMaterial imports material that never expires.
func importMaterial(t testing.TB, m *mount, id string, material []byte) {
	t.Helper()
	p := importParameters(t, m, id, "RSAES_OAEP_SHA_256", "RSA_2048")
	data := write(t, m, "import-key-material/"+id, p.fields(t, material))
	require.Equal(t, fields{"key_id": id, "key_state": "Enabled"}, data)
}

var material32 = bytes.Repeat([]byte{0x5a}, 32)

// Every wrapping with every key spec, for the shortest and the longest
// material and one byte less and more.
func TestImportEveryWrappingAndLength(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	for _, spec := range testSpecs {
		for _, wrappingSpec := range []string{"RSA_2048", "RSA_3072", "RSA_4096"} {
			for _, algorithm := range []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
				for _, n := range []int{spec.bytes - 1, spec.bytes, 128, 129} {
					name := fmt.Sprintf("%s/%s/%s/%d", spec.spec, wrappingSpec, algorithm, n)
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						id := strings.ReplaceAll(name, "/", "-")
						external(t, m, id, fields{"key_spec": spec.spec})
						material := make([]byte, n)
						_, _ = rand.Read(material)
						p := importParameters(t, m, id, algorithm, wrappingSpec)
						if n < spec.bytes || n > 128 {
							writeRefused(t, m, "import-key-material/"+id, p.fields(t, material), "InvalidCiphertextException", "")
							require.Equal(t, "PendingImport", keyState(t, m, id))
							return
						}
						write(t, m, "import-key-material/"+id, p.fields(t, material))
						require.Equal(t, "Enabled", keyState(t, m, id))
						got := write(t, m, "generate-mac/"+id, fields{"message": b64("m"), "mac_algorithm": spec.algorithm})
						want := kms.NewMacKey(spec.spec, material).Append(nil, []byte("m"))
						require.Equal(t, base64.StdEncoding.EncodeToString(want), got["mac"])
					})
				}
			}
		}
	}
}

func TestGetParametersForImport(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	data := write(t, m, "get-parameters-for-import/a", fields{"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048"})
	require.Equal(t, "a", data["key_id"])
	require.Equal(t, "2026-11-23T10:20:30.456Z", data["parameters_valid_to"])
	der, err := base64.StdEncoding.DecodeString(data["public_key"].(string))
	require.NoError(t, err)
	require.Len(t, der, 294, "the length of an RSA_2048 SubjectPublicKeyInfo")
	require.Less(t, len(data["import_token"].(string)), 6144)
	rsaKey, err := sharedRSAKey(nil, 2048)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	require.NoError(t, err)
	require.NotContains(t, data["import_token"], base64.StdEncoding.EncodeToString(private)[:32])
}

func TestGetParametersForImportRefusals(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	createKey(t, m, "ours")
	good := fields{"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048"}
	const wrong = "Wrapping algorithm %s and wrapping key spec %s cannot be used to import a HMAC_256 key."
	tests := []struct {
		name, id    string
		data        fields
		wantType    string
		wantMessage string
	}{
		{"PKCS #1 v1.5", "a", fields{"wrapping_algorithm": "RSAES_PKCS1_V1_5", "wrapping_key_spec": "RSA_2048"}, "ValidationException", fmt.Sprintf(wrong, "RSAES_PKCS1_V1_5", "RSA_2048")},
		{"AES key wrap", "a", fields{"wrapping_algorithm": "RSA_AES_KEY_WRAP_SHA_256", "wrapping_key_spec": "RSA_4096"}, "ValidationException", fmt.Sprintf(wrong, "RSA_AES_KEY_WRAP_SHA_256", "RSA_4096")},
		{"SM2", "a", fields{"wrapping_algorithm": "SM2PKE", "wrapping_key_spec": "SM2"}, "ValidationException", fmt.Sprintf(wrong, "SM2PKE", "SM2")},
		{"nothing", "a", nil, "ValidationException", "2 validation errors detected: Value null at 'wrapping_algorithm' failed to satisfy constraint: Member must not be null; Value null at 'wrapping_key_spec' failed to satisfy constraint: Member must not be null"},
		{"no such key", "b", good, "NotFoundException", "Key 'b' does not exist"},
		{"no such key, nothing", "b", fields{"wrapping_key_spec": "RSA_2048"}, "ValidationException", "1 validation error detected: Value null at 'wrapping_algorithm' failed to satisfy constraint: Member must not be null"},
		{"our material", "ours", good, "UnsupportedOperationException", "ours origin is AWS_KMS which is not valid for this operation."},
		{"our material, wrong wrapping", "ours", fields{"wrapping_algorithm": "SM2PKE", "wrapping_key_spec": "SM2"}, "UnsupportedOperationException", "ours origin is AWS_KMS which is not valid for this operation."},
		{"alias", "alias/a", good, "InvalidArnException", "Key Aliases are not supported for this operation."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			writeRefused(t, m, "get-parameters-for-import/"+test.id, test.data, test.wantType, test.wantMessage)
		})
	}
}

// Each way in which an import can fail leaves the key exactly as it was.
func TestImportFailuresChangeNothing(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	external(t, m, "b")
	importMaterial(t, m, "a", material32)
	write(t, m, "disable-key/a", nil)
	p := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
	foreign := importParameters(t, m, "b", "RSAES_OAEP_SHA_256", "RSA_2048")
	sha1Token := importParameters(t, m, "a", "RSAES_OAEP_SHA_1", "RSA_2048").token
	in := func(d time.Duration) string { return m.clock.now().Add(d).Format(time.RFC3339) }
	const none = "\x00" // a field to leave out
	tests := []struct {
		name, field, value, more, moreValue string
		wantType, wantMessage               string
	}{
		{"no token", "import_token", none, "", "", "ValidationException", "1 validation error detected: Value null at 'import_token' failed to satisfy constraint: Member must not be null"},
		{"empty token", "import_token", "", "", "", "ValidationException", "1 validation error detected: Value at 'import_token' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"token not base64", "import_token", "!", "", "", "ValidationException", "import_token must be standard base64"},
		{"no material", "encrypted_key_material", none, "", "", "ValidationException", "1 validation error detected: Value null at 'encrypted_key_material' failed to satisfy constraint: Member must not be null"},
		{"material too long", "encrypted_key_material", b64(strings.Repeat("m", 6145)), "", "", "ValidationException", "1 validation error detected: Value at 'encrypted_key_material' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		{"foreign token", "import_token", foreign.token, "", "", "InvalidImportTokenException", ""},
		{"made up token", "import_token", b64(strings.Repeat("x", 200)), "", "", "InvalidImportTokenException", ""},
		{"short token", "import_token", b64("x"), "", "", "InvalidImportTokenException", ""},
		{"tampered token", "import_token", tampered(t, p.token, -1), "", "", "InvalidImportTokenException", ""},
		{"tampered MAC of the token", "import_token", tampered(t, p.token, 0), "", "", "InvalidImportTokenException", ""},
		{"token for another algorithm", "import_token", sha1Token, "", "", "InvalidCiphertextException", ""},
		{"garbage material", "encrypted_key_material", b64(strings.Repeat("m", 256)), "", "", "InvalidCiphertextException", ""},
		{"material as it is", "encrypted_key_material", b64(string(material32)), "", "", "InvalidCiphertextException", ""},
		{"damaged material", "encrypted_key_material", tampered(t, p.wrap(t, material32), 5), "", "", "InvalidCiphertextException", ""},
		{"too short material", "encrypted_key_material", p.wrap(t, material32[:31]), "", "", "InvalidCiphertextException", ""},
		{"unknown model", "expiration_model", "NEVER", "", "", "ValidationException", "1 validation error detected: Value 'NEVER' at 'expiration_model' failed to satisfy constraint: Member must satisfy enum value set: [KEY_MATERIAL_EXPIRES, KEY_MATERIAL_DOES_NOT_EXPIRE]"},
		{"expires without date", "expiration_model", "KEY_MATERIAL_EXPIRES", "", "", "ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		{"default without date", "expiration_model", none, "", "", "ValidationException", "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		{"does not expire with date", "valid_to", in(time.Hour), "", "", "ValidationException", "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"},
		{"past date", "valid_to", in(-time.Hour), "expiration_model", none, "ValidationException", "ValidTo must be in the future"},
		{"far date", "valid_to", in(366 * day), "expiration_model", none, "ValidationException", "ValidTo must be less than 365 days in the future"},
		{"import type", "import_type", "NEW_KEY_MATERIAL", "", "", "ValidationException", "Input parameter importType cannot be used with HMAC_256 imported keys."},
		{"material id", "key_material_id", strings.Repeat("0", 64), "", "", "ValidationException", "Input parameter keyMaterialId cannot be used with HMAC_256 imported keys."},
		{"material description", "key_material_description", "x", "", "", "ValidationException", "Input parameter keyMaterialDescription cannot be used with HMAC_256 imported keys."},
		{"parameters before token", "import_token", foreign.token, "valid_to", in(time.Hour), "ValidationException", "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"},
		{"token before material", "import_token", foreign.token, "encrypted_key_material", b64("x"), "InvalidImportTokenException", ""},
	}
	before := read(t, m, "keys/a")
	record := rawRecord(t, m, keyPrefix+"a")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := p.fields(t, material32)
			for name, value := range map[string]string{test.field: test.value, test.more: test.moreValue} {
				data[name] = value
				if value == none || name == "" {
					delete(data, name)
				}
			}
			writeRefused(t, m, "import-key-material/a", data, test.wantType, test.wantMessage)
			require.Equal(t, before, read(t, m, "keys/a"))
			require.Equal(t, record, rawRecord(t, m, keyPrefix+"a"))
		})
	}
}

// tampered returns base64 with one byte of its content changed, counted from
// the end if negative.
func tampered(t testing.TB, encoded string, at int) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	if at < 0 {
		at += len(raw) - 1 // not the closing brace, which would leave no JSON
	}
	raw[at] ^= 1
	return base64.StdEncoding.EncodeToString(raw)
}

func rawRecord(t testing.TB, m *mount, name string) string {
	t.Helper()
	entry, err := m.storage.Get(t.Context(), name)
	require.NoError(t, err)
	require.NotNil(t, entry)
	return string(entry.Value)
}

// A token lives 24 hours, for any number of imports, and later ones do not
// end it.
func TestImportTokenLife(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	first := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
	m.clock.advance(2 * time.Hour)
	second := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
	require.NotEqual(t, first.token, second.token)
	for _, p := range []parameters{first, second, first} {
		write(t, m, "import-key-material/a", p.fields(t, material32))
	}
	m.clock.advance(22*time.Hour - time.Millisecond)
	m.tidy(t)
	write(t, m, "import-key-material/a", first.fields(t, material32))
	m.clock.advance(time.Millisecond)
	writeRefused(t, m, "import-key-material/a", first.fields(t, material32), "ExpiredImportTokenException", "The import token has expired.")
	write(t, m, "import-key-material/a", second.fields(t, material32))

	m.clock.advance(2 * day)
	m.tidy(t)
	require.Empty(t, storageKeys(t, m, wrappingKeyPrefix), "the tidy removes pairs whose tokens have expired")
	writeRefused(t, m, "import-key-material/a", first.fields(t, material32), "ExpiredImportTokenException", "The import token has expired.")
}

// A pair is made, really, and then shared for an hour.
func TestWrappingKeyIsSharedForAnHour(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	m.b.generateRSAKey = rsa.GenerateKey
	external(t, m, "a")
	external(t, m, "b")
	get := func(id string) string {
		data := write(t, m, "get-parameters-for-import/"+id, fields{"wrapping_algorithm": "RSAES_OAEP_SHA_256", "wrapping_key_spec": "RSA_2048"})
		return data["public_key"].(string)
	}
	first := get("a")
	require.Equal(t, first, get("a"))
	require.NotEqual(t, first, get("b"), "pairs are never shared between keys")
	m.clock.advance(time.Hour)
	require.NotEqual(t, first, get("a"))
}

func TestImportIntoADisabledKeyEnablesIt(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		external(t, m, "a")
		importMaterial(t, m, "a", material32)
		mac := macOf(t, m, "a", "m")
		write(t, m, "disable-key/a", nil)
		importMaterial(t, m, "a", material32)
		require.Equal(t, mac, macOf(t, m, "a", "m"))
	})
}

// A key takes the first material it got, and no other, ever.
func TestReimport(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		external(t, m, "a")
		importMaterial(t, m, "a", material32)
		mac := macOf(t, m, "a", "m")
		other := bytes.Repeat([]byte{1}, 32)
		refuse := func() string {
			p := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
			resp, err := request(t, m, logical.UpdateOperation, "import-key-material/a", p.fields(t, other))
			require.NoError(t, err)
			require.True(t, resp.IsError())
			data := resp.Data["data"].(fields)
			require.Equal(t, "IncorrectKeyMaterialException", data["type"])
			require.Regexp(t, `^Imported key material does not have the expected identifier \([0-9a-f]{64}\)\.$`, data["message"])
			return data["message"].(string)
		}
		first := refuse()
		require.Equal(t, "Enabled", keyState(t, m, "a"))

		require.Equal(t, fields{"key_id": "a", "key_state": "PendingImport"}, write(t, m, "delete-imported-key-material/a", nil))
		require.Equal(t, first, refuse(), "also after deletion")
		require.Equal(t, "PendingImport", keyState(t, m, "a"))
		write(t, m, "delete-imported-key-material/a", nil) // repeating is fine
		importMaterial(t, m, "a", material32)
		require.Equal(t, mac, macOf(t, m, "a", "m"))
	})
}

// The identifier of the material, which anyone may learn who may try to
// import, must not let them test guesses.
func TestMaterialIdentifierIsSalted(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	ids := map[string]bool{}
	for _, id := range []string{"a", "b"} {
		external(t, m, id)
		importMaterial(t, m, id, material32)
		ids[readStoredKey(t, m, id).MaterialID] = true
	}
	require.Len(t, ids, 2)
}

// Expiry takes effect at its instant; the tidy then erases the material.
func TestMaterialExpires(t *testing.T) {
	t.Parallel()
	eachCache(t, func(t *testing.T, m *mount) {
		external(t, m, "a")
		p := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
		data := p.fields(t, material32)
		delete(data, "expiration_model")
		data["valid_to"] = "2026-11-22T12:00:00.999Z"
		write(t, m, "import-key-material/a", data)
		key := read(t, m, "keys/a")
		require.Equal(t, "KEY_MATERIAL_EXPIRES", key["expiration_model"])
		require.Equal(t, "2026-11-22T12:00:00.000Z", key["valid_to"], "cut to whole seconds")
		mac := macOf(t, m, "a", "m")

		expiry := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		m.clock.advance(expiry.Sub(m.clock.now()) - time.Millisecond)
		require.Equal(t, mac, macOf(t, m, "a", "m"))
		m.tidy(t)
		require.Equal(t, "Enabled", keyState(t, m, "a"))
		m.clock.advance(time.Millisecond)
		writeRefused(t, m, "generate-mac/a", macFields("m"), "KMSInvalidStateException", "a is pending import.")
		key = read(t, m, "keys/a")
		require.Equal(t, "PendingImport", key["key_state"])
		require.NotContains(t, key, "expiration_model")
		require.NotContains(t, key, "valid_to")

		require.Contains(t, rawRecord(t, m, keyPrefix+"a"), `"material":`)
		m.tidy(t)
		require.NotContains(t, rawRecord(t, m, keyPrefix+"a"), `"material":`)
		require.Equal(t, "PendingImport", keyState(t, m, "a"))
		importMaterial(t, m, "a", material32)
		require.Equal(t, mac, macOf(t, m, "a", "m"))
		require.NotContains(t, read(t, m, "keys/a"), "valid_to")
		m.clock.advance(time.Hour)
		m.tidy(t)
		require.Empty(t, storageKeys(t, m, duePrefix))
	})
}

func TestReimportChangesTheExpiry(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	p := importParameters(t, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048")
	data := p.fields(t, material32)
	data["expiration_model"] = "KEY_MATERIAL_EXPIRES"
	data["valid_to"] = m.clock.now().Add(time.Hour).Unix() // seconds since the epoch are fine too
	write(t, m, "import-key-material/a", data)
	data["valid_to"] = m.clock.now().Add(3 * time.Hour).Format(time.RFC3339)
	write(t, m, "import-key-material/a", data)
	m.clock.advance(2 * time.Hour)
	m.tidy(t)
	require.Equal(t, "Enabled", keyState(t, m, "a"))
	m.clock.advance(time.Hour)
	m.tidy(t)
	require.Equal(t, "PendingImport", keyState(t, m, "a"))
}

func TestDeleteImportedKeyMaterial(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	importMaterial(t, m, "a", material32)
	require.Equal(t, "KEY_MATERIAL_DOES_NOT_EXPIRE", read(t, m, "keys/a")["expiration_model"])
	writeRefused(t, m, "delete-imported-key-material/a", fields{"key_material_id": strings.Repeat("0", 64)},
		"ValidationException", "Input parameter keyMaterialId cannot be used with HMAC_256 imported keys.")
	write(t, m, "delete-imported-key-material/a", nil)
	require.NotContains(t, rawRecord(t, m, keyPrefix+"a"), `"material":`)
	require.NotContains(t, read(t, m, "keys/a"), "expiration_model")
}

// Deleting the material of a key pending deletion leaves it so; cancelling
// then finds it empty.
func TestCancelDeletionOfAnEmptyKey(t *testing.T) {
	t.Parallel()
	m := newMount(t)
	external(t, m, "a")
	importMaterial(t, m, "a", material32)
	write(t, m, "schedule-key-deletion/a", nil)
	require.Equal(t, fields{"key_id": "a", "key_state": "PendingDeletion"}, write(t, m, "delete-imported-key-material/a", nil))
	require.Equal(t, fields{"key_id": "a", "key_state": "PendingImport"}, write(t, m, "cancel-key-deletion/a", nil))
	importMaterial(t, m, "a", material32)
	require.Equal(t, "Enabled", keyState(t, m, "a"))
}

// Arbitrary tokens are refused, and never more than that.
func FuzzImportToken(f *testing.F) {
	m := newMount(f)
	external(f, m, "a")
	good := importParameters(f, m, "a", "RSAES_OAEP_SHA_256", "RSA_2048").token
	raw, _ := base64.StdEncoding.DecodeString(good)
	f.Add(raw[:40])
	f.Add(append(make([]byte, 32), `{"wrapping_key":"../key/a","key_id":"a"}`...))
	f.Add(append(make([]byte, 32), `{"wrapping_key":"2026-11-22T10/0a1b2c3d-0000-4000-8000-0123456789ab","key_id":"a"}`...))
	f.Fuzz(func(t *testing.T, token []byte) {
		if bytes.Equal(token, raw) {
			return
		}
		resp, err := request(t, m, logical.UpdateOperation, "import-key-material/a", fields{
			"import_token": token, "encrypted_key_material": b64("x"), "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
		})
		require.NoError(t, err)
		require.Contains(t, []string{"InvalidImportTokenException", "ExpiredImportTokenException", "ValidationException"}, exceptionType(t, resp, err))
	})
}
