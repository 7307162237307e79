package pcscf

import (
	"context"
	"net/netip"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// The edge is the border to other networks too (IBCF, TS 24.229 5.10), and takes PBXs that cannot register. Both are known
// by their addresses.

// kind is what a flow leads to.
type kind int

const (
	phone kind = iota // registers, or is nobody
	pbx               // pbxes: sends without registering, and is challenged by the S-CSCF
	trunk             // trusted_peers: another network
)

func (s *settings) kind(at netip.AddrPort) kind {
	switch addr := at.Addr().Unmap(); {
	case s.trunks[addr]:
		return trunk
	case s.pbxes[addr]:
		return pbx
	}
	return phone
}

// Peer tells the addresses of other networks and of PBXs.
func (e *Edge) Peer(a netip.Addr) bool {
	return e.settings.Load().kind(netip.AddrPortFrom(a, 0)) != phone
}

func addresses(texts []string) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool, len(texts))
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out[a.Unmap()] = true
		}
	}
	return out
}

// fromTrunk passes a request of a trusted peer to the I-CSCF as a call to one of our users. It may not ask for
// originating services.
func (h *handler) fromTrunk(r *proxy.Request) proxy.Decision {
	m := r.Msg
	_, orig := r.Own.Param("orig")
	for _, v := range m.All(sip.Route) {
		u, err := sip.AddressURI(v)
		_, has := u.Param("orig")
		orig = orig || has || err != nil
	}
	if orig {
		return h.forbid(r, "a trunk may not originate for our users")
	}
	h.enter(m, r.Flow)
	m.Del(sip.Route)
	m.Push(sip.Route, h.set.upstream)
	h.recordFromPhone(m, r.Flow)
	return proxy.Forward(proxy.Target{Msg: m})
}

// enter makes a peer's request one of the core's: what the peer asserts counts if the peer is believed, what only our own
// core may say goes, and its network is named for charging (TS 24.229 5.10.3, RFC 7315 4.6). Its Record-Routes stay: it
// may be a proxy itself.
func (h *handler) enter(m *sip.Message, f proxy.Flow) {
	believed := !h.set.mistrusted[f.Remote().Addr().Unmap()]
	identities, vector := m.All(sip.PAssertedIdentity), ";"+m.Get(sip.PChargingVector)
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Path)
	if believed {
		for _, id := range identities {
			m.Add(sip.PAssertedIdentity, id)
		}
	}
	h.charge(m)
	own := ";" + m.Get(sip.PChargingVector)
	theirs, _ := sip.Param(vector, "orig-ioi")
	if icid, _ := sip.Param(vector, "icid-value"); believed && icid != "" {
		own = sip.SetParam(own, "icid-value", `"`+clean(icid)+`"`)
	}
	if !believed || theirs == "" || h.set.homes[strings.ToLower(theirs)] {
		theirs = h.networkOf(m, f)
	}
	h.vector = sip.SetParam(own, "orig-ioi", clean(theirs))[1:]
	m.Set(sip.PChargingVector, h.vector)
}

// networkOf names the network of a peer that does not say: the domain of whom it asserts or of the caller, unless that is
// ours, else its address.
func (h *handler) networkOf(m *sip.Message, f proxy.Flow) string {
	for _, v := range append(m.All(sip.PAssertedIdentity), m.Get(sip.From)) {
		if u, err := sip.AddressURI(v); err == nil && u.Host != "" && !h.set.homes[strings.ToLower(u.Host)] {
			return strings.ToLower(u.Host)
		}
	}
	return f.Remote().Addr().Unmap().String()
}

// answerPeer makes a response of the core one for a peer that has called.
func (h *handler) answerPeer(m *sip.Message) {
	h.strip(m, h.set.mistrusted[h.peer.Remote.Addr().Unmap()])
	if h.vector != "" && m.Status > 100 {
		m.Set(sip.PChargingVector, sip.SetParam(";"+h.vector, "term-ioi", h.set.home)[1:])
	}
}

