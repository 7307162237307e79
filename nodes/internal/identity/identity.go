// Package identity is a node's key and certificate: loaded from its data folder, got from the store against a
// one-time token, renewed at two thirds of its life. Its TLS configurations follow renewal and check the peer's role.
// It does not sign anything; the store nodes do, with package pki.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// File names in Config.Directory.
const (
	certFile  = "node.crt"
	keyFile   = "node.key"
	newSuffix = ".new"
)

// ErrUnjoined says that the node has no certificate yet.
var ErrUnjoined = errors.New("this node has not joined its deployment yet")

// Signer is what gets certificates signed: a management client of a store node.
type Signer interface {
	Join(ctx context.Context, req management.JoinRequest) (*management.JoinResponse, error)
	Renew(ctx context.Context, req management.RenewRequest) (*management.JoinResponse, error)
}

// Config says who the node is.
type Config struct {
	Name      string // edge-1.site1
	Role      config.Role
	Site      string
	Zone      string
	Addresses []string
	Directory string // of the key and certificate, made if missing
	Roots     []byte // PEM of the deployment CA
	Token     string // one-time join token, may be empty
}

// Deps is what an identity works with.
type Deps struct {
	// Signers returns store nodes to ask, tried in order. conf authenticates them, and this node once it has joined.
	Signers func(ctx context.Context, conf *tls.Config) ([]Signer, error)
	Log     *slog.Logger
	Now     func() time.Time // nil means time.Now
}

// Identity is safe for concurrent use.
type Identity struct {
	cfg   Config
	deps  Deps
	roots *x509.CertPool

	mu     sync.Mutex
	cert   *tls.Certificate
	leaf   *x509.Certificate
	joined chan struct{} // closed when there is a certificate
}

// Open loads the key and certificate that the folder holds. Without them, or when they have expired, the identity
// is unjoined.
func Open(cfg Config, deps Deps) (*Identity, error) {
	roots, err := pki.Pool(cfg.Roots)
	if err != nil {
		return nil, fmt.Errorf("reading the deployment CA: %w", err)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the node's key: %w", err)
	}
	i := &Identity{cfg: cfg, deps: deps, roots: roots, joined: make(chan struct{})}
	chain, certErr := os.ReadFile(filepath.Join(cfg.Directory, certFile))
	key, keyErr := os.ReadFile(filepath.Join(cfg.Directory, keyFile))
	switch {
	case errors.Is(certErr, os.ErrNotExist):
		return i, nil
	case errors.Is(keyErr, os.ErrNotExist):
		_ = i.resume(chain) // the first install may have ended before its last rename
		return i, nil
	}
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, fmt.Errorf("reading the node's certificate: %w", err)
	}
	if err := i.use(chain, key); err != nil {
		if i.resume(chain) == nil {
			return i, nil
		}
		deps.Log.Warn("the stored certificate cannot be used, joining again", "error", err)
	}
	return i, nil
}

// resume finishes an install that ended between its two renames.
func (i *Identity) resume(chain []byte) error {
	_, keyPath := i.Files()
	key, err := os.ReadFile(keyPath + newSuffix)
	if err != nil {
		return err
	}
	if err := i.use(chain, key); err != nil {
		return err
	}
	return os.Rename(keyPath+newSuffix, keyPath)
}

// use checks a certificate and makes it the node's.
func (i *Identity) use(chain, key []byte) error {
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fmt.Errorf("reading the node's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return fmt.Errorf("reading the node's certificate: %w", err)
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(chain)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: i.roots, Intermediates: between, CurrentTime: i.deps.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("the node's certificate is not valid in this deployment: %w", err)
	}
	if got := pki.SubjectOf(leaf); got.Name != i.cfg.Name || got.Role != string(i.cfg.Role) {
		return fmt.Errorf("the certificate is that of %s (%s), this node is %s (%s)", got.Name, got.Role, i.cfg.Name, i.cfg.Role)
	}
	cert.Leaf = leaf
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cert == nil {
		close(i.joined)
	}
	i.cert, i.leaf = &cert, leaf
	return nil
}

