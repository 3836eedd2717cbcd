// Command vault-plugin-secrets-kms-hmac is the Vault plugin. Vault starts it;
// run by hand it only answers -version.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		// The sdk's default format, JSON on stderr, is the one whose levels
		// Vault understands.
		hclog.New(&hclog.LoggerOptions{JSONFormat: true}).Error("plugin shutting down", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil // which the flag package has shown
	} else if err != nil {
		return err
	}
	if *version {
		fmt.Println(kmshmac.Version)
		return nil
	}
	return kmshmac.Serve(api.VaultPluginTLSProvider(meta.GetTLSConfig()))
}
