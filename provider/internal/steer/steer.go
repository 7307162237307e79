// Package steer speaks to nodes: it finds their management addresses in what the platform reflects, and shows them the
// operator's certificate, which it issues from the deployment CA in the platform's secret store. It holds no state
// but connections.
package steer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

const (
	operatorLifetime = 24 * time.Hour
	tokenLifetime    = 24 * time.Hour  // an apply may be interrupted and go on later; each apply renews it
	quick            = 5 * time.Second // for questions that a living node answers at once
)

// ErrNoStore means that no store node answers.
var ErrNoStore = errors.New("no store node answers")

// Nodes is the way to the nodes of any deployment of a platform.
type Nodes struct {
	platform platform.Platform

	mu      sync.Mutex
	sources map[string]*operator // by deployment uuid
}

type operator struct {
	source pki.CertificateSource
	roots  string
}

// New opens no connection.
func New(p platform.Platform) *Nodes {
	return &Nodes{platform: p, sources: map[string]*operator{}}
}

// Client speaks to one node, which must show a certificate of its role under the deployment's CA.
func (s *Nodes) Client(ctx context.Context, deployment string, n platform.Node) (*management.Client, error) {
	op, err := s.operator(ctx, deployment)
	if err != nil {
		return nil, err
	}
	roots, err := pki.Pool([]byte(op.roots))
	if err != nil {
		return nil, fmt.Errorf("the deployment's CA: %w", err)
	}
	at, err := s.address(ctx, deployment, n)
	if err != nil {
		return nil, err
	}
	return management.NewClient(at, pki.ClientTLS(roots, op.source, string(n.Role))), nil
}

// address is where the node's management API is reached from here.
func (s *Nodes) address(ctx context.Context, deployment string, n platform.Node) (string, error) {
	at := n.Address
	if reacher, ok := s.platform.(platform.Reacher); ok {
		var err error
		if at, err = reacher.Reach(ctx, deployment, n); err != nil {
			return "", fmt.Errorf("where to reach %s: %w", n.Name, err)
		}
	}
	return net.JoinHostPort(at.String(), strconv.Itoa(config.ManagementPort(n.Role))), nil
}

func (s *Nodes) operator(ctx context.Context, deployment string) (*operator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op := s.sources[deployment]; op != nil {
		return op, nil
	}
	authority, err := s.Authority(ctx, deployment, DeploymentCA)
	if err != nil {
		return nil, err
	}
	chain, key, err := authority.Issue(pki.Subject{Name: "terraform", Role: pki.RoleOperator}, operatorLifetime)
	if err != nil {
		return nil, fmt.Errorf("issuing the operator's certificate: %w", err)
	}
	source, err := pki.Static(chain, key)
	if err != nil {
		return nil, err
	}
	op := &operator{source: source, roots: string(authority.CertificatePEM())}
	s.sources[deployment] = op
	return op, nil
}

// DeploymentCA and SiteCA name the secrets that hold certificate authorities: certificate and key in one PEM text.
const DeploymentCA = "ca"

// SiteCA names the secret of a site's authority.
func SiteCA(site string) string { return "ca." + site }

// Authority reads one from the platform's secret store.
func (s *Nodes) Authority(ctx context.Context, deployment, secret string) (*pki.Authority, error) {
	text, err := s.platform.GetSecret(ctx, deployment, secret)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	const keyBegins = "-----BEGIN PRIVATE KEY-----"
	at := strings.Index(text, keyBegins)
	if at < 0 {
		return nil, fmt.Errorf("certificate authority: secret %s holds no key", secret)
	}
	return pki.ParseAuthority([]byte(text[:at]), []byte(text[at:]))
}

// PutAuthority writes it.
func (s *Nodes) PutAuthority(ctx context.Context, deployment, secret string, a *pki.Authority) error {
	key, err := a.KeyPEM()
	if err != nil {
		return err
	}
	return s.platform.PutSecret(ctx, deployment, secret, string(a.CertificatePEM())+string(key))
}

// Status asks a node how it is.
func (s *Nodes) Status(ctx context.Context, n platform.Node) (management.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	c, err := s.clientOf(ctx, n)
	if err != nil {
		return management.Status{}, err
	}
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return management.Status{}, err
	}
	return *status, nil
}

// Drain orders it, with a deadline for the node itself.
func (s *Nodes) Drain(ctx context.Context, n platform.Node, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	c, err := s.clientOf(ctx, n)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Drain(ctx, max(deadline, time.Second))
}

