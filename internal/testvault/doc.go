// Package testvault runs a real Vault server for tests, benchmarks and demos.
//
// The plugin is proven against what its users run: an unmodified Vault server
// that starts the plugin as an external process. So this package finds or
// builds a vault binary ([Binary]), builds the plugin ([Engine]), and starts
// either one server ([Start]) or a raft cluster ([StartCluster]) on loopback,
// initialised and unsealed, with data in a temporary folder.
//
// Everything here returns errors, because programs use it too. Tests use the
// thin wrappers [Run], [RunEngine] and [RunCluster], which stop what they
// started when the test ends.
//
// On Linux no server outlives the program that started it, whichever way that
// program ends: see [Process]. The package also works on macOS.
package testvault
