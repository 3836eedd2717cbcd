package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clockTicks is the unit of CPU times in /proc, which is the same on every
// Linux, whatever the kernel's own clock.
const clockTicks = 100

// cpuSeconds is the CPU time of the processes that take part.
type cpuSeconds struct{ vault, plugin, endpoint, client float64 }

func (a cpuSeconds) minus(b cpuSeconds) cpuSeconds {
	return cpuSeconds{a.vault - b.vault, a.plugin - b.plugin, a.endpoint - b.endpoint, a.client - b.client}
}

func (a cpuSeconds) plus(b cpuSeconds) cpuSeconds {
	return cpuSeconds{a.vault + b.vault, a.plugin + b.plugin, a.endpoint + b.endpoint, a.client + b.client}
}

// processes are the ids of the processes that take part.
type processes struct {
	vault, endpoint int
	plugins         []int
}

// cpu returns the CPU time used so far; zeros where there is no /proc.
func (p *processes) cpu() cpuSeconds {
	c := cpuSeconds{vault: cpuOf(p.vault), endpoint: cpuOf(p.endpoint), client: cpuOf(os.Getpid())}
	for _, pid := range p.plugins {
		c.plugin += cpuOf(pid)
	}
	return c
}

func cpuOf(pid int) float64 {
	fields := statOf(pid)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return float64(user+system) / clockTicks
}

// statOf returns the fields of /proc/<pid>/stat from the third on: the second,
// the program's name in parentheses, may hold anything.
func statOf(pid int) []string {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
}

// childrenOf returns the ids of a process's children.
func childrenOf(parent int) []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var children []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if fields := statOf(pid); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			children = append(children, pid)
		}
	}
	return children
}
