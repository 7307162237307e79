package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CertificateSource returns the certificate to show now; it is asked at every handshake, so renewal is followed.
type CertificateSource func() (*tls.Certificate, error)

// Static is a source that never changes, from PEM texts.
func Static(chainPEM, keyPEM []byte) (CertificateSource, error) {
	cert, err := tls.X509KeyPair(chainPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate and its key: %w", err)
	}
	return func() (*tls.Certificate, error) { return &cert, nil }, nil
}

// ClientTLS is the client side of mutual TLS within a deployment: the peer must show a certificate under roots
// whose role is one of peers (none = any). Peers are dialled by address, so the host name is not compared: the
// role is what counts. A nil own shows no certificate, for joining.
func ClientTLS(roots *x509.CertPool, own CertificateSource, peers ...string) *tls.Config {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies chain and role instead of the host name
		VerifyConnection: func(cs tls.ConnectionState) error {
			return verify(cs, roots, x509.ExtKeyUsageServerAuth, peers)
		},
	}
	if own != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() }
	}
	return c
}

// ServerTLS is the server side: callers must show a certificate under roots whose role is one of peers (none = any).
func ServerTLS(roots *x509.CertPool, own CertificateSource, peers ...string) *tls.Config {
	c := OpenServerTLS(roots, own)
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		return verify(cs, roots, x509.ExtKeyUsageClientAuth, peers)
	}
	return c
}

// OpenServerTLS is a server that also takes callers without a certificate; one that is shown must verify. Use
// PeerRole to tell them apart.
func OpenServerTLS(roots *x509.CertPool, own CertificateSource) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own() },
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			return verify(cs, roots, x509.ExtKeyUsageClientAuth, nil)
		},
	}
}

// Peer returns the name and role that the peer's certificate states; empty without one.
func Peer(cs *tls.ConnectionState) (name, role string) {
	if cs == nil || len(cs.PeerCertificates) == 0 {
		return "", ""
	}
	subject := cs.PeerCertificates[0].Subject
	return subject.CommonName, strings.Join(subject.OrganizationalUnit, ",")
}

func verify(cs tls.ConnectionState, roots *x509.CertPool, usage x509.ExtKeyUsage, roles []string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	leaf := cs.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return fmt.Errorf("the peer's certificate (%s) is not of this deployment: %w", leaf.Subject.CommonName, err)
	}
	name, role := Peer(&cs)
	if len(roles) > 0 && !slices.Contains(roles, role) {
		return fmt.Errorf("the peer %s has role %q, wanted is %s", name, role, strings.Join(roles, " or "))
	}
	return nil
}
