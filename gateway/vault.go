package gateway

// The client of Vault.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// maxAnswer bounds what is read of an answer of Vault. The largest are
	// batches and lists; Vault's own limit on requests is 32 MiB.
	maxAnswer = 64 << 20
	// idleConnections is how many connections to Vault are kept open: as many
	// as callers can be served at once without opening new ones all the time.
	idleConnections = 512
)

// Vault is a client of a Vault server. It is plain net/http because a MAC's
// round trip is a hot path; addresses, TLS and proxies are configured by
// Vault's own api package, so that they work as for every Vault client.
type Vault struct {
	http      *http.Client
	address   *url.URL
	namespace string
	timeout   time.Duration
	userAgent []string // nil is that of net/http
}

// NewVault returns a client for the Vault server that the environment names
// (VAULT_ADDR, VAULT_CACERT, VAULT_CLIENT_CERT, VAULT_SKIP_VERIFY, ...).
// address and namespace override VAULT_ADDR and VAULT_NAMESPACE where they are
// not empty. Each request is given up after timeout.
func NewVault(address, namespace string, timeout time.Duration) (*Vault, error) {
	config := api.DefaultConfig() // reads the environment
	if config.Error != nil {
		return nil, fmt.Errorf("reading the VAULT_* environment: %w", config.Error)
	}
	switch {
	case address != "":
		config.Address = address
	case config.AgentAddress != "":
		config.Address = config.AgentAddress
	}
	u, err := config.ParseAddress(config.Address) // knows unix:// too
	if err != nil {
		return nil, fmt.Errorf("parsing the address of Vault: %w", err)
	}
	transport, ok := config.HttpClient.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("vault's api package configures another transport than net/http's")
	}
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = idleConnections, idleConnections
	transport.DisableCompression = true
	u.Path = strings.TrimRight(u.Path, "/") + "/v1/"
	return &Vault{
		http:      &http.Client{Transport: transport, CheckRedirect: checkRedirect},
		address:   u,
		namespace: strings.Trim(namespace, "/"),
		timeout:   timeout,
	}, nil
}

// SetVersion has all requests say in their user agent, which Vault's audit log
// has, that this program of this version made them. It is to be called before
// the first of them.
func (v *Vault) SetVersion(version string) { v.userAgent = []string{"kms-gateway/" + version} }

// NewVaultOver returns a client of what answers Vault's API in this process,
// in place of a server. Nothing of the environment is read.
func NewVaultOver(transport http.RoundTripper, timeout time.Duration) *Vault {
	return &Vault{
		http:    &http.Client{Transport: transport},
		address: &url.URL{Scheme: "http", Host: "in-process", Path: "/v1/"},
		timeout: timeout,
	}
}

// Address returns the address of Vault, without a password if it has one.
func (v *Vault) Address() string {
	u := *v.address
	u.User = nil
	u.Path = strings.TrimSuffix(u.Path, "/v1/")
	return u.String()
}

// Namespace returns the namespace that requests go to, "" for the root.
func (v *Vault) Namespace() string { return v.namespace }

// checkRedirect follows a standby's redirection to the active node, and never
// takes a token from TLS to plain text.
func checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > 2 {
		return errors.New("vault redirects in circles")
	}
	if via[0].URL.Scheme == "https" && request.URL.Scheme != "https" {
		return errors.New("vault redirects from https to http")
	}
	return nil
}

// vaultRequest is a request to Vault. path is behind /v1/, and is made of
// characters that URLs take as they are.
type vaultRequest struct {
	method, path string
	query        url.Values
	body         []byte
	token        string
	// from and correlation are the X-Forwarded-For and X-Correlation-Id of the
	// request, unless they are empty.
	from, correlation string
}

var (
	headerTrue = []string{"true"}
	headerJSON = []string{"application/json"}
	// headerPatch is the only type that Vault takes for a PATCH.
	headerPatch = []string{"application/merge-patch+json"}
)

// do makes a request and returns the body of the answer. It fails with a
// *vaultError where Vault answers but not with success, and otherwise as
// net/http does.
func (v *Vault) do(ctx context.Context, r vaultRequest) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	response, err := v.roundTrip(ctx, r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := readAll(response)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		failure := newVaultError(response.StatusCode, body)
		// What a policy of Vault's refuses is "1 error occurred: ...". OpenBao
		// says the same of both: see tokenCheck.missing.
		failure.noToken = r.token == "" && failure.status == http.StatusForbidden && slices.Equal(failure.texts, []string{"permission denied"})
		return nil, failure
	}
	return body, nil
}

// roundTrip makes a request. What follows redirections, which a standby may
// answer, is net/http's client; since it prepares for them by copying all
// headers, which a MAC need not wait for, it is asked only where there is one.
func (v *Vault) roundTrip(ctx context.Context, r vaultRequest) (*http.Response, error) {
	if v.http.Transport == nil || v.address.User != nil {
		return v.http.Do(v.request(ctx, r))
	}
	response, err := v.http.Transport.RoundTrip(v.request(ctx, r))
	if err != nil || response.StatusCode/100 != 3 {
		return response, err
	}
	response.Body.Close()
	return v.http.Do(v.request(ctx, r))
}

func (v *Vault) request(ctx context.Context, r vaultRequest) *http.Request {
	u := *v.address
	u.Path += r.path
	u.RawQuery = r.query.Encode()
	// X-Vault-Request is what a Vault Proxy with require_request_header wants.
	header := http.Header{"X-Vault-Request": headerTrue}
	if v.userAgent != nil {
		header["User-Agent"] = v.userAgent
	}
	if r.from != "" {
		header["X-Forwarded-For"] = []string{r.from}
	}
	if r.correlation != "" {
		header["X-Correlation-Id"] = []string{r.correlation}
	}
	if r.token != "" {
		header["X-Vault-Token"] = []string{r.token}
	}
	if v.namespace != "" {
		header["X-Vault-Namespace"] = []string{v.namespace}
	}
	request := &http.Request{
		Method: r.method, URL: &u, Host: u.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	if r.body != nil {
		header["Content-Type"] = headerJSON
		if r.method == http.MethodPatch {
			header["Content-Type"] = headerPatch
		}
		request.ContentLength = int64(len(r.body))
		request.Body = io.NopCloser(bytes.NewReader(r.body))
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.body)), nil }
	}
	return request.WithContext(ctx)
}

// readAll reads the body of an answer.
func readAll(response *http.Response) ([]byte, error) {
	if response.ContentLength > maxAnswer {
		return nil, errors.New("the answer of Vault is too long")
	}
	if response.ContentLength >= 0 {
		body := make([]byte, response.ContentLength)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if len(body) > maxAnswer {
		return nil, errors.New("the answer of Vault is too long")
	}
	return body, err
}

// newVaultError reads the body of an answer that is no success. Whatever it
// holds, the status stands.
func newVaultError(status int, body []byte) *vaultError {
	var answer struct {
		Errors []string `json:"errors"`
		Data   struct {
			Type      string `json:"type"`
			Message   string `json:"message"`
			KeyID     string `json:"key_id"`
			AliasName string `json:"alias_name"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		answer.Errors = []string{"not an answer of Vault"}
	}
	return &vaultError{
		status: status, texts: answer.Errors,
		kind: answer.Data.Type, message: answer.Data.Message,
		keyID: answer.Data.KeyID, aliasName: answer.Data.AliasName,
	}
}
