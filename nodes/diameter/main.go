// Command diameter is the node that knows subscribers: from our own subscriber master, provisioned over HTTP on 8889, or
// from an external HSS, asked over Diameter (Cx). Routers ask it over rpc (8887), others over Homestead's HTTP API (8888,
// 8886). Its data is in the store.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/provision"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/signalling"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
)

func main() { service.Main(config.Diameter, start) }

// httpTimeout bounds the work of an HTTP call: above the time that the store is given, below what callers wait.
const httpTimeout = 5 * time.Second

// node is the running role.
type node struct {
	store *rpc.Client
	rpc   *rpc.Server
	rpcLn net.Listener
	apis  []*httpserver.Server
	peers *gateway      // nil: no Diameter
	leave func()        // tells routers to go elsewhere
	going chan struct{} // closed by leave
	left  chan struct{} // closed when the rpc server has ended
}

func start(ctx context.Context, n *service.Node) (service.Running, error) {
	store := rpc.NewClient(rpc.ClientConfig{
		Name: "store", TLS: n.Identity.Client(config.Store), Log: n.Log, Metrics: n.Metrics, MethodNames: storeMethods(),
		Resolve: func(ctx context.Context) ([]netip.AddrPort, error) {
			return n.Resolver().Addrs(ctx, n.Options().StoreHostname, config.PortStoreRPC)
		},
	})
	n.ReadyWhen("store", store.Ready)
	rows := records.NewClient(store)
	db := subscribers.New(rows)
	m := master.New(db, registrations.NewClient(store), func() master.Settings {
		o := n.Options()
		return master.Settings{ServerName: o.SCSCFName(), CDF: o.CDFIdentity}
	}, n.Log, n.Metrics)

	r := &node{store: store, going: make(chan struct{}), left: make(chan struct{})}
	r.leave = sync.OnceFunc(func() { close(r.going) })
	var who subscriberSource = m
	var err error
	switch o := n.Options(); {
	case o.ExternalHSS():
		if r.peers, err = newGateway(ctx, n, rows); err == nil {
			who = r.peers
		}
	case o.HSSRole:
		r.peers, err = newHome(ctx, n, m, rows, db)
	}
	if err != nil {
		return nil, err
	}
	if err := r.listen(ctx, n, who, db); err != nil {
		return nil, err
	}
	n.Holds("http requests", func() (sum int64) {
		for _, api := range r.apis {
			sum += api.Active()
		}
		return sum
	})
	return r, nil
}

// subscriberSource is what knows subscribers: our own master, or an external HSS behind a cache.
type subscriberSource interface {
	hss.Server
	signalling.State
}

func storeMethods() map[rpc.Method]string {
	names := records.MethodNames()
	for m, name := range registrations.MethodNames() {
		names[m] = name
	}
	return names
}

// listen opens every port of the role.
func (r *node) listen(ctx context.Context, n *service.Node, m subscriberSource, db *subscribers.DB) error {
	o := n.Options()
	signal, readOnly, provisioning := http.NewServeMux(), http.NewServeMux(), http.NewServeMux()
	signalling.Register(signal, m, m)
	signalling.RegisterReadOnly(readOnly, m)
	provision.Register(provisioning, db, func() string { return n.Options().HomeDomain })
	var provisioned http.Handler = provisioning
	if r.peers != nil && r.peers.pusher != nil {
		provisioned = r.peers.pusher.Watch(provisioning)
	}
	for _, api := range []struct {
		name     string
		address  string
		mux      http.Handler
		throttle func(o *config.Options) config.Throttle // nil: management is always let in
	}{
		{"homestead", net.JoinHostPort(o.LocalIP, strconv.Itoa(config.PortHSS)), signal, func(o *config.Options) config.Throttle { return o.HSSThrottle }},
		{"homestead_management", net.JoinHostPort(o.ManagementLocalIP, strconv.Itoa(config.PortHSSManagement)), readOnly, nil},
		{"homestead_prov", net.JoinHostPort(o.LocalIP, strconv.Itoa(o.ProvisioningPort)), provisioned, func(o *config.Options) config.Throttle { return o.ProvisioningThrottle }},
	} {
		var limiter *overload.Limiter
		if api.throttle != nil {
			limiter = overload.New(api.name, api.throttle(o), overload.Deps{Metrics: n.Metrics})
			n.OnOptions(func(o *config.Options) { limiter.SetOptions(api.throttle(o)) })
		}
		server, err := httpserver.New(httpserver.Config{Name: api.name, Limiter: limiter}, httpserver.Deps{Handler: timed(api.mux), Log: n.Log, Metrics: n.Metrics})
		if err != nil {
			return fmt.Errorf("preparing %s: %w", api.name, err)
		}
		if _, err := server.Listen(ctx, api.address, nil); err != nil {
			return fmt.Errorf("preparing %s: %w", api.name, err)
		}
		r.apis = append(r.apis, server)
	}
	r.rpc = rpc.NewServer(n.Identity.Server(config.Router, config.Edge), hss.Handlers(m), n.Log.With(slog.String("api", "hss"))).
		Instrument(n.Metrics, hss.MethodNames())
	var err error
	if r.rpcLn, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o.LocalIP, strconv.Itoa(config.PortHSSRPC))); err != nil {
		return fmt.Errorf("opening the port for routers: %w", err)
	}
	return nil
}

// timed gives every call but the listing, which lasts as long as its caller reads, a deadline.
func timed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != provision.ListPath {
			ctx, cancel := context.WithTimeout(r.Context(), httpTimeout)
			defer cancel()
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(w, r)
	})
}

// Run serves until the context is over.
func (r *node) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.leave)()
	group, ctx := errgroup.WithContext(ctx)
	// The store and the HSS are needed until the last call is answered.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- r.store.Run(storeCtx) }()
	peersCtx, stopPeers := context.WithCancel(context.WithoutCancel(ctx))
	if r.peers != nil {
		group.Go(func() error { return r.peers.Run(peersCtx) })
	}
	group.Go(func() error {
		defer stopPeers()
		err := r.serve(ctx)
		if r.peers != nil {
			r.peers.settle()
		}
		return err
	})
	err := group.Wait()
	r.leave()
	stopStore()
	return errors.Join(err, <-stopped)
}

// serve answers routers and the HTTP APIs until the context is over and every call is answered.
func (r *node) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(r.left)
		serving, stop := context.WithCancel(context.WithoutCancel(ctx))
		defer stop()
		go func() {
			<-r.going
			stop()
		}()
		return r.rpc.Serve(serving, r.rpcLn)
	})
	for _, api := range r.apis {
		group.Go(func() error { return api.Run(ctx) })
	}
	return group.Wait() //nolint:wrapcheck // they say what failed
}

// Drain tells routers to go elsewhere and closes the HTTP ports; it returns when every call is answered.
func (r *node) Drain(ctx context.Context) error {
	r.leave()
	for _, api := range r.apis {
		if err := api.Drain(ctx); err != nil {
			return err //nolint:wrapcheck // it says what it is
		}
	}
	select {
	case <-r.left:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for routers to leave: %w", ctx.Err())
	}
}
