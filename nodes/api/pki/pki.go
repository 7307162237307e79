// Package pki holds the certificates of a deployment: a deployment CA (the provider's), one site CA under it per
// site (the store nodes') and short-lived node certificates. It also proves possession of a join token over a TLS
// connection that is not authenticated yet. It keeps nothing: callers store what it returns.
//
// Every certificate names a role in its organisational unit; peers check it, since nodes are dialled by address.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// RoleOperator is the role of the provider and of cw; the other roles are those of nodes.
const RoleOperator = "operator"

// Lifetimes of what New and Sign make by default.
const (
	CALifetime   = 20 * 365 * 24 * time.Hour
	NodeLifetime = 30 * 24 * time.Hour
	clockSkew    = 5 * time.Minute // a certificate is valid that much earlier than its maker's clock says
)

// Authority signs certificates.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewDeploymentCA makes the root of a deployment.
func NewDeploymentCA(deployment string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the deployment CA's key: %w", err)
	}
	template := caTemplate(pkix.Name{CommonName: "Deployment CA " + deployment, Organization: []string{deployment}}, 1)
	cert, err := create(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("making the deployment CA: %w", err)
	}
	return &Authority{cert, key}, nil
}

// NewSiteCA makes the authority of one site, which signs only nodes.
func (a *Authority) NewSiteCA(site string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the site CA's key: %w", err)
	}
	template := caTemplate(pkix.Name{CommonName: "Site CA " + site, Organization: a.Certificate.Subject.Organization}, 0)
	cert, err := create(template, a.Certificate, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("making the CA of site %s: %w", site, err)
	}
	return &Authority{cert, key}, nil
}

// ParseAuthority reads an authority back from its certificate and key.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("reading a CA: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("reading a CA: %w", err)
	}
	public, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	switch {
	case !certs[0].IsCA:
		return nil, errors.New("reading a CA: the certificate is not one of a CA")
	case !ok || !public.Equal(key.Public()):
		return nil, errors.New("reading a CA: certificate and key do not belong together")
	}
	return &Authority{certs[0], key}, nil
}

// CertificatePEM returns the authority's certificate.
func (a *Authority) CertificatePEM() []byte { return encodeCertificate(a.Certificate.Raw) }

// KeyPEM returns the authority's private key (PKCS #8). It is a secret.
func (a *Authority) KeyPEM() ([]byte, error) { return encodeKey(a.key) }

// Subject is what a certificate says of its holder. The signer decides it, never the request.
type Subject struct {
	Name      string   // common name, such as edge-1.site1
	Role      string   // organisational unit
	DNSNames  []string // see Names
	Addresses []string // IP addresses
}

// Sign makes a certificate for the key in csrPEM, good for TLS as server and client, and returns it with the
// chain up to (not including) the deployment CA. lifetime zero means NodeLifetime; it never outlasts the authority.
func (a *Authority) Sign(csrPEM []byte, s Subject, lifetime time.Duration) ([]byte, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("signing a certificate: the request is not a PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signing a certificate: the requester does not hold the key: %w", err)
	}
	return a.sign(csr.PublicKey, s, lifetime)
}

// Issue makes a key and a certificate for it, for holders that are here: the operator, tests.
func (a *Authority) Issue(s Subject, lifetime time.Duration) (chainPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	if chainPEM, err = a.sign(&key.PublicKey, s, lifetime); err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return chainPEM, keyPEM, err
}

func (a *Authority) sign(public crypto.PublicKey, s Subject, lifetime time.Duration) ([]byte, error) {
	if s.Name == "" || s.Role == "" {
		return nil, errors.New("signing a certificate: it needs a name and a role")
	}
	if lifetime <= 0 {
		lifetime = NodeLifetime
	}
	now := time.Now()
	notAfter := now.Add(lifetime)
	if notAfter.After(a.Certificate.NotAfter) {
		notAfter = a.Certificate.NotAfter
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: s.Name, OrganizationalUnit: []string{s.Role}, Organization: a.Certificate.Subject.Organization},
		NotBefore:   now.Add(-clockSkew),
		NotAfter:    notAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    slices.Clone(s.DNSNames),
	}
	for _, address := range s.Addresses {
		ip := net.ParseIP(address)
		if ip == nil {
			return nil, fmt.Errorf("signing a certificate: %q is not an IP address", address)
		}
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	cert, err := create(template, a.Certificate, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate for %s: %w", s.Name, err)
	}
	chain := encodeCertificate(cert.Raw)
	if !a.selfSigned() {
		chain = append(chain, a.CertificatePEM()...)
	}
	return chain, nil
}

func (a *Authority) selfSigned() bool {
	return a.Certificate.CheckSignatureFrom(a.Certificate) == nil
}

func caTemplate(subject pkix.Name, below int) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject: subject, NotBefore: now.Add(-clockSkew), NotAfter: now.Add(CALifetime),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		MaxPathLen: below, MaxPathLenZero: below == 0,
	}
}

func create(template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// NewRequest makes a key and a certificate request for it. The request carries only the name: what the
// certificate says is the signer's decision.
func NewRequest(name string) (csrPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key: %w", err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	csrPEM, err = Request(name, keyPEM)
	return csrPEM, keyPEM, err
}

// Request makes a certificate request for a key that there is.
func Request(name string, keyPEM []byte) ([]byte, error) {
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseCertificates reads every certificate of a PEM text; none is an error.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading a certificate: %w", err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate found in the PEM text")
	}
	return out, nil
}

// Pool makes a certificate pool of a PEM text.
func Pool(text []byte) (*x509.CertPool, error) {
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no private key found in the PEM text")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return signer, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// SubjectOf returns what a certificate says of its holder, so that a renewed one can say the same.
func SubjectOf(cert *x509.Certificate) Subject {
	s := Subject{Name: cert.Subject.CommonName, DNSNames: slices.Clone(cert.DNSNames)}
	if len(cert.Subject.OrganizationalUnit) > 0 {
		s.Role = cert.Subject.OrganizationalUnit[0]
	}
	for _, ip := range cert.IPAddresses {
		s.Addresses = append(s.Addresses, ip.String())
	}
	return s
}
