package gateway

// What clients of KMS need of AWS STS: AssumeRoleWithWebIdentity logs them in,
// GetCallerIdentity says who they are
// (https://docs.aws.amazon.com/STS/latest/APIReference/).

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	stsVersion = "2011-06-15"
	// maxSTSBody bounds the body of a request: its largest part is a token of
	// 20,000 characters.
	maxSTSBody = 64 << 10

	assumeRoleWithWebIdentity = "AssumeRoleWithWebIdentity"
	getCallerIdentity         = "GetCallerIdentity"

	// The bounds of DurationSeconds.
	minSession, maxSession, defaultSession = 900, 43200, 43200
)

// stsCodes are STS's codes for the exceptions of KMS.
var stsCodes = map[string]string{
	typeMissingAuthenticationToken: "MissingAuthenticationToken",
	typeIncompleteSignature:        "IncompleteSignature",
	typeInvalidSignature:           "SignatureDoesNotMatch",
	typeUnrecognizedClient:         "InvalidClientTokenId",
	typeTooLarge:                   "RequestEntityTooLarge",
	typeSerialization:              "MalformedInput",
	typeUnknownOperation:           "InvalidAction",
	kms.TypeValidation:             "ValidationError",
	kms.TypeThrottling:             codeThrottling,
	kms.TypeInternal:               "InternalFailure",
	kms.TypeDependencyTimeout:      codeUnavailable,
}

// stsStatus returns the HTTP status of a code of STS.
func stsStatus(code string) int {
	switch code {
	case codeAccessDenied, "MissingAuthenticationToken", "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken":
		return http.StatusForbidden
	case "RequestEntityTooLarge":
		return http.StatusRequestEntityTooLarge
	case "InternalFailure", kms.TypeInternal:
		return http.StatusInternalServerError
	case codeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// stsError is an exception as STS writes it.
type stsError struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func failSTS(o *outcome, exception *kms.Exception) {
	code := exception.Type
	if own, ok := stsCodes[code]; ok {
		code = own
	}
	if exception == errExpiredToken {
		code = "ExpiredToken" // of GetCallerIdentity; a web identity's is another
	}
	o.status = stsStatus(code)
	e := stsError{Type: "Sender", Code: code, Message: exception.Message, RequestID: o.trace.id}
	if o.status >= http.StatusInternalServerError {
		e.Type = "Receiver"
	}
	o.body = marshalXML(e)
}

func marshalXML(v any) []byte {
	text, err := xml.Marshal(v)
	if err != nil {
		panic(err) // all of these types can be written
	}
	return text
}

// handleSTS reads the form, and does what it asks for.
func (g *Gateway) handleSTS(w http.ResponseWriter, r *http.Request, o *outcome) {
	err := g.stsForm(w, r, o)
	var exception *kms.Exception
	switch {
	case err == nil:
	case errors.As(err, &exception):
		o.fail(exception, err)
	default:
		o.fail(internal(textInternal), err)
	}
}

func (g *Gateway) stsForm(w http.ResponseWriter, r *http.Request, o *outcome) error {
	body, err := g.forms.read(w, r)
	if err != nil {
		return err
	}
	defer body.release()
	form, err := parseForm(body.bytes)
	if err != nil {
		return err
	}
	return g.sts(r, body.bytes, form, o)
}

// parseForm reads a form in which each parameter is there once.
func parseForm(body []byte) (url.Values, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, serializationError("The request body is no form.")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, kms.Validationf("The parameter %.64q must not be repeated.", name)
		}
	}
	return form, nil
}

func (g *Gateway) sts(r *http.Request, body []byte, form url.Values, o *outcome) error {
	action := form.Get("Action")
	if form.Get("Version") == stsVersion {
		switch action {
		case assumeRoleWithWebIdentity:
			o.operation = action
			return g.assumeRole(r, form, o)
		case getCallerIdentity:
			o.operation = action
			return g.limited(func() error { return g.callerIdentity(r, body, o) })
		}
	}
	return unknown(fmt.Sprintf("Could not find operation %.64q for version %.32q: this endpoint has %s and %s of version %s.",
		action, form.Get("Version"), assumeRoleWithWebIdentity, getCallerIdentity, stsVersion))
}

var sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// roleOf returns the role that an ARN names: its last part.
func (a ARNs) roleOf(text string) (role string, ok bool) {
	parsed, ok := parseARN(text)
	if !ok || parsed.partition != a.Partition || parsed.service != "iam" || parsed.region != "" || parsed.account != a.Account {
		return "", false
	}
	path, ok := strings.CutPrefix(parsed.resource, "role/")
	return path[strings.LastIndexByte(path, '/')+1:], ok
}

// role returns the ARN of a role.
func (a ARNs) role(name string) string {
	return "arn:" + a.Partition + ":iam::" + a.Account + ":role/" + name
}

type stsMetadata struct {
	RequestID string `xml:"ResponseMetadata>RequestId"`
}

type assumeRoleResponse struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Result  struct {
		User struct {
			ID  string `xml:"AssumedRoleId"`
			ARN string `xml:"Arn"`
		} `xml:"AssumedRoleUser"`
		Credentials struct {
			AccessKey  string `xml:"AccessKeyId"`
			Secret     string `xml:"SecretAccessKey"`
			Token      string `xml:"SessionToken"`
			Expiration string
		}
		Provider string
	} `xml:"AssumeRoleWithWebIdentityResult"`
	stsMetadata
}

