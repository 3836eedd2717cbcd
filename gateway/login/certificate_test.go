package login

import (
	"crypto/x509"
	"encoding/base64"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoginsByCertificate(t *testing.T) {
	t.Parallel()
	f := &fakeVault{entity: "e", ttl: 3600, renewable: true, renewedTTL: 3600}
	b, clock := newTestBroker(t, f, func(c *BrokerConfig) { c.Method = Method{Cert, "certs"} })
	clock.at.Store(time.Now().Unix())
	mine, other := someCertificate(t), someCertificate(t)
	header := base64.StdEncoding.EncodeToString(mine.Raw) + "," + base64.StdEncoding.EncodeToString(other.Raw)

	r := Request{Role: "r", Remote: someAddress, Certificates: []*x509.Certificate{mine, other}}
	_, err := b.Login(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, "/v1/auth/certs/login", f.lastPath)
	require.JSONEq(t, `{"name":"r"}`, f.lastBody)
	require.Equal(t, header, f.certificates)
	// Vault renews a token for the certificate that it was given for.
	f.set(func(f *fakeVault) { f.certificates = "" })
	clock.pass(45 * time.Minute)
	_, err = b.Login(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, [3]int{1, 1, 0}, f.counts())
	require.Equal(t, header, f.certificates)
	// Another certificate is another caller.
	_, err = b.Login(t.Context(), Request{Role: "r", Remote: someAddress, Certificates: []*x509.Certificate{other}})
	require.NoError(t, err)
	require.Equal(t, 2, f.counts()[0])

	chain := make([]*x509.Certificate, maxChain+1)
	for i := range chain {
		chain[i] = mine
	}
	for words, bad := range map[string]Request{
		"has no client certificate": {Role: "r"},
		"not with a token":          {Role: "r", Credential: header},
		"and not with a token":      {Role: "r", Credential: jwt("a", inADay), Certificates: []*x509.Certificate{mine}},
		"more than 10 certificates": {Role: "r", Certificates: chain},
		"or 32768 bytes":            {Role: "r", Certificates: []*x509.Certificate{{Raw: make([]byte, maxCertificates+1), NotAfter: mine.NotAfter}}},
		"no name of a role":         {Role: "a/b", Certificates: []*x509.Certificate{mine}},
	} {
		_, err := b.Login(t.Context(), bad)
		requireReason(t, err, Malformed, words)
	}
	clock.pass(2 * time.Hour)
	_, err = b.Login(t.Context(), r)
	requireReason(t, err, Expired, "the certificate has expired")
	require.Equal(t, 2, f.counts()[0], "Vault is not asked")

	// Methods that take tokens take no certificate for one.
	b, _ = newTestBroker(t, f, nil)
	_, err = b.Login(t.Context(), Request{Role: "r", Certificates: []*x509.Certificate{mine}})
	requireReason(t, err, Malformed, "no JSON Web Token")
}

// TestForwardingIsChecked is about what Vault may answer to a certificate that
// nobody has signed.
func TestForwardingIsChecked(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		status      int
		text, words string
	}{
		"Vault":               {400, "failed to match all constraints for this login certificate", ""},
		"OpenBao":             {400, "invalid certificate or no client certificate supplied", ""},
		"header not believed": {400, "client certificate must be supplied", "x_forwarded_for_client_cert_header"},
		"no such method":      {403, "permission denied", "permission denied"},
		"sealed":              {503, "Vault is sealed", "could not process"},
		"anybody is let in":   {0, "", "another certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fakeVault{status: row.status, text: row.text, ttl: 60}
			b, _ := newTestBroker(t, f, func(c *BrokerConfig) { c.Method = Method{Cert, "cert"} })
			err := b.CheckForwarding(t.Context())
			require.NotEmpty(t, f.certificates)
			require.Equal(t, "127.0.0.1", f.from)
			if row.words == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.words)
			if row.status == 0 {
				require.Equal(t, "hvs.token-1 ", f.tokens, "the token is given back")
			}
		})
	}
}

func someCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	certificate, err := unknownCertificate()
	require.NoError(t, err)
	return certificate
}
