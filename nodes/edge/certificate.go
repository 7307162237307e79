package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
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
