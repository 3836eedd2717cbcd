package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/gateway/login"
	"vault-plugin-secrets-kms-hmac/gateway/session"
)

// ownOptions are the flags of a login of this program itself.
type ownOptions struct {
	method string
	own    login.Own
}

func (o *ownOptions) register(f *flag.FlagSet) {
	f.StringVar(&o.method, "identity", "", "auth `method` to log in to Vault with: jwt, kubernetes, approle or cert, or <method>=<path>")
	f.StringVar(&o.own.Role, "role", "", "`role` of the auth method; for approle, see -role-id-file")
	f.StringVar(&o.own.JWTFile, "jwt-file", "", "`file` of the token for jwt and kubernetes (default for kubernetes: that of the pod's service account)")
	f.StringVar(&o.own.RoleIDFile, "role-id-file", "", "`file` of the role id for approle")
	f.StringVar(&o.own.SecretIDFile, "secret-id-file", "", "`file` of the secret id for approle")
	f.StringVar(&o.own.CertFile, "identity-cert", "", "`file` of the certificate for cert (default VAULT_CLIENT_CERT)")
	f.StringVar(&o.own.KeyFile, "identity-key", "", "`file` of its key (default VAULT_CLIENT_KEY)")
	f.StringVar(&o.own.TokenFile, "token-file", "", "`file` that has a token already, such as the sink of a Vault Agent, instead of -identity")
}

// parse returns how to log in, or nil if no flag says so.
func (o *ownOptions) parse() (*login.Own, error) {
	var err error
	switch {
	case o.method != "" && o.own.TokenFile != "":
		return nil, errors.New("-identity and -token-file exclude each other")
	case o.own.TokenFile != "":
		o.own.Method = login.Method{Kind: login.Token, Path: login.Token}
	case o.method == "":
		if o.own != (login.Own{}) {
			return nil, errors.New("-identity is needed to say how to log in")
		}
		return nil, nil
	default:
		if o.own.Method, err = login.ParseMethod(o.method); err != nil {
			return nil, err
		}
		if o.own.Method.Kind == login.Token {
			return nil, errors.New("-token-file says where the token is")
		}
	}
	return &o.own, o.own.Check()
}

// loginOptions are the flags about who calls.
type loginOptions struct {
	ownOptions
	login                          string
	callers                        login.Method // what login says
	maxLogins, maxLoginsPerAddress int
	signedOnly                     bool
	sealingKeyFile, sealingKey     string
	sidecar, sidecarRemote         bool
}

func (o *loginOptions) register(f *flag.FlagSet) {
	f.StringVar(&o.login, "login", "", "log callers in by this auth `method`: jwt, kubernetes, approle or cert, or <method>=<path>")
	f.IntVar(&o.maxLogins, "max-logins", 64, "most `logins` under way at once")
	f.IntVar(&o.maxLoginsPerAddress, "max-logins-per-address", 16, "most `logins` under way at once from one address; eight times as many wait")
	f.BoolVar(&o.signedOnly, "signed-only", false, "refuse plain Vault tokens as session tokens, for which signatures cannot be verified")
	f.StringVar(&o.sealingKeyFile, "sealing-key-file", "", "`file` of the keys that session tokens are sealed with, for several endpoints to share; read again on SIGHUP")
	f.StringVar(&o.sealingKey, "sealing-key", "", "`names` of HMAC_256 keys of the mount, separated by commas, to derive the sealing keys from; needs -identity")
	f.BoolVar(&o.sidecar, "sidecar", false, "make calls without a session token with the endpoint's own -identity; on loopback only")
	f.BoolVar(&o.sidecarRemote, "sidecar-allow-remote", false, "permit -sidecar on other addresses: whoever reaches the endpoint has its identity")
}

// any reports whether any of the flags is given.
func (o *loginOptions) any() bool {
	return o.login != "" || o.signedOnly || o.sealingKeyFile != "" || o.sealingKey != "" || o.sidecar || o.method != "" || o.own.TokenFile != ""
}

// byCertificate reports whether callers log in with certificates.
func (o *loginOptions) byCertificate() bool { return o.callers.Kind == login.Cert }

// parseCallers reads how callers log in. tls says that the endpoint has a certificate.
func (o *loginOptions) parseCallers(tls bool) (err error) {
	if o.login == "" {
		return nil
	}
	if o.callers, err = login.ParseMethod(o.login); err != nil {
		return err
	}
	if err = o.callers.ForCallers(); err != nil || !o.byCertificate() {
		return err
	}
	switch {
	case !tls:
		return errors.New("-login cert needs -tls-cert: callers show in the TLS handshake with this endpoint that they have the key")
	case os.Getenv(api.EnvVaultClientCert) != "":
		// If Vault took that one for the caller's, callers would be the endpoint.
		return errors.New("-login cert excludes " + api.EnvVaultClientCert + ": for the endpoint's own login there is -identity-cert")
	}
	return nil
}

