package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-kms-hmac/gateway"
)

// options are the flags of the server.
type options struct {
	flags *commandFlags

	listen, metricsListen   string
	vaultAddr, namespace    string
	mount                   string
	arns                    gateway.ARNs
	requireToken            bool
	certFile, keyFile, ca   string
	maxBody, maxConcurrency int64
	maxHeader               int
	connections             gateway.ConnectionLimits
	timeout, retryWait      time.Duration
	readTimeout             time.Duration
	idleTimeout             time.Duration
	shutdownDelay           time.Duration
	shutdownTimeout         time.Duration
	inventory               inventoryOptions
	logLevel                slog.Level
	version                 bool
	dev                     devOptions
	login                   loginOptions
}

const serveHelp = `kms-gateway serves the API of AWS KMS from HMAC keys in Vault.

  kms-gateway [flags]               serve
  kms-gateway credentials [flags]   print a Vault token, or that of a login, as AWS credentials (a credential_process)
  kms-gateway audit [flags]         count who used which key, from the audit logs of Vault
  kms-gateway -dev [flags]          serve from memory, without Vault: for tests, no place for real keys

Vault's address and TLS come from the environment, as for the vault command: VAULT_ADDR, VAULT_CACERT, ...

  VAULT_ADDR=https://vault.example.com:8200 kms-gateway -mount kms`

// newOptions returns the options with their defaults. Help goes to a writer.
func newOptions(help io.Writer) *options {
	o := &options{flags: newCommandFlags("kms-gateway", serveHelp, help)}
	o.flags.group("What to serve", o.registerServe)
	o.flags.group("ARNs", o.registerARNs)
	o.flags.group("TLS", o.registerTLS)
	o.flags.group("Callers", o.registerCallers, o.login.register)
	o.flags.group("The endpoint's own login, for -sidecar and -sealing-key", o.login.ownOptions.register)
	o.flags.group("Limits", o.registerLimits)
	o.flags.group("Shutdown", o.registerShutdown)
	o.flags.group("Log and metrics", o.registerMonitoring, o.inventory.register)
	o.flags.group("A KMS for tests", o.dev.register)
	return o
}

func (o *options) registerServe(f *flag.FlagSet) {
	f.StringVar(&o.listen, "listen", "127.0.0.1:8203", "`address` to serve KMS on")
	f.StringVar(&o.vaultAddr, "vault-addr", "", "`URL` of Vault (default VAULT_ADDR)")
	f.StringVar(&o.namespace, "namespace", os.Getenv("VAULT_NAMESPACE"), "Vault `namespace` of the mount (default VAULT_NAMESPACE)")
	f.StringVar(&o.mount, "mount", "kms", "`path` at which the secrets engine is mounted")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
}

func (o *options) registerARNs(f *flag.FlagSet) {
	f.StringVar(&o.arns.Partition, "partition", "aws", "AWS `partition` in ARNs")
	f.StringVar(&o.arns.Region, "region", "us-east-1", "AWS `Region` in ARNs")
	f.StringVar(&o.arns.Account, "account", "000000000000", "AWS `account` in ARNs")
}

func (o *options) registerTLS(f *flag.FlagSet) {
	f.StringVar(&o.certFile, "tls-cert", "", "`file` of the TLS certificate; read again on SIGHUP")
	f.StringVar(&o.keyFile, "tls-key", "", "`file` of its key")
	f.StringVar(&o.ca, "client-ca", "", "`file` of authorities whose client certificates are required")
}

func (o *options) registerCallers(f *flag.FlagSet) {
	f.BoolVar(&o.requireToken, "require-token", false, "refuse calls without a session token, instead of passing them to a Vault Proxy")
}

