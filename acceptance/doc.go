// Package acceptance holds the tests that run the engine the way its users do:
// as an external process of a real Vault server, over HTTP and through the
// vault command. It has no code of its own.
package acceptance
