package kms

import (
	"crypto/hmac"
	"hash"
	"sync/atomic"
)

// MacKey computes MACs under one key: HMAC (RFC 2104) with the spec's hash
// over the raw message, without prefix, context or truncation. Setting up an
// HMAC costs more than hashing a short message, so a MacKey keeps a few set-up
// states and reuses them. It is safe for concurrent use, and immutable as far
// as callers can tell.
type MacKey struct {
	spec     KeySpec
	material []byte
	hash     func() hash.Hash
	states   [4]atomic.Pointer[macState]
}

// LongestMac is the length in bytes of the longest MAC.
const LongestMac = 64

// macState wraps the interface, so that it fits an atomic pointer, and holds
// the MAC, so that making one allocates nothing: what is passed to an interface
// is on the heap.
type macState struct {
	hash.Hash
	sum [LongestMac]byte
}

// NewMacKey returns the MacKey of the material, which it keeps and which must
// not be changed afterwards. The spec must be an HMAC one.
func NewMacKey(spec KeySpec, material []byte) *MacKey {
	return &MacKey{spec: spec, material: material, hash: specs[spec.index()].hash}
}

// Append appends the MAC of the message, Spec.Bytes() long, to dst.
func (k *MacKey) Append(dst, message []byte) []byte {
	state := k.take()
	state.Write(message) // a hash.Hash never fails
	dst = append(dst, state.Sum(state.sum[:0])...)
	k.release(state)
	return dst
}

// Verify reports whether mac is the MAC of the message. The time it takes
// tells nothing about how much of a wrong MAC was right. This is the only
// place where MACs are compared.
func (k *MacKey) Verify(message, mac []byte) bool {
	state := k.take()
	state.Write(message)
	valid := hmac.Equal(state.Sum(state.sum[:0]), mac)
	k.release(state)
	return valid
}

func (k *MacKey) take() *macState {
	for i := range k.states {
		if state := k.states[i].Swap(nil); state != nil {
			return state
		}
	}
	return &macState{Hash: hmac.New(k.hash, k.material)}
}

func (k *MacKey) release(state *macState) {
	state.Reset()
	for i := range k.states {
		if k.states[i].CompareAndSwap(nil, state) {
			return
		}
	}
}
