package kms

import (
	"fmt"
	"net/http"
	"strings"
)

// The exception types that can occur. All but the three faults are the
// caller's, HTTP status 400, whatever the API model's traits say.
const (
	TypeAlreadyExists        = "AlreadyExistsException"
	TypeAccessDenied         = "AccessDeniedException"
	TypeDependencyTimeout    = "DependencyTimeoutException"
	TypeDisabled             = "DisabledException"
	TypeDryRunOperation      = "DryRunOperationException"
	TypeExpiredImportToken   = "ExpiredImportTokenException"
	TypeIncorrectKey         = "IncorrectKeyException"
	TypeIncorrectKeyMaterial = "IncorrectKeyMaterialException"
	TypeInternal             = "KMSInternalException"
	TypeInvalidArn           = "InvalidArnException"
	TypeInvalidCiphertext    = "InvalidCiphertextException"
	TypeInvalidGrantID       = "InvalidGrantIdException"
	TypeInvalidGrantToken    = "InvalidGrantTokenException"
	TypeInvalidImportToken   = "InvalidImportTokenException"
	TypeInvalidKeyUsage      = "InvalidKeyUsageException"
	TypeInvalidMac           = "KMSInvalidMacException"
	TypeInvalidMarker        = "InvalidMarkerException"
	TypeInvalidState         = "KMSInvalidStateException"
	TypeKeyUnavailable       = "KeyUnavailableException"
	TypeLimitExceeded        = "LimitExceededException"
	TypeMalformedPolicy      = "MalformedPolicyDocumentException"
	TypeNotAuthorized        = "NotAuthorizedException"
	TypeNotFound             = "NotFoundException"
	TypeTag                  = "TagException"
	TypeThrottling           = "ThrottlingException"
	TypeUnsupportedOperation = "UnsupportedOperationException"
	TypeValidation           = "ValidationException"
)

// Exception is a failure in KMS's words.
type Exception struct {
	// Type is the exception's name, as SDKs compare it.
	Type string
	// Message is KMS's own text. Empty where KMS sends none: clients of the
	// endpoint must then see no message member at all.
	Message string
	// Hint is a sentence for people, shown by the native API only: what
	// happened where KMS says nothing, or what to do.
	Hint string
	// KeyID or AliasName is the resource that Message names, by the name that
	// stands in it. The endpoint puts an ARN there (Rename).
	KeyID, AliasName string
}

// Error returns the type and all that there is to say.
func (e *Exception) Error() string {
	return e.Type + ": " + e.Text()
}

// Text returns the message and the hint, as the native API shows them.
func (e *Exception) Text() string {
	return strings.TrimSpace(e.Message + " " + e.Hint)
}

