package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/gateway/login"
)

const (
	// credentialsTimeout keeps a credential_process from hanging its SDK.
	credentialsTimeout = 10 * time.Second
	// cacheMargin is how long before their end kept credentials are not used any
	// more: longer than the 15 minutes before which botocore asks for new ones.
	cacheMargin = 20 * time.Minute
)

const credentialsHelp = `kms-gateway credentials prints a Vault token as AWS credentials: that of VAULT_TOKEN or "vault login" or, with -identity
or -token-file, of a login of its own. It keeps nothing, unless -cache-file says where.

  [profile vault]
  credential_process = kms-gateway credentials`

// credentialsOptions are the flags of "kms-gateway credentials".
type credentialsOptions struct {
	address, namespace, cache string
	own                       ownOptions
}

func credentialsFlags(o *credentialsOptions, help io.Writer) *commandFlags {
	flags := newCommandFlags("kms-gateway credentials", credentialsHelp, help)
	flags.group("Flags", func(f *flag.FlagSet) {
		f.StringVar(&o.address, "vault-addr", "", "`URL` of Vault (default VAULT_ADDR)")
		f.StringVar(&o.namespace, "namespace", os.Getenv("VAULT_NAMESPACE"), "Vault `namespace` of the token (default VAULT_NAMESPACE)")
		f.StringVar(&o.cache, "cache-file", "", "`file` to keep the credentials of -identity in until they are about to expire; it is as secret as they are")
	})
	flags.group("To log in", o.own.register)
	return flags
}

// credentials prints a Vault token in the form of a credential_process: that of
// a login, or the one that the caller has.
func credentials(ctx context.Context, args []string, stdout io.Writer) error {
	var o credentialsOptions
	flags := credentialsFlags(&o, stdout)
	if err := flags.parse(args, 0); err != nil {
		return err
	}
	own, err := o.own.parse()
	if err != nil {
		return flags.usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	c, err := readCache(o.cache)
	if c == nil && err == nil {
		if c, err = vaultCredentials(ctx, own, o.address, o.namespace); err == nil {
			err = writeCache(o.cache, c)
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(c)
}

// vaultCredentials logs in, or takes the token that is there.
func vaultCredentials(ctx context.Context, own *login.Own, address, namespace string) (*gateway.Credentials, error) {
	token, err := vaultToken(ctx, own, address, namespace)
	if err != nil {
		return nil, err
	}
	vault, err := gateway.NewVault(address, namespace, credentialsTimeout)
	if err != nil {
		return nil, err
	}
	return vault.CredentialsFor(ctx, token)
}

func vaultToken(ctx context.Context, own *login.Own, address, namespace string) (string, error) {
	if own == nil {
		return gateway.VaultToken()
	}
	client, err := own.Client(address, namespace, credentialsTimeout)
	if err != nil {
		return "", err
	}
	secret, err := own.Login(ctx, client)
	if err != nil {
		return "", err
	}
	return secret.Auth.ClientToken, nil
}

// readCache returns the credentials that a file keeps; nil if there are none, or
// none that are good for long enough.
func readCache(path string) (*gateway.Credentials, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading kept credentials: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, nil // others may have written it, or read it: to be written anew
	}
	c := &gateway.Credentials{}
	if json.Unmarshal(text, c) != nil {
		return nil, nil // to be written anew
	}
	expires, err := time.Parse(time.RFC3339, c.Expiration)
	if err != nil || time.Until(expires) < cacheMargin {
		return nil, nil
	}
	return c, nil
}

// writeCache keeps credentials in a file that only its owner may read. It is
// there whole or not at all.
func writeCache(path string, c *gateway.Credentials) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("keeping the credentials: %w", err)
	}
	_, err = file.Write(text)
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return fmt.Errorf("keeping the credentials: %w", err)
	}
	return nil
}
