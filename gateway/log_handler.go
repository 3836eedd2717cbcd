package gateway

// A handler of the log that is cheap enough for a line a call.

import (
	"context"
	"io"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"
)

// NewLogHandler returns a handler that writes the lines that slog's JSONHandler
// writes, each in one Write, for half the time: that one encodes
// floating-point numbers by encoding/json (BenchmarkLog).
func NewLogHandler(w io.Writer, level slog.Leveler) slog.Handler {
	w = &lockedWriter{w: w}
	return &logHandler{w: w, Handler: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})}
}

// lockedWriter is written by two handlers.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(line)
}

// logHandler writes the records that it knows how to, and leaves others, and
// loggers with groups and attributes of their own, to slog's.
type logHandler struct {
	slog.Handler
	w io.Writer
}

var logLines = sync.Pool{New: func() any { line := make([]byte, 0, 1024); return &line }}

// Handle writes a record.
func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	attributes := make([]slog.Attr, 0, 16)
	record.Attrs(func(a slog.Attr) bool {
		attributes = append(attributes, a)
		return true
	})
	if known, err := h.write(record.Time, record.Level, record.Message, attributes); known {
		return err
	}
	return h.Handler.Handle(ctx, record)
}

// write writes the line of a record, which need not be made for it. known is
// false, and nothing written, if it has an attribute that is left to slog.
func (h *logHandler) write(at time.Time, level slog.Level, message string, attributes []slog.Attr) (known bool, err error) {
	buffer := logLines.Get().(*[]byte)
	defer logLines.Put(buffer)
	line := (*buffer)[:0]
	if !at.IsZero() {
		line = append(line, `{"time":"`...)
		line = at.AppendFormat(line, time.RFC3339Nano)
		line = append(line, `","level":"`...)
	} else {
		line = append(line, `{"level":"`...)
	}
	line = append(line, level.String()...)
	line = appendString(append(line, `","msg":`...), message)
	for _, a := range attributes {
		line = appendString(append(line, ','), a.Key)
		if line, known = appendLogValue(append(line, ':'), a.Value); !known {
			return false, nil
		}
	}
	line = append(line, "}\n"...)
	*buffer = line
	_, err = h.w.Write(line)
	return true, err
}

// appendLogValue appends a value as slog's JSONHandler does; ok is false for one
// that it does not know.
func appendLogValue(line []byte, value slog.Value) (_ []byte, ok bool) {
	switch value.Kind() {
	case slog.KindString:
		return appendString(line, value.String()), true
	case slog.KindInt64:
		return strconv.AppendInt(line, value.Int64(), 10), true
	case slog.KindBool:
		return strconv.AppendBool(line, value.Bool()), true
	case slog.KindFloat64:
		f := value.Float64()
		// Beyond, JSON is written with an exponent.
		if size := math.Abs(f); f != 0 && !(1e-6 <= size && size < 1e21) {
			return line, false
		}
		return strconv.AppendFloat(line, f, 'f', -1, 64), true
	}
	return line, false
}
