package gateway

// The client of Vault.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
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
	// connectTimeout bounds how long a node that is not there can take of a
	// request: where Vault's name has several addresses, all are tried in it.
	connectTimeout = 6 * time.Second
	// pingAfter is for how long an HTTP/2 connection may be silent until it is
	// asked whether there is somebody, and pingTimeout for how long it may be
	// silent then. All requests share one, and none ends it by giving up.
	pingAfter, pingTimeout = 5 * time.Second, 3 * time.Second
)

// keepAlive finds idle connections to nobody in half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

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
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, errors.New("the address of Vault must be a URL, like https://vault.example.com:8200")
	}
	if strings.ContainsFunc(namespace, foreignToURLs) {
		return nil, fmt.Errorf("%q is no namespace", namespace)
	}
	transport, ok := config.HttpClient.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("vault's api package configures another transport than net/http's")
	}
	if !strings.HasPrefix(config.Address, "unix:") {
		transport.DialContext = (&net.Dialer{Timeout: connectTimeout, KeepAliveConfig: keepAlive}).DialContext
	}
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
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

// Failures of requests that would fail again.
var (
	errRedirect = errors.New("vault redirects")
	errTooLong  = errors.New("the answer of Vault is too long")
)

// checkRedirect follows a standby's redirection to the active node, and never
// takes a token from TLS to plain text.
func checkRedirect(request *http.Request, via []*http.Request) error {
	if len(via) > 2 {
		return fmt.Errorf("%w in circles", errRedirect)
	}
	if via[0].URL.Scheme == "https" && request.URL.Scheme != "https" {
		return fmt.Errorf("%w from https to http", errRedirect)
	}
	return nil
}

// vaultRequest is a request to Vault. path is behind /v1/, and is made of
// characters that URLs take as they are.
type vaultRequest struct {
	method, path string
	query        url.Values
	body         []byte
	form         bool // body is one, and no JSON
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
	headerForm  = []string{"application/x-www-form-urlencoded"}
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

// roundTrip makes a request. It is net/http's client but for the redirections,
// for which the client prepares by copying all headers, which a MAC need not
// wait for.
func (v *Vault) roundTrip(ctx context.Context, r vaultRequest) (*http.Response, error) {
	if v.http.Transport == nil || v.address.User != nil {
		return v.http.Do(v.request(ctx, r))
	}
	response, err := v.http.Transport.RoundTrip(v.request(ctx, r))
	if err != nil || response.StatusCode != http.StatusTemporaryRedirect {
		return response, err
	}
	return v.follow(ctx, r, response)
}

// follow makes a request where an answer redirects it to.
func (v *Vault) follow(ctx context.Context, r vaultRequest, response *http.Response) (*http.Response, error) {
	first := v.request(ctx, r)
	via := []*http.Request{first}
	response.Request = first // or a location could not be relative
	for response.StatusCode == http.StatusTemporaryRedirect {
		response.Body.Close()
		location, err := response.Location()
		if err != nil {
			return nil, fmt.Errorf("%w nowhere", errRedirect)
		}
		next := v.request(ctx, r)
		next.URL, next.Host = location, location.Host
		if err := checkRedirect(next, via); err != nil {
			return nil, err
		}
		via = append(via, next)
		if response, err = v.http.Transport.RoundTrip(next); err != nil {
			return nil, err
		}
	}
	return response, nil
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
		switch {
		case r.form:
			header["Content-Type"] = headerForm
		case r.method == http.MethodPatch:
			header["Content-Type"] = headerPatch
		default:
			header["Content-Type"] = headerJSON
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
		return nil, errTooLong
	}
	if response.ContentLength >= 0 {
		body := make([]byte, response.ContentLength)
		_, err := io.ReadFull(response.Body, body)
		return body, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if len(body) > maxAnswer {
		return nil, errTooLong
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
	err := json.Unmarshal(body, &answer)
	if err != nil {
		answer.Errors = []string{"not an answer of Vault"}
	}
	return &vaultError{
		status: status, texts: answer.Errors, foreign: err != nil,
		kind: answer.Data.Type, message: answer.Data.Message,
		keyID: answer.Data.KeyID, aliasName: answer.Data.AliasName,
	}
}
