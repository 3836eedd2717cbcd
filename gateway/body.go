package gateway

// The bodies of calls, of which senders are many and may be slow.

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"vault-plugin-secrets-kms-hmac/kms"
)

const (
	// firstRead is what is read first: the bodies of most calls are smaller.
	firstRead = 4 << 10
	// maxPooled keeps rare large bodies from occupying memory for good. It is
	// also what each connection may fill without asking; a GenerateMac has less
	// than 8 KiB.
	maxPooled = 64 << 10
	// maxLargeBodies is how many bodies of the largest size may be there at
	// once, or more that are smaller.
	maxLargeBodies = 64
)

// bodies reads the bodies of calls. Memory is taken as bytes arrive, not as a
// header promises them; and what goes beyond maxPooled is a common budget, so
// that slow senders of large bodies cannot fill the memory. They can keep other
// large bodies out, and no small ones.
type bodies struct {
	max    int64 // bytes of one
	large  atomic.Int64
	unused sync.Pool // of *[]byte
}

func newBodies(most int64) *bodies {
	b := &bodies{max: most}
	b.unused.New = func() any { buffer := make([]byte, 0, firstRead); return &buffer }
	return b
}

// body is a body that has been read. It must be forgotten, and may be released.
type body struct {
	bytes  []byte
	owner  *bodies
	buffer *[]byte
	large  int64 // of the common budget
}

// read reads the body of a request.
func (b *bodies) read(w http.ResponseWriter, r *http.Request) (*body, error) {
	if r.ContentLength > b.max {
		return nil, b.tooLarge(w)
	}
	most := r.ContentLength
	if most < 0 {
		most = b.max + 1 // one more, to see that it is too much
	}
	read := &body{owner: b, buffer: b.unused.Get().(*[]byte)}
	read.bytes = (*read.buffer)[:0]
	err := read.fill(w, r.Body, most, r.ContentLength >= 0)
	if err == nil && int64(len(read.bytes)) > b.max {
		err = b.tooLarge(w)
	}
	if err != nil {
		read.release()
		return nil, err
	}
	return read, nil
}

// fill reads up to most bytes; exact says that there must be as many.
func (b *body) fill(w http.ResponseWriter, from io.Reader, most int64, exact bool) error {
	for int64(len(b.bytes)) < most {
		if len(b.bytes) == cap(b.bytes) && !b.grow(most) {
			w.Header()["Connection"] = []string{"close"} // the rest is not read
			return kms.Throttled()
		}
		end := min(int64(cap(b.bytes)), most)
		n, err := from.Read(b.bytes[len(b.bytes):end])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case err == nil:
		case err == io.EOF && (!exact || int64(len(b.bytes)) == most):
			return nil
		default:
			return serializationError("The request body is incomplete.")
		}
	}
	return nil
}

// grow doubles the buffer, unless the budget for large ones is used up.
func (b *body) grow(most int64) bool {
	size := min(2*int64(cap(b.bytes)), most)
	if size > maxPooled {
		more := size - b.large
		if b.owner.large.Add(more) > maxLargeBodies*b.owner.max {
			b.owner.large.Add(-more)
			return false
		}
		b.large += more
	}
	b.bytes = append(make([]byte, 0, size), b.bytes...)
	return true
}

// release gives the buffer to other calls, which must be all that reads it.
func (b *body) release() {
	b.forget()
	if cap(b.bytes) <= maxPooled {
		*b.buffer = b.bytes[:0]
		b.owner.unused.Put(b.buffer)
	}
}

// forget gives back what the body has of the common budget, once.
func (b *body) forget() {
	b.owner.large.Add(-b.large)
	b.large = 0
}

// tooLarge refuses a body. What is left of it will not be read, so the
// connection cannot go on.
func (b *bodies) tooLarge(w http.ResponseWriter) error {
	w.Header()["Connection"] = []string{"close"}
	return &kms.Exception{Type: typeTooLarge, Message: fmt.Sprintf("The request body exceeds %d bytes.", b.max)}
}
