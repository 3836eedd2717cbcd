package testvault

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates for an hour.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
	// PEM is its own certificate.
	PEM []byte
}

// NewAuthority returns an authority with a name.
func NewAuthority(name string) (*Authority, error) {
	a := &Authority{}
	der, key, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	if err != nil {
		return nil, err
	}
	a.key, a.PEM = key, encodePEM("CERTIFICATE", der)
	a.certificate, err = x509.ParseCertificate(der)
	return a, err
}

// sign signs a template, the first time with the key that it makes for it.
func (a *Authority) sign(template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, err
	}
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, by := a.certificate, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	return der, key, err
}

// Issue writes a certificate for 127.0.0.1, of a server and a client, and its
// key to files in a folder.
func (a *Authority) Issue(dir, name string) (certFile, keyFile string, err error) {
	der, key, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", "", err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	if err := os.WriteFile(certFile, encodePEM("CERTIFICATE", der), 0o600); err != nil {
		return "", "", err
	}
	return certFile, keyFile, os.WriteFile(keyFile, encodePEM("PRIVATE KEY", keyDER), 0o600)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// configureTLS prepares the second listener, if there is to be one.
func (s *Server) configureTLS() error {
	if s.cfg.TLSListener == "" {
		return nil
	}
	authority, err := NewAuthority("testvault")
	if err != nil {
		return err
	}
	s.CACert = filepath.Join(s.dir, "ca.pem")
	if err := os.WriteFile(s.CACert, authority.PEM, 0o600); err != nil {
		return err
	}
	certFile, keyFile, err := authority.Issue(s.dir, "listener")
	if err != nil {
		return err
	}
	var addresses [2]string // of clients and, since each listener has one, of other nodes
	for i := range addresses {
		if addresses[i], err = s.freeAddress(s.host.Clients); err != nil {
			return err
		}
	}
	s.TLSAddress = "https://" + addresses[0]
	s.tlsListener = fmt.Sprintf(`listener "tcp" {
  address         = %q
  cluster_address = %q
  tls_cert_file   = %q
  tls_key_file    = %q
  %s
}`, addresses[0], addresses[1], certFile, keyFile, s.cfg.TLSListener)
	return nil
}
