// Command router is the SIP router: I-CSCF, S-CSCF with registrar, BGCF. It keeps nothing between transactions, so any
// router may take any request.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/httpapi"
)

func main() { service.Main(config.Router, start) }

// router is the running role.
type router struct {
	functions *functions.Router
	transport *transport.Layer
	limiter   *overload.Limiter
	clients   []*rpc.Client
	servers   []*httpserver.Server
}

func start(ctx context.Context, n *service.Node) (service.Running, error) {
	o := n.Options()
	wire, err := transport.New(transport.Config{
		Listeners: listeners(o), ConnectTimeout: connectTimeout(o), SendTimeout: o.SIPTCPSend,
	}, transport.Deps{Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, err
	}
	hssClient := n.Calls(config.Diameter, o.HSSHostname, config.PortHSSRPC, hss.MethodNames())
	storeClient := n.Calls(config.Store, o.StoreHostname, config.PortStoreRPC, storeMethods())
	r := &router{transport: wire, clients: []*rpc.Client{hssClient, storeClient}}
	r.limiter = overload.New("router", o.RouterThrottle, overload.Deps{Metrics: n.Metrics, Waiting: wire.Unread})
	questions, store := hss.NewClient(hssClient), registrations.NewClient(storeClient)
	r.functions = functions.New(o, functions.Deps{
		HSS: questions, Store: store, Challenges: records.NewClient(storeClient), Resolver: n.Resolver(), Wire: wire, Limiter: r.limiter, Now: time.Now, Log: n.Log, Metrics: n.Metrics,
	})
	n.OnOptions(r.functions.SetOptions)
	n.OnOptions(func(o *config.Options) { r.limiter.SetOptions(o.RouterThrottle) })
	n.OnDocument("scscf_json", document(n, "scscf_json", r.functions.SetPool))
	n.OnDocument("bgcf_json", document(n, "bgcf_json", r.functions.SetRoutes))
	n.OnDocument("rph_json", document(n, "rph_json", r.functions.SetPriorities))
	n.OnDocument("dns_json", document(n, "dns_json", r.functions.SetOverrides))
	n.OnDocument("enum_json", document(n, "enum_json", r.functions.SetEnum))
	n.OnDocument("shared_ifcs", document(n, "shared_ifcs", r.functions.SetSharedCriteria))
	n.OnDocument("fallback_ifcs", document(n, "fallback_ifcs", r.functions.SetFallbackCriteria))
	n.Holds("transactions", r.functions.Core.Held)
	n.Holds("background work", r.functions.Work.Held)
	deps := httpapi.Deps{Registrar: r.functions.Registrar, Reader: store, HSS: questions, Profiles: r.functions.Profiles, Log: n.Log, Background: r.functions.Work.Go}
	return r, r.listenHTTP(ctx, n, deps)
}

// storeMethods are the labels of calls to the store.
func storeMethods() map[rpc.Method]string {
	names := registrations.MethodNames()
	maps.Copy(names, records.MethodNames())
	return names
}

// document takes a document's text; one that is wrong is told and leaves the old one in force.
func document(n *service.Node, name string, set func(text string) error) func(text string) {
	return func(text string) {
		var partly functions.LeftOutError
		switch err := set(text); {
		case errors.As(err, &partly):
			n.Log.Warn("a document is in force without some of its criteria", "type", name, "error", err)
		case err != nil:
			n.Log.Error("a document is refused, the old one stays in force", "type", name, "error", err)
		}
	}
}

// listenHTTP opens the signalling and the management port of the HTTP interface.
func (r *router) listenHTTP(ctx context.Context, n *service.Node, deps httpapi.Deps) error {
	o := n.Options()
	for _, s := range []struct {
		name, ip string
		port     int
		handler  http.Handler
	}{
		{"router_http", o.LocalIP, config.PortRouterHTTP, httpapi.Signalling(deps)},
		{"router_management", o.ManagementLocalIP, config.PortRouterManagement, httpapi.Management(deps)},
	} {
		server, err := httpserver.New(httpserver.Config{Name: s.name}, httpserver.Deps{Handler: s.handler, Log: n.Log, Metrics: n.Metrics})
		if err != nil {
			return err
		}
		if _, err := server.Listen(ctx, net.JoinHostPort(s.ip, strconv.Itoa(s.port)), nil); err != nil {
			return err
		}
		r.servers = append(r.servers, server)
	}
	return nil
}

// Run serves until ctx ends.
func (r *router) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range r.clients {
		group.Go(func() error { return c.Run(ctx) })
	}
	for _, s := range r.servers {
		group.Go(func() error { return s.Run(ctx) })
	}
	group.Go(func() error { return r.functions.Run(ctx) })
	group.Go(func() error { return r.transport.Run(ctx, r.functions.Core) })
	group.Go(func() error { return r.limiter.Run(ctx) })
	if err := group.Wait(); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// Drain sends new requests elsewhere and waits for the transactions that are under way.
func (r *router) Drain(ctx context.Context) error {
	r.functions.Core.Refuse(true)
	return r.functions.Core.Idle(ctx)
}

// Resume takes requests again.
func (r *router) Resume() { r.functions.Core.Refuse(false) }

// connectTimeout is sip_tcp_connect_timeout, but short enough for another address of an application server to be tried
// before its time is over.
func connectTimeout(o *config.Options) time.Duration {
	return min(o.SIPTCPConnect, o.SessionContinued/2, o.SessionTerminated/2)
}

// listeners are the SIP ports of the functions that are on, UDP and TCP each.
func listeners(o *config.Options) []transport.Listener {
	addr := netip.MustParseAddr(o.LocalIP) // config has checked it
	var out []transport.Listener
	for _, port := range []int{o.SCSCFPort, o.ICSCFPort, o.BGCFPort} {
		for _, kind := range []resolve.Transport{resolve.TCP, resolve.UDP} {
			if port != 0 {
				out = append(out, transport.Listener{Name: "core", Transport: kind, Addr: netip.AddrPortFrom(addr, uint16(port))})
			}
		}
	}
	return out
}