// leave makes a request of the core one for a peer (TS 24.229 5.10.2): our network is named for charging, who charges is not.
func (h *handler) leave(m *sip.Message, f proxy.Flow) {
	vector := ";" + m.Get(sip.PChargingVector)
	h.strip(m, h.set.mistrusted[f.Remote().Addr().Unmap()])
	icid, _ := sip.Param(vector, "icid-value")
	if icid == "" {
		h.vector = ""
		return
	}
	ioi, _ := sip.Param(vector, "orig-ioi")
	if ioi == "" {
		ioi = h.set.home
	}
	h.vector = `icid-value="` + clean(icid) + `";orig-ioi=` + clean(ioi)
	m.Set(sip.PChargingVector, h.vector)
}

// strip takes out of a message what other networks must not see.
func (h *handler) strip(m *sip.Message, identity bool) {
	m.Del(sip.PAccessNetworkInfo, sip.PVisitedNetworkID, sip.PServedUser, sip.PChargingVector, sip.PChargingFunctionAddresses,
		sip.PProfileKey, sip.PUserDatabase, sip.PAssertedService, sip.PAssociatedURI, sip.ServiceRoute, sip.Path)
	if m.IsRequest() {
		m.Del(sip.PCalledPartyID, sip.ProxyAuthorization)
	}
	if identity {
		m.Del(sip.PAssertedIdentity)
	}
}

// clean keeps a parameter's value from ending where it should not.
func clean(value string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`";,\<>`, r) {
			return -1
		}
		return r
	}, value)
}

// fromPBX passes a request of a PBX that does not register to the S-CSCF, as whom it says it is: the Proxy-Authorization
// lets the S-CSCF challenge it (non_register_authentication).
func (h *handler) fromPBX(r *proxy.Request) proxy.Decision {
	m := r.Msg
	wanted, why := preferred(m)
	if why != "" {
		return h.forbid(r, why)
	}
	if len(wanted) == 0 {
		from, err := sip.AddressURI(m.Get(sip.From))
		if err != nil {
			return refuse(r, 400, err.Error())
		}
		wanted = []sip.URI{from}
	}
	for _, u := range wanted {
		if u.Scheme != "tel" && ((u.Scheme != "sip" && u.Scheme != "sips") || !h.set.homes[strings.ToLower(u.Host)]) {
			return h.forbid(r, "the PBX calls as somebody who is not of this network")
		}
	}
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Route, sip.RecordRoute, sip.Path)
	for _, u := range wanted {
		m.Add(sip.PAssertedIdentity, "<"+u.Canonical()+">")
	}
	if !m.Has(sip.ProxyAuthorization) && m.Method != sip.ACK {
		_, impi, _ := strings.Cut(wanted[0].Canonical(), ":")
		m.Add(sip.ProxyAuthorization, printChallenge("Digest", []param{
			{"username", quoted(impi)}, {"realm", quoted(h.set.home)}, {"nonce", `""`}, {"uri", quoted(m.URI)}, {"response", `""`},
		}))
	}
	h.charge(m)
	if h.set.pbxRoute != "" {
		m.Push(sip.Route, h.set.pbxRoute)
	} else {
		m.Push(sip.Route, strings.TrimSuffix(h.set.upstream, ">")+";orig>")
	}
	h.recordFromPhone(m, r.Flow)
	return proxy.Forward(proxy.Target{Msg: m})
}

func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// outward is a request to a peer that is found by name or address: one server after the other.
type outward struct {
	msg     *sip.Message // as the core sent it
	hops    []resolve.Hop
	initial bool
}

