//go:build !windows

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-kms-hmac/gateway"
)

// TestKeptCredentialsOfOthers: what lies where credentials are kept, and others
// may read or write, was not kept there by this program.
func TestKeptCredentialsOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache")
	c := &gateway.Credentials{Version: 1, AccessKeyId: "a", SessionToken: "hvs.x", Expiration: time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}
	require.NoError(t, writeCache(path, c))
	kept, err := readCache(path)
	require.NoError(t, err)
	require.Equal(t, c, kept)
	text, err := json.Marshal(c)
	require.NoError(t, err)
	for _, mode := range []os.FileMode{0o644, 0o620, 0o602, 0o604} {
		require.NoError(t, os.WriteFile(path, text, 0o600))
		require.NoError(t, os.Chmod(path, mode))
		kept, err := readCache(path)
		require.NoError(t, err)
		require.Nil(t, kept, mode)
		require.NoError(t, writeCache(path, c))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
}
