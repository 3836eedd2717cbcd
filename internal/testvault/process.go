package testvault

import (
	"context"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to end itself when asked to.
const stopTimeout = 10 * time.Second

// Process is a child process that does not outlive this one.
//
// Tests end in ways that run no cleanup: the timeout's panic, os.Exit, a kill.
// On Linux the kernel then asks the child to end, as [Process.Stop] does, and a
// Vault server ends its plugins before it ends. When it is the server that
// dies, its plugins, which are in its process group, are killed. On other
// systems the child is only ended by Stop and Kill, and by an interrupt from
// the terminal, which reaches parent and child alike.
type Process struct {
	cmd   *exec.Cmd
	done  chan struct{}
	err   error       // of Wait; readable once done is closed
	alone atomic.Bool // see KillAlone
}

// StartProcess starts cmd. The caller sets everything but the SysProcAttr.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	confine(cmd)
	started := make(chan error)
	go func() {
		// Linux ties the death signal to the thread that started the child, not
		// to the process, and Go ends idle threads: keep this one to the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		if !p.alone.Load() {
			killGroup(cmd) // children that the process left behind when it crashed
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop asks the process to end, and kills it when it does not. It returns when
// the process is gone. Stopping a process that has ended does nothing.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.Kill()
	}
}

// Kill kills the process and its children at once, as a power cut would, and
// returns when the process is gone.
func (p *Process) Kill() {
	select {
	case <-p.done:
	default:
		killGroup(p.cmd)
	}
	<-p.done
}

// KillAlone kills the process and leaves its children to themselves, for tests
// of what they do then. It returns when the process is gone. The caller sees to
// it that the children end.
func (p *Process) KillAlone() {
	p.alone.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// runProcess runs cmd to its end, or kills it when ctx ends.
func runProcess(ctx context.Context, cmd *exec.Cmd) error {
	p, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
}
