package kms

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The rules of operations and key states are tested as a whole, through the
// engine's paths, by TestOperationsInEveryKeyState in the root package. Here
// are the orders that show only when several things are wrong at once.
func TestCheckOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, operation, origin string
		state                   KeyState
		wantType                string
	}{
		{"usage before state", "Encrypt", OriginKMS, PendingDeletion, TypeInvalidKeyUsage},
		{"usage before state, disabled", "Sign", OriginExternal, Disabled, TypeInvalidKeyUsage},
		{"origin before state", "GetParametersForImport", OriginKMS, PendingDeletion, TypeUnsupportedOperation},
		{"origin before state, rotation", "EnableKeyRotation", OriginExternal, PendingImport, TypeUnsupportedOperation},
		{"state before key spec", "EnableKeyRotation", OriginKMS, Disabled, TypeDisabled},
		{"state before key spec, on demand", "RotateKeyOnDemand", OriginExternal, PendingImport, TypeInvalidState},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := Check(test.operation, Facts{ID: someID, Spec: HMAC256, Origin: test.origin, State: test.state})
			require.Error(t, err)
			require.Equal(t, test.wantType, err.(*Exception).Type)
		})
	}
}

func TestEveryRuleIsOfAnOperation(t *testing.T) {
	t.Parallel()
	for operation := range rules {
		_, ok := Input(operation)
		require.True(t, ok, "%s is no operation of KMS", operation)
	}
}

