package gateway

// Who calls: the headers of AWS Signature Version 4.

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/gateway/sigv4"
	"vault-plugin-secrets-kms-hmac/kms"
)

// caller is what the headers say about who calls.
type caller struct {
	// token is the Vault token: the AWS session token, or what that has sealed.
	// It may be empty: then the request to Vault has none, which suits a Vault
	// Proxy that adds its own.
	token string
	// accessKey is the access key id that the request is signed with. Nothing
	// is decided by it; it names the caller in AccessDeniedException.
	accessKey string
	// session is what a sealed session token has opened to, nil for others, and
	// signature what is yet to be verified of it.
	session   *session.Session
	signature *sigv4.Signature
	// own says that the token is the endpoint's own.
	own bool
	// principal is the ARN of a session, or of the endpoint's own identity.
	principal string
}

// maxAccessKey is the most characters of an access key id in IAM's model.
const maxAccessKey = 128

// The names of services in the scope of signatures.
const (
	kmsService = "kms"
	stsService = "sts"
)

// globalRegion is what clients sign for that call STS at its global address.
const globalRegion = "us-east-1"

// authenticate reads the credentials of a request signed with AWS Signature
// Version 4 for a service. With a session token that an endpoint has sealed, all
// but the signature is checked here, and the signature by verify, once the body
// is there. Where the session token is a Vault token, the endpoint knows no
// secret key, and it is the token that Vault checks.
func (g *Gateway) authenticate(r *http.Request, service string) (caller, error) {
	token := first(r.Header["X-Amz-Security-Token"])
	if g.sessions != nil && session.IsSealed(token) {
		return g.openSession(r, service)
	}
	authorization := first(r.Header["Authorization"])
	if authorization == "" {
		return caller{}, errMissingToken
	}
	accessKey, err := accessKeyOf(authorization)
	if err != nil {
		return caller{}, err
	}
	who := caller{token: token, accessKey: accessKey}
	switch {
	case token == "" && (g.requireToken || g.signedOnly || signsToken(authorization)):
		return caller{}, errMissingToken
	case g.signedOnly:
		return who, errInvalidToken
	case token == "" && len(r.Header["Origin"]) > 0:
		return caller{}, errBrowser
	case token == "" && g.identity != nil && g.local && !isLocal(r.Host):
		return caller{}, errNotLocal
	case token == "" && g.identity != nil:
		var entity string
		who.token, entity = g.identity.Current()
		who.own, who.principal = true, g.arns.user(cmp.Or(entity, noEntity))
	}
	return who, nil
}

// openSession reads the credentials of a request whose session token is sealed.
func (g *Gateway) openSession(r *http.Request, service string) (caller, error) {
	signature, err := sigv4.Read(r)
	if err != nil {
		return caller{}, signatureException(err)
	}
	who := caller{accessKey: signature.AccessKey, signature: signature}
	who.session, err = g.sessions.Open(r.Context(), signature.SecurityToken, g.now())
	switch {
	case errors.Is(err, session.ErrExpired):
		return who, errExpiredToken
	case errors.Is(err, session.ErrInvalid):
		return who, errInvalidToken
	case err != nil: // the sealing keys cannot be read
		return who, err
	case who.session.AccessKey != signature.AccessKey:
		return who, errInvalidToken
	}
	if service == stsService {
		err = signature.CheckScope(service, g.arns.Region, globalRegion)
	} else {
		err = signature.CheckScope(service, g.arns.Region)
	}
	if err == nil {
		err = signature.CheckTime(g.now())
	}
	if err != nil {
		return who, signatureException(err)
	}
	who.token = who.session.VaultToken
	who.principal = g.arns.assumedRole(who.session.Role, who.session.Entity)
	return who, nil
}

// verify verifies the signature of a session's request. Nothing is done for the
// caller before that.
func (c *caller) verify(r *http.Request, body []byte) error {
	if c.session == nil {
		return nil
	}
	return signatureException(c.signature.Verify(c.session.Key(c.signature), r, body))
}

// signatureException says in KMS's words what is wrong with a signature.
func signatureException(err error) error {
	var e *sigv4.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Reason == sigv4.Invalid:
		return &kms.Exception{Type: typeInvalidSignature, Message: e.Message}
	}
	return incompleteSignature(e.Message)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

var (
	errMissingToken = &kms.Exception{Type: typeMissingAuthenticationToken, Message: "Missing Authentication Token"}
	// errBrowser is for web pages: a browser sends the Origin of each POST, and
	// whoever opens a page means no call with the token of a sidecar or of a Vault
	// Proxy.
	errBrowser      = &kms.Exception{Type: typeMissingAuthenticationToken, Message: "Calls from web pages must have a session token."}
	errNotLocal     = &kms.Exception{Type: typeMissingAuthenticationToken, Message: "Calls without a session token must be addressed to loopback, and not to a name."}
	errInvalidToken = &kms.Exception{Type: typeUnrecognizedClient, Message: "The security token included in the request is invalid."}
	errExpiredToken = &kms.Exception{Type: typeExpiredToken, Message: "The security token included in the request is expired"}
)

// accessKeyOf returns the access key id of an Authorization header:
//
//	AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=...
func accessKeyOf(authorization string) (string, error) {
	scheme, parameters, _ := strings.Cut(authorization, " ")
	if scheme != "AWS4-HMAC-SHA256" && scheme != "AWS4-ECDSA-P256-SHA256" {
		return "", incompleteSignature("Authorization header requires an AWS Signature Version 4 algorithm.")
	}
	var credential string
	var signed, signature bool
	for parameters != "" {
		var parameter string
		parameter, parameters, _ = strings.Cut(parameters, ",")
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			signed = value != ""
		case "Signature":
			signature = value != ""
		}
	}
	accessKey, scope, _ := strings.Cut(credential, "/")
	switch {
	case accessKey == "" || scope == "" || !isAccessKey(accessKey):
		return "", incompleteSignature("Authorization header requires 'Credential' parameter.")
	case !signature:
		return "", incompleteSignature("Authorization header requires 'Signature' parameter.")
	case !signed:
		return "", incompleteSignature("Authorization header requires 'SignedHeaders' parameter.")
	}
	return accessKey, nil
}

// signsToken reports whether the signature of a request says that it has a
// session token. If it has none, that has been taken off on the way, and the call
// is not to be made as somebody else.
func signsToken(authorization string) bool {
	return strings.Contains(authorization, "x-amz-security-token")
}

// isLocal reports whether a Host header is an address of loopback, or localhost,
// which is no name that a stranger can have.
func isLocal(host string) bool {
	name := host
	if bare, _, err := net.SplitHostPort(host); err == nil {
		name = bare
	}
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return strings.EqualFold(name, "localhost") || err == nil && address.IsLoopback()
}

func incompleteSignature(message string) error {
	return &kms.Exception{Type: typeIncompleteSignature, Message: message}
}

// isAccessKey keeps what is no access key id out of ARNs and logs. Ids of Vault
// entities, which "kms-gateway credentials" gives out as access key ids, have
// dashes; test credentials have all kinds of words.
func isAccessKey(id string) bool {
	if len(id) > maxAccessKey {
		return false
	}
	for i := range len(id) {
		c := id[i]
		ok := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '@' || c == '+'
		if !ok {
			return false
		}
	}
	return true
}
