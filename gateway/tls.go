package gateway

// TLS of the servers, with certificates that can be replaced.

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// reloader keeps a certificate that can be replaced while it is served.
type reloader struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

func (r *reloader) load() error {
	certificate, err := tls.LoadX509KeyPair(r.certFile, r.keyFile)
	if err != nil {
		return fmt.Errorf("loading the TLS certificate: %w", err)
	}
	r.current.Store(&certificate)
	return nil
}

func tlsConfig(c ServerConfig) (*reloader, *tls.Config, error) {
	if c.CertFile == "" || c.KeyFile == "" {
		return nil, nil, errors.New("TLS needs both a certificate and its key")
	}
	r := &reloader{certFile: c.CertFile, keyFile: c.KeyFile}
	if err := r.load(); err != nil {
		return nil, nil, err
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.current.Load(), nil },
	}
	if c.AskForCertificate {
		config.ClientAuth = tls.RequestClientCert
	}
	if c.ClientCAFile != "" {
		pem, err := os.ReadFile(c.ClientCAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("loading the client authorities: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("%s holds no certificate", c.ClientCAFile)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return r, config, nil
}
