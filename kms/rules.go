package kms

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Facts is what the rules need to know about a key at one instant.
type Facts struct {
	ID     string
	Spec   KeySpec
	Origin string
	State  KeyState
}

// rule says when an operation refuses a key: first for its usage, then for its
// origin, then for its state, and last for being an HMAC key at all.
type rule struct {
	// usage: the operation is for another key usage, in whatever state.
	usage bool
	// origin is the only one allowed, if set.
	origin string
	// refuses are the states refused; only is the only state allowed, if set.
	refuses []KeyState
	only    KeyState
	// unsupported: KMS answers UnsupportedOperationException for HMAC keys.
	unsupported bool
}

var (
	notUsable  = []KeyState{Disabled, PendingDeletion, PendingImport}
	notDeleted = []KeyState{PendingDeletion}
	noMaterial = []KeyState{PendingDeletion, PendingImport}
)

// rules is the table of operations and key states, for HMAC keys
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html, where
// KMS does as its guide says). Operations that take a key and are not listed
// work in every state.
var rules = map[string]rule{
	"GenerateMac":          {refuses: notUsable},
	"VerifyMac":            {refuses: notUsable},
	"EnableKey":            {refuses: noMaterial},
	"DisableKey":           {refuses: noMaterial},
	"ScheduleKeyDeletion":  {refuses: notDeleted},
	"CancelKeyDeletion":    {only: PendingDeletion},
	"UpdateKeyDescription": {refuses: notDeleted},
	"TagResource":          {refuses: notDeleted},
	"UntagResource":        {refuses: notDeleted},
	"CreateAlias":          {refuses: notDeleted},
	"UpdateAlias":          {refuses: notDeleted},
	"CreateGrant":          {refuses: notUsable},

	"GetParametersForImport":    {origin: OriginExternal, refuses: notDeleted},
	"ImportKeyMaterial":         {origin: OriginExternal, refuses: notDeleted},
	"DeleteImportedKeyMaterial": {origin: OriginExternal},

	"EnableKeyRotation":  {origin: OriginKMS, refuses: notUsable, unsupported: true},
	"DisableKeyRotation": {origin: OriginKMS, refuses: notUsable},
	"RotateKeyOnDemand":  {refuses: notUsable, unsupported: true},

	"GetPublicKey": {refuses: noMaterial, unsupported: true},

	// Vault's replication takes the place of KMS's replicas.
	"ReplicateKey":        {refuses: notUsable, unsupported: true},
	"UpdatePrimaryRegion": {refuses: notUsable, unsupported: true},

	"Encrypt":                             {usage: true},
	"Decrypt":                             {usage: true},
	"ReEncrypt":                           {usage: true},
	"Sign":                                {usage: true},
	"Verify":                              {usage: true},
	"GenerateDataKey":                     {usage: true},
	"GenerateDataKeyWithoutPlaintext":     {usage: true},
	"GenerateDataKeyPair":                 {usage: true},
	"GenerateDataKeyPairWithoutPlaintext": {usage: true},
	"DeriveSharedSecret":                  {usage: true},
	"Encapsulate":                         {usage: true},
	"Decapsulate":                         {usage: true},
}

// Check returns the exception with which the operation refuses the key, or nil.
// The order is KMS's: key usage, origin, key state, key spec.
func Check(operation string, key Facts) error {
	r := rules[operation]
	switch {
	case r.usage:
		return WrongKeyUsage(key.ID, operation)
	case r.origin != "" && r.origin != key.Origin:
		return WrongOrigin(key.ID, key.Origin)
	case r.only != "" && r.only != key.State:
		return KeyNotPendingDeletion(key.ID)
	case slices.Contains(r.refuses, key.State):
		return refusedState(key)
	case r.unsupported:
		return Unsupported(operation + " is not supported for HMAC keys")
	}
	return nil
}

func refusedState(key Facts) error {
	switch key.State {
	case Disabled:
		return KeyDisabled(key.ID)
	case PendingImport:
		return KeyPendingImport(key.ID)
	default:
		return KeyPendingDeletion(key.ID)
	}
}

// CheckMacAlgorithm refuses an algorithm that is not the key spec's.
func CheckMacAlgorithm(algorithm MacAlgorithm, spec KeySpec) error {
	if algorithm != spec.MacAlgorithm() {
		return AlgorithmMismatch(algorithm, spec)
	}
	return nil
}

