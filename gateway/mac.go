package gateway

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
}

// macAnswer is what the mount says to one of them: the MAC in base64 (nothing
// for VerifyMac) and the key that did the work, or a failure.
type macAnswer struct {
	mac, keyID string
	err        error
}

// scanMac reads the body of a plain GenerateMac or VerifyMac: valid, with all
// that is required, and with none of the options that the shared way has no
// room for. ok is false for any other body, which goes the general way, where
// its fault is found and named. This is the hot path: no reflection, no maps.
func scanMac(body []byte, verify bool) (m macRequest, ok bool) {
	s := &scanner{data: body}
	m.verify = verify
	err := s.object(func(name []byte) error {
		var value []byte
		var err error
		switch string(name) {
		case "KeyId", "Message", "MacAlgorithm":
		case "Mac":
			if !verify {
				return s.skip(1)
			}
		case "GrantTokens", "DryRun":
			return errSyntax
		default:
			return s.skip(1)
		}
		if value, err = s.str(); err != nil {
			return err
		}
		switch name[0] {
		case 'K':
			m.keyID = string(value)
		default:
			switch len(name) {
			case len("Message"):
				m.message = value
			case len("Mac"):
				m.mac = value
			default:
				m.algorithm = macAlgorithm(value)
			}
		}
		return nil
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

// mac does a plain GenerateMac or VerifyMac, together with others if others are
// under way.
func (c *call) mac(m macRequest) ([]byte, error) {
	if err := c.resolve(m.keyID, true); err != nil {
		return nil, err
	}
	group := macGroup{token: c.caller.token, key: c.key.native, algorithm: m.algorithm, verify: m.verify}
	a := c.gateway.macs.do(c.ctx, group, m)
	if a.err != nil {
		return nil, a.err
	}
	return c.macBody(m.verify, a, m.algorithm), nil
}

// macBody returns the answer to a GenerateMac or VerifyMac. The blob and the
// algorithm need no escaping.
func (c *call) macBody(verify bool, a macAnswer, algorithm string) []byte {
	arn := c.key.arn
	if a.keyID != c.key.native {
		arn = c.place().keyARN(c.folder.local(a.keyID))
	}
	body := make([]byte, 0, 96+len(a.mac)+len(arn))
	body = append(body, '{')
	if verify {
		body = append(body, `"MacValid":true`...)
	} else {
		body = append(append(append(body, `"Mac":"`...), a.mac...), '"')
	}
	body = append(append(append(body, `,"MacAlgorithm":"`...), algorithm...), `","KeyId":`...)
	return append(appendString(body, arn), '}')
}

// generateMac and verifyMac are the general way: calls with options go alone.
func generateMac(c *call, in input) (answer, error) { return c.macAlone(in, false) }

func verifyMac(c *call, in input) (answer, error) { return c.macAlone(in, true) }

func (c *call) macAlone(in input, verify bool) (answer, error) {
	members := []string{"Message", "MacAlgorithm", "GrantTokens", "DryRun"}
	if verify {
		members = append(members, "Mac")
	}
	var native macFields
	if err := c.postGranted(c.op.path+"/"+c.key.native, c.fields(members, in), &native); err != nil {
		return nil, err
	}
	arn := c.place().keyARN(c.folder.local(native.KeyID))
	if verify {
		return answer{{"MacValid", true}, {"MacAlgorithm", in.text("MacAlgorithm")}, {"KeyId", arn}}, nil
	}
	return answer{{"Mac", native.Mac}, {"MacAlgorithm", in.text("MacAlgorithm")}, {"KeyId", arn}}, nil
}
