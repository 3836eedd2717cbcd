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
	"time"

	"vault-plugin-secrets-kms-hmac/gateway"
)

const (
	// credentialsTimeout keeps a credential_process from hanging its SDK.
	credentialsTimeout = 10 * time.Second
	// cacheMargin is how long before their end kept credentials are not used any
	// more: longer than the 15 minutes before which botocore asks for new ones.
	cacheMargin = 20 * time.Minute
)

// credentials prints a Vault token in the form of a credential_process: that of
// a login, or the one that the caller has.
func credentials(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("kms-gateway credentials", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, `kms-gateway credentials prints a Vault token as AWS credentials: that of VAULT_TOKEN or "vault login" or, with -identity
or -token-file, of a login of its own. It keeps nothing, unless -cache-file says where.

`)
		flags.PrintDefaults()
	}
	address := flags.String("vault-addr", "", "`URL` of Vault (default VAULT_ADDR)")
	namespace := flags.String("namespace", os.Getenv("VAULT_NAMESPACE"), "Vault `namespace` of the token")
	cache := flags.String("cache-file", "", "`file` to keep the credentials of -identity in until they are about to expire; it is as secret as they are")
	var own ownOptions
	own.register(flags)
	if err := flags.Parse(args); err != nil {
		return usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	c, err := readCache(*cache)
	if c == nil && err == nil {
		if c, err = own.credentials(ctx, *address, *namespace); err == nil {
			err = writeCache(*cache, c)
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(c)
}

// credentials logs in, or takes the token that is there.
func (o *ownOptions) credentials(ctx context.Context, address, namespace string) (*gateway.Credentials, error) {
	own, err := o.parse()
	if err != nil {
		return nil, err
	}
	var token string
	if own == nil {
		if token, err = gateway.VaultToken(); err != nil {
			return nil, err
		}
	} else {
		client, err := own.Client(address, namespace, credentialsTimeout)
		if err != nil {
			return nil, err
		}
		secret, err := own.Login(ctx, client)
		if err != nil {
			return nil, err
		}
		token = secret.Auth.ClientToken
	}
	vault, err := gateway.NewVault(address, namespace, credentialsTimeout)
	if err != nil {
		return nil, err
	}
	return vault.CredentialsFor(ctx, token)
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
