// Package pcscf is the edge's SIP function: the P-CSCF of TS 24.229 5.2. It stands between phones, whom it does not
// trust, and the core, whom it does. It knows each phone by its flow, asserts the identity that the phone registered
// there, sends requests along the Service-Route, and lets nothing across the boundary that the other side must not see
// or say. Registrations of a flow are in memory only: phones of a lost node register again elsewhere.
package pcscf

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// Names of the listeners that tell the two sides apart.
const (
	Access = "access"
	Core   = "core"
)

// Flows finds a flow again by its identity, and opens those to peers.
type Flows interface {
	Lookup(id transport.ID) (*transport.Flow, bool)
	FlowFrom(listener string, hop resolve.Hop) (*transport.Flow, error)
}

// Resolver finds the hops of a peer's name.
type Resolver interface {
	SIP(ctx context.Context, t resolve.Target) ([]resolve.Hop, error)
}

// Deps is what the function works with.
type Deps struct {
	Flows    Flows
	Resolver Resolver
	// Send sends a request of the edge itself; see proxy.Core.
	Send    func(ctx context.Context, t proxy.Target) (*proxy.Reply, error)
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer // may be nil
}

// Edge is the function.
type Edge struct {
	deps     Deps
	settings atomic.Pointer[settings]
	users    users
	dialogs  dialogs
	watches  watches

	emergency emergencyUsers
	draining  atomic.Bool
	metrics   *metrics
}

// New makes the function.
func New(o *config.Options, deps Deps) *Edge {
	e := &Edge{deps: deps}
	e.SetOptions(o)
	e.users.init()
	e.dialogs.init()
	e.watches.init()
	e.emergency.init(deps.Metrics)
	e.metrics = newMetrics(deps.Metrics, e)
	return e
}

// SetOptions takes changed options.
func (e *Edge) SetOptions(o *config.Options) { e.settings.Store(newSettings(o)) }

// Name implements proxy.Function.
func (e *Edge) Name() string { return "edge" }

// Serve implements proxy.Function.
func (e *Edge) Serve() proxy.Handler { return &handler{edge: e, set: e.settings.Load()} }

// Accept gives every message to the edge; see proxy.Config.
func (e *Edge) Accept(*sip.Message, proxy.Flow) proxy.Function { return e }

// Local tells the URIs that name this node; see proxy.Config.
func (e *Edge) Local(u sip.URI) proxy.Function {
	if e.settings.Load().local(u) {
		return e
	}
	return nil
}

// Here tells the hosts for which an OPTIONS is a poll of this node.
func (e *Edge) Here(host string) bool {
	s := e.settings.Load()
	return s.hosts[strings.ToLower(host)] || s.homes[strings.ToLower(host)]
}

// SentBy is what Via says on a flow.
func (e *Edge) SentBy(f proxy.Flow) string {
	s := e.settings.Load()
	if f.Listener() == Core {
		return s.coreAddr
	}
	if s.publicIPv6 != "" && f.Local().Addr().Is6() {
		return sip.HostPort(s.publicIPv6, s.ports[f.Transport()])
	}
	return s.accessVia[f.Transport()]
}

// handler sees one transaction through.
type handler struct {
	edge     *Edge
	set      *settings
	toPhone  *transport.Flow // the flow of the called phone
	fromCore bool
	register *registering // of a REGISTER
	routes   []string     // the Record-Routes of a request to a phone, as sent
	called   string       // P-Called-Party-ID of a request to a phone
	dialog   dialogKey    // of a request that may begin or end one
	method   string       // of the request
	peer     transport.ID // the flow of the calling phone
	caller   kind         // what the calling flow leads to
	callee   kind         // what the called flow leads to
	vector   string       // P-Charging-Vector of the request, as it went into the core or came out of it
	outward  *outward     // of a request to a peer
}

// Initial implements proxy.Handler.
func (h *handler) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	h.method = r.Msg.Method
	switch {
	case r.Local: // a Route or Request-URI that leads back to this node
		return refuse(r, 404, "the request leads back to the edge")
	case r.Msg.Method == sip.ACK: // one without a To tag acknowledges nothing
		return proxy.Silence()
	case r.Flow.Listener() == Core:
		if watchable(r) { // without a dialog it can be of none of ours
			return proxy.Answer(r, 481)
		}
		return h.terminate(ctx, r, true)
	}
	if service, ok := h.set.service(r.Msg, r.Flow); ok && r.Msg.Method != sip.REGISTER {
		return h.emergencyCall(r, service)
	}
	if refusal, ok := lacking(r); ok {
		return refusal
	}
	if r.Msg.Method == sip.REGISTER {
		return h.registerUp(r)
	}
	return h.originate(r)
}

// InDialog implements proxy.Handler.
func (h *handler) InDialog(ctx context.Context, r *proxy.Request) proxy.Decision {
	h.method = r.Msg.Method
	switch {
	case r.Local:
		return refuse(r, 404, "the request leads back to the edge")
	case r.Flow.Listener() == Core:
		if watchable(r) {
			return h.notified(r)
		}
		return h.terminate(ctx, r, false)
	}
	if refusal, ok := lacking(r); ok {
		return refusal
	}
	return h.within(r)
}

