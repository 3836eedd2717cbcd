package gateway

// Credentials of containers: what AWS_CONTAINER_CREDENTIALS_FULL_URI asks for
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	// containerPrefix begins the paths of credentials; a role follows.
	containerPrefix = "/credentials/"
	// getCredentials names the request in logs and metrics.
	getCredentials = "GetCredentials"
)

// handleContainer logs a caller in with the token in its Authorization header
// or, where certificates log in, with that of its connection.
func (g *Gateway) handleContainer(_ http.ResponseWriter, r *http.Request, o *outcome) {
	o.operation = getCredentials
	if g.logins == nil {
		o.fail(&kms.Exception{Type: "NotFound", Message: "This endpoint logs nobody in: it was started without -login."}, nil)
		return
	}
	request, fault := g.containerRequest(r, o.trace.from)
	if fault != "" {
		o.fail(&kms.Exception{Type: "InvalidRequest", Message: fault}, nil)
		return
	}
	// Logins have limits of their own, and are none of the calls at once: strangers
	// who wait for Vault must not keep out those who are logged in.
	g.containerLogin(r, request, o)
}

// containerRequest returns what a caller brings, or what is wrong with it.
func (g *Gateway) containerRequest(r *http.Request, from string) (request login.Request, fault string) {
	request = login.Request{Role: strings.TrimPrefix(r.URL.Path, containerPrefix), Remote: r.RemoteAddr, From: from}
	tokens := r.Header["Authorization"]
	switch {
	case strings.Contains(r.RequestURI, "?") || r.URL.RawPath != "":
		return request, "The request must have no query, and no escapes in its path."
	case g.logins.Method.Kind != login.Cert:
		if len(tokens) != 1 {
			return request, "The request must have one Authorization header with a token."
		}
		request.Credential = tokens[0]
	case len(tokens) > 0:
		return request, "The request must have no Authorization header: the certificate of the connection logs in."
	case r.TLS == nil || len(r.TLS.PeerCertificates) == 0:
		return request, "The request must come over a connection with a client certificate."
	default:
		request.Certificates = r.TLS.PeerCertificates
	}
	return request, ""
}

func (g *Gateway) containerLogin(r *http.Request, request login.Request, o *outcome) {
	l, err := g.logins.Login(r.Context(), request)
	if err != nil {
		o.failLogin(r, err)
		return
	}
	s, token, err := g.issue(l, login.MaxLifetime)
	if err != nil {
		o.fail(internal(textInternal), err)
		return
	}
	o.accessKey, o.principal, o.status = s.AccessKey, g.arns.assumedRole(s.Role, s.Entity), http.StatusOK
	answer := object{
		{"AccessKeyId", s.AccessKey},
		{"SecretAccessKey", s.Secret},
		{"Token", token},
		{"Expiration", time.Unix(s.Expires, 0).UTC().Format(time.RFC3339)},
		{"RoleArn", g.arns.role(s.Role)},
	}
	if g.logins.Method.Kind == login.Cert {
		// SDKs ask for the credentials of containers without a certificate: what
		// asks with one is a credential_process, which calls the token otherwise.
		answer = append(answer, field{"Version", 1}, field{"SessionToken", token})
	}
	o.body = appendObject(nil, answer)
}

// issue returns a new session for a login, and its sealed token.
func (g *Gateway) issue(l *login.Login, longest time.Duration) (*session.Session, string, error) {
	expires := l.Expires
	if end := g.now().Add(longest); end.Before(expires) {
		expires = end
	}
	s := session.New(l.Token, l.Role, l.Entity, l.Bound, expires)
	token, err := g.sessions.Seal(s)
	return s, token, err
}

// The codes of failed logins, which are STS's.
const (
	codeAccessDenied         = "AccessDenied"
	codeInvalidIdentityToken = "InvalidIdentityToken"
	codeExpiredIdentityToken = "ExpiredTokenException"
	codeThrottling           = "Throttling"
	codeUnavailable          = "ServiceUnavailable"
)

// failLogin makes the failure of a login the outcome.
func (o *outcome) failLogin(r *http.Request, err error) {
	var e *login.Error
	if !errors.As(err, &e) { // the caller has gone
		o.fail(&kms.Exception{Type: codeUnavailable, Message: "The login was given up."}, err)
		o.gone = r.Context().Err() != nil
		return
	}
	exception := &kms.Exception{Type: codeInvalidIdentityToken, Message: e.Message}
	switch {
	case e.Reason == login.Denied, e.Reason == login.Refused && aboutTheRole(e.Message):
		exception.Type = codeAccessDenied
	case e.Reason == login.Expired:
		exception.Type = codeExpiredIdentityToken
	case e.Reason == login.Busy:
		exception.Type = codeThrottling
	case e.Reason == login.Unavailable:
		exception.Type = codeUnavailable
	}
	o.fail(exception, err)
}

// aboutTheRole reports whether Vault's words are about the role and who may have
// it, and not about the token.
func aboutTheRole(message string) bool {
	for _, words := range []string{"could not be found", "invalid role", "error validating claims", "not authorized"} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}

// failContainer writes an exception as the credential providers of SDKs read it.
func failContainer(o *outcome, exception *kms.Exception) {
	switch exception.Type {
	case "NotFound":
		o.status = http.StatusNotFound
	case "InvalidRequest":
		o.status = http.StatusBadRequest
	default:
		o.status = stsStatus(exception.Type)
	}
	o.body = appendObject(nil, object{{"code", exception.Type}, {"message", exception.Message}})
}
