package main

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"vault-plugin-secrets-kms-hmac/gateway"
)

// newRegistry returns a registry with what any Go program shows, and the
// version.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kms_gateway_build_info", Help: "1, with the version of the program and of Go as labels.",
		ConstLabels: prometheus.Labels{"version": versionText(), "go_version": runtime.Version()},
	})
	build.Set(1)
	registry.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// watchCertificate registers when the certificate of a server with TLS expires.
func watchCertificate(registry prometheus.Registerer, s *gateway.Server) {
	if s.CertificateExpiry().IsZero() {
		return
	}
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kms_gateway_certificate_expiry_timestamp_seconds", Help: "When the TLS certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(s.CertificateExpiry().Unix()) }))
}
