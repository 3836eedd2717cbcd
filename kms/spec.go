package kms

import (
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"
)

// KeySpec says what kind of key a key is, in KMS's words. This package knows
// the HMAC specs; the others are names that CreateKey refuses.
type KeySpec string

// MacAlgorithm names a MAC algorithm in KMS's words. Each HMAC key spec has
// exactly one.
type MacAlgorithm string

const (
	HMAC224 KeySpec = "HMAC_224"
	HMAC256 KeySpec = "HMAC_256"
	HMAC384 KeySpec = "HMAC_384"
	HMAC512 KeySpec = "HMAC_512"

	HMACSHA224 MacAlgorithm = "HMAC_SHA_224"
	HMACSHA256 MacAlgorithm = "HMAC_SHA_256"
	HMACSHA384 MacAlgorithm = "HMAC_SHA_384"
	HMACSHA512 MacAlgorithm = "HMAC_SHA_512"
)

// SymmetricDefault is the key spec KMS assumes where CreateKey names none.
const SymmetricDefault KeySpec = "SYMMETRIC_DEFAULT"

// MaxMaterialBytes is the most imported key material KMS takes for an HMAC
// key of any spec.
const MaxMaterialBytes = 128

type specFacts struct {
	spec      KeySpec
	algorithm MacAlgorithm
	bytes     int // length of the digest, of the MAC and of a generated key
	hash      func() hash.Hash
}

// specs is the one table of what the HMAC key specs mean. A generated key is
// as long as its digest; imported material may be longer
// (https://docs.aws.amazon.com/kms/latest/developerguide/hmac.html).
var specs = []specFacts{
	{HMAC224, HMACSHA224, sha256.Size224, sha256.New224},
	{HMAC256, HMACSHA256, sha256.Size, sha256.New},
	{HMAC384, HMACSHA384, sha512.Size384, sha512.New384},
	{HMAC512, HMACSHA512, sha512.Size, sha512.New},
}

// HMACSpecs returns the key specs of HMAC keys, shortest first.
func HMACSpecs() []KeySpec {
	out := make([]KeySpec, len(specs))
	for i, s := range specs {
		out[i] = s.spec
	}
	return out
}

// MacAlgorithms returns the MAC algorithms, shortest first.
func MacAlgorithms() []MacAlgorithm {
	out := make([]MacAlgorithm, len(specs))
	for i, s := range specs {
		out[i] = s.algorithm
	}
	return out
}

// IsMacAlgorithm reports whether the word is one of MacAlgorithms.
func IsMacAlgorithm(word string) bool {
	return slices.ContainsFunc(specs, func(e specFacts) bool { return string(e.algorithm) == word })
}

// IsHMAC reports whether the spec is one of HMACSpecs.
func (s KeySpec) IsHMAC() bool { return s.index() >= 0 }

// MacAlgorithm returns the one algorithm that fits the spec, "" for a spec
// that is not an HMAC one.
func (s KeySpec) MacAlgorithm() MacAlgorithm {
	if i := s.index(); i >= 0 {
		return specs[i].algorithm
	}
	return ""
}

// Bytes returns the length in bytes of a MAC and of generated key material:
// 28, 32, 48 or 64; 0 for a spec that is not an HMAC one.
func (s KeySpec) Bytes() int {
	if i := s.index(); i >= 0 {
		return specs[i].bytes
	}
	return 0
}

func (s KeySpec) index() int {
	return slices.IndexFunc(specs, func(e specFacts) bool { return e.spec == s })
}

// Other words of the contract.
const (
	UsageMac = "GENERATE_VERIFY_MAC"

	OriginKMS      = "AWS_KMS"
	OriginExternal = "EXTERNAL"

	KeyManagerCustomer = "CUSTOMER"

	MaterialExpires       = "KEY_MATERIAL_EXPIRES"
	MaterialDoesNotExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE"
)

// KeyState is the state of a key in KMS's words
// (https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html).
// KMS's Creating, Updating, Unavailable and PendingReplicaDeletion do not
// occur: they belong to replicas and custom key stores.
type KeyState string

const (
	Enabled         KeyState = "Enabled"
	Disabled        KeyState = "Disabled"
	PendingImport   KeyState = "PendingImport"
	PendingDeletion KeyState = "PendingDeletion"
)

// Limits that are KMS's own.
const (
	MaxMessageBytes       = 4096
	MaxTags               = 50
	MaxAliasesPerKey      = 50
	MaxGrantsPerKey       = 50_000
	MaxGrantTokens        = 10
	MinPendingWindowDays  = 7
	MaxPendingWindowDays  = 30
	MaxValidToDays        = 365
	ImportParametersHours = 24
)

// MaxBatchItems is how many messages one batch may carry. KMS has no batches;
// at 4,096 bytes a message this stays below Vault's default request limit of
// 32 MiB for all but the longest messages.
const MaxBatchItems = 10_000