// Status returns the HTTP status: 500 for the service's own faults, else 400.
func (e *Exception) Status() int {
	switch e.Type {
	case TypeInternal, TypeDependencyTimeout, TypeKeyUnavailable:
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// Silent reports whether KMS never sends a message with this exception type.
// UnsupportedOperationException is not among them: it sometimes does.
func Silent(exceptionType string) bool {
	switch exceptionType {
	case TypeInvalidMac, TypeInvalidCiphertext, TypeInvalidImportToken, TypeInvalidMarker:
		return true
	}
	return false
}

// The texts that name a resource. %[1]s is the resource; KMS prints its ARN,
// the native API its name.
const (
	textKeyMissing      = "Key '%[1]s' does not exist"
	textDisabled        = "%[1]s is disabled."
	textPendingDeletion = "%[1]s is pending deletion."
	textPendingImport   = "%[1]s is pending import."
	textNotPending      = "%[1]s is not pending deletion"
	textUsage           = "%[1]s key usage is GENERATE_VERIFY_MAC which is not valid for %[2]s."
	textOrigin          = "%[1]s origin is %[2]s which is not valid for this operation."
	textAliasMissing    = "Alias %[1]s is not found."
	textAliasExists     = "An alias with the name %[1]s already exists"
)

// resourceTexts are the texts that Rename knows.
var resourceTexts = []string{
	textKeyMissing, textDisabled, textPendingDeletion, textPendingImport, textNotPending,
	textUsage, textOrigin, textAliasMissing, textAliasExists,
}

// Rename returns the message with the resource it names called by another
// name: it is how the endpoint turns ids into ARNs. A message that names no
// resource, or another one, is returned as it is.
func Rename(message, from, to string) string {
	for _, text := range resourceTexts {
		before, after, _ := strings.Cut(text, "%[1]s")
		after, _, parameter := strings.Cut(after, "%[2]s")
		rest, ok := strings.CutPrefix(message, before+from+after)
		if ok && (parameter || rest == "") {
			return before + to + after + rest
		}
	}
	return message
}

func keyException(kind, text, keyID string, args ...any) *Exception {
	keyID = Excerpt(keyID)
	return &Exception{Type: kind, Message: fmt.Sprintf(text, append([]any{keyID}, args...)...), KeyID: keyID}
}

// KeyNotFound: no key has this id.
func KeyNotFound(keyID string) *Exception { return keyException(TypeNotFound, textKeyMissing, keyID) }

// KeyDisabled: the key is in state Disabled.
func KeyDisabled(keyID string) *Exception { return keyException(TypeDisabled, textDisabled, keyID) }

// KeyPendingDeletion: the key waits for its deletion.
func KeyPendingDeletion(keyID string) *Exception {
	return keyException(TypeInvalidState, textPendingDeletion, keyID)
}

// KeyPendingImport: the key has no key material.
func KeyPendingImport(keyID string) *Exception {
	return keyException(TypeInvalidState, textPendingImport, keyID)
}

// KeyNotPendingDeletion: there is no deletion to cancel.
func KeyNotPendingDeletion(keyID string) *Exception {
	return keyException(TypeInvalidState, textNotPending, keyID)
}

// WrongKeyUsage: an HMAC key was asked for something that HMAC keys do not do.
func WrongKeyUsage(keyID, operation string) *Exception {
	return keyException(TypeInvalidKeyUsage, textUsage, keyID, operation)
}

// WrongOrigin: the operation is not for keys of this origin.
func WrongOrigin(keyID, origin string) *Exception {
	return keyException(TypeUnsupportedOperation, textOrigin, keyID, origin)
}

// InvalidKeyID: the id is not one that a key can have.
func InvalidKeyID(keyID string) *Exception {
	return &Exception{Type: TypeNotFound, Message: "Invalid keyId '" + Excerpt(keyID) + "'"}
}

// AliasNotFound: no alias has this name (with its alias/ prefix).
func AliasNotFound(name string) *Exception {
	name = Excerpt(name)
	return &Exception{Type: TypeNotFound, Message: fmt.Sprintf(textAliasMissing, name), AliasName: name}
}

// AliasExists: the alias (with its alias/ prefix) is there already.
func AliasExists(name string) *Exception {
	return &Exception{Type: TypeAlreadyExists, Message: fmt.Sprintf(textAliasExists, name), AliasName: name}
}

// AliasNotSupported: the operation takes key ids and key ARNs only.
func AliasNotSupported() *Exception {
	return &Exception{Type: TypeInvalidArn, Message: "Key Aliases are not supported for this operation."}
}

// AliasTarget: an alias was to point at an alias.
func AliasTarget() *Exception { return Validationf("Aliases must refer to keys. Not aliases") }

// AlgorithmMismatch: the key spec has another MAC algorithm.
func AlgorithmMismatch(algorithm MacAlgorithm, spec KeySpec) *Exception {
	return &Exception{
		Type:    TypeInvalidKeyUsage,
		Message: fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", algorithm, spec),
	}
}

// InvalidMac: the MAC is not that of the message under the key. There is one
// such failure, whatever was wrong with the MAC.
func InvalidMac() *Exception {
	return &Exception{Type: TypeInvalidMac, Hint: "the MAC does not belong to this message, key and algorithm"}
}

// DryRun: everything else about the request was fine.
func DryRun() *Exception {
	return &Exception{Type: TypeDryRunOperation, Message: "The request would have succeeded, but the DryRun option is set."}
}

// Throttled: the caller asks too much of an expensive operation.
func Throttled() *Exception {
	return &Exception{Type: TypeThrottling, Message: "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."}
}

// Unsupported is UnsupportedOperationException as KMS sends it for HMAC keys,
// without a message.
func Unsupported(hint string) *Exception {
	return &Exception{Type: TypeUnsupportedOperation, Hint: hint}
}

// InvalidGrantToken: the token names no grant of this key. KMS's own text is
// not on record.
func InvalidGrantToken() *Exception {
	return &Exception{Type: TypeInvalidGrantToken, Message: "The grant token is not valid."}
}

// InvalidGrantID: the key has no such grant. KMS's own text is not on record.
func InvalidGrantID() *Exception {
	return &Exception{Type: TypeInvalidGrantID, Message: "The grant ID is not valid."}
}

// GrantNotFound: there is no such grant to revoke or to retire. KMS's own
// text is not on record.
func GrantNotFound(grantID string) *Exception {
	return &Exception{Type: TypeNotFound, Message: "Grant ID " + Excerpt(grantID) + " not found"}
}

// InvalidMarker: the marker does not come from an answer of this operation.
func InvalidMarker() *Exception {
	return &Exception{Type: TypeInvalidMarker, Hint: "pass the value that the previous page answered, unchanged"}
}

// InvalidCiphertext: the wrapped key material cannot be unwrapped, or has a
// length that the key spec does not take.
func InvalidCiphertext(hint string) *Exception {
	return &Exception{Type: TypeInvalidCiphertext, Hint: hint}
}

// InvalidImportToken: the token is damaged or was given for another key.
func InvalidImportToken() *Exception {
	return &Exception{Type: TypeInvalidImportToken, Hint: "use the import token that get-parameters-for-import answered for this key, unchanged"}
}

// ExpiredImportToken: the token is older than 24 hours. KMS's own text is not
// on record.
func ExpiredImportToken() *Exception {
	return &Exception{Type: TypeExpiredImportToken, Message: "The import token has expired.", Hint: "Get a new one with get-parameters-for-import."}
}

// IncorrectMaterial: the key takes only the material it had before, which
// KMS names by a 64-digit hexadecimal id.
func IncorrectMaterial(materialID string) *Exception {
	return &Exception{
		Type:    TypeIncorrectKeyMaterial,
		Message: fmt.Sprintf("Imported key material does not have the expected identifier (%s).", materialID),
	}
}

// LimitExceeded: one of the quotas of
// https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html.
func LimitExceeded(format string, args ...any) *Exception {
	return &Exception{Type: TypeLimitExceeded, Message: fmt.Sprintf(format, args...)}
}

// Validationf is a ValidationException with a text of its own.
func Validationf(format string, args ...any) *Exception {
	return &Exception{Type: TypeValidation, Message: fmt.Sprintf(format, args...)}
}
