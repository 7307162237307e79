// Command edge is the SIP edge: the P-CSCF between phones on 5060 (UDP and TCP), 5061 (TLS), 5062 (WebSocket) and 5063
// (secure WebSocket), and the core on 5058; and the STUN and TURN server on 3478 and 5349.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/pcscf"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/turn"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload/siplimit"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

func main() { service.Main(config.Edge, start) }

// edge is the running role.
type edge struct {
	function  *pcscf.Edge
	core      *proxy.Core
	transport *transport.Layer
	upstream  *transport.Pool // to the I-CSCFs
	serving   *transport.Pool // to the S-CSCFs, for what follows a Service-Route
	limiter   *overload.Limiter
	turn      *turn.Server // nil: none
	hss       *rpc.Client  // nil in tests that ask nobody
}

func start(ctx context.Context, n *service.Node) (service.Running, error) {
	o := n.Options()
	if o.FlowKey == "" {
		o = withFlowKey(o)
		n.Log.Warn("flow_token_key is not set: flows will not be known again after a restart of this node")
	}
	questions := n.Calls(config.Diameter, o.HSSHostname, config.PortHSSRPC, hss.MethodNames())
	e, err := compose(ctx, o, parts{
		options: n.Options, resolver: n.Resolver(), identity: n.Identity.Certificate, log: n.Log, metrics: n.Metrics,
		subscribers: turn.Digests{HSS: hss.NewClient(questions), Realm: func() string { return n.Options().HomeDomain }},
	})
	if err != nil {
		return nil, err
	}
	e.hss = questions
	flowKey := o.FlowKey
	n.OnOptions(func(o *config.Options) {
		if o.FlowKey == "" {
			changed := *o
			changed.FlowKey = flowKey
			o = &changed
		}
		e.function.SetOptions(o)
		e.limiter.SetOptions(o.EdgeThrottle)
	})
	n.ReadyWhen("upstream", e.upstream.Ready)
	n.Holds("registrations", e.function.Registrations)
	n.Holds("dialogs", e.function.Dialogs)
	n.Holds("transactions", e.core.Held)
	if e.turn != nil {
		n.Holds("relays", e.turn.Allocations)
	}
	return e, nil
}

// parts is what the edge is made of besides its options.
type parts struct {
	options  func() *config.Options // in force at the moment
	resolver *resolve.Resolver
	identity func() (*tls.Certificate, error) // of the node, for TLS without a certificate of its own
	log      *slog.Logger
	metrics  prometheus.Registerer

	subscribers turn.Subscribers // nil: no TURN
}

// compose binds the listeners and puts the edge together: transport, P-CSCF on the proxy core, pool to the I-CSCFs, TURN.
func compose(ctx context.Context, o *config.Options, p parts) (*edge, error) {
	certificate, err := newCertificate(o.TLSCertificate, o.TLSKey, p.identity)
	if err != nil {
		return nil, err
	}
	accept, open, err := mutual(certificate, o.TLSPeerCA, p.options)
	if err != nil {
		return nil, err
	}
	e := &edge{}
	wire, err := transport.New(transport.Config{
		MaxPerSource: o.EdgePerAddress, LimitedListener: pcscf.Access, Exempt: func(a netip.Addr) bool { return e.function.Peer(a) },
		TLS: accept, TLSClient: open,
		Origins: o.EdgeWSOrigins, Listeners: listeners(o), ConnectTimeout: o.SIPTCPConnect, SendTimeout: o.SIPTCPSend,
		// A phone is silent between two registrations; its connection must outlive that.
		IdleTimeout: max(2*o.RegMaxExpires, 10*time.Minute),
	}, transport.Deps{Log: p.log, Metrics: p.metrics})
	if err != nil {
		return nil, err
	}
	e.transport = wire
	e.limiter = overload.New("edge", o.EdgeThrottle, overload.Deps{Metrics: p.metrics, Waiting: wire.Unread})
	e.function = pcscf.New(o, pcscf.Deps{Flows: wire, Resolver: p.resolver, Now: time.Now, Send: e.send, Log: p.log, Metrics: p.metrics})
	e.upstream, e.serving = newPools(o, wire, p)
	e.core = proxy.New(proxy.Config{
		Accept: e.function.Accept, Local: e.function.Local, SentBy: e.function.SentBy, Here: e.function.Here, StayUDP: o.DisableTCPSwitch,
		Overload: siplimit.Requests{Limiter: e.limiter, Class: e.function.Class, Ours: func(f proxy.Flow) bool { return f.Listener() == pcscf.Core }},
	}, proxy.Deps{Resolver: p.resolver, Wire: coreSide{wire, []*transport.Pool{e.upstream, e.serving}}, Log: p.log, Observe: e.function})
	e.turn, err = newTURN(ctx, o, p, certificate)
	return e, err
}

