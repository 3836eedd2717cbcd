package kms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	someID  = "payments/tokens"
	someARN = "arn:aws:kms:us-east-1:111111111111:key/0a1b2c3d-0000-4000-8000-0123456789ab"
)

// The type, KMS's text and the resource of every exception that this package
// makes. An empty message means that KMS sends no message member.
func TestExceptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		exception     *Exception
		wantType      string
		wantMessage   string
		wantKeyID     string
		wantAliasName string
	}{
		{"no key", KeyNotFound(someID), "NotFoundException", "Key 'payments/tokens' does not exist", someID, ""},
		{"impossible id", InvalidKeyID("a b"), "NotFoundException", "Invalid keyId 'a b'", "", ""},
		{"no alias", AliasNotFound("alias/x"), "NotFoundException", "Alias alias/x is not found.", "", "alias/x"},
		{"disabled", KeyDisabled(someID), "DisabledException", "payments/tokens is disabled.", someID, ""},
		{"pending deletion", KeyPendingDeletion(someID), "KMSInvalidStateException", "payments/tokens is pending deletion.", someID, ""},
		{"pending import", KeyPendingImport(someID), "KMSInvalidStateException", "payments/tokens is pending import.", someID, ""},
		{"not pending deletion", KeyNotPendingDeletion(someID), "KMSInvalidStateException", "payments/tokens is not pending deletion", someID, ""},
		{"usage", WrongKeyUsage(someID, "Encrypt"), "InvalidKeyUsageException", "payments/tokens key usage is GENERATE_VERIFY_MAC which is not valid for Encrypt.", someID, ""},
		{"algorithm", AlgorithmMismatch(HMACSHA256, HMAC224), "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.", "", ""},
		{"wrong MAC", InvalidMac(), "KMSInvalidMacException", "", "", ""},
		{"dry run", DryRun(), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.", "", ""},
		{"not for HMAC keys", Unsupported("RotateKeyOnDemand is not supported"), "UnsupportedOperationException", "", "", ""},
		{"origin", WrongOrigin(someID, "AWS_KMS"), "UnsupportedOperationException", "payments/tokens origin is AWS_KMS which is not valid for this operation.", someID, ""},
		{"alias where ids only", AliasNotSupported(), "InvalidArnException", "Key Aliases are not supported for this operation.", "", ""},
		{"alias of an alias", AliasTarget(), "ValidationException", "Aliases must refer to keys. Not aliases", "", ""},
		{"alias exists", AliasExists("alias/x"), "AlreadyExistsException", "An alias with the name alias/x already exists", "", "alias/x"},
		{"limit", LimitExceeded("Aliases per key quota for this account in this region is %d, current usage is %d.", 50, 60), "LimitExceededException", "Aliases per key quota for this account in this region is 50, current usage is 60.", "", ""},
		{"import token", InvalidImportToken(), "InvalidImportTokenException", "", "", ""},
		{"ciphertext", InvalidCiphertext("hint"), "InvalidCiphertextException", "", "", ""},
		{"material", IncorrectMaterial(strings.Repeat("ab", 32)), "IncorrectKeyMaterialException", "Imported key material does not have the expected identifier (" + strings.Repeat("ab", 32) + ").", "", ""},
		{"marker", InvalidMarker(), "InvalidMarkerException", "", "", ""},
		{"throttled", Throttled(), "ThrottlingException", "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.", "", ""},
		{"expired import token", ExpiredImportToken(), "ExpiredImportTokenException", "The import token has expired.", "", ""},
		{"grant token", InvalidGrantToken(), "InvalidGrantTokenException", "The grant token is not valid.", "", ""},
		{"grant id", InvalidGrantID(), "InvalidGrantIdException", "The grant ID is not valid.", "", ""},
		{"no grant", GrantNotFound("00ff"), "NotFoundException", "Grant ID 00ff not found", "", ""},
		{"grant constraint on the source", GrantConstraintsRefused(map[string]any{"SourceArn": "arn"}).(*Exception), "UnsupportedOperationException", "SourceArn is not supported.", "", ""},
		{"grant constraints", GrantConstraintsRefused(map[string]any{"EncryptionContextSubset": nil}).(*Exception), "ValidationException", "EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.", "", ""},
		{"import member", NotForHMACImport("ImportType", HMAC224).(*Exception), "ValidationException", "Input parameter importType cannot be used with HMAC_224 imported keys.", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.wantType, test.exception.Type)
			require.Equal(t, test.wantMessage, test.exception.Message)
			require.Equal(t, test.wantKeyID, test.exception.KeyID)
			require.Equal(t, test.wantAliasName, test.exception.AliasName)
			require.Equal(t, 400, test.exception.Status())
			require.True(t, strings.HasPrefix(test.exception.Error(), test.wantType+": "))
			require.NotEmpty(t, test.exception.Text(), "people always get a sentence")
			if Silent(test.wantType) {
				require.Empty(t, test.exception.Message)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
	}{
		{TypeInternal, 500},
		{TypeDependencyTimeout, 500},
		{TypeKeyUnavailable, 500},
		{TypeNotFound, 400},
		{TypeLimitExceeded, 400},
		{TypeThrottling, 400},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.status, (&Exception{Type: test.name}).Status())
		})
	}
}

// Whatever names a resource can be renamed, and back.
func TestRenameKnowsEveryExceptionWithAResource(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		exception func(name string) *Exception
	}{
		{"KeyNotFound", KeyNotFound},
		{"KeyDisabled", KeyDisabled},
		{"KeyPendingDeletion", KeyPendingDeletion},
		{"KeyPendingImport", KeyPendingImport},
		{"KeyNotPendingDeletion", KeyNotPendingDeletion},
		{"WrongKeyUsage", func(name string) *Exception { return WrongKeyUsage(name, "Sign") }},
		{"WrongOrigin", func(name string) *Exception { return WrongOrigin(name, OriginKMS) }},
		{"AliasNotFound", AliasNotFound},
		{"AliasExists", AliasExists},
	}
	names := []string{someID, "Key", "a", "is.disabled.", "alias/x", "x_is_pending"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := test.exception(someARN).Message
			for _, name := range names {
				message := test.exception(name).Message
				require.Equal(t, want, Rename(message, name, someARN))
				require.Equal(t, message, Rename(want, someARN, name))
			}
		})
	}
}

func TestRenameLeavesOtherMessagesAlone(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, message, from string }{
		{"another resource", KeyDisabled("another").Message, someID},
		{"a longer name", KeyDisabled(someID + "x").Message, someID},
		{"no resource", DryRun().Message, "The"},
		{"more behind it", KeyDisabled(someID).Message + " x", someID},
		{"nothing", "", someID},
		{"an id in a model's text", "1 validation error detected: Value 'payments/tokens' at 'keyId'", someID},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.message, Rename(test.message, test.from, someARN))
		})
	}
}
