package gateway

// The protocols of the endpoint: KMS's, STS's, and that of the credentials of
// containers.

import (
	"net/http"
	"strings"

	"vault-plugin-secrets-kms-hmac/kms"
)

// wireFormat is a protocol: how a request is handled, and how an exception is
// written.
type wireFormat struct {
	contentType []string
	handle      func(g *Gateway, w http.ResponseWriter, r *http.Request, o *outcome)
	// fail writes an exception to the outcome, and may change its status.
	fail func(o *outcome, exception *kms.Exception)
}

var (
	wireKMS       = &wireFormat{[]string{contentType}, (*Gateway).handle, failKMS}
	wireSTS       = &wireFormat{[]string{"text/xml"}, (*Gateway).handleSTS, failSTS}
	wireContainer = &wireFormat{[]string{"application/json"}, (*Gateway).handleContainer, failContainer}
)

const formType = "application/x-www-form-urlencoded"

// wireOf tells the protocols apart. KMS names its operation in a header, STS in
// a form, and credentials are read by GET.
func (g *Gateway) wireOf(r *http.Request) *wireFormat {
	switch {
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, containerPrefix):
		return wireContainer
	case r.Method != http.MethodPost || len(r.Header["X-Amz-Target"]) > 0:
		return wireKMS
	}
	if media, _, _ := strings.Cut(first(r.Header["Content-Type"]), ";"); strings.TrimSpace(media) == formType {
		return wireSTS
	}
	return wireKMS
}
