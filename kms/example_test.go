package kms_test

import (
	"encoding/hex"
	"fmt"

	"vault-plugin-secrets-kms-hmac/kms"
)

// The first test case of RFC 4231, whose key is shorter than those of KMS and
// works all the same.
func ExampleMacKey() {
	material := []byte("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b")
	key := kms.NewMacKey(kms.HMAC256, material)

	mac := key.Append(nil, []byte("Hi There"))
	fmt.Println(hex.EncodeToString(mac))
	fmt.Println(key.Verify([]byte("Hi There"), mac))
	fmt.Println(key.Verify([]byte("Hi there"), mac))
	// Output:
	// b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7
	// true
	// false
}

// What an answer of KMS or of the engine calls an algorithm belongs to one key
// spec.
func ExampleKeySpec_MacAlgorithm() {
	for _, spec := range kms.HMACSpecs() {
		fmt.Println(spec, spec.MacAlgorithm(), spec.Bytes())
	}
	// Output:
	// HMAC_224 HMAC_SHA_224 28
	// HMAC_256 HMAC_SHA_256 32
	// HMAC_384 HMAC_SHA_384 48
	// HMAC_512 HMAC_SHA_512 64
}
