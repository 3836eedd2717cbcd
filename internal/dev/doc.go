// Package dev is a KMS for tests: the secrets engine in memory, behind the KMS
// endpoint, in one process and without Vault. kms-gateway -dev serves it, and
// the package kmstest starts it in a Go test.
//
// The engine and the endpoint are those that run in production. What is
// missing is Vault: its policies, its audit, its storage. Every caller may do
// everything, and all is gone when the process ends.
//
// An [Engine] stands where Vault does: it answers the requests that the
// endpoint makes. Its Control is the part that tests use: a clock to move,
// keys of known material, and failures on demand.
package dev