// Name returns the node's name, such as edge-1.site1.
func (i *Identity) Name() string { return i.cfg.Name }

// Token returns the join token that the node was given.
func (i *Identity) Token() string { return i.cfg.Token }

// Roots returns the PEM text of the deployment CA.
func (i *Identity) Roots() []byte { return i.cfg.Roots }

// Subject is what the node's certificate should say.
func (i *Identity) Subject() pki.Subject {
	return pki.Subject{Name: i.cfg.Name, Role: string(i.cfg.Role), Addresses: i.cfg.Addresses,
		DNSNames: pki.Names(i.cfg.Role, i.cfg.Name, i.cfg.Site, i.cfg.Zone)}
}

// Joined is closed once the node has a certificate.
func (i *Identity) Joined() <-chan struct{} { return i.joined }

// Certificate returns the certificate in use; ErrUnjoined if there is none.
func (i *Identity) Certificate() (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cert == nil {
		return nil, ErrUnjoined
	}
	return i.cert, nil
}

// Files returns the paths of the certificate chain and the key, for software that reads files.
func (i *Identity) Files() (cert, key string) {
	return filepath.Join(i.cfg.Directory, certFile), filepath.Join(i.cfg.Directory, keyFile)
}

// SignWith makes a new key and a certificate signed by authority: how the first store node gets its own.
func (i *Identity) SignWith(authority *pki.Authority) error {
	csr, key, err := pki.NewRequest(i.cfg.Name)
	if err != nil {
		return err
	}
	chain, err := authority.Sign(csr, i.Subject(), 0)
	if err != nil {
		return err
	}
	return i.install(chain, key)
}

// install uses a certificate and stores it with its key: the new key beside the old one, the certificate, the key
// in its place. After a crash in between either the old pair fits or resume finds the new one.
func (i *Identity) install(chain, key []byte) error {
	if err := i.use(chain, key); err != nil {
		return err
	}
	certPath, keyPath := i.Files()
	if err := replaceFile(keyPath+newSuffix, key, 0o600); err != nil {
		return fmt.Errorf("storing the node's key: %w", err)
	}
	if err := replaceFile(certPath, chain, 0o644); err != nil {
		return fmt.Errorf("storing the node's certificate: %w", err)
	}
	if err := os.Rename(keyPath+newSuffix, keyPath); err != nil {
		return fmt.Errorf("storing the node's key: %w", err)
	}
	return nil
}

// replaceFile writes a file so that a crash leaves the old one or the new one.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func roleNames(roles []config.Role) []string {
	out := make([]string, len(roles))
	for n, r := range roles {
		out[n] = string(r)
	}
	return out
}

// Client is the client side of mutual TLS with nodes of the given roles (none = any).
func (i *Identity) Client(peers ...config.Role) *tls.Config {
	return pki.ClientTLS(i.roots, i.Certificate, roleNames(peers)...)
}

// Server is the server side, for callers of the given roles (none = any).
func (i *Identity) Server(peers ...config.Role) *tls.Config {
	return pki.ServerTLS(i.roots, i.Certificate, roleNames(peers)...)
}

// OpenServer also takes callers that have no certificate, and works before this node has one: then it shows one
// that it made itself. Handlers tell callers apart with pki.Peer.
func (i *Identity) OpenServer() (*tls.Config, error) {
	self, err := pki.NewDeploymentCA("unjoined " + i.cfg.Name)
	if err != nil {
		return nil, err
	}
	chain, key, err := self.Issue(i.Subject(), 0)
	if err != nil {
		return nil, err
	}
	own, err := pki.Static(chain, key)
	if err != nil {
		return nil, err
	}
	return pki.OpenServerTLS(i.roots, func() (*tls.Certificate, error) {
		if cert, err := i.Certificate(); err == nil {
			return cert, nil
		}
		return own()
	}), nil
}
