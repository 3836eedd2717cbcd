package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Logins with the certificate of a caller's TLS connection. The caller has shown
// the endpoint in the handshake that it has the key; Vault is told of the
// certificate in a header, which its listener believes of the endpoint's address
// alone, and decides whom it lets in.

const (
	// CertificateHeader is the header of the certificates: that of the caller and
	// those it was sent with, each as base64 of DER.
	CertificateHeader = "X-Forwarded-For-Client-Cert"
	// maxChain is the most certificates of a caller, and maxCertificates the most
	// bytes of them.
	maxChain, maxCertificates = 10, 32 << 10
)

// listenerNeeds says how Vault comes to believe the header.
const listenerNeeds = `its listener needs TLS, x_forwarded_for_client_cert_header = "` + CertificateHeader + `", ` +
	`x_forwarded_for_client_cert_header_decoders = "BASE64", and in x_forwarded_for_authorized_addrs the address of this endpoint and no other`

// forwarded is the value of CertificateHeader.
func forwarded(chain []*x509.Certificate) string {
	parts := make([]string, len(chain))
	for i, certificate := range chain {
		parts[i] = base64.StdEncoding.EncodeToString(certificate.Raw)
	}
	return strings.Join(parts, ",")
}

// checkCertificates refuses what can be no certificate of a caller.
func checkCertificates(r Request, now time.Time) error {
	size := 0
	for _, certificate := range r.Certificates {
		size += len(certificate.Raw)
	}
	switch {
	case r.Credential != "":
		// A certificate as text shows nothing: whoever has seen it has it.
		return &Error{Malformed, "callers log in with the certificate of their TLS connection, and not with a token"}
	case len(r.Certificates) == 0:
		return &Error{Malformed, "the connection has no client certificate"}
	case len(r.Certificates) > maxChain || size > maxCertificates:
		return &Error{Malformed, fmt.Sprintf("there are more than %d certificates, or %d bytes of them", maxChain, maxCertificates)}
	case now.After(r.Certificates[0].NotAfter):
		return &Error{Expired, "the certificate has expired"}
	}
	return nil
}

// CheckForwarding fails unless Vault believes this endpoint about the
// certificates of callers. It tries to log in with one that nobody has signed:
// Vault must refuse that one, and not miss it, nor take another one for it.
func (b *Broker) CheckForwarding(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	certificate, err := unknownCertificate()
	if err != nil {
		return err
	}
	r := Request{From: "127.0.0.1", Certificates: []*x509.Certificate{certificate}}
	client, err := b.clientFor(r, "")
	if err != nil {
		return err
	}
	login := &write{"auth/" + b.Method.Path + "/login", nil}
	secret, err := login.Login(ctx, client)
	var answer *api.ResponseError
	switch {
	case err == nil && secret != nil && secret.Auth != nil:
		b.revoke(r, secret.Auth.ClientToken)
		return errors.New("vault lets in whoever this endpoint has a certificate of: it sees another certificate than the one it is told of")
	case err == nil:
		return errors.New("vault has no answer to a login with a certificate that nobody has signed")
	case !errors.As(err, &answer):
		return fmt.Errorf("asking Vault whether it takes the certificates of callers from this endpoint: %w", err)
	case strings.Contains(err.Error(), "failed to match all constraints"), strings.Contains(err.Error(), "invalid certificate"):
		return nil
	}
	return fmt.Errorf("vault does not take the certificates of callers from this endpoint: %s (%s)", b.Method.explain(err, "").Message, listenerNeeds)
}

// unknownCertificate returns a certificate that is its own authority.
func unknownCertificate() (*x509.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "kms-gateway asks whether it is believed"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
