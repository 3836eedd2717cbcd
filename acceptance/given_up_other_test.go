//go:build !unix

package acceptance

import (
	"testing"

	"vault-plugin-secrets-kms-hmac/internal/testvault"
)

// givenUp needs signals that stop a process.
func givenUp(*testing.T, *testvault.Cluster) {}
