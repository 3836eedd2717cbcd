// Command vaultbin prints the path of a vault program, and builds one first
// where there is none. Scripts use it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	path, err := testvault.Binary(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vaultbin:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