func (o *options) registerLimits(f *flag.FlagSet) {
	f.Int64Var(&o.maxBody, "max-body", 1<<20, "most `bytes` of a request's body")
	f.IntVar(&o.maxHeader, "max-header", 64<<10, "most `bytes` of a request's header")
	f.Int64Var(&o.maxConcurrency, "max-concurrency", 4096, "most `calls` at once; further ones get ThrottlingException")
	f.IntVar(&o.connections.Total, "max-connections", 8192, "most `connections` at once; further ones are closed, 0 is no limit")
	f.IntVar(&o.connections.PerAddress, "max-connections-per-address", 1024, "most `connections` at once of one client's address; 0 is no limit, for behind a load balancer")
	f.DurationVar(&o.timeout, "timeout", 15*time.Second, "most `time` for a request to Vault")
	f.DurationVar(&o.retryWait, "retry-wait", 10*time.Second, "most `time` to wait for a Vault that cannot serve, to ask once more what changes nothing; 0 never asks twice")
	f.DurationVar(&o.readTimeout, "read-timeout", 10*time.Second, "most `time` a client may take to send a request")
	f.DurationVar(&o.idleTimeout, "idle-timeout", 2*time.Minute, "most `time` a connection is kept without a request")
}

func (o *options) registerShutdown(f *flag.FlagSet) {
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 5*time.Second, "`time` after SIGTERM in which /readyz is 503 and calls are still served, for load balancers to notice")
	f.DurationVar(&o.shutdownTimeout, "shutdown-timeout", 30*time.Second, "most `time` for calls under way to finish after that")
}

func (o *options) registerMonitoring(f *flag.FlagSet) {
	f.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "`level` of the log: debug, info (a line for each call), warn, error")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "`address` to serve /metrics, /healthz and /readyz on; /metrics is then not on -listen")
}

func (o *options) parse(args []string) error {
	if err := o.flags.parse(args, 0); err != nil {
		return err
	}
	err := o.check()
	if err == nil {
		err = o.dev.check(o)
	}
	if err == nil {
		err = o.login.check(o.listen, o.requireToken, o.certFile != "")
	}
	if err == nil && o.dev.on && o.login.any() {
		err = errors.New("-dev has no logins")
	}
	return o.flags.usage(err)
}

// maxMaxBody keeps the budget for bodies, which is a multiple of the largest, a
// number.
const maxMaxBody = 1 << 30

// check refuses limits that would be none: net/http takes zero for its own
// default, and less for no limit.
func (o *options) check() error {
	for name, time := range map[string]time.Duration{"timeout": o.timeout, "read-timeout": o.readTimeout, "idle-timeout": o.idleTimeout} {
		if time <= 0 {
			return fmt.Errorf("-%s must be positive", name)
		}
	}
	switch {
	case o.maxHeader <= 0:
		return errors.New("-max-header must be positive")
	case o.maxBody > maxMaxBody:
		return fmt.Errorf("-max-body must not be more than %d", maxMaxBody)
	case o.connections.Total < 0 || o.connections.PerAddress < 0:
		return errors.New("-max-connections and -max-connections-per-address must not be negative")
	}
	return nil
}

// gateway returns the gateway that the flags ask for, in front of a Vault.
func (o *options) gateway(vault *gateway.Vault, who callers, log *slog.Logger, registry prometheus.Registerer) (*gateway.Gateway, error) {
	config := gateway.Config{
		Vault:          vault,
		Mount:          o.mount,
		ARNs:           o.arns,
		RequireToken:   o.requireToken,
		MaxBody:        o.maxBody,
		MaxConcurrency: o.maxConcurrency,
		RetryWait:      o.retryWait,
		Log:            log,
		Registerer:     registry,
		SignedOnly:     o.login.signedOnly,
	}
	who.apply(&config)
	return gateway.New(config)
}

func (o *options) serverConfig(log *slog.Logger) gateway.ServerConfig {
	return gateway.ServerConfig{
		ReadTimeout: o.readTimeout,
		// A call may need a second request to Vault, and the client some time
		// to read the answer.
		WriteTimeout: o.readTimeout + 2*o.timeout,
		IdleTimeout:  o.idleTimeout,
		MaxHeader:    o.maxHeader,
		CertFile:     o.certFile, KeyFile: o.keyFile, ClientCAFile: o.ca, AskForCertificate: o.login.byCertificate(),
		Log: log,
	}
}
