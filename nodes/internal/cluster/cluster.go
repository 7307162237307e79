// Package cluster is a node's view of its site's etcd: the registry of nodes, the shared configuration and its
// documents, and join tokens. Nodes of all roles are clients; the store nodes run the members. It knows nothing of
// what the documents say, and it runs no etcd.
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// ErrConflict says that somebody else changed what a compare-and-swap expected.
var ErrConflict = errors.New("changed by somebody else meanwhile")

// ErrNotFound says that there is no such document, node or token.
var ErrNotFound = errors.New("not found")

const (
	root         = "/clearwater/" // of every key, as the manual has it
	dialTimeout  = 3 * time.Second
	requestLimit = 5 * time.Second // for requests whose context sets no limit of its own
	retryPause   = time.Second
)

// Config says which cluster and how to reach it.
type Config struct {
	Site    string
	Resolve func(ctx context.Context) ([]netip.AddrPort, error) // client addresses of the members; asked at every dial
	// Admit asks a store node to give this node its rights in etcd, where etcd does not know it: it was set up anew, or
	// is of a time before it had rights. May be nil.
	Admit func(ctx context.Context) error
	TLS   *tls.Config // nil only in tests
	Log   *slog.Logger
}

// Client talks to the cluster. It is safe for concurrent use.
type Client struct {
	cfg  Config
	etcd *clientv3.Client

	mu      sync.Mutex
	self    *management.Registration // nil until Announce
	changed chan struct{}            // capacity 1

	members reach
}

// New prepares a client; nothing is dialled before the first request. Run closes it.
func New(cfg Config) (*Client, error) {
	c := &Client{cfg: cfg, changed: make(chan struct{}, 1)}
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints: []string{scheme + "://etcd:4000"}, // a name only: dial finds the members
		TLS:       cfg.TLS, Logger: zap.NewNop(),
		DialKeepAliveTime: 3 * time.Second, DialKeepAliveTimeout: 3 * time.Second, PermitWithoutStream: true,
		DialOptions: []grpc.DialOption{
			grpc.WithContextDialer(c.dial),
			grpc.WithChainUnaryInterceptor(c.call),
			grpc.WithConnectParams(grpc.ConnectParams{
				MinConnectTimeout: dialTimeout,
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			}),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the etcd client: %w", err)
	}
	c.etcd = etcd
	return c, nil
}

// Close ends a client that Run does not end.
func (c *Client) Close() error {
	if err := c.etcd.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("closing the etcd client: %w", err)
	}
	return nil
}

// Run keeps this node's entry in the registry until ctx ends, then closes the client.
func (c *Client) Run(ctx context.Context) error {
	defer func() { _ = c.Close() }()
	for ctx.Err() == nil {
		if err := c.register(ctx); err != nil && ctx.Err() == nil {
			c.judge(err)
			c.admit(ctx, err)
			c.cfg.Log.Warn("the cluster is away", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	return nil
}

// key is a key of this site.
func (c *Client) key(kind, name string) string { return root + c.cfg.Site + "/" + kind + "/" + name }

// limited gives ctx a deadline if it has none, so that no request outlives its caller's patience.
func limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, requestLimit)
}

// Leader returns nil when the cluster can commit: a linearizable read succeeds.
func (c *Client) Leader(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	if _, err := c.etcd.Get(ctx, c.key("nodes", ""), clientv3.WithCountOnly()); err != nil {
		return fmt.Errorf("asking etcd: %w", err)
	}
	return nil
}
