package gateway

// Refusals of Vault and of the engine, turned into KMS's exceptions.

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// Exceptions of AWS's services that are not in the KMS model. SDKs raise them
// as their generic service error, with this code.
const (
	typeExpiredToken               = "ExpiredTokenException"
	typeIncompleteSignature        = "IncompleteSignatureException"
	typeInvalidSignature           = "InvalidSignatureException"
	typeMissingAuthenticationToken = "MissingAuthenticationTokenException"
	typeSerialization              = "SerializationException"
	typeUnknownOperation           = "UnknownOperationException"
	typeUnrecognizedClient         = "UnrecognizedClientException"
	typeTooLarge                   = "RequestEntityTooLargeException"
)

// The texts for what Vault cannot do at the moment. All are of status 500,
// which SDKs retry. They say what an operator can act on and nothing of the
// inside; the log has the rest.
const (
	textTimeout     = "Vault did not answer in time."
	textUnreachable = "Vault cannot be reached."
	textSealed      = "Vault is sealed."
	textNoActive    = "Vault has no active node at the moment. Try again in a few seconds."
	textPlugin      = "The secrets engine's process has ended, and Vault starts another. Try again in a few seconds."
	textInternal    = "Vault could not process the request."
	textNoEngine    = "What answers at the mount is not the HMAC secrets engine."
)

func internal(text string) *kms.Exception {
	return &kms.Exception{Type: kms.TypeInternal, Message: text}
}

// vaultError is an answer of Vault that is no success.
type vaultError struct {
	status int
	// kind, message, keyID and aliasName are the engine's, if it refused the
	// request (docs/api.md, "Failures").
	kind, message, keyID, aliasName string
	texts                           []string // errors, as people read them
	noToken                         bool     // it may be refused for that, before any policy
	foreign                         bool     // it is no answer of Vault's, but a proxy's perhaps
}

// Error returns the status only: the texts may hold names.
func (e *vaultError) Error() string { return "Vault answered " + http.StatusText(e.status) }

// says reports whether one of the texts contains the words.
func (e *vaultError) says(words string) bool {
	for _, text := range e.texts {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// overloaded reports whether Vault sheds load.
func (e *vaultError) overloaded() bool {
	return e.status == http.StatusServiceUnavailable && e.says("overloaded")
}

// forbidden reports whether Vault's policies refused the request. A token that
// Vault does not know is another matter.
func forbidden(err error) bool {
	var v *vaultError
	return errors.As(err, &v) && v.status == http.StatusForbidden && !v.says("invalid token") && !v.says("missing client token")
}

// missing reports whether Vault found nothing to read or to list.
func missing(err error) bool {
	var v *vaultError
	return errors.As(err, &v) && v.status == http.StatusNotFound && len(v.texts) == 0
}

// throttled reports whether Vault or the engine said to slow down.
func throttled(err error) bool {
	var v *vaultError
	return errors.As(err, &v) && (v.status == http.StatusTooManyRequests || v.overloaded() || v.kind == kms.TypeThrottling)
}

// exception turns an error into what the client gets to see.
func (c *call) exception(err error) *kms.Exception {
	var exception *kms.Exception
	if errors.As(err, &exception) {
		return exception
	}
	var v *vaultError
	if errors.As(err, &v) {
		return c.vaultException(v)
	}
	return unavailable(err)
}

// unavailable is the exception for what Vault cannot do at the moment.
func unavailable(err error) *kms.Exception {
	var v *vaultError
	timeout := &kms.Exception{Type: kms.TypeDependencyTimeout, Message: textTimeout}
	if !errors.As(err, &v) {
		if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			return timeout
		}
		return internal(textUnreachable)
	}
	switch faultOf(v) {
	case faultSealed:
		return internal(textSealed)
	case faultNoActive:
		return internal(textNoActive)
	case faultPlugin:
		return internal(textPlugin)
	case faultUnreachable:
		return internal(textUnreachable)
	}
	if v.says(kms.TypeDependencyTimeout) || v.status == http.StatusGatewayTimeout || v.says("context deadline exceeded") {
		return timeout
	}
	return internal(textInternal)
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// vaultException turns a refusal of Vault's into KMS's.
func (c *call) vaultException(v *vaultError) *kms.Exception {
	switch {
	case v.status == http.StatusForbidden:
		return c.deniedBy(v)
	case v.status == http.StatusTooManyRequests, v.overloaded():
		return kms.Throttled()
	case v.status == http.StatusBadRequest && v.kind != "":
		return c.engineException(v)
	case v.status == http.StatusBadRequest && v.says("missing client token"):
		return errMissingToken
	case v.status == http.StatusNotFound && v.says("no handler for route"):
		return unknown("No secrets engine is mounted at " + c.gateway.mount + ".")
	}
	return unavailable(v)
}

// deniedBy turns a 403 into KMS's words for it.
func (c *call) deniedBy(v *vaultError) *kms.Exception {
	switch {
	case v.says("missing client token"), v.noToken && c.gateway.tokens.missing(c.ctx, c.trace.from):
		return errMissingToken
	case v.says("invalid token"):
		c.gateway.tokens.says.Store(true)
		return c.rejected()
	case c.gateway.tokens.unknown(c.ctx, c.caller.token, c.trace.from):
		return c.rejected()
	}
	action := "kms:" + c.operation
	return &kms.Exception{
		Type: kms.TypeAccessDenied,
		Message: "User: " + c.principal() + " is not authorized to perform: " + action +
			" on resource: " + c.resource + " because no identity-based policy allows the " + action + " action",
	}
}

// rejected is the answer where Vault does not accept the token: it has expired,
// or has been revoked.
func (c *call) rejected() *kms.Exception {
	g, token := c.gateway, c.caller.token
	switch {
	case c.caller.session != nil:
		if g.logins != nil {
			g.logins.Forget(token)
		}
		return errExpiredToken
	case g.identity != nil && c.caller.own:
		g.identity.Forget(token)
		return internal("Vault does not accept the endpoint's own token at the moment.")
	}
	return errInvalidToken
}

// principal is the ARN of the caller.
func (c *call) principal() string {
	if c.caller.principal != "" {
		return c.caller.principal
	}
	return c.arns().user(c.caller.accessKey)
}

// engineException gives an exception of the engine the ARN of the resource
// that it names. A missing key is called by the words that fit what the client
// sent.
func (c *call) engineException(v *vaultError) *kms.Exception {
	exception := &kms.Exception{Type: v.kind, Message: v.message}
	switch {
	case v.keyID != "" && v.message == kms.KeyNotFound(v.keyID).Message:
		id := c.folder.local(v.keyID)
		errors.As(c.arns().noSuchKey(id, c.key.fromARN && id == c.key.id), &exception)
	case v.keyID != "":
		exception.Message = kms.Rename(v.message, v.keyID, c.arns().key(c.folder.local(v.keyID)))
	case v.aliasName != "":
		name := c.folder.localAlias(v.aliasName)
		exception.Message = kms.Rename(v.message, v.aliasName, c.arns().alias(name))
	}
	return exception
}
