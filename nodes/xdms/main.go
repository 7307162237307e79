// Command xdms is the document server node: XCAP documents of subscribers on port 7888, kept in the store.
package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/simservs"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/xcap"
)

func main() { service.Main(config.XDMS, start) }

// node is the running role.
type node struct {
	store *rpc.Client
	http  *httpserver.Server
}

func start(ctx context.Context, n *service.Node) (service.Running, error) {
	o := n.Options()
	store := rpc.NewClient(rpc.ClientConfig{
		Name: "store", TLS: n.Identity.Client(config.Store), Log: n.Log, Metrics: n.Metrics,
		MethodNames: map[rpc.Method]string{records.MethodGet: "get", records.MethodSwap: "swap", records.MethodScan: "scan"},
		Resolve: func(ctx context.Context) ([]netip.AddrPort, error) {
			return n.Resolver().Addrs(ctx, "store."+o.Site+"."+o.Zone, config.PortStoreRPC)
		},
	})
	types, err := xcap.LoadTypes(filepath.Join(n.Folder(), xcap.TypesFile))
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the file
	}
	handler, err := xcap.New(types, records.NewClient(store), n.Log)
	if err != nil {
		return nil, fmt.Errorf("serving documents: %w", err)
	}
	limiter := overload.New("xdms", o.XDMSThrottle, overload.Deps{Metrics: n.Metrics})
	n.OnOptions(func(o *config.Options) { limiter.SetOptions(o.XDMSThrottle) })
	server, err := httpserver.New(httpserver.Config{Name: "xdms", MaxBody: simservs.MaxSize, Limiter: limiter},
		httpserver.Deps{Handler: handler, Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the metrics
	}
	if _, err := server.Listen(ctx, net.JoinHostPort(o.LocalIP, strconv.Itoa(config.PortXDMS)), nil); err != nil {
		return nil, err //nolint:wrapcheck // it names the port
	}
	n.Holds("http requests", server.Active)
	return &node{store: store, http: server}, nil
}

// Run serves until the context is over.
func (r *node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.store.Run(ctx) })
	group.Go(func() error { return r.http.Run(ctx) })
	return group.Wait() //nolint:wrapcheck // each says what it is
}

// Drain closes the port and waits for the requests under way.
func (r *node) Drain(ctx context.Context) error { return r.http.Drain(ctx) }
