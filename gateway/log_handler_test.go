package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/stretchr/testify/require"
)

// The lines are slog's own, whatever is in them.
func TestLogHandler(t *testing.T) {
	for name, attributes := range map[string][]any{
		"nothing":  nil,
		"a call":   {"operation", "GenerateMac", "status", 200, "ms", 1.234, "remote", "127.0.0.1:1234", "key", "payments/tokens"},
		"escapes":  {"a\"b", "\\ \" \n \t \x01 \x7f é 😀 <&> \xff \u2028"},
		"numbers":  {"a", 0.0, "b", -1.5, "c", 1e21, "d", 1e-7, "e", 123456.789, "f", math.MaxInt64, "g", uint64(7), "h", 1e20},
		"infinity": {"a", math.Inf(1)},
		"others":   {"a", true, "b", time.Second, "c", errors.New("x"), "d", []string{"y"}, slog.Group("g", "e", 1), "f", nil},
	} {
		for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, 2} {
			var got, want bytes.Buffer
			record := slog.NewRecord(time.Date(2026, 11, 22, 10, 0, 0, 123456000, time.UTC), level, "call", 0)
			record.Add(attributes...)
			require.NoError(t, NewLogHandler(&got, slog.LevelInfo).Handle(t.Context(), record))
			require.NoError(t, slog.NewJSONHandler(&want, nil).Handle(t.Context(), record))
			var gotLine, wantLine map[string]any
			require.NoError(t, json.Unmarshal(got.Bytes(), &gotLine), got.String())
			require.NoError(t, json.Unmarshal(want.Bytes(), &wantLine))
			require.Equal(t, wantLine, gotLine, name)
			require.Equal(t, byte('\n'), got.Bytes()[got.Len()-1])
			if name == "a call" {
				require.Equal(t, want.String(), got.String())
			}
		}
	}
	require.False(t, NewLogHandler(io.Discard, slog.LevelWarn).Enabled(t.Context(), slog.LevelInfo))
}

func TestLogHandlerIsASlogHandler(t *testing.T) {
	var lines bytes.Buffer
	require.NoError(t, slogtest.TestHandler(NewLogHandler(&lines, nil), func() (results []map[string]any) {
		for line := range bytes.Lines(lines.Bytes()) {
			var result map[string]any
			require.NoError(t, json.Unmarshal(line, &result))
			results = append(results, result)
		}
		return results
	}))
}

// BenchmarkLog is what the line of a call costs, counted and logged.
func BenchmarkLog(b *testing.B) {
	for name, handler := range map[string]slog.Handler{
		"none": slog.DiscardHandler, "slog": slog.NewJSONHandler(io.Discard, nil), "ours": NewLogHandler(io.Discard, nil),
	} {
		g := &Gateway{log: slog.New(handler), metrics: newMetrics(nil)}
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		const id = "8f8d0d5f-8d42-4b5e-9a5f-6d5c2f6d7c11"
		o := &outcome{
			operation: "GenerateMac", status: 200, accessKey: "AKIDEXAMPLE", key: resource{native: "payments/tokens"},
			trace: trace{id: id, correlation: "other", vaultID: id, vault: time.Millisecond, keyID: "payments/tokens"},
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.record(r, o, 3*time.Millisecond)
			}
		})
	}
}