// assumeRole logs a caller in with its web identity token. The request is not
// signed: the token is all it has.
func (g *Gateway) assumeRole(r *http.Request, form url.Values, o *outcome) error {
	if g.logins == nil {
		return &kms.Exception{Type: codeAccessDenied, Message: "This endpoint logs nobody in: it was started without -login."}
	}
	seconds, err := checkAssumeRole(form)
	if err != nil {
		return err
	}
	role, ok := g.arns.roleOf(form.Get("RoleArn"))
	if !ok {
		return &kms.Exception{
			Type:    codeAccessDenied,
			Message: "Not authorized to perform sts:AssumeRoleWithWebIdentity: roles here are " + g.arns.role("<role of the auth method>"),
		}
	}
	l, err := g.logins.Login(r.Context(), login.Request{
		Role: role, Credential: strings.TrimSpace(form.Get("WebIdentityToken")), Remote: r.RemoteAddr, From: o.trace.from,
	})
	if err != nil {
		o.failLogin(r, err)
		return nil
	}
	s, token, err := g.issue(l, time.Duration(seconds)*time.Second)
	if err != nil {
		return err
	}
	o.accessKey, o.principal, o.status = s.AccessKey, g.arns.assumedRole(s.Role, s.Entity), http.StatusOK
	answer := assumeRoleResponse{stsMetadata: stsMetadata{o.trace.id}}
	result := &answer.Result
	result.User.ID, result.User.ARN = s.Entity+":"+form.Get("RoleSessionName"), o.principal
	result.Credentials.AccessKey, result.Credentials.Secret, result.Credentials.Token = s.AccessKey, s.Secret, token
	result.Credentials.Expiration = time.Unix(s.Expires, 0).UTC().Format(time.RFC3339)
	result.Provider = "auth/" + g.logins.Method.Path
	o.body = marshalXML(answer)
	return nil
}

// checkAssumeRole checks the parameters that are not about who the caller is,
// and returns the session's longest duration in seconds.
func checkAssumeRole(form url.Values) (seconds int, err error) {
	for name := range form {
		if name == "Policy" || strings.HasPrefix(name, "PolicyArns.") {
			return 0, &kms.Exception{
				Type:    "MalformedPolicyDocument",
				Message: "Session policies are not supported: the policies of the Vault role decide what a session may do.",
			}
		}
	}
	for _, name := range []string{"RoleArn", "RoleSessionName", "WebIdentityToken"} {
		if form.Get(name) == "" {
			return 0, kms.Validationf("The parameter %s is required.", name)
		}
	}
	if !sessionNamePattern.MatchString(form.Get("RoleSessionName")) {
		return 0, kms.Validationf("The parameter RoleSessionName must be 2 to 64 letters, digits, or characters of _+=,.@-")
	}
	if form.Get("ProviderId") != "" {
		return 0, &kms.Exception{Type: codeInvalidIdentityToken, Message: "OAuth 2.0 access tokens, which need a ProviderId, are not supported."}
	}
	text := form.Get("DurationSeconds")
	if text == "" {
		return defaultSession, nil
	}
	seconds, err = strconv.Atoi(text)
	if err != nil || seconds < minSession || seconds > maxSession {
		return 0, kms.Validationf("The parameter DurationSeconds must be between %d and %d.", minSession, maxSession)
	}
	return seconds, nil
}

type callerIdentityResponse struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	ARN     string   `xml:"GetCallerIdentityResult>Arn"`
	UserID  string   `xml:"GetCallerIdentityResult>UserId"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
	stsMetadata
}

// callerIdentity says who calls. Vault is asked, so that credentials that have
// been revoked are nobody's.
func (g *Gateway) callerIdentity(r *http.Request, body []byte, o *outcome) error {
	who, err := g.authenticate(r, stsService)
	o.accessKey, o.principal = who.accessKey, who.principal
	if err == nil {
		err = who.verify(r, body)
	}
	if err != nil {
		return err
	}
	c := &call{gateway: g, ctx: r.Context(), operation: getCallerIdentity, caller: who, safe: true, trace: &o.trace}
	entity, err := c.entity()
	if err != nil {
		return c.exception(err)
	}
	answer := callerIdentityResponse{ARN: who.principal, UserID: entity, Account: g.arns.Account, stsMetadata: stsMetadata{o.trace.id}}
	if answer.ARN == "" {
		answer.ARN = g.arns.user(entity)
	}
	o.status, o.body = http.StatusOK, marshalXML(answer)
	return nil
}

// entity returns the id of the caller's entity. Tokens that may not look
// themselves up are called by their access key.
func (c *call) entity() (string, error) {
	var v *vaultError
	var found struct {
		EntityID string `json:"entity_id"`
	}
	err := c.send(vaultRequest{
		method: http.MethodGet, path: "auth/token/lookup-self", token: c.caller.token, from: c.trace.from, correlation: c.trace.id,
	}, &found)
	switch {
	case forbidden(err) && c.gateway.tokens.unknown(c.ctx, c.caller.token, c.trace.from):
		return "", c.rejected()
	case forbidden(err) && c.caller.session != nil:
		return c.caller.session.Entity, nil
	case forbidden(err), errors.As(err, &v) && v.status == http.StatusNotFound: // as in -dev, which has no tokens
		return c.caller.accessKey, nil
	case err != nil:
		return "", err
	}
	if found.EntityID == "" {
		return noEntity, nil
	}
	return found.EntityID, nil
}
