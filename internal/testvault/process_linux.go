package testvault

import (
	"os/exec"
	"syscall"
)

// confine makes the child the head of a process group of its own, so that it
// can be killed with its children, and has the kernel end it when its parent
// dies. SIGTERM rather than SIGKILL: only a Vault that may still act ends its
// plugins.
func confine(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// killGroup kills what there is of the process group of cmd's process.
func killGroup(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}
