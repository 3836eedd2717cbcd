package gateway

// What KMS has for keys that are not HMAC keys: custom key stores, encryption,
// data keys, rotation. These operations only ever refuse, in KMS's words and in
// KMS's order of checks.

import (
	"bytes"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

var errNoCustomKeyStores = &kms.Exception{
	Type:    kms.TypeUnsupportedOperation,
	Message: "Custom key stores are not supported: HMAC keys cannot be in one.",
}

func noCustomKeyStores(*call, input) (answer, error) { return nil, errNoCustomKeyStores }

// checkDataKeyLength is a rule that comes before the key, even for a key that
// cannot generate data keys.
func checkDataKeyLength(_ *call, in input) error {
	_, bytes := in["NumberOfBytes"]
	_, spec := in["KeySpec"]
	if bytes == spec {
		return kms.Validationf("Please specify either number of bytes or key spec.")
	}
	return nil
}

// kmsCiphertext begins the ciphertexts that KMS makes with symmetric keys.
var kmsCiphertext = []byte{1, 2}

// kmsCiphertextLength is less than the shortest of them has.
const kmsCiphertextLength = 64

// decrypt refuses a ciphertext in the order in which KMS does: a symmetric one
// is parsed before the key is looked at. None that is whole can be of a key
// that is here.
func decrypt(c *call, in input) (answer, error) {
	ciphertext, ok := in["CiphertextBlob"].([]byte)
	if !ok {
		return nil, kms.MissingMember("ciphertextBlob")
	}
	keyID := in.text("KeyId")
	asymmetric := in.text("EncryptionAlgorithm") != "" && in.text("EncryptionAlgorithm") != string(kms.SymmetricDefault)
	switch {
	case asymmetric && keyID == "":
		return nil, kms.Validationf("KeyId must not be null for asymmetric encryption algorithms.")
	case asymmetric:
		if err := c.resolve(keyID, true); err != nil {
			return nil, err
		}
		return nil, c.refusal("decrypt/" + c.key.native)
	case !bytes.HasPrefix(ciphertext, kmsCiphertext) || len(ciphertext) < kmsCiphertextLength:
		return nil, kms.InvalidCiphertext("")
	case keyID == "":
		return nil, &kms.Exception{
			Type:    kms.TypeAccessDenied,
			Message: "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.",
		}
	}
	if err := c.resolve(keyID, true); err != nil {
		return nil, err
	}
	if _, err := c.describe(); err != nil {
		return nil, err
	}
	return nil, &kms.Exception{
		Type:    kms.TypeIncorrectKey,
		Message: "The key ID in the request does not identify a CMK that can perform this operation.",
	}
}

// refusal makes a request that can only fail.
func (c *call) refusal(path string) error {
	if err := c.post(path, nil, nil); err != nil {
		return err
	}
	return internal(textInternal)
}

// listKeyRotations lists nothing: HMAC keys do not rotate.
func listKeyRotations(c *call, in input) (answer, error) {
	if err := c.post("list-key-rotations/"+c.key.native, nil, nil); err != nil {
		return nil, err
	}
	if strings.HasPrefix(in.text("IncludeKeyMaterial"), "ALL") {
		return nil, kms.Validationf("Input parameter includeKeyMaterial can only be used with symmetric keys.")
	}
	if in.text("Marker") != "" { // there is no second page
		return nil, kms.InvalidMarker()
	}
	return answer{{"Rotations", []object{}}, {"Truncated", false}}, nil
}
