package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"testing"
)

// BenchmarkMac compares MacKey with crypto/hmac where its state is ready, which
// is the least an HMAC can cost. Run it with -benchmem: what is beyond the
// answer, into a buffer that is there, must be nothing.
func BenchmarkMac(b *testing.B) {
	for spec, newHash := range readyHashes {
		material := make([]byte, spec.Bytes())
		for _, size := range []int{64, 4096} {
			message := make([]byte, size)
			name := fmt.Sprintf("%s/%d", spec, size)
			b.Run(name+"/crypto", func(b *testing.B) {
				state := hmac.New(newHash, material)
				var mac [64]byte
				measureMac(b, size, func() {
					state.Reset()
					state.Write(message)
					state.Sum(mac[:0])
				})
			})
			key := NewMacKey(spec, material)
			b.Run(name+"/MacKey", func(b *testing.B) {
				var mac [64]byte
				measureMac(b, size, func() { key.Append(mac[:0], message) })
			})
			mac := key.Append(nil, message)
			b.Run(name+"/Verify", func(b *testing.B) {
				measureMac(b, size, func() { key.Verify(message, mac) })
			})
		}
	}
}

// BenchmarkMacParallel shows what several goroutines under one key cost each
// other.
func BenchmarkMacParallel(b *testing.B) {
	key := NewMacKey(HMAC256, make([]byte, 32))
	message := make([]byte, 64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var mac [64]byte
		for pb.Next() {
			key.Append(mac[:0], message)
		}
	})
}

var readyHashes = map[KeySpec]func() hash.Hash{
	HMAC224: sha256.New224, HMAC256: sha256.New, HMAC384: sha512.New384, HMAC512: sha512.New,
}

func measureMac(b *testing.B, size int, work func()) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		work()
	}
}
