package testvault

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// crashVariable has the test binary start a server and die without cleanup.
const crashVariable = "TESTVAULT_CRASH"

// TestNothingOutlivesTheCaller kills a program that runs a server with the
// engine mounted, and expects server and plugin to be gone soon after.
func TestNothingOutlivesTheCaller(t *testing.T) {
	EngineFor(t, "") // build it here, where nobody is about to be killed
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
	cmd.Env = append(os.Environ(), crashVariable+"=1", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	check(t, err)

	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	waitForGroupToEnd(t, pid)
}

// TestCrash is the program that [TestNothingOutlivesTheCaller] kills.
func TestCrash(t *testing.T) {
	if os.Getenv(crashVariable) == "" {
		t.Skip("only a part of another test")
	}
	s := startWithEngine(t)
	fmt.Println(s.Pid())
	select {}
}

// TestStopAndKillEndPlugins shows that plugins go with their server.
func TestStopAndKillEndPlugins(t *testing.T) {
	for name, end := range map[string]func(*Server){"stop": (*Server).Stop, "kill": (*Server).Kill} {
		t.Run(name, func(t *testing.T) {
			s := startWithEngine(t)
			defer s.Stop()
			pid := s.Pid()
			end(s)
			waitForGroupToEnd(t, pid)
		})
	}
}

// startWithEngine starts a server with the engine's process as a child.
func startWithEngine(t *testing.T) *Server {
	t.Helper()
	s, err := Start(t.Context(), Config{Plugins: []Plugin{EngineFor(t, "")}})
	check(t, err)
	check(t, s.Mount(t.Context(), "kms", api.MountInput{Type: EngineName}))
	if n := groupSize(t, s.Pid()); n < 2 {
		t.Fatalf("%d processes in Vault's group: the engine is not among them", n)
	}
	return s
}

// waitForGroupToEnd waits until no process of a server's process group runs.
func waitForGroupToEnd(t *testing.T, pid int) {
	t.Helper()
	for range 1000 {
		if groupSize(t, pid) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("processes of group %d still run", pid)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

// groupSize counts the processes of a group that run. Signal 0 to the group
// does not tell: it finds those that have ended and that nobody waits for.
func groupSize(t *testing.T, group int) (n int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	check(t, err)
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		// "pid (name) state ppid pgrp ...", where the name may hold anything.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[0] != "Z" && fields[2] == strconv.Itoa(group) {
			n++
		}
	}
	return n
}