// Decommission orders it of a store node that does not come back.
func (s *Nodes) Decommission(ctx context.Context, n platform.Node, deadline time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	c, err := s.clientOf(ctx, n)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Decommission(ctx, max(deadline, time.Second))
}

// Undrain takes the order back.
func (s *Nodes) Undrain(ctx context.Context, n platform.Node) error {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	c, err := s.clientOf(ctx, n)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Undrain(ctx)
}

// clientOf finds the deployment by what the node's configuration says.
func (s *Nodes) clientOf(ctx context.Context, n platform.Node) (*management.Client, error) {
	id, err := deploymentOf(n)
	if err != nil {
		return nil, err
	}
	return s.Client(ctx, id, n)
}

func deploymentOf(n platform.Node) (string, error) {
	o, _, err := config.Parse(config.File{Name: config.LocalFile, Path: n.Name + "/" + config.LocalFile, Text: n.Config[config.LocalFile]})
	if err != nil {
		return "", fmt.Errorf("configuration of %s: %w", n.Name, err)
	}
	return o.DeploymentID, nil
}

// Bootstrap makes the node the first of its site's cluster; one that is already tells the cluster's id. It repeats until
// the node answers or the context ends.
func (s *Nodes) Bootstrap(ctx context.Context, w *platform.World, n platform.Node, token string) (string, error) {
	request, err := s.bootstrapRequest(ctx, w, n.Site)
	if err != nil {
		return "", err
	}
	for {
		status, statusErr := s.Status(ctx, n)
		if statusErr == nil && status.ClusterID != "" {
			return status.ClusterID, nil
		}
		var id string
		at, err := s.address(ctx, w.Deployment.ID, n)
		if err == nil {
			id, err = management.Bootstrap(ctx, at, token, request)
		}
		if err == nil {
			return id, nil
		}
		if code := management.StatusOf(err); errors.Is(err, pki.ErrProof) || code == http.StatusForbidden || code == http.StatusUnprocessableEntity {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w (last: %w)", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// GeneratedKeys are the secrets of shared configuration that the provider makes, by option name.
func GeneratedKeys() []string {
	return []string{"nonce_key", "flow_token_key", "signup_key", "ellis_api_key", "ellis_cookie_key"}
}

func (s *Nodes) bootstrapRequest(ctx context.Context, w *platform.World, site string) (management.BootstrapRequest, error) {
	authority, err := s.Authority(ctx, w.Deployment.ID, SiteCA(site))
	if err != nil {
		return management.BootstrapRequest{}, err
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return management.BootstrapRequest{}, err
	}
	shared := map[string]string{"home_domain": w.Deployment.HomeDomain}
	for _, name := range GeneratedKeys() {
		if shared[name], err = s.platform.GetSecret(ctx, w.Deployment.ID, name); err != nil {
			return management.BootstrapRequest{}, err
		}
	}
	return management.BootstrapRequest{SiteCA: string(authority.CertificatePEM()), SiteCAKey: string(key), SharedConfig: shared}, nil
}

// Admit lets a node join once with its token.
func (s *Nodes) Admit(ctx context.Context, w *platform.World, n platform.Node, token string) error {
	sum := sha256.Sum256([]byte(token))
	return s.AnyStore(ctx, w, n.Site, n.Name, func(c *management.Client) error {
		return c.PutToken(ctx, n.Name, management.Token{SHA256: hex.EncodeToString(sum[:]), Role: string(n.Role),
			Addresses: []string{n.Address.String()}, ExpiresAt: time.Now().Add(tokenLifetime).UTC()})
	})
}

// Forget takes a node's registration and token back.
func (s *Nodes) Forget(ctx context.Context, w *platform.World, node string) error {
	_, site, _ := strings.Cut(node, ".")
	return s.AnyStore(ctx, w, site, node, func(c *management.Client) error { return c.RemoveNode(ctx, node) })
}

// AnyStore calls the first store node of the site that answers, other than the one called except.
func (s *Nodes) AnyStore(ctx context.Context, w *platform.World, site, except string, do func(*management.Client) error) error {
	var problems []error
	for _, n := range w.NodesOf(site, config.Store) {
		if n.Name == except {
			continue
		}
		c, err := s.Client(ctx, w.Deployment.ID, n)
		if err != nil {
			return err
		}
		err = do(c)
		c.Close()
		if err == nil || management.StatusOf(err) != 0 {
			return err // it answered
		}
		problems = append(problems, err)
	}
	return fmt.Errorf("%w in site %s: %w", ErrNoStore, site, errors.Join(problems...))
}
