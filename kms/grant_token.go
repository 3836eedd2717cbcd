package kms

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
)

// GrantToken is what a grant token says: the grant, and a nonce, which makes
// each token of it different.
type GrantToken struct {
	KeyID   string `json:"key_id"`
	GrantID string `json:"grant_id"`
	Nonce   []byte `json:"nonce"`
}

// Seal returns the token as text: base64url of a MAC under the grant's secret
// and of what the token says. The error is never one of the caller's.
func (t GrantToken) Seal(secret []byte) (string, error) {
	payload, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	sealed := append(NewMacKey(HMAC256, secret).Append(nil, payload), payload...)
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// ReadGrantToken returns what a token says, and a check whether it was sealed
// with a grant's secret. Before that, anybody may have written it. ok is false
// for a text that is no token.
func ReadGrantToken(text string) (t GrantToken, sealedWith func(secret []byte) bool, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < sha256.Size {
		return t, nil, false
	}
	mac, payload := raw[:sha256.Size], raw[sha256.Size:]
	if json.Unmarshal(payload, &t) != nil {
		return t, nil, false
	}
	return t, func(secret []byte) bool { return NewMacKey(HMAC256, secret).Verify(payload, mac) }, true
}