// Response implements proxy.Handler.
func (h *handler) Response(r *proxy.Reply) proxy.Verdict {
	switch {
	case h.register != nil:
		if r.Made == proxy.TimedOut { // the core would stay silent on a 408; a phone should learn that the network failed
			r.Msg.Status, r.Msg.Reason = 504, sip.StatusText(504)
		}
		h.registered(r.Msg)
	case h.outward != nil:
		if next, more := h.nextPeer(r); more {
			return proxy.Instead(next)
		}
		h.fromPeer(r)
	case h.fromCore && h.callee == trunk:
		h.fromPeer(r)
	case h.fromCore:
		h.fromPhone(r)
	default:
		h.toCaller(r.Msg)
	}
	h.track(r.Msg)
	return proxy.Verdict{}
}

// refuse answers with a status and the reason; an ACK gets no answer (RFC 3261 17).
func refuse(r *proxy.Request, status int, why string) proxy.Decision {
	if r.Msg.Method == sip.ACK {
		return proxy.Silence()
	}
	return proxy.AnswerReason(r, status, "edge", why)
}

// startsDialog tells the methods whose route set the edge must be on.
func startsDialog(method string) bool {
	switch method {
	case sip.INVITE, sip.SUBSCRIBE, sip.NOTIFY, "REFER":
		return true
	}
	return false
}

// settings is what one version of the options means to the function.
type settings struct {
	hosts       map[string]bool // this node
	homes       map[string]bool // home domains
	home        string
	publicHost  string
	coreAddr    string                       // local_ip:5058
	ports       map[resolve.Transport]int    // of the untrusted side
	accessVia   map[resolve.Transport]string // public_ip and port
	publicIPv6  string                       // of a node with both families
	upstream    string                       // Route value towards the I-CSCF
	drainAnswer string
	watch       string // whom to watch
	sipName     string // where phones find the deployment's edges
	cdf         string
	key         *signer
	trunks      map[netip.Addr]bool
	emergencies emergencies
	pbxes       map[netip.Addr]bool
	mistrusted  map[netip.Addr]bool // trunks whose word on identities counts for nothing
	pbxRoute    string              // Route value for their calls; "" is upstream
}

// accessPorts are the ports of the untrusted side; 0 turns one off.
func accessPorts(o *config.Options) map[resolve.Transport]int {
	ports := map[resolve.Transport]int{resolve.UDP: config.PortEdgeSIP, resolve.TCP: config.PortEdgeSIP}
	for kind, port := range map[resolve.Transport]int{resolve.TLS: o.EdgeTLSPort, resolve.WS: o.EdgeWSPort, resolve.WSS: o.EdgeWSSPort} {
		if port != 0 {
			ports[kind] = port
		}
	}
	return ports
}

func newSettings(o *config.Options) *settings {
	s := &settings{
		hosts: map[string]bool{}, homes: map[string]bool{}, home: strings.ToLower(o.HomeDomain), publicHost: o.PublicHostname,
		coreAddr: sip.HostPort(o.LocalIP, config.PortEdgeTrusted), ports: accessPorts(o), publicIPv6: cmp.Or(o.PublicIPv6, o.LocalIPv6), accessVia: map[resolve.Transport]string{},
		upstream:    "<sip:" + sip.HostPort(o.UpstreamHostname, o.UpstreamPort) + ";transport=TCP;lr>",
		drainAnswer: o.EdgeDrainAnswer, watch: o.EdgeRegEvent, sipName: o.Zone, cdf: o.CDFIdentity, key: newSigner([]byte(o.FlowKey)), emergencies: newEmergencies(o),
		trunks: addresses(o.TrustedPeers), pbxes: addresses(o.PBXes), mistrusted: addresses(o.IBCFStripIdentity),
	}
	if o.PBXServiceRoute != "" {
		s.pbxRoute = "<" + o.PBXServiceRoute + ">"
	}
	for kind, port := range s.ports {
		s.accessVia[kind] = sip.HostPort(o.PublicIP, port)
	}
	for _, host := range append(append([]string{o.LocalIP, o.PublicIP, o.PublicHostname, o.LocalIPv6, o.PublicIPv6, o.IBCFDomain}, o.AliasList...), o.EdgeAliasList...) {
		if host != "" {
			s.hosts[strings.ToLower(host)] = true
		}
	}
	for _, host := range append([]string{o.HomeDomain, o.Zone}, o.AdditionalHomeDomains...) {
		s.homes[strings.ToLower(host)] = true
	}
	return s
}

// local tells whether a URI names this node's SIP ports.
func (s *settings) local(u sip.URI) bool {
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return false
	}
	if !s.hosts[strings.ToLower(u.Host)] {
		return false
	}
	if u.Port == 0 || u.Port == config.PortEdgeTrusted {
		return true
	}
	for _, port := range s.ports {
		if u.Port == port {
			return true
		}
	}
	return false
}
