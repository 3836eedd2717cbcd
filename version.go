package kmshmac

// Version is the engine's version in the form in which Vault compares it with
// the registered one, hence with a leading "v". Releases set it when linking.
var Version = "v0.1.0"
