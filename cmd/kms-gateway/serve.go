package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vault-plugin-secrets-kms-hmac/gateway"
)

// gcPercent lets the heap, which is a few megabytes, grow further between
// collections than Go's default: they cost a tenth of the time of a busy gateway.
// GOGC in the environment overrides it.
const gcPercent = 400

// serve serves until ctx ends, and then until the calls under way are answered.
func serve(ctx context.Context, o *options, logTo io.Writer) error {
	lines := newLineBuffer(logTo)
	defer lines.Close()
	log := slog.New(gateway.NewLogHandler(lines, o.logLevel))
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	registry := newRegistry()
	vault, wrap, err := o.vault(ctx, logTo)
	if err != nil {
		return err
	}
	who, err := o.callers(ctx, log, registry)
	if err != nil {
		return err
	}
	g, err := o.gateway(vault, who, log, registry)
	if err != nil {
		return err
	}
	o.inventory.watch(ctx, g, log, registry)
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	servers, err := o.servers(g, wrap, metrics, log)
	if err != nil {
		return err
	}
	servers[0].Listener = gateway.LimitConnections(servers[0].Listener, o.connections, log, registry)
	watchCertificate(registry, servers[0].Server)
	o.logStart(vault, log)
	defer reloadOnHangup(servers, who, log)()
	return o.runServers(ctx, g, servers, log)
}

// logStart says in one line what an operator wants to know of a program that
// does not do what he wants, and warns of what he may not want.
func (o *options) logStart(vault *gateway.Vault, log *slog.Logger) {
	tokens := "calls without a token go to Vault without one"
	switch {
	case o.requireToken || o.login.signedOnly:
		tokens = "calls without a token are refused"
	case o.login.sidecar:
		tokens = "calls without a token have the endpoint's identity"
	}
	log.Info("starting", "version", versionText(),
		"vault", vault.Address(), "namespace", vault.Namespace(), "mount", o.mount,
		"region", o.arns.Region, "account", o.arns.Account,
		"tls", o.certFile != "", "client_certificates", o.ca != "", "tokens", tokens,
		"login", o.login.login, "signed_only", o.login.signedOnly)
	if o.certFile == "" && !isLoopback(o.listen) {
		log.Warn("without TLS, Vault tokens can be read on the way from clients that are not on this machine", "listen", o.listen)
	}
	if address := vault.Address(); !o.dev.on && strings.HasPrefix(address, "http://") && !isLoopback(strings.TrimPrefix(address, "http://")) {
		log.Warn("without TLS, Vault tokens can be read on the way to Vault", "vault", address)
	}
}

// vault returns the Vault that the flags ask for, and what goes around the
// handler of KMS.
func (o *options) vault(ctx context.Context, logTo io.Writer) (*gateway.Vault, func(http.Handler) http.Handler, error) {
	if o.dev.on {
		fmt.Fprint(logTo, devWarning, o.devHint()) // whatever the level of the log
		return o.dev.vault(ctx)
	}
	vault, err := gateway.NewVault(o.vaultAddr, o.namespace, o.timeout)
	if err != nil {
		return nil, nil, err
	}
	vault.SetVersion(versionText())
	return vault, func(h http.Handler) http.Handler { return h }, nil
}

// listening is a server with its listener.
type listening struct {
	*gateway.Server
	net.Listener
}

// servers opens the listeners: that of KMS, and another where metrics have their
// own.
func (o *options) servers(g *gateway.Gateway, wrap func(http.Handler) http.Handler, metrics http.Handler, log *slog.Logger) ([]listening, error) {
	config := o.serverConfig(log)
	if o.metricsListen == "" {
		kms, err := listen(o.listen, wrap(gateway.Handler(g, metrics)), config)
		return []listening{kms}, err
	}
	kms, err := listen(o.listen, wrap(gateway.Handler(g, nil)), config)
	if err != nil {
		return nil, err
	}
	config.CertFile, config.KeyFile, config.ClientCAFile = "", "", ""
	admin, err := listen(o.metricsListen, gateway.AdminHandler(g, metrics), config)
	return []listening{kms, admin}, err
}

func listen(address string, handler http.Handler, config gateway.ServerConfig) (listening, error) {
	server, err := gateway.NewServer(handler, config)
	if err != nil {
		return listening{}, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return listening{}, fmt.Errorf("listening: %w", err)
	}
	return listening{server, listener}, nil
}

// runServers runs the servers until ctx ends or one of them fails, and shuts
// them down: first for those who look at /readyz, then for all.
func (o *options) runServers(ctx context.Context, g *gateway.Gateway, servers []listening, log *slog.Logger) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		log.Info("serving", "address", s.Addr().String(), "version", versionText())
		go func() { failed <- s.Serve(s.Listener) }()
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping", "delay", o.shutdownDelay.String(), "timeout", o.shutdownTimeout.String())
		g.Drain()
		select {
		case err = <-failed:
		case <-time.After(o.shutdownDelay):
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.shutdownTimeout)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(ctx))
	}
	return err
}

// reloadOnHangup has the servers read their certificates, and the sealing keys,
// again on SIGHUP. The function it returns ends that.
func reloadOnHangup(servers []listening, who callers, log *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for range hangup {
			reload(servers, who, log)
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(hangup)
	}
}

// reload reads the certificates again and logs how that went. Those that cannot
// be read stay as they are.
func reload(servers []listening, who callers, log *slog.Logger) {
	var failures error
	for _, s := range servers {
		failures = errors.Join(failures, s.Reload())
	}
	failures = errors.Join(failures, who.reload())
	if failures != nil {
		log.Error("reload failed, what is in use stays", "error", failures.Error())
		return
	}
	log.Info("reloaded")
}
