package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSystemdUnit: the flags of the unit are flags of this program, and what a
// reload reads again is not what systemd keeps as it was.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile("../../examples/systemd/kms-gateway.service")
	require.NoError(t, err)
	unit := strings.ReplaceAll(string(text), "\\\n", " ")
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(unit)
	require.NotNil(t, start)
	args := strings.Fields(strings.ReplaceAll(start[1], "$KMS_GATEWAY_FLAGS", "-listen :8203 -mount kms -require-token"))
	o := newOptions(io.Discard)
	require.NoError(t, o.parse(args[1:]))
	require.NotContains(t, o.certFile+o.keyFile, "CREDENTIALS_DIRECTORY")
	require.NotRegexp(t, `(?m)^LoadCredential`, unit)

	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(unit)
	require.NotNil(t, stop)
	seconds, err := time.ParseDuration(stop[1] + "s")
	require.NoError(t, err)
	require.Greater(t, seconds, o.shutdownDelay+o.shutdownTimeout, "systemd waits until calls are answered")
}

// TestContainerfile: the default command is safe, and a build has a version.
func TestContainerfile(t *testing.T) {
	text, err := os.ReadFile("../../examples/container/Containerfile")
	require.NoError(t, err)
	command := regexp.MustCompile(`(?m)^CMD \[(.*)\]$`).FindStringSubmatch(string(text))
	require.NotNil(t, command)
	o := newOptions(io.Discard)
	require.NoError(t, o.parse(strings.Split(strings.ReplaceAll(command[1], `"`, ""), ", ")))
	require.True(t, isLoopback(o.listen) || o.certFile != "", "no plaintext beyond the container")
	require.True(t, o.requireToken)
	require.Contains(t, string(text), "-X main.version=${VERSION:?")
}
