package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"vault-plugin-secrets-kms-hmac/gateway"
	"vault-plugin-secrets-kms-hmac/internal/dev"
)

// devOptions are the flags of -dev: a KMS for tests, in memory and without
// Vault.
type devOptions struct {
	on     bool
	seed   string
	clock  string
	remote bool
}

func (d *devOptions) register(f *flag.FlagSet) {
	f.BoolVar(&d.on, "dev", false, "serve from memory, without Vault: for tests, no place for real keys")
	f.StringVar(&d.seed, "dev-keys", "", "`file` of keys to start with, as JSON (docs/testing.md)")
	f.StringVar(&d.clock, "dev-clock", "", "`time` at which the clock stands still, as RFC 3339")
	f.BoolVar(&d.remote, "dev-allow-remote", false, "listen beyond loopback, where anybody can use and change the keys")
}

// check refuses flags that do not go together. -dev reads nothing of Vault's
// environment, so that alone does not matter.
func (d *devOptions) check(o *options) error {
	if d.on && !isSet(o.flags.FlagSet, "shutdown-delay") {
		o.shutdownDelay = 0 // there is no load balancer to wait for
	}
	switch {
	case !d.on && (d.seed != "" || d.clock != "" || d.remote):
		return errors.New("the flags -dev-... are for -dev")
	case !d.on:
		return nil
	case o.vaultAddr != "":
		return errors.New("with -dev there is no Vault, so no -vault-addr")
	case o.mount != dev.Mount:
		return errors.New("with -dev there is no other -mount than " + dev.Mount)
	case !d.remote && !isLoopback(o.listen):
		return fmt.Errorf("with -dev anybody who reaches the address can use and change the keys: %q is not loopback; -dev-allow-remote allows it", o.listen)
	}
	return nil
}

// isLoopback reports whether an address to listen on is this machine's alone.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func isSet(f *flag.FlagSet, name string) (set bool) {
	f.Visit(func(given *flag.Flag) { set = set || given.Name == name })
	return set
}

const devWarning = `kms-gateway -dev is for tests. It is no place for real keys: they are in memory, without Vault,
every caller may do everything with them, and they are gone when it stops.
`

// devHint says how programs find the KMS for tests at an address.
func (o *options) devHint() string {
	scheme := "http"
	if o.certFile != "" {
		scheme = "https"
	}
	return fmt.Sprintf("Programs find it by AWS_ENDPOINT_URL_KMS=%s://%s AWS_REGION=%s, with any credentials.\n", scheme, o.listen, o.arns.Region)
}

// vault starts the engine, which stands where Vault does, and returns its
// client and what puts its control before the handler of KMS.
func (d *devOptions) vault(ctx context.Context) (*gateway.Vault, func(http.Handler) http.Handler, error) {
	clock := &dev.Clock{}
	if d.clock != "" {
		t, err := time.Parse(time.RFC3339, d.clock)
		if err == nil {
			err = clock.Set(t)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("-dev-clock: %w", err)
		}
	}
	engine, err := dev.New(clock)
	if err != nil {
		return nil, nil, err
	}
	if err := d.seedFrom(ctx, engine); err != nil {
		return nil, nil, fmt.Errorf("-dev-keys: %w", err)
	}
	return engine.Vault(), engine.Handler, nil
}

func (d *devOptions) seedFrom(ctx context.Context, engine *dev.Engine) error {
	if d.seed == "" {
		return nil
	}
	f, err := os.Open(d.seed)
	if err != nil {
		return err
	}
	defer f.Close()
	seed, err := dev.ReadSeed(f)
	if err != nil {
		return fmt.Errorf("%s: %w", d.seed, err)
	}
	_, err = engine.Seed(ctx, seed)
	return err
}
