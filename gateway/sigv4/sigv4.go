// Package sigv4 verifies AWS Signature Version 4 of requests to a service that
// takes whole JSON or form bodies by POST, as KMS and STS do
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html).
//
// It has one reading of a request. What could be read in two ways is refused,
// never interpreted: a header that is there twice, a path with escapes, a query,
// a body that comes in chunks or is not covered by the signature. So what has
// been verified is what the service then acts on.
package sigv4

import (
	"net/http"
	"strings"
	"time"
)

// Window is how far a request's date may be from the time of the service, either
// way: AWS's five minutes.
const Window = 5 * time.Minute

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	// maxSigned is the most signed headers of a request. SDKs sign about ten.
	maxSigned = 64
)

// Reason is what is wrong with a request.
type Reason int

const (
	// Incomplete is a request whose signature cannot be read, or has more than
	// one reading.
	Incomplete Reason = iota
	// Invalid is a signature that is not good for this request, place or time.
	Invalid
)

// Error is why a request is refused. Its message is for the client and holds
// nothing that the client has not sent.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

func incomplete(message string) error { return &Error{Incomplete, message} }

func invalid(message string) error { return &Error{Invalid, message} }

// Signature is what a request says of its signature. Nothing of it is verified
// before [Signature.Verify] returns nil.
type Signature struct {
	AccessKey string
	// Date is the day that the signing key is for, as yyyymmdd.
	Date            string
	Region, Service string
	// SecurityToken is the session token; it may be empty.
	SecurityToken string

	at        time.Time
	timestamp string
	signed    []string // names of headers, in lower case and ascending
	signature string   // in hexadecimal
}

// Read reads the signature of a request. It fails with an [Error] where the
// request has not exactly one reading.
func Read(r *http.Request) (*Signature, error) {
	if err := checkForm(r); err != nil {
		return nil, err
	}
	authorization, err := single(r.Header, "Authorization")
	if err != nil {
		return nil, err
	}
	s := &Signature{}
	if err := s.readAuthorization(authorization); err != nil {
		return nil, err
	}
	if s.SecurityToken, err = single(r.Header, "X-Amz-Security-Token"); err != nil {
		return nil, err
	}
	if s.timestamp, err = single(r.Header, "X-Amz-Date"); err != nil {
		return nil, err
	}
	if s.timestamp == "" {
		return nil, incomplete("Authorization header requires existence of a 'X-Amz-Date' header.")
	}
	if s.at, err = time.Parse(timeFormat, s.timestamp); err != nil || len(s.timestamp) != len(timeFormat) {
		return nil, incomplete("Date must be in ISO-8601 'basic format'.")
	}
	if !strings.HasPrefix(s.timestamp, s.Date) {
		return nil, invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			s.Date + "' != '" + s.timestamp[:len(s.Date)] + "', from '" + s.timestamp + "'.")
	}
	return s, s.checkSigned(r.Header)
}

// checkForm refuses requests that no client of these services makes and that
// signatures read in more than one way.
func checkForm(r *http.Request) error {
	uri := r.RequestURI
	switch {
	case r.Method != http.MethodPost:
		return incomplete("Only POST requests are supported.")
	case strings.Contains(uri, "?"):
		return incomplete("Requests with a query, presigned ones among them, are not supported.")
	case !plainPath(uri):
		return incomplete("The path of the request must be made of letters, digits, and the characters '-', '_', '.', '~' and '/', and be normalized.")
	case len(r.TransferEncoding) > 0 || r.ContentLength < 0:
		return incomplete("The request must have a Content-Length; chunked bodies are not supported.")
	case len(r.Header["Content-Encoding"]) > 0:
		return incomplete("Encoded bodies are not supported.")
	}
	return nil
}

