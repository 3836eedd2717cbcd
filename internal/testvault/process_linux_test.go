package testvault

import (
	"bufio"
	"bytes"
	"context"
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

// crashVariable has the test binary start a server and wait to be killed.
const crashVariable = "TESTVAULT_CRASH"

func TestMain(m *testing.M) {
	if os.Getenv(crashVariable) != "" {
		waitToBeKilled()
	}
	os.Exit(m.Run())
}

// waitToBeKilled is the program that [TestNothingOutlivesTheCaller] kills.
func waitToBeKilled() {
	s, err := startWithEngine(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(s.Pid())
	select {}
}

// TestNothingOutlivesTheCaller kills a program that runs a server with the
// engine mounted, and expects server and plugin to be gone soon after.
func TestNothingOutlivesTheCaller(t *testing.T) {
	EngineFor(t, "") // build it here, where nobody is about to be killed
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashVariable+"=1", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	check(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	check(t, err)
	requireEngine(t, pid)

	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // "signal: killed"
	waitForGroupToEnd(t, pid)
}

// TestStopAndKillEndPlugins shows that plugins go with their server.
func TestStopAndKillEndPlugins(t *testing.T) {
	for name, end := range map[string]func(*Server){"stop": (*Server).Stop, "kill": (*Server).Kill} {
		t.Run(name, func(t *testing.T) {
			skipIfShort(t)
			s, err := startWithEngine(t.Context())
			check(t, err)
			defer s.Stop()
			pid := s.Pid()
			requireEngine(t, pid)
			end(s)
			waitForGroupToEnd(t, pid)
		})
	}
}

// startWithEngine starts a server with the engine's process as a child.
func startWithEngine(ctx context.Context) (*Server, error) {
	engine, err := Engine(ctx, "")
	if err != nil {
		return nil, err
	}
	s, err := Start(ctx, Config{Plugins: []Plugin{engine}})
	if err != nil {
		return nil, err
	}
	return s, s.Mount(ctx, "kms", api.MountInput{Type: EngineName})
}

// requireEngine expects the engine among the processes of a server's group.
func requireEngine(t *testing.T, pid int) {
	t.Helper()
	if n := groupSize(t, pid); n < 2 {
		t.Fatalf("%d processes in Vault's group: the engine is not among them", n)
	}
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
