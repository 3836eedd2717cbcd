//go:build profile

package main

import _ "vault-plugin-secrets-kms-hmac/internal/profiled"
