package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Key is a signing key: a secret access key narrowed to a day, a Region and a
// service.
type Key [sha256.Size]byte

// NewKey derives the signing key that the signature says it is made with.
func (s *Signature) NewKey(secret string) Key {
	key := sum([]byte("AWS4"+secret), s.Date)
	key = sum(key[:], s.Region)
	key = sum(key[:], s.Service)
	return sum(key[:], terminator)
}

func sum(key []byte, text string) (out Key) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	h.Sum(out[:0])
	return out
}

// errMismatch says no more than that: which part differs is the client's secret
// or an attacker's guess.
var errMismatch = invalid("The request signature we calculated does not match the signature you provided. " +
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")

// Verify returns nil if the signature is the one of the request and its body
// under the key. The comparison takes the same time wherever it fails. r must be
// the request that s was read from.
func (s *Signature) Verify(key Key, r *http.Request, body []byte) error {
	payload := sha256.Sum256(body)
	var hexPayload [2 * sha256.Size]byte
	hex.Encode(hexPayload[:], payload[:])
	if declared := r.Header["X-Amz-Content-Sha256"]; len(declared) > 0 && declared[0] != string(hexPayload[:]) {
		return invalid("The header 'X-Amz-Content-Sha256' is not the SHA-256 sum of the body, which is the only value supported.")
	}
	canonical, err := s.canonicalRequest(make([]byte, 0, 2048), r)
	if err != nil {
		return err
	}
	canonical = append(canonical, hexPayload[:]...)
	hashed := sha256.Sum256(canonical)

	// What is signed: algorithm, date, scope, and the sum of the request.
	text := make([]byte, 0, 192)
	text = append(append(text, algorithm+"\n"...), s.timestamp...)
	text = append(append(append(text, '\n'), s.Date...), '/')
	text = append(append(append(text, s.Region...), '/'), s.Service...)
	text = append(text, "/"+terminator+"\n"...)
	text = hex.AppendEncode(text, hashed[:])

	h := hmac.New(sha256.New, key[:])
	h.Write(text)
	var want [sha256.Size]byte
	var got [2 * sha256.Size]byte
	hex.Encode(got[:], h.Sum(want[:0]))
	if !hmac.Equal(got[:], []byte(s.signature)) {
		return errMismatch
	}
	return nil
}

// canonicalRequest appends the canonical request without its last line, the sum
// of the body. The path is canonical already, and there is no query.
func (s *Signature) canonicalRequest(out []byte, r *http.Request) ([]byte, error) {
	out = append(append(out, r.Method...), '\n')
	out = append(append(out, r.RequestURI...), "\n\n"...)
	for _, name := range s.signed {
		value, err := signedValue(r, name)
		if err != nil {
			return nil, err
		}
		out = append(append(out, name...), ':')
		out = append(appendFolded(out, value), '\n')
	}
	out = append(out, '\n')
	for i, name := range s.signed {
		if i > 0 {
			out = append(out, ';')
		}
		out = append(out, name...)
	}
	return append(out, '\n'), nil
}

// signedValue returns the value of a signed header. One that is not there has
// been taken off on the way.
func signedValue(r *http.Request, name string) (string, error) {
	if name == "host" {
		return r.Host, nil
	}
	values := r.Header[textproto.CanonicalMIMEHeaderKey(name)]
	switch {
	case len(values) == 1 && strings.Contains(values[0], "\t"):
		// AWS folds spaces; whether tabs are among them, signers disagree.
		return "", incomplete("The signed header '" + name + "' must not have tabs.")
	case len(values) == 1:
		return values[0], nil
	case len(values) > 1:
		return "", incomplete("The signed header '" + name + "' must not be repeated.")
	case name == "content-length":
		return strconv.FormatInt(r.ContentLength, 10), nil
	}
	return "", errMismatch
}

// appendFolded appends a value as signatures have it: without spaces at its ends,
// and with one for several in a row.
func appendFolded(out []byte, value string) []byte {
	start := len(out)
	space := false
	for i := range len(value) {
		c := value[i]
		if c == ' ' {
			space = len(out) > start
			continue
		}
		if space {
			out = append(out, ' ')
			space = false
		}
		out = append(out, c)
	}
	return out
}
