package gateway

// How a call is found again: in this program's log, in Vault's audit log, and
// from one in the other.

import (
	"net/http"
	"strings"
	"time"
)

// trace is what a call and its requests to Vault have in common.
type trace struct {
	// id is the x-amzn-RequestId of the answer.
	id string
	// from is the value of X-Forwarded-For: Vault binds tokens to it, if told to
	// believe it.
	from string
	// correlation is the X-Correlation-Id of the last request to Vault: the id of
	// this call or, where several share a request, of the first of them.
	correlation string
	// vaultID is Vault's own id of that request, where its answer has one.
	vaultID string
	// keyID is the key that did the work, where Vault says so.
	keyID string
	// repeated says that a request to Vault was made twice.
	repeated bool
	// vault is how long the call waited for Vault: for its own requests, and for
	// the request before the one that it shares.
	vault time.Duration
}

// maxForwarded is the most bytes of X-Forwarded-For that are passed on: a chain
// of a dozen proxies.
const maxForwarded = 512

// forwardedFor is X-Forwarded-For of the requests to Vault: what the request
// came with, from a load balancer perhaps, and the address that it came from.
func forwardedFor(r *http.Request) string {
	earlier := r.Header["X-Forwarded-For"]
	address := hostOf(r.RemoteAddr)
	switch {
	case len(earlier) == 0:
		return address
	case len(earlier) == 1 && len(earlier[0]) <= maxForwarded:
		return earlier[0] + ", " + address
	}
	if chain := strings.Join(earlier, ", "); len(chain) <= maxForwarded {
		return chain + ", " + address
	}
	return address
}

// hostOf returns the IP address of "address:port", without the zone, which
// means nothing on another machine.
func hostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		address = address[:i]
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	address, _, _ = strings.Cut(address, "%")
	return address
}
