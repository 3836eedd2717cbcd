package kmshmac

// Version is the engine's version in the form in which Vault compares it with
// the registered one, hence with a leading "v". Between releases it is the next
// one's with "-dev", so that no build is taken for a release. Releases set it
// when linking.
var Version = "v0.2.0-dev"
