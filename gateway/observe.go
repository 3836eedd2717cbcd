package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-kms-hmac/kms"
)

// The results of calls that did not end with an exception, whose type is the
// result otherwise: success, and a client that did not wait for the answer.
const (
	resultOK   = "ok"
	resultGone = "client gone"
)

// metrics are what Prometheus gets to know: no key, folder or caller is a
// label.
type metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	batches  prometheus.Histogram
	// children remembers the children of both vectors by operation and result,
	// which are few: looking them up by labels costs more than counting.
	children sync.Map // of metricKey to *callMetrics
}

type metricKey struct{ operation, result string }

type callMetrics struct {
	calls    prometheus.Counter
	duration prometheus.Observer
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_gateway_calls_total",
			Help: "Calls of the KMS API, by operation and result (ok, or the exception's type).",
		}, []string{"operation", "result"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kms_gateway_call_duration_seconds",
			Help:    "Time from a call's head to its answer, by operation and result.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation", "result"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kms_gateway_shared_calls",
			Help:    "How many GenerateMac or VerifyMac calls shared one request to Vault.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000},
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.calls, m.duration, m.batches)
	}
	return m
}

func (m *metrics) shared(calls int) { m.batches.Observe(float64(calls)) }

func (m *metrics) observe(operation, result string, took time.Duration) {
	key := metricKey{operation, result}
	child, ok := m.children.Load(key)
	if !ok {
		child, _ = m.children.LoadOrStore(key, &callMetrics{
			calls:    m.calls.WithLabelValues(operation, result),
			duration: m.duration.WithLabelValues(operation, result),
		})
	}
	c := child.(*callMetrics)
	c.calls.Inc()
	c.duration.Observe(took.Seconds())
}

// newRequestID returns the id that an answer and its line in the log have in
// common: a random UUID, as KMS's. It is no secret, so it need not come from
// the system's entropy, which costs a call of the kernel.
func newRequestID() string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return uuid.UUID(id).String()
}

// record counts and logs a call. The line names who called what and how it
// ended, and holds nothing of the body: no message, MAC, token or key material.
func (g *Gateway) record(r *http.Request, id string, o *outcome, took time.Duration) {
	result := resultOK
	switch {
	case o.gone:
		result = resultGone
	case o.exception != nil:
		result = o.exception.Type
	}
	g.metrics.observe(o.operation, result, took)

	level := slog.LevelInfo
	if o.status >= http.StatusInternalServerError && !o.gone {
		level = slog.LevelError
	}
	if !g.log.Enabled(context.Background(), level) {
		return
	}
	attributes := make([]slog.Attr, 0, 10)
	attributes = append(attributes,
		slog.String("operation", o.operation),
		slog.String("result", result),
		slog.Int("status", o.status),
		slog.Float64("ms", float64(took.Microseconds())/1e3),
		slog.String("request_id", id),
		slog.String("remote", r.RemoteAddr),
	)
	if o.folder != "" {
		attributes = append(attributes, slog.String("folder", string(o.folder)))
	}
	if o.accessKey != "" {
		attributes = append(attributes, slog.String("access_key", o.accessKey))
	}
	if level == slog.LevelError {
		attributes = append(attributes, slog.String("cause", causeOf(o.cause)))
	}
	g.log.LogAttrs(context.Background(), level, "call", attributes...)
}

// causeOf describes why Vault could not do something, for the operator.
func causeOf(err error) string {
	var exception *kms.Exception
	var v *vaultError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &exception):
		return exception.Message
	case errors.As(err, &v) && len(v.texts) > 0:
		return v.Error() + ": " + v.texts[0]
	}
	return err.Error()
}
