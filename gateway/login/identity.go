package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/kubernetes"
)

// Own says how a program logs in as itself. Its files are read at each login, so
// that they may be replaced at any time.
type Own struct {
	Method Method
	// Role is the role, but for AppRole, whose role id is in a file.
	Role string
	// JWTFile has the token of JWT and Kubernetes.
	JWTFile string
	// RoleIDFile and SecretIDFile have what AppRole logs in with.
	RoleIDFile, SecretIDFile string
	// CertFile and KeyFile are the certificate of Cert.
	CertFile, KeyFile string
	// TokenFile has the token of Token.
	TokenFile string
}

// defaultKubernetesToken is where Kubernetes puts the token of a pod's service
// account.
const defaultKubernetesToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

// Check fails where something is missing.
func (o *Own) Check() error {
	if o.Method.Kind == Kubernetes && o.JWTFile == "" {
		o.JWTFile = defaultKubernetesToken
	}
	need := func(value, flag string) error {
		if value == "" {
			return fmt.Errorf("a login by %s needs -%s", o.Method.Kind, flag)
		}
		return nil
	}
	switch o.Method.Kind {
	case JWT, Kubernetes:
		return errors.Join(need(o.Role, "role"), need(o.JWTFile, "jwt-file"))
	case AppRole:
		return errors.Join(need(o.RoleIDFile, "role-id-file"), need(o.SecretIDFile, "secret-id-file"))
	case Cert:
		// The certificate may also come from VAULT_CLIENT_CERT.
		if (o.CertFile == "") != (o.KeyFile == "") {
			return errors.New("a client certificate needs -identity-cert and -identity-key")
		}
		return nil
	case Token:
		return need(o.TokenFile, "token-file")
	}
	return errors.New("no auth method is given")
}

// Client returns a client for the login, see [NewClient].
func (o *Own) Client(address, namespace string, timeout time.Duration) (*api.Client, error) {
	return NewClient(address, namespace, o.CertFile, o.KeyFile, timeout)
}

// Login implements [api.AuthMethod].
func (o *Own) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	method, err := o.method()
	if err != nil {
		return nil, err
	}
	secret, err := method.Login(ctx, client)
	var answer *api.ResponseError
	switch {
	case errors.As(err, &answer):
		return nil, fmt.Errorf("logging in by %s at auth/%s: %s", o.Method.Kind, o.Method.Path, o.Method.explain(err, "").Message)
	case err != nil:
		return nil, fmt.Errorf("logging in by %s: %w", o.Method.Kind, err)
	case secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "":
		return nil, fmt.Errorf("logging in by %s: Vault wants more than this credential", o.Method.Kind)
	}
	return secret, nil
}

func (o *Own) method() (api.AuthMethod, error) {
	switch o.Method.Kind {
	case JWT:
		token, err := readWord(o.JWTFile)
		return &write{"auth/" + o.Method.Path + "/login", map[string]any{"role": o.Role, "jwt": token}}, err
	case Kubernetes:
		token, err := readWord(o.JWTFile)
		if err != nil {
			return nil, err
		}
		return kubernetes.NewKubernetesAuth(o.Role, kubernetes.WithServiceAccountToken(token), kubernetes.WithMountPath(o.Method.Path))
	case AppRole:
		role, err := readWord(o.RoleIDFile)
		if err != nil {
			return nil, err
		}
		return approle.NewAppRoleAuth(role, &approle.SecretID{FromFile: o.SecretIDFile}, approle.WithMountPath(o.Method.Path))
	case Cert:
		return &write{"auth/" + o.Method.Path + "/login", map[string]any{"name": o.Role}}, nil
	case Token:
		return tokenFile(o.TokenFile), nil
	}
	return nil, errors.New("no auth method is given")
}

// maxWord bounds what is read of a file with a credential.
const maxWord = 64 << 10

// readWord reads a file that holds one credential.
func readWord(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	word := string(bytes.TrimSpace(text))
	if word == "" || len(word) > maxWord {
		return "", fmt.Errorf("%s holds no credential", path)
	}
	return word, nil
}

// tokenFile is a file with a token.
type tokenFile string

