// Package login logs in to Vault: for callers who bring a credential and want a
// session ([Broker]), and for the endpoint itself ([Identity]).
package login

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"
)

// The kinds of auth methods.
const (
	JWT        = "jwt"
	Kubernetes = "kubernetes"
	AppRole    = "approle"
	Cert       = "cert"
	// Token is no auth method: a token that somebody else keeps fresh in a file,
	// such as the sink of Vault Agent.
	Token = "token"
)

// Method is one of Vault's auth methods, at the path where it is enabled.
type Method struct{ Kind, Path string }

var (
	pathPattern = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)*$`)
	// rolePattern is that of a role's name in an ARN.
	rolePattern = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
)

// ParseMethod reads a method: its kind, which is also its path, or
// "<kind>=<path>".
func ParseMethod(text string) (Method, error) {
	kind, path, found := strings.Cut(text, "=")
	if !found {
		path = kind
	}
	path = strings.TrimPrefix(strings.Trim(path, "/"), "auth/")
	m := Method{kind, path}
	switch kind {
	case JWT, Kubernetes, AppRole, Cert, Token:
	default:
		return m, fmt.Errorf("%q is none of the auth methods jwt, kubernetes, approle, cert", kind)
	}
	if !pathPattern.MatchString(path) || strings.Contains("/"+path+"/", "/../") {
		return m, fmt.Errorf("%q is no path of an auth method", path)
	}
	return m, nil
}

// ForCallers fails for a method whose credential a caller cannot bring in a
// request.
func (m Method) ForCallers() error {
	switch m.Kind {
	case JWT, Kubernetes, AppRole, Cert:
		return nil
	}
	return fmt.Errorf("callers cannot log in by %s", m.Kind)
}

const (
	// maxJWT is the most characters of a web identity token in STS's model.
	maxJWT = 20000
	// maxSecretID is the most characters of a secret id.
	maxSecretID = 1000
)

// checkShape refuses what can be no credential of the method, before Vault is
// asked about it.
func (m Method) checkShape(r Request, now time.Time) error {
	credential := r.Credential
	if !rolePattern.MatchString(r.Role) {
		return &Error{Malformed, "the role is no name of a role"}
	}
	if m.Kind == Cert {
		return checkCertificates(r, now)
	}
	if m.Kind == AppRole {
		if len(credential) == 0 || len(credential) > maxSecretID || !isPrintable(credential) {
			return &Error{Malformed, "the token is no secret id"}
		}
		return nil
	}
	if len(credential) > maxJWT {
		return &Error{Malformed, fmt.Sprintf("the token is longer than %d characters", maxJWT)}
	}
	if _, err := claimsOf(credential); err != nil {
		return &Error{Malformed, "the token is no JSON Web Token"}
	}
	return nil
}

func isPrintable(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// claims are the claims of a token that matter here. Nothing has verified them
// before Vault has accepted the token.
type claims struct {
	Expires json.Number `json:"exp"`
}

// claimsOf reads a JSON Web Token in its compact form: three parts in base64url,
// of which the first two are JSON objects.
func claimsOf(token string) (c claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[2] == "" || !isPrintable(token) {
		return c, errors.New("not three parts")
	}
	var head struct {
		Algorithm string `json:"alg"`
	}
	for i, into := range []any{&head, &c} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return c, err
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return c, err
		}
	}
	if _, err := base64.RawURLEncoding.DecodeString(parts[2]); err != nil || head.Algorithm == "" {
		return c, errors.New("no signature")
	}
	return c, nil
}

// expiry returns when a credential ends, as far as it says so itself; the zero
// time if it does not.
func (m Method) expiry(r Request) time.Time {
	switch m.Kind {
	case AppRole:
		return time.Time{}
	case Cert:
		return r.Certificates[0].NotAfter
	}
	c, err := claimsOf(r.Credential)
	if err != nil {
		return time.Time{}
	}
	at, err := c.Expires.Float64()
	if err != nil || at <= 0 || at > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(at), 0)
}

// with returns the method with what a caller brings.
func (m Method) with(r Request) (api.AuthMethod, error) {
	role, credential := r.Role, r.Credential
	switch m.Kind {
	case Cert: // the certificate is in a header
		return &write{"auth/" + m.Path + "/login", map[string]any{"name": role}}, nil
	case AppRole:
		return approle.NewAppRoleAuth(role, &approle.SecretID{FromString: credential}, approle.WithMountPath(m.Path))
	case Kubernetes:
		return kubernetes.NewKubernetesAuth(role, kubernetes.WithServiceAccountToken(credential), kubernetes.WithMountPath(m.Path))
	case JWT:
		return &write{"auth/" + m.Path + "/login", map[string]any{"role": role, "jwt": credential}}, nil
	}
	return nil, m.ForCallers()
}

// write is a login that is one write, for the methods that Vault's api has no
// package for.
type write struct {
	path string
	data map[string]any
}

// Login implements [api.AuthMethod].
func (w *write) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	return client.Logical().WriteWithContext(ctx, w.path, w.data)
}

// NewClient returns a client of the Vault server that the environment names, as
// gateway.NewVault does, without a token of its own. certFile and keyFile, unless
// they are empty, are its certificate.
func NewClient(address, namespace, certFile, keyFile string, timeout time.Duration) (*api.Client, error) {
	config := api.DefaultConfig() // reads the environment
	if config.Error != nil {
		return nil, fmt.Errorf("reading the VAULT_* environment: %w", config.Error)
	}
	if address != "" {
		config.Address, config.AgentAddress = address, ""
	}
	config.Timeout = timeout
	config.MaxRetries = 0 // clients have their own retries
	if certFile != "" || keyFile != "" {
		if err := config.ConfigureTLS(&api.TLSConfig{ClientCert: certFile, ClientKey: keyFile}); err != nil {
			return nil, fmt.Errorf("loading the client certificate: %w", err)
		}
	}
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of Vault: %w", err)
	}
	client.ClearToken()
	setNamespace(client, strings.Trim(namespace, "/"))
	return client, nil
}

func setNamespace(client *api.Client, namespace string) {
	if namespace == "" {
		client.ClearNamespace()
		return
	}
	client.SetNamespace(namespace)
}
