// Command vaultbin prints the path of a vault program, and builds one first
// where there is none. With -jwt it is the program of Vault's JWT auth method,
// which that build of Vault lacks. Scripts use it.
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
	jwt := flag.Bool("jwt", false, "print the path of the JWT auth method")
	flag.Parse()
	path, err := program(ctx, *jwt)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vaultbin:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func program(ctx context.Context, jwt bool) (string, error) {
	if jwt {
		plugin, err := testvault.JWTAuth(ctx, os.Stderr)
		return plugin.Path, err
	}
	return testvault.Binary(ctx, os.Stderr)
}
