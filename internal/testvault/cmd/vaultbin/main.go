// Command vaultbin prints the path of a vault program, and builds one first
// where there is none. With -auth it is the program of one of Vault's auth
// methods that this build of Vault lacks. Scripts use it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	auth := flag.String("auth", "", "auth `method`, jwt or kubernetes, to print the path of")
	flag.Parse()
	path, err := program(ctx, *auth)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vaultbin:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func program(ctx context.Context, auth string) (string, error) {
	if auth != "" {
		plugin, err := testvault.AuthMethod(ctx, auth, os.Stderr)
		return plugin.Path, err
	}
	return testvault.Binary(ctx, os.Stderr)
}
