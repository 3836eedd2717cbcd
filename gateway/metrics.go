package gateway

// What Prometheus gets to know of calls.

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what Prometheus gets to know: no key, folder or caller is a
// label.
type metrics struct {
	calls    *prometheus.CounterVec
	duration *prometheus.HistogramVec
	own      prometheus.Histogram
	vault    *prometheus.HistogramVec
	// vaultResults are the children of vault.
	vaultResults map[string]prometheus.Observer
	batches      prometheus.Histogram
	retries      *prometheus.CounterVec
	// children remembers the children of both vectors by operation and result,
	// which are few: looking them up by labels costs more than counting.
	children sync.Map // of metricKey to *callMetrics
}

var durationBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

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
			Buckets: durationBuckets,
		}, []string{"operation", "result"}),
		own: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kms_gateway_own_duration_seconds",
			Help:    "Time of a call that was not spent waiting for Vault.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 10},
		}),
		vault: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "kms_gateway_vault_request_duration_seconds",
			Help:    "Time that requests to Vault took, by result: " + strings.Join(vaultResults, ", ") + ".",
			Buckets: durationBuckets,
		}, []string{"result"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "kms_gateway_shared_calls",
			Help:    "How many GenerateMac or VerifyMac calls shared one request to Vault.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000},
		}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kms_gateway_retries_total",
			Help: "Requests to Vault that failed and were to be made once more, by cause (" + strings.Join(faults, ", ") +
				") and result (" + strings.Join([]string{retryAnswered, retryFailed, retryInVain, resultGone}, ", ") + ").",
		}, []string{"cause", "result"}),
	}
	m.vaultResults = make(map[string]prometheus.Observer, len(vaultResults))
	for _, result := range vaultResults {
		m.vaultResults[result] = m.vault.WithLabelValues(result)
	}
	if registerer != nil {
		registerer.MustRegister(m.calls, m.duration, m.own, m.vault, m.batches, m.retries)
	}
	return m
}

func (m *metrics) shared(calls int) { m.batches.Observe(float64(calls)) }

// retried counts a request that was to be made once more.
func (m *metrics) retried(cause fault, result string) {
	m.retries.WithLabelValues(string(cause), result).Inc()
}

// asked counts a request to Vault.
func (m *metrics) asked(err error, took time.Duration) {
	m.vaultResults[vaultResult(err)].Observe(took.Seconds())
}

// The results of requests to Vault, besides resultOK and resultGone.
const (
	vaultDenied   = "denied"
	vaultRefused  = "refused" // most often with an exception of KMS
	vaultLimited  = "limited"
	vaultError5xx = "error"
	vaultNoAnswer = "no answer"
)

var vaultResults = []string{resultOK, vaultDenied, vaultRefused, vaultLimited, vaultError5xx, vaultNoAnswer, resultGone}

// vaultResult is how a request to Vault ended.
func vaultResult(err error) string {
	var v *vaultError
	switch {
	case err == nil:
		return resultOK
	case errors.Is(err, context.Canceled):
		return resultGone
	case !errors.As(err, &v):
		return vaultNoAnswer
	case v.status == http.StatusForbidden:
		return vaultDenied
	case v.status == http.StatusTooManyRequests:
		return vaultLimited
	case v.status >= http.StatusInternalServerError:
		return vaultError5xx
	}
	return vaultRefused
}

// observe counts a call, of whose time some was spent waiting for Vault.
func (m *metrics) observe(operation, result string, took, inVault time.Duration) {
	m.own.Observe(max(0, took-inVault).Seconds())
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
