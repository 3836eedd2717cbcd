package gateway

// Limit and Marker of list operations.

import (
	"encoding/base64"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Kinds of markers. A marker is good for the operation that gave it only.
const (
	markKeys          = 'k'
	markAliases       = 'a'
	markAliasesOfKey  = 'b'
	markTags          = 't'
	markGrants        = 'g'
	markRetirable     = 'r'
	maxPositionLength = 700 // longer than any name, and its marker fits KMS's 1,024
)

// marker returns the opaque text by which the client asks for what comes after
// a position.
func marker(kind byte, position string) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{kind}, position...))
}

// markerOf returns the position that the input's marker stands for, "" if there
// is none, and InvalidMarkerException for a marker that is not of this kind.
func markerOf(in input, kind byte) (position string, err error) {
	text, ok := in["Marker"].(string)
	if !ok {
		return "", nil
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(decoded) < 2 || len(decoded) > maxPositionLength || decoded[0] != kind {
		return "", kms.InvalidMarker()
	}
	return string(decoded[1:]), nil
}

// limitOf returns how many entries a page may have: the Limit of the input,
// otherwise the default, and never more than the maximum that counts.
func limitOf(in input, otherwise, most int) int { return min(in.number("Limit", otherwise), most) }

// page returns the answer of a list operation. next is the position at which
// the next page starts, "" if this is the last one.
func page(name string, entries []object, kind byte, next string) answer {
	a := answer{{name, entries}}
	if next != "" {
		a = append(a, field{"NextMarker", marker(kind, next)})
	}
	return append(a, field{"Truncated", next != ""})
}