// toPeer passes a request of the core that names none of our flows to a peer. Nobody else is reached this way.
func (h *handler) toPeer(ctx context.Context, r *proxy.Request, initial bool) proxy.Decision {
	next := r.Msg.Get(sip.Route)
	if next == "" {
		next = "<" + r.Msg.URI + ">"
	}
	u, err := sip.AddressURI(next)
	switch {
	case err != nil:
		return refuse(r, 400, err.Error())
	case u.Scheme != "sip" && u.Scheme != "sips", h.set.local(u):
		return refuse(r, 404, "no Route names a flow of this edge")
	}
	name, _ := u.Param("transport")
	kind, known := resolve.ParseTransport(name)
	if !known {
		return refuse(r, 404, "no transport "+name)
	}
	hops, err := h.edge.deps.Resolver.SIP(ctx, resolve.Target{Host: u.Host, Port: uint16(u.Port), Transport: kind, Scheme: u.Scheme}) //nolint:gosec // a port
	if err != nil || len(hops) == 0 {
		return refuse(r, 404, "the peer is not found")
	}
	for _, hop := range hops {
		if h.set.kind(hop.Addr) == phone {
			h.edge.metrics.refused.WithLabelValues("peer").Inc()
			return refuse(r, 403, "no peer that this edge trusts")
		}
	}
	h.fromCore = true
	h.outward = &outward{msg: r.Msg, hops: hops, initial: initial}
	if d, ok := h.tryPeer(); ok {
		return d
	}
	return refuse(r, 503, "the peer is not reached")
}

// tryPeer sends to the next server.
func (h *handler) tryPeer() (proxy.Decision, bool) {
	for len(h.outward.hops) > 0 {
		hop := h.outward.hops[0]
		h.outward.hops = h.outward.hops[1:]
		f, err := h.edge.deps.Flows.FlowFrom(Access, hop)
		if err != nil {
			h.edge.deps.Log.Info("peer is not reached", "hop", hop.String(), "error", err)
			continue
		}
		return h.sendOut(h.outward.msg.Clone(), f), true
	}
	return proxy.Decision{}, false
}

func (h *handler) sendOut(m *sip.Message, f *transport.Flow) proxy.Decision {
	h.toPhone, h.callee = f, h.set.kind(f.Remote())
	if h.callee == trunk {
		h.leave(m, f)
	} else {
		stripToPhone(m)
	}
	if h.outward.initial && startsDialog(m.Method) {
		h.recordToPhone(m, f)
	} else if !h.outward.initial {
		h.dialog = dialogKey{m.CallID(), f.ID()}
	}
	return proxy.Forward(proxy.Target{Msg: m, Flow: f})
}

// nextPeer tells what follows a response: another server where this one was not reached or is busy (RFC 3263 4.3).
func (h *handler) nextPeer(r *proxy.Reply) (proxy.Decision, bool) {
	if r.Rang || r.Msg.Status == 487 || (r.Made == proxy.Received && r.Msg.Status != 503) {
		return proxy.Decision{}, false
	}
	if d, ok := h.tryPeer(); ok {
		return d, true
	}
	if r.Made == proxy.Unreachable {
		r.Msg.Status, r.Msg.Reason = 503, sip.StatusText(503)
	}
	return proxy.Decision{}, false
}

// fromPeer makes a response of a peer one of the core's. A PBX is as little believed as a phone.
func (h *handler) fromPeer(r *proxy.Reply) {
	m := r.Msg
	if r.Made != proxy.Received {
		return
	}
	identities, vector := m.All(sip.PAssertedIdentity), ";"+m.Get(sip.PChargingVector)
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Path, sip.Route)
	if m.Status == 430 {
		m.Status, m.Reason = 480, sip.StatusText(480) // only the edge itself knows which flows are gone
	}
	if h.callee == pbx { // its route set cannot be more than ours
		m.Del(sip.RecordRoute)
		for _, v := range h.routes {
			if m.Status < 300 {
				m.Add(sip.RecordRoute, v)
			}
		}
		return
	}
	if !h.set.mistrusted[h.toPhone.Remote().Addr().Unmap()] && m.Status > 100 {
		for _, id := range identities {
			m.Add(sip.PAssertedIdentity, id)
		}
	}
	if h.vector != "" && m.Status > 100 {
		term, _ := sip.Param(vector, "term-ioi")
		if term == "" {
			if u, err := sip.ParseURI(h.target()); err == nil {
				term = u.Host
			}
		}
		m.Set(sip.PChargingVector, sip.SetParam(";"+h.vector, "term-ioi", clean(term))[1:])
	}
}

// target is whom the request was for.
func (h *handler) target() string {
	if h.outward != nil {
		return h.outward.msg.URI
	}
	return "sip:" + h.toPhone.Remote().Addr().String()
}
