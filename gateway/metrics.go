package gateway

// What Prometheus gets to know of calls.

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
