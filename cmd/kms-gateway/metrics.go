package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

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

// inventoryOptions are the flags for looking at the keys themselves.
type inventoryOptions struct {
	tokenFile, folder string
	interval          time.Duration
}

func (o *inventoryOptions) register(f *flag.FlagSet) {
	f.StringVar(&o.tokenFile, "inventory-token-file", "", "`file` of a Vault token that may read the mount's inventory, for metrics of its keys; read each time")
	f.StringVar(&o.folder, "inventory-folder", "", "`folder` whose keys are in the metrics; empty is the whole mount")
	f.DurationVar(&o.interval, "inventory-interval", 5*time.Minute, "`time` between two looks at the keys")
}

// watch begins to look at the keys, if it is asked for, until ctx ends.
func (o *inventoryOptions) watch(ctx context.Context, g *gateway.Gateway, log *slog.Logger, registry prometheus.Registerer) {
	if o.tokenFile == "" {
		return
	}
	token := func() (string, error) {
		text, err := os.ReadFile(o.tokenFile)
		return strings.TrimSpace(string(text)), err
	}
	watcher := gateway.WatchInventory(g, gateway.InventoryConfig{Token: token, Folder: o.folder, Interval: max(o.interval, time.Second), Log: log}, registry)
	go watcher.Run(ctx)
}
