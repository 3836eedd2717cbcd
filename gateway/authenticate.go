package gateway

// Who calls: the headers of AWS Signature Version 4.

import (
	"net/http"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// caller is what the headers say about who calls.
type caller struct {
	// token is the Vault token: the AWS session token. It may be empty: then
	// the request to Vault has none, which suits a Vault Proxy that adds its own.
	token string
	// accessKey is the access key id that the request is signed with. Nothing
	// is decided by it; it names the caller in AccessDeniedException.
	accessKey string
}

// maxAccessKey is the most characters of an access key id in IAM's model.
const maxAccessKey = 128

// authenticate reads the credentials of a request signed with AWS Signature
// Version 4. The signature itself is not verified: that would take the secret
// key, and the Vault token, which TLS keeps secret on the way, is what Vault
// checks.
func authenticate(header http.Header, requireToken bool) (caller, error) {
	authorization := first(header["Authorization"])
	if authorization == "" {
		return caller{}, errMissingToken
	}
	accessKey, err := accessKeyOf(authorization)
	if err != nil {
		return caller{}, err
	}
	token := first(header["X-Amz-Security-Token"])
	if token == "" && requireToken {
		return caller{}, errMissingToken
	}
	return caller{token: token, accessKey: accessKey}, nil
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

var errMissingToken = &kms.Exception{Type: typeMissingAuthenticationToken, Message: "Missing Authentication Token"}

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
