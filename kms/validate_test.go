package kms

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const secret = "bWFya2Vy"

// goodMac is a VerifyMac input without a fault; GenerateMac's is the same
// without Mac.
func goodMac() map[string]any {
	return map[string]any{
		"KeyId": "a", "Message": []byte("m"), "Mac": []byte("m"), "MacAlgorithm": "HMAC_SHA_256",
		"GrantTokens": []any{"t"}, "DryRun": false,
	}
}

// The member checks of GenerateMac and VerifyMac, word for word.
func TestValidateMacMembers(t *testing.T) {
	t.Parallel()
	tooMany := make([]any, 11)
	for i := range tooMany {
		tooMany[i] = fmt.Sprint("t", i)
	}
	tests := []struct {
		name, member string
		value        any
		want         string // the violations; none if empty
	}{
		{"nothing wrong", "KeyId", "a", ""},
		{"keyId absent", "KeyId", nil, "Value null at 'keyId' failed to satisfy constraint: Member must not be null"},
		{"keyId empty", "KeyId", "", "Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
			`Value '' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		{"keyId not ASCII", "KeyId", "キー", `Value 'キー' at 'keyId' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{ASCII}+$`},
		{"keyId of 2048", "KeyId", strings.Repeat("a", 2048), ""},
		{"keyId of 2049", "KeyId", strings.Repeat("a", 2049), "Value '" + strings.Repeat("a", 512) + "...' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048"},
		{"message absent", "Message", nil, "Value at 'message' failed to satisfy constraint: Member must not be null"},
		{"message empty", "Message", []byte{}, "Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"message of 4096", "Message", make([]byte, 4096), ""},
		{"message of 4097", "Message", make([]byte, 4097), "Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		{"mac absent", "Mac", nil, "Value null at 'mac' failed to satisfy constraint: Member must not be null"},
		{"mac empty", "Mac", []byte{}, "Value at 'mac' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"mac of 6144", "Mac", make([]byte, 6144), ""},
		{"mac of 6145", "Mac", make([]byte, 6145), "Value at 'mac' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		{"macAlgorithm absent", "MacAlgorithm", nil, "Value null at 'macAlgorithm' failed to satisfy constraint: Member must not be null"},
		{"macAlgorithm unknown", "MacAlgorithm", "FOO", "Value 'FOO' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"},
		{"macAlgorithm in lower case", "MacAlgorithm", "hmac_sha_256", "Value 'hmac_sha_256' at 'macAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]"},
		{"10 grant tokens", "GrantTokens", tooMany[:10], ""},
		{"11 grant tokens", "GrantTokens", tooMany, "Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10"},
		{"no grant tokens", "GrantTokens", []any{}, ""},
		{"empty grant token", "GrantTokens", []any{"t", ""}, "Value at 'grantTokens.2.member' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"grant token of 8193", "GrantTokens", []any{strings.Repeat("t", 8193)}, "Value at 'grantTokens.1.member' failed to satisfy constraint: Member must have length less than or equal to 8192"},
	}
	for _, test := range tests {
		for _, operation := range []string{"GenerateMac", "VerifyMac"} {
			if test.member == "Mac" && operation == "GenerateMac" {
				continue // it has no such member
			}
			t.Run(operation+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				input := goodMac()
				input[test.member] = test.value
				requireViolations(t, Validate(operation, input), test.want)
			})
		}
	}
}

// requireViolations checks a text of violations, joined as KMS joins them.
func requireViolations(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		require.NoError(t, err)
		return
	}
	n := strings.Count(want, "failed to satisfy constraint")
	noun := "errors"
	if n == 1 {
		noun = "error"
	}
	requireException(t, err, TypeValidation, fmt.Sprintf("%d validation %s detected: %s", n, noun, want))
}

func TestValidateCollectsAllViolations(t *testing.T) {
	t.Parallel()
	requireViolations(t, Validate("VerifyMac", nil),
		"Value at 'message' failed to satisfy constraint: Member must not be null; "+
			"Value null at 'keyId' failed to satisfy constraint: Member must not be null; "+
			"Value null at 'macAlgorithm' failed to satisfy constraint: Member must not be null; "+
			"Value null at 'mac' failed to satisfy constraint: Member must not be null")
}

// Members of other operations whose text the contract has.
func TestValidateOtherMembers(t *testing.T) {
	t.Parallel()
	key := func(member string, value any) map[string]any { return map[string]any{"KeyId": "a", member: value} }
	tests := []struct {
		name, operation string
		input           map[string]any
		want            string
	}{
		{"window 0", "ScheduleKeyDeletion", key("PendingWindowInDays", int64(0)), "Value '0' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"window 366", "ScheduleKeyDeletion", key("PendingWindowInDays", int64(366)), "Value '366' at 'pendingWindowInDays' failed to satisfy constraint: Member must have value less than or equal to 365"},
		{"window 6 is the service's business", "ScheduleKeyDeletion", key("PendingWindowInDays", int64(6)), ""},
		{"rotation period 89", "EnableKeyRotation", key("RotationPeriodInDays", int64(89)), "Value '89' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 90"},
		{"rotation period 2561", "EnableKeyRotation", key("RotationPeriodInDays", int64(2561)), "Value '2561' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value less than or equal to 2560"},
		{"tag key of 129", "TagResource", key("Tags", tagList(strings.Repeat("k", 129), "v")), "Value '" + strings.Repeat("k", 129) + "' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"tag value of 257", "CreateKey", map[string]any{"Tags": tagList("k", strings.Repeat("v", 257))}, "Value '" + strings.Repeat("v", 257) + "' at 'tags.1.member.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"tag key empty", "TagResource", key("Tags", tagList("", "v")), "Value '' at 'tags.1.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"tag value empty", "TagResource", key("Tags", tagList("k", "")), ""},
		{"tag value of 256 characters, not bytes", "TagResource", key("Tags", tagList("k", strings.Repeat("ü", 256))), ""},
		{"tag without value", "TagResource", key("Tags", []any{map[string]any{"TagKey": "k"}}), "Value null at 'tags.1.member.tagValue' failed to satisfy constraint: Member must not be null"},
		{"no tags", "TagResource", map[string]any{"KeyId": "a"}, "Value null at 'tags' failed to satisfy constraint: Member must not be null"},
		{"tag key list", "UntagResource", key("TagKeys", []any{"k", strings.Repeat("k", 129)}), "Value '" + strings.Repeat("k", 129) + "' at 'tagKeys.2.member' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"description of 8192", "CreateKey", map[string]any{"Description": strings.Repeat("d", 8192)}, ""},
		{"description of 8193", "CreateKey", map[string]any{"Description": strings.Repeat("d", 8193)}, "Value '" + strings.Repeat("d", 512) + "...' at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192"},
		{"description of another key empty", "UpdateKeyDescription", key("Description", ""), ""},
		{"key spec", "CreateKey", map[string]any{"KeySpec": "HMAC_1"}, "Value 'HMAC_1' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87, ML_KEM_512, ML_KEM_768, ML_KEM_1024]"},
		{"alias name with a bad character", "CreateAlias", map[string]any{"AliasName": "alias/a b", "TargetKeyId": "a"}, "Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{"alias name with a colon is the service's business", "CreateAlias", map[string]any{"AliasName": "alias/a:b", "TargetKeyId": "a"}, ""},
		{"alias name of 257", "CreateAlias", map[string]any{"AliasName": "alias/" + strings.Repeat("a", 251), "TargetKeyId": "a"}, "Value 'alias/" + strings.Repeat("a", 251) + "' at 'aliasName' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"limit 0", "ListKeys", map[string]any{"Limit": int64(0)}, "Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"limit 1001", "ListKeys", map[string]any{"Limit": int64(1001)}, "Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"},
		{"marker with a control character", "ListKeys", map[string]any{"Marker": "a\x01"}, "Value 'a\x01' at 'marker' failed to satisfy constraint: Member must satisfy regular expression pattern: " + `[\u0020-\u00FF]*`},
		{"wrapping algorithm", "GetParametersForImport", map[string]any{"KeyId": "a", "WrappingAlgorithm": "X", "WrappingKeySpec": "RSA_2048"}, "Value 'X' at 'wrappingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSAES_PKCS1_V1_5, RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_1, RSA_AES_KEY_WRAP_SHA_256, SM2PKE]"},
		{"material too long", "ImportKeyMaterial", map[string]any{"KeyId": "a", "ImportToken": []byte("t"), "EncryptedKeyMaterial": make([]byte, 6145)}, "Value at 'encryptedKeyMaterial' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		{"grant operation", "CreateGrant", map[string]any{"KeyId": "a", "GranteePrincipal": "p", "Operations": []any{"GenerateMac", "Fly"}}, "Value 'Fly' at 'operations.2.member' failed to satisfy constraint: Member must satisfy enum value set: [Decrypt, Encrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, Sign, Verify, GetPublicKey, CreateGrant, RetireGrant, DescribeKey, GenerateDataKeyPair, GenerateDataKeyPairWithoutPlaintext, GenerateMac, VerifyMac, DeriveSharedSecret, Encapsulate, Decapsulate]"},
		{"grantee", "CreateGrant", map[string]any{"KeyId": "a", "GranteePrincipal": "a b", "Operations": []any{}}, "Value 'a b' at 'granteePrincipal' failed to satisfy constraint: Member must satisfy regular expression pattern: " + `^[\w+=,.@:/-]+$`},
		{"no key", "ListKeys", nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			requireViolations(t, Validate(test.operation, test.input), test.want)
		})
	}
}

// The native API speaks of its own fields, and of the words that it takes.
func TestValidateFields(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, operation string
		input           map[string]any
		want            string
	}{
		{"a field", "GenerateMac", map[string]any{"KeyId": "a", "Message": []byte("m")}, "Value null at 'mac_algorithm' failed to satisfy constraint: Member must not be null"},
		{"a field of an element", "TagResource", map[string]any{"KeyId": "a", "Tags": tagList("", "v")}, "Value '' at 'tags.1.member.tag_key' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"key_spec", "CreateKey", map[string]any{"KeySpec": "hmac_256"}, "Value 'hmac_256' at 'key_spec' failed to satisfy constraint: Member must satisfy enum value set: [HMAC_224, HMAC_256, HMAC_384, HMAC_512]"},
		{"origin", "CreateKey", map[string]any{"Origin": "X"}, "Value 'X' at 'origin' failed to satisfy constraint: Member must satisfy enum value set: [AWS_KMS, EXTERNAL]"},
		{"the rules refuse these", "CreateKey", map[string]any{"KeySpec": "RSA_2048", "Origin": "AWS_CLOUDHSM"}, ""},
		{"operations", "CreateGrant", map[string]any{"KeyId": "a", "GranteePrincipal": "p", "Operations": []any{"Fly"}}, "Value 'Fly' at 'operations.1.member' failed to satisfy constraint: Member must satisfy enum value set: [CreateGrant, RetireGrant, DescribeKey, GenerateMac, VerifyMac]"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			requireViolations(t, ValidateFields(test.operation, test.input), test.want)
		})
	}
}

// A list that is too long is refused without a look at its elements, whether or
// not the model bounds it.
func TestValidateRefusesListsByTheirLength(t *testing.T) {
	t.Parallel()
	tests := []struct {
		operation, member, at string
		element               any // a violation by itself
		elements, most        int
	}{
		{"CreateGrant", "Operations", "operations", "", 340_000, MaxListElements},
		{"CreateGrant", "GrantTokens", "grantTokens", "", 340_000, 10},
		{"TagResource", "Tags", "tags", map[string]any{}, MaxListElements + 1, MaxListElements},
		{"UntagResource", "TagKeys", "tagKeys", "", 340_000, MaxListElements},
	}
	for _, test := range tests {
		t.Run(test.operation+"/"+test.member, func(t *testing.T) {
			t.Parallel()
			input := map[string]any{"KeyId": "a", "GranteePrincipal": "p", "Operations": []any{}}
			input[test.member] = slices.Repeat([]any{test.element}, test.elements)
			requireViolations(t, Validate(test.operation, input),
				fmt.Sprintf("Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", test.at, test.most))
			members, _ := Input(test.operation)
			i := slices.IndexFunc(members, func(m Member) bool { return m.Name == test.member })
			require.Equal(t, test.most, members[i].Shape.MaxElements())
		})
	}
}

// The error has a size that does not depend on how much is wrong.
func TestValidateBoundsItsError(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 100_000)
	for name, input := range map[string]map[string]any{
		"many short": {"Operations": slices.Repeat([]any{""}, MaxListElements), "GranteePrincipal": "p"},
		"many long":  {"Operations": slices.Repeat([]any{long}, MaxListElements), "GranteePrincipal": long, "Name": long},
	} {
		err := Validate("CreateGrant", input)
		require.Error(t, err)
		require.Less(t, len(err.Error()), maxViolationBytes+4*maxExcerptBytes, name)
		require.LessOrEqual(t, strings.Count(err.Error(), "failed to satisfy"), maxViolations, name)
		require.True(t, utf8.ValidString(err.Error()), "a character was cut in two")
	}
}

func tagList(key, value string) []any {
	return []any{map[string]any{"TagKey": key, "TagValue": value}}
}

// A pattern that Go cannot compile would panic at the first request that needs
// it; the value tried here reaches every shape of every operation.
func TestEveryPatternOfTheModelCompiles(t *testing.T) {
	t.Parallel()
	var visit func(shape *Shape)
	visit = func(shape *Shape) {
		if shape == nil {
			return
		}
		if shape.Pattern != "" {
			require.NotPanics(t, func() { compiled(shape.Pattern) })
		}
		visit(shape.Element)
		for _, member := range shape.Members {
			visit(member.Shape)
		}
	}
	for _, name := range Operations() {
		members, _ := Input(name)
		for _, member := range members {
			require.NotNil(t, member.Shape, "%s.%s", name, member.Name)
			visit(member.Shape)
		}
	}
}

// No violation of a blob or of a sensitive member shows the value.
func TestValidateNeverShowsSecrets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, operation, member string
		value                   any
	}{
		{"message", "GenerateMac", "Message", bytes.Repeat([]byte(secret), 1000)},
		{"mac", "VerifyMac", "Mac", bytes.Repeat([]byte(secret), 1000)},
		{"import token", "ImportKeyMaterial", "ImportToken", bytes.Repeat([]byte(secret), 1000)},
		{"material", "ImportKeyMaterial", "EncryptedKeyMaterial", bytes.Repeat([]byte(secret), 1000)},
		{"long password", "CreateCustomKeyStore", "KeyStorePassword", strings.Repeat(secret, 5)},
		{"short password", "UpdateCustomKeyStore", "KeyStorePassword", secret[:3]},
		{"grant token", "RetireGrant", "GrantToken", strings.Repeat(secret, 2000)},
		{"too many grant tokens", "GenerateMac", "GrantTokens", slices.Repeat([]any{secret}, 11)},
		{"a long grant token among others", "CreateGrant", "GrantTokens", []any{secret, strings.Repeat(secret, 2000)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := Validate(test.operation, map[string]any{test.member: test.value})
			require.Error(t, err)
			require.NotContains(t, err.Error(), secret[:3])
		})
	}
}
