// Package profiled lets the profiles of a running program be taken. Programs
// import it only if they are built with the tag "profile", as bench -profile
// builds them: no release has it.
package profiled

import (
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
)

// Socket returns the name of the socket on which a process serves its profiles,
// by HTTP, as net/http/pprof does. It is one of Linux's that have no file.
func Socket(pid int) string { return fmt.Sprintf("@profiled-%d", pid) }

func init() {
	listener, err := net.Listen("unix", Socket(os.Getpid()))
	if err != nil {
		return // whoever asks for a profile sees it
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	go func() { _ = http.Serve(listener, mux) }()
}