// plainPath reports whether a path is spelled the same in every reading: before
// and after unescaping, escaping and normalizing.
func plainPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path[1:], "/"), "/") {
		if segment == "" && path != "/" || segment == "." || segment == ".." {
			return false
		}
		for i := range len(segment) {
			if c := segment[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != '~' {
				return false
			}
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// single returns the value of a header that may be there once, "" where it is
// not there. Its value must be one word or, in Authorization, words with single
// spaces between them: so that trimming and folding leave it as it is.
func single(header http.Header, name string) (string, error) {
	values := header[name]
	switch {
	case len(values) == 0:
		return "", nil
	case len(values) > 1:
		return "", incomplete("The header '" + name + "' must not be repeated.")
	}
	value := values[0]
	for i := range len(value) {
		c := value[i]
		lone := c == ' ' && name == "Authorization" && i > 0 && i < len(value)-1 && value[i-1] != ' '
		if !lone && (c <= ' ' || c >= 0x7f || c == ',' && name != "Authorization") {
			return "", incomplete("The header '" + name + "' has a value that it cannot have.")
		}
	}
	return value, nil
}

// readAuthorization reads the Authorization header:
//
//	AWS4-HMAC-SHA256 Credential=AKID/20261122/us-east-1/kms/aws4_request, SignedHeaders=host;x-amz-date, Signature=...
func (s *Signature) readAuthorization(text string) error {
	name, parameters, _ := strings.Cut(text, " ")
	if name != algorithm {
		return incomplete("Authorization header requires the algorithm '" + algorithm + "'.")
	}
	var credential, signed string
	for parameter := range strings.SplitSeq(parameters, ",") {
		name, value, _ := strings.Cut(strings.TrimPrefix(parameter, " "), "=")
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &signed
		case "Signature":
			into = &s.signature
		default:
			return incomplete("Authorization header has a parameter that is not known.")
		}
		if *into != "" || value == "" {
			return incomplete("Authorization header requires '" + name + "' parameter, once.")
		}
		*into = value
	}
	switch {
	case credential == "":
		return incomplete("Authorization header requires 'Credential' parameter.")
	case s.signature == "":
		return incomplete("Authorization header requires 'Signature' parameter.")
	case signed == "":
		return incomplete("Authorization header requires 'SignedHeaders' parameter.")
	case !isHexSum(s.signature):
		return incomplete("The signature must be 64 hexadecimal digits in lower case.")
	}
	if err := s.readCredential(credential); err != nil {
		return err
	}
	return s.readSigned(signed)
}

func (s *Signature) readCredential(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	for _, part := range parts {
		if !isWord(part) {
			return incomplete("Credential has an element that is empty or has characters that it cannot have.")
		}
	}
	s.AccessKey, s.Date, s.Region, s.Service = parts[0], parts[1], parts[2], parts[3]
	if parts[4] != terminator {
		return invalid("Credential should be scoped with a valid terminator: '" + terminator + "'.")
	}
	if len(s.Date) != len("20060102") {
		return incomplete("The date of the credential scope must have the form YYYYMMDD.")
	}
	return nil
}

// isWord reports whether a text can be an element of a credential scope. Vault's
// entity ids have dashes; test credentials have all kinds of words.
func isWord(text string) bool {
	for i := range len(text) {
		if c := text[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != '@' && c != '+' {
			return false
		}
	}
	return text != "" && len(text) <= 128
}

func isHexSum(text string) bool {
	for i := range len(text) {
		if c := text[i]; ('0' > c || c > '9') && ('a' > c || c > 'f') {
			return false
		}
	}
	return len(text) == 64
}

func (s *Signature) readSigned(list string) error {
	if strings.Count(list, ";") >= maxSigned {
		return incomplete("Too many headers are signed.")
	}
	s.signed = strings.Split(list, ";")
	for i, name := range s.signed {
		if !isHeaderName(name) || i > 0 && name <= s.signed[i-1] {
			return incomplete("'SignedHeaders' must be names in lower case, sorted, each once.")
		}
	}
	return nil
}

func isHeaderName(name string) bool {
	for i := range len(name) {
		if c := name[i]; ('a' > c || c > 'z') && ('0' > c || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return name != ""
}

// amzPrefix begins the headers that AWS wants to be signed wherever they are:
// all that a service acts on.
const amzPrefix = "X-Amz-"

func (s *Signature) checkSigned(header http.Header) error {
	if !s.signs("host") {
		return incomplete("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range header {
		if len(name) >= len(amzPrefix) && strings.EqualFold(name[:len(amzPrefix)], amzPrefix) && !s.signs(strings.ToLower(name)) {
			return incomplete("'" + name + "' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	return nil
}

func (s *Signature) signs(name string) bool {
	for _, signed := range s.signed {
		if signed == name {
			return true
		}
	}
	return false
}

// CheckScope refuses a request that is signed for another service or Region. Any
// of the Regions will do.
func (s *Signature) CheckScope(service string, regions ...string) error {
	if s.Service != service {
		return invalid("Credential should be scoped to correct service: '" + service + "'.")
	}
	for _, region := range regions {
		if s.Region == region {
			return nil
		}
	}
	return invalid("Credential should be scoped to a valid region, not '" + s.Region + "'.")
}

// CheckTime refuses a request whose date is not within [Window] of now.
func (s *Signature) CheckTime(now time.Time) error {
	now = now.UTC()
	if oldest := now.Add(-Window); s.at.Before(oldest.Truncate(time.Second)) {
		return invalid("Signature expired: " + s.timestamp + " is now earlier than " + oldest.Format(timeFormat) +
			" (" + now.Format(timeFormat) + " - 5 min.)")
	}
	if newest := now.Add(Window); s.at.After(newest) {
		return invalid("Signature not yet current: " + s.timestamp + " is still later than " + newest.Format(timeFormat) +
			" (" + now.Format(timeFormat) + " + 5 min.)")
	}
	return nil
}
