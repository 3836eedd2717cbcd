//go:build !windows

package kmshmac

import (
	"os"
	"time"
)

// waitForEnd returns when the parent has ended: the kernel then gives its
// children another one. To ask is all that every Unix can do. Linux could send a
// signal, but when the thread ends that has started the child, and Go ends
// threads as it likes.
func waitForEnd(parent int) {
	for os.Getppid() == parent {
		time.Sleep(time.Second)
	}
}
