//go:build !linux

package testvault

import "os/exec"

// confine leaves the child in its parent's process group: without a death
// signal, that is how the terminal's interrupt reaches it.
func confine(*exec.Cmd) {}

// killGroup kills cmd's process.
func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