func TestCheckMacAlgorithm(t *testing.T) {
	t.Parallel()
	for _, spec := range HMACSpecs() {
		for _, algorithm := range MacAlgorithms() {
			t.Run(fmt.Sprintf("%s with %s", algorithm, spec), func(t *testing.T) {
				t.Parallel()
				err := CheckMacAlgorithm(algorithm, spec)
				if strings.TrimPrefix(string(algorithm), "HMAC_SHA_") == strings.TrimPrefix(string(spec), "HMAC_") {
					require.NoError(t, err)
					return
				}
				requireException(t, err, TypeInvalidKeyUsage, fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", algorithm, spec))
			})
		}
	}
}

func TestCheckNewKey(t *testing.T) {
	t.Parallel()
	const needsUsage = "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
	tests := []struct {
		name, usage, origin   string
		spec                  KeySpec
		wantType, wantMessage string
	}{
		{name: "HMAC", spec: HMAC256, usage: UsageMac},
		{name: "HMAC, AWS_KMS", spec: HMAC224, usage: UsageMac, origin: OriginKMS},
		{name: "HMAC, EXTERNAL", spec: HMAC512, usage: UsageMac, origin: OriginExternal},
		{name: "HMAC without usage", spec: HMAC384, wantType: TypeValidation, wantMessage: needsUsage},
		{name: "HMAC that encrypts", spec: HMAC256, usage: "ENCRYPT_DECRYPT", wantType: TypeValidation, wantMessage: "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec HMAC_256"},
		{name: "HMAC that signs", spec: HMAC256, usage: "SIGN_VERIFY", wantType: TypeValidation, wantMessage: "KeyUsage SIGN_VERIFY is not compatible with KeySpec HMAC_256"},
		{name: "HMAC with wrong usage and origin", spec: HMAC256, usage: "SIGN_VERIFY", origin: "AWS_CLOUDHSM", wantType: TypeValidation, wantMessage: "KeyUsage SIGN_VERIFY is not compatible with KeySpec HMAC_256"},
		{name: "HMAC in CloudHSM", spec: HMAC256, usage: UsageMac, origin: "AWS_CLOUDHSM", wantType: TypeUnsupportedOperation, wantMessage: "Origin AWS_CLOUDHSM is not supported for KeySpec HMAC_256."},
		{name: "HMAC in an external key store", spec: HMAC256, usage: UsageMac, origin: "EXTERNAL_KEY_STORE", wantType: TypeUnsupportedOperation, wantMessage: "Origin EXTERNAL_KEY_STORE is not supported for KeySpec HMAC_256."},
		{name: "nothing", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec SYMMETRIC_DEFAULT is not supported."},
		{name: "symmetric for MACs", usage: UsageMac, wantType: TypeValidation, wantMessage: "KeyUsage GENERATE_VERIFY_MAC is not compatible with KeySpec SYMMETRIC_DEFAULT"},
		{name: "RSA without usage", spec: "RSA_2048", wantType: TypeValidation, wantMessage: needsUsage},
		{name: "RSA", spec: "RSA_2048", usage: "SIGN_VERIFY", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec RSA_2048 is not supported."},
		{name: "ECC that encrypts", spec: "ECC_NIST_P256", usage: "ENCRYPT_DECRYPT", wantType: TypeValidation, wantMessage: "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec ECC_NIST_P256"},
		{name: "ECC", spec: "ECC_NIST_P384", usage: "KEY_AGREEMENT", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec ECC_NIST_P384 is not supported."},
		{name: "secp256k1 cannot agree", spec: "ECC_SECG_P256K1", usage: "KEY_AGREEMENT", wantType: TypeValidation, wantMessage: "KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_SECG_P256K1"},
		{name: "SM2", spec: "SM2", usage: "KEY_AGREEMENT", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec SM2 is not supported."},
		{name: "ML-KEM", spec: "ML_KEM_768", usage: "ENCAPSULATE_DECAPSULATE", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec ML_KEM_768 is not supported."},
		{name: "ML-KEM that signs", spec: "ML_KEM_512", usage: "SIGN_VERIFY", wantType: TypeValidation, wantMessage: "KeyUsage SIGN_VERIFY is not compatible with KeySpec ML_KEM_512"},
		{name: "HMAC that encapsulates", spec: HMAC256, usage: "ENCAPSULATE_DECAPSULATE", wantType: TypeValidation, wantMessage: "KeyUsage ENCAPSULATE_DECAPSULATE is not compatible with KeySpec HMAC_256"},
		{name: "ML-DSA", spec: "ML_DSA_44", usage: "SIGN_VERIFY", wantType: TypeUnsupportedOperation, wantMessage: "KeySpec ML_DSA_44 is not supported."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckNewKey(test.spec, test.usage, test.origin)
			if test.wantType == "" {
				require.NoError(t, err)
				return
			}
			requireException(t, err, test.wantType, test.wantMessage)
		})
	}
}

func TestCheckPrincipal(t *testing.T) {
	t.Parallel()
	const either = "You must specify either GranteePrincipal or GranteeServicePrincipal, but not both."
	tests := []struct {
		name                  string
		in                    map[string]any
		required              bool
		wantType, wantMessage string
	}{
		{name: "one", in: map[string]any{"GranteePrincipal": "p"}, required: true},
		{name: "none", in: map[string]any{}},
		{name: "none, required", in: map[string]any{}, required: true, wantType: TypeValidation, wantMessage: either},
		{name: "both", in: map[string]any{"GranteePrincipal": "p", "GranteeServicePrincipal": "s"}, wantType: TypeValidation, wantMessage: either},
		{name: "a service", in: map[string]any{"GranteeServicePrincipal": "s"}, required: true, wantType: TypeUnsupportedOperation, wantMessage: "GranteeServicePrincipal is not supported."},
		{name: "another role", in: map[string]any{"RetiringServicePrincipal": "s"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckPrincipal(test.in, "Grantee", test.required)
			if test.wantType == "" {
				require.NoError(t, err)
				return
			}
			requireException(t, err, test.wantType, test.wantMessage)
		})
	}
}

func TestCheckPendingWindow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		days int
		ok   bool
	}{
		{"0", 0, false}, {"6", 6, false}, {"7", 7, true}, {"30", 30, true}, {"31", 31, false}, {"365", 365, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckPendingWindow(test.days)
			if test.ok {
				require.NoError(t, err)
				return
			}
			requireException(t, err, TypeValidation, "PendingWindowInDays must be between 7 and 30")
		})
	}
}

func TestCheckTags(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		tags        []Tag
		wantMessage string
	}{
		{"none", nil, ""},
		{"some", []Tag{{"a", "1"}, {"b", ""}}, ""},
		{"keys differ in case", []Tag{{"a", "1"}, {"A", "1"}}, ""},
		{"50", manyTags(50), ""},
		{"51", manyTags(51), "Too many tags"},
		{"twice", []Tag{{"a", "1"}, {"a", "2"}}, "Duplicate tag keys"},
		{"reserved", []Tag{{"aws:x", "1"}}, "Tags beginning with aws: are reserved"},
		{"reserved in capitals", []Tag{{"AWS:x", "1"}}, "Tags beginning with aws: are reserved"},
		{"reserved alone", []Tag{{"aws:", "1"}}, "Tags beginning with aws: are reserved"},
		{"not reserved", []Tag{{"aws", "1"}, {"awsome:", "1"}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := CheckTags(test.tags)
			if test.wantMessage == "" {
				require.NoError(t, err)
				return
			}
			requireException(t, err, TypeTag, test.wantMessage)
		})
	}
}

func manyTags(n int) []Tag {
	tags := make([]Tag, n)
	for i := range tags {
		tags[i] = Tag{Key: fmt.Sprint(i)}
	}
	return tags
}

func TestCheckWrapping(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, algorithm, spec string
		bits                  int
	}{
		{"2048, SHA-1", "RSAES_OAEP_SHA_1", "RSA_2048", 2048},
		{"3072, SHA-1", "RSAES_OAEP_SHA_1", "RSA_3072", 3072},
		{"4096, SHA-256", "RSAES_OAEP_SHA_256", "RSA_4096", 4096},
		{"PKCS #1 v1.5", "RSAES_PKCS1_V1_5", "RSA_2048", 0},
		{"AES key wrap, SHA-1", "RSA_AES_KEY_WRAP_SHA_1", "RSA_3072", 0},
		{"AES key wrap, SHA-256", "RSA_AES_KEY_WRAP_SHA_256", "RSA_3072", 0},
		{"SM2", "SM2PKE", "SM2", 0},
		{"SM2 key", "RSAES_OAEP_SHA_256", "SM2", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bits, err := CheckWrapping(HMAC384, test.algorithm, test.spec)
			require.Equal(t, test.bits, bits)
			if test.bits > 0 {
				require.NoError(t, err)
				return
			}
			requireException(t, err, TypeValidation,
				"Wrapping algorithm "+test.algorithm+" and wrapping key spec "+test.spec+" cannot be used to import a HMAC_384 key.")
		})
	}
}

