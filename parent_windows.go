package kmshmac

import "os"

// waitForEnd returns when the parent has ended. Its number may then be another
// process's, so a handle on it is taken at the start.
func waitForEnd(parent int) {
	process, err := os.FindProcess(parent)
	if err != nil {
		return // it has ended already
	}
	_, _ = process.Wait() // Windows lets anybody wait for any process
}
