// Command kms-gateway serves the API of AWS KMS from the HMAC keys of a Vault
// secrets engine, so that programs written for KMS work unmodified. See
// docs/endpoint.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "kms-gateway:", err)
		os.Exit(1)
	}
}

// errUsage is an error that the flag package has already told about.
var errUsage = errors.New("wrong usage")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "audit" {
		return audit(args[1:], os.Stdin, stdout, stderr)
	}
	if len(args) > 0 && args[0] == "credentials" {
		return credentials(ctx, args[1:], stdout, stderr)
	}
	o := newOptions(stderr)
	if err := o.parse(args); err != nil {
		return err
	}
	if o.version {
		fmt.Fprintln(stdout, "kms-gateway", versionText())
		return nil
	}
	return serve(ctx, o, stderr)
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func usage(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	return errUsage
}