func TestCheckExpiration(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 500e6, time.UTC)
	const (
		mustSet   = "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"
		cannotSet = "A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE"
		future    = "ValidTo must be in the future"
		tooFar    = "ValidTo must be less than 365 days in the future"
	)
	tests := []struct {
		name, model string
		validTo     time.Time
		wantModel   string
		wantValidTo time.Time
		wantMessage string
	}{
		{"default with date", "", now.Add(time.Hour), MaterialExpires, now.Add(time.Hour).Truncate(time.Second), ""},
		{"expires with date", MaterialExpires, now.Add(time.Hour), MaterialExpires, now.Add(time.Hour).Truncate(time.Second), ""},
		{"never", MaterialDoesNotExpire, time.Time{}, MaterialDoesNotExpire, time.Time{}, ""},
		{"365 days less a second", "", now.AddDate(0, 0, 365).Add(-time.Second), MaterialExpires, now.AddDate(0, 0, 365).Add(-1500 * time.Millisecond), ""},
		{"default without date", "", time.Time{}, "", time.Time{}, mustSet},
		{"expires without date", MaterialExpires, time.Time{}, "", time.Time{}, mustSet},
		{"never with date", MaterialDoesNotExpire, now.Add(time.Hour), "", time.Time{}, cannotSet},
		{"past", "", now.Add(-time.Second), "", time.Time{}, future},
		{"now", "", now, "", time.Time{}, future},
		{"past once cut to whole seconds", "", now.Add(100 * time.Millisecond), "", time.Time{}, future},
		{"over 365 days", "", now.AddDate(0, 0, 365).Add(time.Second), "", time.Time{}, tooFar},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			model, validTo, err := CheckExpiration(test.model, test.validTo, now)
			if test.wantMessage != "" {
				requireException(t, err, TypeValidation, test.wantMessage)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.wantModel, model)
			require.True(t, test.wantValidTo.Equal(validTo), "%v, not %v", validTo, test.wantValidTo)
		})
	}
}

func TestCheckMaterialLength(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		spec     KeySpec
		shortest int
	}{
		{"224", HMAC224, 28}, {"256", HMAC256, 32}, {"384", HMAC384, 48}, {"512", HMAC512, 64},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, CheckMaterialLength(test.spec, test.shortest))
			require.NoError(t, CheckMaterialLength(test.spec, 128))
			for _, n := range []int{0, test.shortest - 1, 129} {
				requireException(t, CheckMaterialLength(test.spec, n), TypeInvalidCiphertext, "")
			}
		})
	}
}

func TestCheckGrantOperations(t *testing.T) {
	t.Parallel()
	require.NoError(t, CheckGrantOperations([]string{"CreateGrant", "RetireGrant", "DescribeKey", "GenerateMac", "VerifyMac"}))
	wanted := []string{"Encrypt", "GenerateMac", "Decrypt"}
	requireException(t, CheckGrantOperations(wanted), TypeValidation,
		"Operations [Encrypt, Decrypt] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. "+
			"Valid operations are [CreateGrant, RetireGrant, DescribeKey, GenerateMac, VerifyMac]")
	require.Equal(t, []string{"Encrypt", "GenerateMac", "Decrypt"}, wanted, "the caller's list is left alone")
}