// CheckNewKey applies CreateKey's rules on spec, usage and origin, which must
// be words of the model or empty. Empty spec and origin stand for KMS's
// defaults, SYMMETRIC_DEFAULT and AWS_KMS.
func CheckNewKey(spec KeySpec, usage, origin string) error {
	if spec == "" {
		spec = SymmetricDefault
	}
	if usage == "" && spec != SymmetricDefault {
		return Validationf("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	}
	if usage != "" && !slices.Contains(usagesOf(spec), usage) {
		return Validationf("KeyUsage %s is not compatible with KeySpec %s", usage, spec)
	}
	if !spec.IsHMAC() {
		return &Exception{
			Type:    TypeUnsupportedOperation,
			Message: fmt.Sprintf("KeySpec %s is not supported.", spec),
			Hint:    fmt.Sprintf("This engine keeps HMAC keys only: set key_spec to one of %s.", join(HMACSpecs())),
		}
	}
	if origin != "" && origin != OriginKMS && origin != OriginExternal {
		return &Exception{
			Type:    TypeUnsupportedOperation,
			Message: fmt.Sprintf("Origin %s is not supported for KeySpec %s.", origin, spec),
			Hint:    "Set origin to AWS_KMS or EXTERNAL.",
		}
	}
	return nil
}

// usagesOf returns the key usages that fit a spec
// (https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateKey.html).
func usagesOf(spec KeySpec) []string {
	switch {
	case spec.IsHMAC():
		return []string{UsageMac}
	case spec == SymmetricDefault:
		return []string{"ENCRYPT_DECRYPT"}
	case strings.HasPrefix(string(spec), "RSA_"):
		return []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY"}
	case strings.HasPrefix(string(spec), "ECC_NIST_P"):
		return []string{"SIGN_VERIFY", "KEY_AGREEMENT"}
	case spec == "SM2":
		return []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "KEY_AGREEMENT"}
	case strings.HasPrefix(string(spec), "ML_KEM_"):
		return []string{"ENCAPSULATE_DECAPSULATE"}
	default:
		return []string{"SIGN_VERIFY"}
	}
}

// wordsForHMAC are the words of the model's enumerations that HMAC keys have a
// use for; the others are accepted by the model and refused by the rules.
var wordsForHMAC = map[*Shape][]string{
	shapeKeySpec:               texts(HMACSpecs()),
	shapeCustomerMasterKeySpec: texts(HMACSpecs()),
	shapeKeyUsageType:          {UsageMac},
	shapeOriginType:            {OriginKMS, OriginExternal},
	shapeAlgorithmSpec:         {WrapOAEPSHA256, WrapOAEPSHA1},
	shapeWrappingKeySpec:       slices.Sorted(maps.Keys(wrappingBits)),
	shapeGrantOperation:        GrantOperations,
}

// CheckPendingWindow refuses a waiting period outside KMS's real range, which
// is narrower than its model's.
func CheckPendingWindow(days int) error {
	if days < MinPendingWindowDays || days > MaxPendingWindowDays {
		return Validationf("PendingWindowInDays must be between %d and %d", MinPendingWindowDays, MaxPendingWindowDays)
	}
	return nil
}

// Tag is one tag of a key.
type Tag struct{ Key, Value string }

// TagsFrom returns the tags in a Tags member of a validated input; they may hold
// a key twice.
func TagsFrom(member any) []Tag {
	list, _ := member.([]any)
	tags := make([]Tag, len(list))
	for i, entry := range list {
		members, _ := entry.(map[string]any)
		tags[i].Key, _ = members["TagKey"].(string)
		tags[i].Value, _ = members["TagValue"].(string)
	}
	return tags
}

// TagMap returns the values of tags by their keys.
func TagMap(tags []Tag) map[string]string {
	values := make(map[string]string, len(tags))
	for _, tag := range tags {
		values[tag.Key] = tag.Value
	}
	return values
}

// CheckTags applies KMS's rules on the tags that one request brings; lengths
// are the model's business.
func CheckTags(tags []Tag) error {
	seen := make(map[string]bool, len(tags))
	for _, tag := range tags {
		if seen[tag.Key] {
			return tagException("Duplicate tag keys")
		}
		seen[tag.Key] = true
		if len(tag.Key) >= 4 && strings.EqualFold(tag.Key[:4], "aws:") {
			return tagException("Tags beginning with aws: are reserved")
		}
	}
	return CheckTagCount(len(tags))
}

// CheckTagCount applies KMS's limit on the tags of one key.
func CheckTagCount(n int) error {
	if n > MaxTags {
		return tagException("Too many tags")
	}
	return nil
}

func tagException(message string) error { return &Exception{Type: TypeTag, Message: message} }

// Wrappings of key material for import that KMS has for HMAC keys.
const (
	WrapOAEPSHA1   = "RSAES_OAEP_SHA_1"
	WrapOAEPSHA256 = "RSAES_OAEP_SHA_256"
)

// wrappingBits gives the size of the RSA keys that wrap HMAC key material.
var wrappingBits = map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}

