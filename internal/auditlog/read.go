// Package auditlog reads what Vault's audit devices write, and tells of each
// request to a mount of the engine what KMS would call it: operation, key,
// principal, result. It reads streams of any length in constant memory.
package auditlog

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxLine is the most bytes of a line that are looked at. The longest lines are
// batches with a list of 10,000 items, of which each is a hash of 80 bytes.
const maxLine = 16 << 20

// maxWindow bounds the memory that a file compressed with zstd may ask for.
const maxWindow = 128 << 20

// decompress returns what a stream holds, whether it is compressed with gzip,
// bzip2 or zstd or not at all. It goes by the first bytes, since a pipe has no
// name.
func decompress(r io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReaderSize(r, 1<<20)
	head, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	none := func() {}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(buffered)
		return z, none, err
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(buffered), none, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return buffered, none, nil
}

// lines calls f with each line of a stream, without its end. A line is good
// until the next. Of a line that is too long f gets nil.
func lines(r io.Reader, f func(line []byte)) error {
	buffered := bufio.NewReaderSize(r, 1<<20)
	var long []byte // of a line that does not fit into the buffer
	skipping := false
	for {
		part, err := buffered.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if skipping = skipping || len(long)+len(part) > maxLine; !skipping {
				long = append(long, part...)
			}
			continue
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		switch {
		case skipping:
			f(nil)
		case len(long) > 0:
			f(append(long, part...))
		case len(part) > 0:
			f(part)
		}
		if err != nil {
			return nil
		}
		long, skipping = long[:0], false
	}
}