// Login reads the token and asks Vault how long it lives.
func (f tokenFile) Login(ctx context.Context, client *api.Client) (*api.Secret, error) {
	token, err := readWord(string(f))
	if err != nil {
		return nil, err
	}
	with, err := client.Clone()
	if err != nil {
		return nil, err
	}
	setNamespace(with, client.Namespace())
	with.SetToken(token)
	secret, err := with.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return nil, err
	}
	ttl, err := secret.TokenTTL()
	if err != nil {
		return nil, err
	}
	entity, _ := secret.Data["entity_id"].(string)
	// Whoever writes the file renews the token.
	return &api.Secret{Auth: &api.SecretAuth{ClientToken: token, EntityID: entity, LeaseDuration: int(ttl.Seconds())}}, nil
}

const (
	// minRelogin and maxRelogin are the shortest and the longest pause between
	// two logins.
	minRelogin, maxRelogin = time.Second, 30 * time.Second
	// lookAgain is how often a token file is read whose token has no end.
	lookAgain = time.Minute
)

// Identity is the endpoint's own: it logs in, renews its token while Vault lets
// it, and then logs in again.
type Identity struct {
	own      *Own
	client   *api.Client
	log      *slog.Logger
	secret   *api.Secret // of the first login
	current  atomic.Pointer[api.SecretAuth]
	rejected chan struct{}
}

// NewIdentity logs in for the first time. Run keeps the identity alive.
func NewIdentity(ctx context.Context, own *Own, client *api.Client, log *slog.Logger) (*Identity, error) {
	if err := own.Check(); err != nil {
		return nil, err
	}
	i := &Identity{own: own, client: client, log: log, rejected: make(chan struct{}, 1)}
	secret, err := own.Login(ctx, client)
	if err != nil {
		return nil, err
	}
	i.secret = secret
	i.current.Store(secret.Auth)
	return i, nil
}

// Token returns the token of now.
func (i *Identity) Token() string { return i.current.Load().ClientToken }

// Current returns the token of now, and the id of its entity, which may be empty.
func (i *Identity) Current() (token, entity string) {
	auth := i.current.Load()
	return auth.ClientToken, auth.EntityID
}

// Forget is told that Vault does not accept a token any more. If it is the one
// of now, the identity logs in again.
func (i *Identity) Forget(token string) {
	if token != i.Token() {
		return
	}
	select {
	case i.rejected <- struct{}{}:
	default:
	}
}

// Run keeps the token fresh until ctx ends.
func (i *Identity) Run(ctx context.Context) {
	secret := i.secret
	for ctx.Err() == nil {
		i.watch(ctx, secret)
		if next := i.login(ctx); next != nil {
			secret = next
		}
	}
}

// watch renews a token until it cannot be renewed any more, is rejected, or ctx
// ends.
func (i *Identity) watch(ctx context.Context, secret *api.Secret) {
	if secret.Auth.LeaseDuration == 0 {
		i.wait(ctx, lookAgain)
		return
	}
	watcher, err := i.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		i.log.Error("renewing the own token", "error", err.Error())
		return
	}
	go watcher.Start()
	defer watcher.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.rejected:
			i.log.Warn("Vault does not accept the own token any more")
			return
		case <-watcher.RenewCh():
			i.log.Debug("renewed the own token")
		case <-watcher.DoneCh():
			return
		}
	}
}

// wait waits for a time, for the token to be rejected, or for ctx.
func (i *Identity) wait(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-i.rejected:
	case <-time.After(pause):
	}
}

// login logs in again, until it succeeds or ctx ends, and returns nil only then.
func (i *Identity) login(ctx context.Context) *api.Secret {
	for pause := minRelogin; ; pause = min(2*pause, maxRelogin) {
		// At least a second, in case Vault gives out tokens that do not last.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause/2 + rand.N(pause)):
		}
		secret, err := i.own.Login(ctx, i.client)
		if err == nil {
			i.current.Store(secret.Auth)
			select {
			case <-i.rejected: // it was the token before
			default:
			}
			i.log.Info("logged in again", "method", i.own.Method.Kind)
			return secret
		}
		i.log.Error("logging in again", "error", err.Error())
	}
}