// CheckWrapping refuses the wrappings of the model that KMS does not have for
// HMAC key material, and returns the RSA key size in bits of those it has
// (https://docs.aws.amazon.com/kms/latest/developerguide/importing-keys-get-public-key-and-token.html).
func CheckWrapping(spec KeySpec, algorithm, wrappingSpec string) (bits int, err error) {
	bits = wrappingBits[wrappingSpec]
	if bits == 0 || algorithm != WrapOAEPSHA1 && algorithm != WrapOAEPSHA256 {
		return 0, Validationf("Wrapping algorithm %s and wrapping key spec %s cannot be used to import a %s key.", algorithm, wrappingSpec, spec)
	}
	return bits, nil
}

// CheckExpiration applies ImportKeyMaterial's rules on expiry. It returns the
// expiration model, KMS's default being KEY_MATERIAL_EXPIRES, and validTo cut
// to whole seconds, as KMS stores it; the zero time is none.
func CheckExpiration(model string, validTo, now time.Time) (string, time.Time, error) {
	if model == "" {
		model = MaterialExpires
	}
	validTo = validTo.Truncate(time.Second)
	switch {
	case model == MaterialDoesNotExpire && !validTo.IsZero():
		return "", validTo, Validationf("A validTo date cannot be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
	case model == MaterialDoesNotExpire:
		return model, validTo, nil
	case validTo.IsZero():
		return "", validTo, Validationf("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !validTo.After(now):
		return "", validTo, Validationf("ValidTo must be in the future")
	case validTo.After(now.AddDate(0, 0, MaxValidToDays)):
		return "", validTo, Validationf("ValidTo must be less than 365 days in the future")
	}
	return model, validTo, nil
}

// NotForHMACImport refuses the members of ImportKeyMaterial that are for keys
// with several materials.
func NotForHMACImport(member string, spec KeySpec) error {
	return Validationf("Input parameter %s cannot be used with %s imported keys.", lowerFirst(member), spec)
}

// CheckMaterialLength refuses imported material that is shorter than the
// spec's MAC or longer than 128 bytes; KMS calls that an invalid ciphertext.
func CheckMaterialLength(spec KeySpec, n int) error {
	if n < spec.Bytes() || n > MaxMaterialBytes {
		return InvalidCiphertext(fmt.Sprintf("key material for %s must have %d to %d bytes", spec, spec.Bytes(), MaxMaterialBytes))
	}
	return nil
}

// GrantOperations are the operations that a grant for an HMAC key can allow,
// in the order in which KMS lists them.
var GrantOperations = []string{"CreateGrant", "RetireGrant", "DescribeKey", "GenerateMac", "VerifyMac"}

// CheckGrantOperations refuses operations that grants for HMAC keys cannot allow.
func CheckGrantOperations(wanted []string) error {
	unsupported := slices.DeleteFunc(slices.Clone(wanted), func(op string) bool { return slices.Contains(GrantOperations, op) })
	if len(unsupported) > 0 {
		return Validationf("Operations [%s] are not supported when creating a grant for a symmetric KMS key with key usage GENERATE_VERIFY_MAC. Valid operations are [%s]",
			strings.Join(unsupported, ", "), strings.Join(GrantOperations, ", "))
	}
	return nil
}

// CheckPrincipal refuses the input of a grant operation that does not name its
// principal as it should. KMS has two members for each role, Grantee and
// Retiring: one for a principal, one for the principal of an AWS service, which
// nothing here can be. required says that one of the two has to be there. KMS's
// own texts are not on record.
func CheckPrincipal(in map[string]any, role string, required bool) error {
	principal, service := role+"Principal", role+"ServicePrincipal"
	switch {
	case in[principal] != nil && in[service] != nil, required && in[principal] == nil && in[service] == nil:
		return Validationf("You must specify either %s or %s, but not both.", principal, service)
	case in[service] != nil:
		return notInVault(service)
	}
	return nil
}

// GrantConstraintsRefused returns the exception for constraints of a grant, by
// their names in KMS or natively. Those about encryption contexts are not for
// HMAC keys in KMS either; SourceArn is about a request that an AWS service
// makes.
func GrantConstraintsRefused(constraints map[string]any) error {
	for name := range constraints {
		if FieldName(name) != "source_arn" {
			return Validationf("EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.")
		}
	}
	return notInVault("SourceArn")
}

// notInVault refuses a member that is about AWS services.
func notInVault(member string) error {
	return &Exception{Type: TypeUnsupportedOperation, Message: member + " is not supported.", Hint: "It is about AWS services, which do not call Vault."}
}

func join[T ~string](values []T) string { return strings.Join(texts(values), ", ") }

func texts[T ~string](values []T) []string {
	out := make([]string, len(values))
	for i, value := range values {
		out[i] = string(value)
	}
	return out
}
