// Command soakplugin is the plugin with one thing more: it tells how many
// goroutines it has. The plugin itself has no way to ask, and needs none.
package main

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/hashicorp/vault/api"

	kmshmac "vault-plugin-secrets-kms-hmac"
)

func main() {
	if path := os.Getenv("SOAK_GOROUTINES"); path != "" {
		go tell(path)
	}
	meta := &api.PluginAPIClientMeta{}
	if err := meta.FlagSet().Parse(os.Args[1:]); err != nil {
		os.Exit(2)
	}
	if err := kmshmac.Serve(api.VaultPluginTLSProvider(meta.GetTLSConfig())); err != nil {
		os.Exit(1)
	}
}

// tell writes the number of goroutines, without its own, to a file each second.
func tell(path string) {
	for {
		next := fmt.Sprintf("%s.%d", path, os.Getpid())
		if os.WriteFile(next, []byte(fmt.Sprint(runtime.NumGoroutine()-1)), 0o600) == nil {
			_ = os.Rename(next, path)
		}
		time.Sleep(time.Second)
	}
}
