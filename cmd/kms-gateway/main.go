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
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "kms-gateway:", err)
	if wrong := (*usageError)(nil); errors.As(err, &wrong) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "help": // of the program, or of a command
		return run(ctx, append(args[1:len(args):len(args)], "-h"), stdout, stderr)
	case "audit":
		return audit(args[1:], os.Stdin, stdout, stderr)
	case "credentials":
		return credentials(ctx, args[1:], stdout)
	}
	o := newOptions(stdout)
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
