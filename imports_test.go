package kmshmac

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "vault-plugin-secrets-kms-hmac"

// mayImport says which layers of this module each may import, besides itself:
// from the programs down to the contract of KMS. So the endpoint knows nothing
// of the engine's insides, nor the engine of the endpoint. What is not here may
// import everything, and is imported by no layer but those that say so: it joins
// engine and endpoint, for tests, measurements, development and examples.
var mayImport = map[string][]string{
	"kms":             nil,
	"keystore":        {"kms"},
	"":                {"keystore", "kms"}, // the secrets engine
	"gateway":         {"kms"},
	"cmd/" + module:   {""},
	"cmd/kms-gateway": {"gateway", "kms", "internal"},
}

// mustNotImport are packages of others that a layer is to know nothing of.
var mustNotImport = map[string][]string{
	"kms":      {"github.com/hashicorp/"},
	"keystore": {"github.com/hashicorp/vault/sdk/framework", "github.com/hashicorp/vault/sdk/plugin", "github.com/hashicorp/vault/api", "net/http"},
	"gateway":  {"github.com/hashicorp/vault/sdk"},
}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	// Looking at the folders keeps go test from repeating a result from before
	// a file was added to one of them: what go list reads, it does not see.
	require.NoError(t, filepath.WalkDir(".", func(_ string, _ fs.DirEntry, err error) error { return err }))
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	require.NoError(t, err)
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		packages := strings.Fields(line)
		from := layerOf(packages[0])
		if _, isLayer := mayImport[from]; !isLayer {
			continue
		}
		seen[from] = true
		for _, imported := range packages[1:] {
			if isOurs(imported) && layerOf(imported) != from {
				require.Contains(t, mayImport[from], layerOf(imported), "%s imports %s", packages[0], imported)
			}
			for _, prefix := range mustNotImport[from] {
				require.False(t, strings.HasPrefix(imported, prefix), "%s imports %s", packages[0], imported)
			}
		}
	}
	require.Len(t, seen, len(mayImport), "layers in mayImport that are no more")
}

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// layerOf returns the folder of a package in the module, "" for the module's
// root; each program is a layer of its own.
func layerOf(path string) string {
	first, rest, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, module), "/"), "/")
	if first == "cmd" {
		return first + "/" + rest
	}
	return first
}
