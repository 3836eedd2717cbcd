package gateway

// "kms-gateway credentials": a Vault token as AWS credentials.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Credentials are credentials in the form that AWS's SDKs and CLI read from a
// credential_process
// (https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).
type Credentials struct {
	Version         int
	AccessKeyId     string //nolint:revive // AWS's spelling
	SecretAccessKey string
	SessionToken    string
	Expiration      string `json:",omitempty"`
}

const (
	// unverifiedSecret stands for the secret key, which clients insist on and
	// the endpoint has no use for.
	unverifiedSecret = "not-verified"
	// noEntity is the access key id of a token without an entity.
	noEntity = "vault-token"
)

// VaultToken returns the token in VAULT_TOKEN, or else the one that "vault
// login" has left for the token helper.
func VaultToken() (string, error) {
	if token := strings.TrimSpace(os.Getenv("VAULT_TOKEN")); token != "" {
		return token, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("looking for a Vault token: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(home, ".vault-token"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("looking for a Vault token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", errors.New("no Vault token: set VAULT_TOKEN or log in with vault login")
	}
	return token, nil
}

// CredentialsFor asks Vault about a token and returns it as credentials, which
// expire with it. The access key id is the id of the token's entity: so the
// user that AccessDeniedException and grants name is one that Vault knows.
func (v *Vault) CredentialsFor(ctx context.Context, token string) (*Credentials, error) {
	body, err := v.do(ctx, vaultRequest{method: http.MethodGet, path: lookupSelf, token: token})
	if err != nil {
		return nil, v.lookupError(err)
	}
	var answer struct {
		Data struct {
			EntityID   string     `json:"entity_id"`
			ExpireTime *time.Time `json:"expire_time"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, v.lookupError(err)
	}
	c := &Credentials{Version: 1, AccessKeyId: answer.Data.EntityID, SecretAccessKey: unverifiedSecret, SessionToken: token}
	if c.AccessKeyId == "" {
		c.AccessKeyId = noEntity
	}
	if at := answer.Data.ExpireTime; at != nil {
		c.Expiration = at.UTC().Format(time.RFC3339)
	}
	return c, nil
}

// lookupError names the server: who has not set VAULT_ADDR asks the default one.
func (v *Vault) lookupError(err error) error {
	var refusal *vaultError
	if errors.As(err, &refusal) && refusal.status == http.StatusForbidden {
		err = errors.New("Vault refused: the token is not valid, or may not look itself up")
	}
	return fmt.Errorf("looking the token up at %s: %w", v.Address(), err)
}
