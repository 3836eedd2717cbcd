package login

import (
	"errors"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// Reason is why a login failed.
type Reason int

const (
	// Malformed is a credential without the shape of one. Vault was not asked.
	Malformed Reason = iota
	// Refused is a credential that Vault does not accept.
	Refused
	// Expired is one that Vault does not accept any more.
	Expired
	// Denied is a login that Vault's policies or quotas do not permit.
	Denied
	// Busy is a login too many at the same time.
	Busy
	// Unavailable is a Vault that does not answer, or not now.
	Unavailable
)

// Error is why a login failed, in words for the caller: Vault's own, where it
// had some. They never hold the credential.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

// maxMessage bounds what is passed on of Vault's words.
const maxMessage = 500

// explain turns the error of a login by a method into an [Error].
func (m Method) explain(err error, credential string) *Error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return &Error{Unavailable, "Vault cannot be reached"}
	}
	text := clean(strings.Join(answer.Errors, ", "), credential)
	switch {
	case answer.StatusCode == http.StatusTooManyRequests:
		return &Error{Busy, "Vault permits no more logins at the moment"}
	case answer.StatusCode >= http.StatusInternalServerError:
		return &Error{Unavailable, "Vault could not process the login"}
	case strings.Contains(text, "expired"):
		return &Error{Expired, text}
	case m.Kind == Kubernetes && text == "permission denied":
		// That is all Vault says; why, its log has at level debug.
		return &Error{Refused, text + ": Kubernetes does not accept the token, Vault may not ask it, or the role is not for this address"}
	case answer.StatusCode == http.StatusForbidden:
		return &Error{Denied, text}
	}
	return &Error{Refused, text}
}

// clean makes Vault's words fit to pass on: of printable ASCII, of a bounded
// length, without the credential and its parts.
func clean(text, credential string) string {
	parts := append([]string{credential}, strings.Split(credential, ".")...)
	for _, part := range parts {
		if len(part) >= 8 {
			text = strings.ReplaceAll(text, part, "<token>")
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxMessage {
		text = text[:maxMessage] + "..."
	}
	if text == "" {
		return "Vault refused the login"
	}
	return text
}
