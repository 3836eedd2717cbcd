package main

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// flushEvery is how old a line of the log can get before it is written.
const flushEvery = 100 * time.Millisecond

// lineBuffer collects lines of a log and writes many at once: a write for each
// call would cost a busy gateway more than the call's own work.
type lineBuffer struct {
	mu     sync.Mutex
	buffer *bufio.Writer
	stop   chan struct{}
	done   chan struct{}
}

func newLineBuffer(w io.Writer) *lineBuffer {
	l := &lineBuffer{buffer: bufio.NewWriterSize(w, 64<<10), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write takes one line.
func (l *lineBuffer) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buffer.Available() < len(line) { // do not break a line in two writes
		if err := l.buffer.Flush(); err != nil {
			return 0, err
		}
	}
	return l.buffer.Write(line)
}

func (l *lineBuffer) run() {
	defer close(l.done)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ticker.C:
			l.flush()
		}
	}
}

func (l *lineBuffer) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.buffer.Flush() // where the log cannot be written there is nobody to tell
}

// Close writes what is left.
func (l *lineBuffer) Close() {
	close(l.stop)
	<-l.done
	l.flush()
}