// send sends a request of the edge itself.
func (e *edge) send(ctx context.Context, t proxy.Target) (*proxy.Reply, error) {
	return e.core.Send(ctx, t)
}

// withFlowKey makes a key for this life of the node.
func withFlowKey(o *config.Options) *config.Options {
	changed := *o
	changed.FlowKey = rand.Text()
	return &changed
}

// Run serves until ctx ends.
func (e *edge) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.core.Run(ctx) })
	group.Go(func() error { return e.transport.Run(ctx, e.core) })
	group.Go(func() error { return e.upstream.Run(ctx) })
	group.Go(func() error { return e.serving.Run(ctx) })
	group.Go(func() error { return e.function.Run(ctx) })
	group.Go(func() error { return e.limiter.Run(ctx) })
	if e.turn != nil {
		group.Go(func() error { return e.turn.Run(ctx) })
	}
	if e.hss != nil {
		group.Go(func() error { return e.hss.Run(ctx) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// Drain sends registering phones to other edges and waits until no phone is registered here and no call and no relay is
// left.
func (e *edge) Drain(ctx context.Context) error {
	e.function.Quiesce(true)
	if e.turn != nil {
		e.turn.Refuse(true)
	}
	if err := e.function.Idle(ctx); err != nil {
		return err
	}
	if e.turn != nil {
		if err := e.turn.Idle(ctx); err != nil {
			return err
		}
	}
	return e.core.Idle(ctx)
}

// Resume takes registrations and relays again.
func (e *edge) Resume() {
	e.function.Quiesce(false)
	if e.turn != nil {
		e.turn.Refuse(false)
	}
}

// listeners are the untrusted side on 5060 and the trusted on 5058, UDP and TCP each, and what phones may use besides:
// TLS, WebSocket and secure WebSocket, each unless its port is 0. With local_ip6 phones find all of theirs there too; the
// core keeps to the family of local_ip.
func listeners(o *config.Options) []transport.Listener {
	addr, access := netip.MustParseAddr(o.LocalIP), accessAddrs(o) // config has checked it
	var out []transport.Listener
	add := func(name string, kind resolve.Transport, addr netip.Addr, port int) {
		if port != 0 {
			out = append(out, transport.Listener{Name: name, Transport: kind, Addr: netip.AddrPortFrom(addr, uint16(port))}) //nolint:gosec // config bounds it
		}
	}
	for _, kind := range []resolve.Transport{resolve.TCP, resolve.UDP} {
		add(pcscf.Core, kind, addr, config.PortEdgeTrusted)
	}
	for _, a := range access {
		add(pcscf.Access, resolve.TCP, a, config.PortEdgeSIP)
		add(pcscf.Access, resolve.UDP, a, config.PortEdgeSIP)
		add(pcscf.Access, resolve.TLS, a, o.EdgeTLSPort)
		add(pcscf.Access, resolve.WS, a, o.EdgeWSPort)
		add(pcscf.Access, resolve.WSS, a, o.EdgeWSSPort)
	}
	return out
}

// accessAddrs are where phones find the edge.
func accessAddrs(o *config.Options) []netip.Addr {
	out := []netip.Addr{netip.MustParseAddr(o.LocalIP)}
	if o.LocalIPv6 != "" && o.LocalIPv6 != o.LocalIP {
		out = append(out, netip.MustParseAddr(o.LocalIPv6))
	}
	return out
}
