package main

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// never is the return time of an operation whose end no client has seen: it
// may have happened at any time since its call, or not at all, which is the
// same as after everything else.
const never = math.MaxInt64

// history is what the clients did and saw, by the thing they did it to. Each
// thing (a key, an alias, a grant) is checked for itself.
type history struct {
	began time.Time

	// forgetful: only MACs are compared, nothing is kept to be checked.
	forgetful bool

	mu         sync.Mutex
	operations map[entity][]porcupine.Operation
	listed     map[entity][]observation
	macs       map[macOf]string // the first answer
	wrong      []string
	macsSeen   int
}

// entity names one thing: "key" "k/3/1", say.
type entity struct{ kind, name string }

func (e entity) String() string { return e.kind + " " + e.name }

// macOf is what a MAC is a function of.
type macOf struct{ key, message string }

func newHistory() *history {
	return &history{
		began:      time.Now(),
		operations: map[entity][]porcupine.Operation{},
		listed:     map[entity][]observation{},
		macs:       map[macOf]string{},
	}
}

// now is the time since the beginning, by a clock that only goes forward.
func (h *history) now() int64 { return int64(time.Since(h.began)) }

// add adds one operation on one thing.
func (h *history) add(client int, e entity, in, out any, call, end int64) {
	if h.forgetful {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operations[e] = append(h.operations[e], porcupine.Operation{
		ClientId: client, Input: in, Output: out, Call: call, Return: end,
	})
}

// observe adds what a list showed of one thing.
func (h *history) observe(e entity, o observation) {
	if h.forgetful {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listed[e] = append(h.listed[e], o)
}

// fault notes what no order of operations can explain.
func (h *history) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

// mac compares a MAC with every other answer for the same key and message. The
// key material of a key never changes, so neither do its MACs.
func (h *history) mac(key, message, mac string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.macsSeen++
	of := macOf{key, message}
	first, ok := h.macs[of]
	switch {
	case !ok:
		h.macs[of] = mac
	case first != mac:
		h.wrong = append(h.wrong, fmt.Sprintf("wrong MAC: of key %s and message %q both %s and %s", key, message, first, mac))
	}
}

// known returns the MAC of a key and message, if any client has seen it.
func (h *history) known(key, message string) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	mac, ok := h.macs[macOf{key, message}]
	return mac, ok
}
