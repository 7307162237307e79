// Package service boots a node of any role and steers it until it ends: flags, configuration, logger, health and
// management listeners, identity, cluster connection, live configuration, readiness, drain, signals. What the role
// does is the function that it gives to Main.
package service

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/internal/identity"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// Running is a role that was started.
type Running interface {
	// Run serves until ctx ends. It returns an error if it had to stop earlier.
	Run(ctx context.Context) error
	// Drain takes no new work and returns nil when nothing is held any more, or the context's error.
	Drain(ctx context.Context) error
}

// Resumer is a Running that can take work again after Drain (whose context has ended by then).
type Resumer interface{ Resume() }

// Leaver is a Running that hands over what it has when its node does not come back. Leave runs after Drain; it may be
// interrupted and called again.
type Leaver interface {
	Leave(ctx context.Context) error
}

// Start makes a role of a booted node: it opens listeners and connections, but serves nothing before Run.
type Start func(ctx context.Context, n *Node) (Running, error)

// BootstrapFunc makes an unjoined store node the first of a new cluster: it stores the site CA, gives the identity
// its certificate (identity.SignWith) and returns the cluster's id.
type BootstrapFunc func(ctx context.Context, req management.BootstrapRequest, id *identity.Identity) (clusterID string, err error)

// Option changes how a node boots.
type Option func(*boot)

// WithBootstrap serves /v1/bootstrap, for store nodes.
func WithBootstrap(f BootstrapFunc) Option { return func(b *boot) { b.bootstrap = f } }

// WithoutSharedConfig starts the role before the shared configuration is there: the store, which serves it, does.
func WithoutSharedConfig() Option { return func(b *boot) { b.early = true } }

// Main runs a node of role and ends the process: 0 after an orderly stop or a valid --check-config, 1 otherwise.
func Main(role config.Role, start Start, opts ...Option) {
	b := newBoot(role, start, opts...)
	os.Exit(b.main(os.Args[1:], os.Stdout, os.Stderr))
}

// Node is what a role works with.
type Node struct {
	Log        *slog.Logger
	Metrics    *prometheus.Registry
	Identity   *identity.Identity
	Cluster    *cluster.Client
	Management *http.ServeMux // of the management API; callers have shown a certificate of the deployment

	live      *live
	ready     *readiness
	drains    *drains
	resolver  *resolve.Resolver
	clusterID atomic.Pointer[string]
	announce  atomic.Pointer[func()] // set once the cluster connection is begun
}

// Name returns the node's name, such as edge-1.site1.
func (n *Node) Name() string { return n.Identity.Name() }

// Options returns the options in force. The value is replaced as a whole on a change: keep no pointer to it.
func (n *Node) Options() *config.Options { return n.live.options.Load() }

// OnOptions calls f with the options in force, now and after each change, one call at a time.
func (n *Node) OnOptions(f func(*config.Options)) { n.live.onOptions(f) }

// OnDocument calls f with the text of a document (bgcf_json and so on), now if there is one, and after each
// change, one call at a time. A document that was removed has an empty text.
func (n *Node) OnDocument(typ string, f func(text string)) { n.live.onDocument(typ, f) }

// ReadyWhen makes readiness depend on check, which is asked often and must be quick. Its error is the reason shown.
func (n *Node) ReadyWhen(name string, check func() error) { n.ready.add(name, check) }

// Holds reports a number of things that a drain waits for.
func (n *Node) Holds(name string, count func() int64) { n.drains.hold(name, count) }

// SetClusterID tells the id of the etcd cluster that this store node is a member of, for its status.
func (n *Node) SetClusterID(id string) { n.clusterID.Store(&id) }

// Resolver resolves names through signaling_dns_server.
func (n *Node) Resolver() *resolve.Resolver { return n.resolver }
