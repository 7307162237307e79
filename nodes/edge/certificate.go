package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// certificate is what the edge shows to phones: that of tls_certificate_file and tls_key_file, read again when the file
// has changed, else the node's own.
type certificate struct {
	certFile, keyFile string
	identity          func() (*tls.Certificate, error)

	mu      sync.Mutex
	pair    *tls.Certificate
	changed time.Time // of the file that pair came from
	looked  time.Time
}

// lookAgain is how often the file is looked at.
const lookAgain = 10 * time.Second

var errCertificate = errors.New("tls_certificate_file and tls_key_file belong together")

// newCertificate reads the files, so that a fault in them is seen at the start.
func newCertificate(certFile, keyFile string, identity func() (*tls.Certificate, error)) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, identity: identity}
	if (certFile == "") != (keyFile == "") {
		return nil, errCertificate
	}
	if certFile == "" {
		return c, nil
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) load() error {
	info, err := os.Stat(c.certFile)
	if err != nil {
		return fmt.Errorf("reading tls_certificate_file: %w", err)
	}
	if c.pair != nil && info.ModTime().Equal(c.changed) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("reading tls_certificate_file and tls_key_file: %w", err)
	}
	c.pair, c.changed = &pair, info.ModTime()
	return nil
}

// get is for tls.Config. While the files are faulty, perhaps half replaced, the old certificate is shown.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.certFile == "" {
		return c.identity()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) > lookAgain {
		c.looked = now
		_ = c.load()
	}
	return c.pair, nil
}

// mutual makes the two sides of TLS. With tls_peer_ca_file a trunk, which is trusted by its address, must also show a
// certificate of one of these authorities, and the peers that the edge calls must have theirs from them. Phones need none.
func mutual(own *certificate, caFile string, options func() *config.Options) (accept, open *tls.Config, err error) {
	accept = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: own.get}
	open = &tls.Config{MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return own.get(nil)
	}}
	if caFile == "" {
		return accept, open, nil
	}
	text, err := os.ReadFile(caFile) //nolint:gosec // the operator names it
	if err != nil {
		return nil, nil, fmt.Errorf("reading tls_peer_ca_file: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(text) {
		return nil, nil, fmt.Errorf("reading tls_peer_ca_file: %w", errNoAuthority)
	}
	open.RootCAs = authorities
	trunk := accept.Clone()
	trunk.ClientCAs, trunk.ClientAuth = authorities, tls.RequireAndVerifyClientCert
	accept.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if isTrunk(hello.Conn.RemoteAddr(), options().TrustedPeers) {
			return trunk, nil
		}
		return nil, nil //nolint:nilnil // nil means the one that asks
	}
	return accept, open, nil
}

var errNoAuthority = errors.New("it holds no certificate in PEM")

func isTrunk(addr net.Addr, trusted []string) bool {
	peer, err := netip.ParseAddrPort(addr.String())
	return err == nil && slices.ContainsFunc(trusted, func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err == nil && a.Unmap() == peer.Addr().Unmap()
	})
}