func (o *loginOptions) check(listen string, requireToken, tls bool) error {
	own, err := o.ownOptions.parse()
	if err == nil {
		err = o.parseCallers(tls)
	}
	switch {
	case err != nil:
		return err
	case o.sealingKey != "" && o.sealingKeyFile != "":
		return errors.New("-sealing-key and -sealing-key-file exclude each other")
	case own == nil && (o.sidecar || o.sealingKey != ""):
		return errors.New("-sidecar and -sealing-key need -identity or -token-file")
	case own != nil && !o.sidecar && o.sealingKey == "":
		return errors.New("-identity is of no use without -sidecar or -sealing-key")
	case o.sidecar && (requireToken || o.signedOnly):
		return errors.New("-sidecar excludes -require-token and -signed-only: its calls have no token")
	case o.signedOnly && o.login == "" && o.sealingKeyFile == "" && o.sealingKey == "":
		return errors.New("-signed-only needs -login, or the sealing keys of endpoints that have it")
	case o.sidecar && !o.sidecarRemote && !isLoopback(listen):
		return fmt.Errorf("-sidecar gives the endpoint's identity to whoever reaches %s: listen on loopback, or add -sidecar-allow-remote", listen)
	}
	return nil
}

// callers is what the flags about callers amount to.
type callers struct {
	identity *login.Identity // for calls without a session token
	local    bool            // of this machine only
	sessions *session.Sealer
	logins   *login.Broker
}

// callers logs in and reads the sealing keys. Its work in the background ends
// with ctx.
func (o *options) callers(ctx context.Context, log *slog.Logger, registry prometheus.Registerer) (c callers, err error) {
	l := &o.login
	var own *login.Identity
	if l.method != "" || l.own.TokenFile != "" {
		if own, err = o.identity(ctx, log); err != nil {
			return c, err
		}
	}
	if l.sidecar {
		c.identity, c.local = own, !l.sidecarRemote
		log.Warn("sidecar: whoever reaches this address has the identity of the endpoint", "address", o.listen, "method", l.own.Method.Kind, "role", l.own.Role)
	}
	source, err := o.sealingKeys(own, log)
	if err != nil || source == nil {
		return c, err
	}
	// A request to one endpoint must be none to another that has the same keys
	// but other keys of callers behind it.
	audience := fmt.Sprintf("%q", []string{o.arns.Partition, o.arns.Region, o.arns.Account, strings.Trim(o.namespace, "/"), strings.Trim(o.mount, "/")})
	if c.sessions, err = session.NewSealer(ctx, source, audience); err != nil || l.login == "" {
		return c, err
	}
	client, err := login.NewClient(o.vaultAddr, o.namespace, "", "", o.timeout)
	if err != nil {
		return c, err
	}
	if o.certFile == "" && !isLoopback(o.listen) {
		log.Warn("callers send what they log in with: use -tls-cert, or TLS before the endpoint", "address", o.listen)
	}
	c.logins, err = login.NewBroker(login.BrokerConfig{
		Client: client, Method: l.callers, MaxLogins: l.maxLogins, MaxPerAddress: l.maxLoginsPerAddress,
		Timeout: o.timeout, Log: log, Registerer: registry,
	})
	if err == nil && l.byCertificate() {
		err = c.logins.CheckForwarding(ctx)
	}
	return c, err
}

func (o *options) identity(ctx context.Context, log *slog.Logger) (*login.Identity, error) {
	client, err := o.login.own.Client(o.vaultAddr, o.namespace, o.timeout)
	if err != nil {
		return nil, err
	}
	identity, err := login.NewIdentity(ctx, &o.login.own, client, log)
	if err != nil {
		return nil, err
	}
	go identity.Run(ctx)
	return identity, nil
}

// sealingKeys returns the source of the sealing keys; nil if nothing is sealed.
func (o *options) sealingKeys(own *login.Identity, log *slog.Logger) (session.Source, error) {
	l := &o.login
	switch {
	case l.sealingKeyFile != "":
		return session.KeyFile(l.sealingKeyFile), nil
	case l.sealingKey != "":
		client, err := login.NewClient(o.vaultAddr, o.namespace, "", "", o.timeout)
		return session.DerivedKeys(strings.Split(l.sealingKey, ","), func(ctx context.Context, name string, message []byte) ([]byte, error) {
			return generateMac(ctx, client, own.Token(), strings.Trim(o.mount, "/")+"/generate-mac/"+name, message)
		}), err
	case l.login != "":
		log.Warn("no sealing key is given: sessions end with this process, and other endpoints do not know them")
		return session.RandomKey(), nil
	}
	return nil, nil
}

// generateMac has a mount make a MAC under an HMAC_256 key.
func generateMac(ctx context.Context, client *api.Client, token, path string, message []byte) ([]byte, error) {
	with, err := client.Clone()
	if err != nil {
		return nil, err
	}
	if namespace := client.Namespace(); namespace != "" {
		with.SetNamespace(namespace)
	}
	with.SetToken(token)
	secret, err := with.Logical().WriteWithContext(ctx, path, map[string]any{
		"message": base64.StdEncoding.EncodeToString(message), "mac_algorithm": "HMAC_SHA_256",
	})
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, errors.New("no answer")
	}
	mac, _ := secret.Data["mac"].(string)
	return base64.StdEncoding.DecodeString(mac)
}

// apply has a gateway know its callers.
func (c callers) apply(config *gateway.Config) {
	config.Identity, config.LocalIdentity, config.Sessions, config.Logins = c.identity, c.local, c.sessions, c.logins
}

// reload reads the sealing keys again.
func (c callers) reload() error {
	if c.sessions == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	return c.sessions.Reload(ctx)
}

const reloadTimeout = 30 * time.Second
