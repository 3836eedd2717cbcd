package gateway

// Inputs of GenerateMac and VerifyMac on the fast path, where they are not worth
// a map: same tokenizer, same meaning as json_input.go.

import (
	"encoding/base64"
	"unicode/utf8"

	"vault-plugin-secrets-kms-hmac/kms"
)

// macRequest is a validated GenerateMac or VerifyMac. Its blobs are standard
// base64, as the mount takes them, and may be parts of the client's body.
type macRequest struct {
	keyID        string
	algorithm    string
	message, mac []byte
	verify       bool
	requestID    string // of the call
	from         string // X-Forwarded-For of the call
	repeated     bool   // a request for it has been made twice
}

// macAnswer is what the mount says to one of them: the MAC in base64 (nothing
// for VerifyMac) and the key that did the work, or a failure.
type macAnswer struct {
	mac, keyID string
	err        error
	// correlation and vaultID are those of trace.
	correlation, vaultID string
	repeated             bool
}

// The bits by which scanMac remembers what it has read.
const (
	givenKeyID uint8 = 1 << iota
	givenMacAlgorithm
	givenMessage
	givenMac
)

// scanMac reads the body of a plain GenerateMac or VerifyMac: valid, with all
// that is required, and with none of the options that the shared way has no
// room for. ok is false for any other body, which goes the general way, where
// its fault is found and named.
//
// It shares the tokenizer with decodeInput and not more, because a map of
// values, and blobs that are decoded only to be encoded again, take seven times
// as long and twenty allocations instead of one (BenchmarkMacInput). What it takes,
// decodeInput and kms.Validate take too, and read alike (FuzzDecodeInput).
func scanMac(body []byte, verify bool) (m macRequest, ok bool) {
	s := &scanner{data: body}
	m.verify = verify
	var given uint8
	err := s.object(func(name []byte) (err error) {
		var member uint8
		switch string(name) {
		case "KeyId":
			member = givenKeyID
		case "MacAlgorithm":
			member = givenMacAlgorithm
		case "Message":
			member = givenMessage
		case "Mac":
			member = givenMac
		case "GrantTokens", "DryRun":
			return errSyntax
		}
		if member == 0 || member == givenMac && !verify {
			return s.skip(1)
		}
		if given&member != 0 {
			return errGivenTwice
		}
		given |= member
		text, err := s.str()
		switch member {
		case givenKeyID:
			m.keyID = string(text)
		case givenMacAlgorithm:
			m.algorithm = macAlgorithm(text)
		case givenMessage:
			m.message = text
		case givenMac:
			m.mac = text
		}
		return err
	})
	if err != nil || s.end() != nil || m.algorithm == "" || !isKeyIdentifier(m.keyID) {
		return m, false
	}
	if !isBlob(m.message, kms.MaxMessageBytes) || verify && !isBlob(m.mac, maxMacBytes) {
		return m, false
	}
	return m, true
}

// maxMacBytes is the most bytes that VerifyMac takes for a MAC.
const maxMacBytes = 6144

// maxKeyIdentifier is the most characters of a KeyId in KMS's model.
const maxKeyIdentifier = 2048

var macAlgorithms = kms.MacAlgorithms()

// macAlgorithm returns the algorithm of the name, "" if there is none.
func macAlgorithm(name []byte) string {
	for _, algorithm := range macAlgorithms {
		if string(algorithm) == string(name) {
			return string(algorithm)
		}
	}
	return ""
}

func isKeyIdentifier(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return text != "" && len(text) <= maxKeyIdentifier
}

// base64Digits says which bytes are digits of standard base64.
var base64Digits = func() (digits [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		digits[c] = true
	}
	return digits
}()

// isBlob reports whether the text is base64 of 1 to most bytes, written as the
// mount would write it: with padding and without line breaks. What it says is
// what encoding/base64 would say, without decoding.
func isBlob(text []byte, most int) bool {
	if len(text) == 0 || len(text)%4 != 0 || len(text) > base64.StdEncoding.EncodedLen(most) {
		return false
	}
	digits := len(text)
	for padding := 0; padding < 2 && text[digits-1] == '='; padding++ {
		digits--
	}
	for _, c := range text[:digits] {
		if !base64Digits[c] {
			return false
		}
	}
	return base64.RawStdEncoding.DecodedLen(digits) <= most
}
