package kmshmac

import "os"

// endWithParent ends this process when its parent, which is Vault, ends. A Vault
// that is killed, by hand or for want of memory, ends none of its plugins, and
// this one has key material in its memory. Vault itself ends or replaces a
// plugin, at a reload say, without this.
func endWithParent() {
	go func() {
		waitForEnd(parent)
		os.Exit(1) // no storage is left to write to
	}()
}

// parent is who started this process. It is read at once: once the parent has
// ended there is no telling who it was.
var parent = os.Getppid()
