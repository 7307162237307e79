package pcscf

import (
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// originate passes a phone's request outside a dialog to its S-CSCF (TS 24.229 5.2.6.3): along the stored
// Service-Route, whatever Route it has, as the identity that is registered on the flow.
func (h *handler) originate(r *proxy.Request) proxy.Decision {
	m := r.Msg
	switch h.caller = h.set.kind(r.Flow.Remote()); h.caller {
	case trunk:
		return h.fromTrunk(r)
	case pbx:
		if u, _ := h.edge.users.any(r.Flow.ID(), h.edge.deps.Now(), ""); u == nil {
			return h.fromPBX(r)
		}
		h.caller = phone // one that registers
	}
	wanted, why := preferred(m)
	if why != "" {
		return h.forbid(r, why)
	}
	u, identity, status, why := h.identify(r, wanted)
	if status != 0 {
		h.edge.metrics.refused.WithLabelValues("identity").Inc()
		return refuse(r, status, why)
	}
	if h.set.watch != watchNever {
		h.edge.watches.follow(r.Flow.ID(), u, h.edge.deps.Now())
	}
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Route, sip.RecordRoute, sip.Path)
	for _, id := range identity {
		m.Add(sip.PAssertedIdentity, "<"+id+">")
	}
	h.charge(m)
	for i := len(u.service) - 1; i >= 0; i-- {
		m.Push(sip.Route, u.service[i])
	}
	if len(u.service) == 0 {
		m.Push(sip.Route, strings.TrimSuffix(h.set.upstream, ">")+";orig>")
	}
	h.recordFromPhone(m, r.Flow)
	return proxy.Forward(proxy.Target{Msg: m})
}

func (h *handler) forbid(r *proxy.Request, why string) proxy.Decision {
	h.edge.metrics.refused.WithLabelValues("identity").Inc()
	return refuse(r, 403, why)
}

// preferred reads P-Preferred-Identity: at most two, and of two one is a tel: URI (RFC 3325 9.2).
func preferred(m *sip.Message) (uris []sip.URI, why string) {
	for _, v := range m.All(sip.PPreferredIdentity) {
		u, err := sip.AddressURI(v)
		if err != nil {
			return nil, "P-Preferred-Identity: " + err.Error()
		}
		uris = append(uris, u)
	}
	tel := func(u sip.URI) bool { return u.Scheme == "tel" }
	switch {
	case len(uris) > 2:
		return nil, "more than two P-Preferred-Identity"
	case len(uris) == 2 && tel(uris[0]) == tel(uris[1]):
		return nil, "two P-Preferred-Identity must be one sip: and one tel:"
	}
	return uris, ""
}

// identify finds who sends a request: the user of the flow and the identities to assert. Preferred identities must be
// the flow's own. Where several users share a flow, From tells which of them it is.
func (h *handler) identify(r *proxy.Request, wanted []sip.URI) (u *user, identity []string, status int, why string) {
	now, id := h.edge.deps.Now(), r.Flow.ID()
	if len(wanted) > 0 {
		first, name := h.edge.users.any(id, now, wanted[0].Canonical())
		if name == "" {
			if first == nil {
				return nil, nil, 403, "no registration on this flow"
			}
			return nil, nil, 403, "P-Preferred-Identity is not registered on this flow"
		}
		identity = []string{name}
		if len(wanted) == 2 {
			second, ok := first.asserts(wanted[1].Canonical())
			if !ok {
				return nil, nil, 403, "the second P-Preferred-Identity is not of the same user"
			}
			identity = append(identity, second)
		}
		return first, identity, 0, ""
	}
	from := ""
	if u, err := sip.AddressURI(r.Msg.Get(sip.From)); err == nil {
		from = u.Canonical()
	}
	if u, _ = h.edge.users.any(id, now, from); u == nil {
		return nil, nil, 403, "no registration on this flow"
	}
	return u, []string{u.identities[0]}, 0, ""
}

// within passes a phone's request inside a dialog along the dialog's Routes. The token in the Route that names us
// carries a seal over the others (see token.go), so a phone cannot send it anywhere else.
func (h *handler) within(r *proxy.Request) proxy.Decision {
	m := r.Msg
	id, seal, err := h.set.key.open(r.Own.User)
	if err != nil || len(seal) == 0 {
		h.edge.metrics.refused.WithLabelValues("route").Inc()
		return refuse(r, 403, "the request has no Route that this edge gave out")
	}
	h.dropOwnRoute(m)
	rest := m.All(sip.Route)
	if !slices.Equal(seal, h.set.key.sealRoutes(id, m.CallID(), rest)) {
		h.edge.metrics.refused.WithLabelValues("route").Inc()
		return refuse(r, 403, "the Routes are not those of the dialog")
	}
	from := ""
	if u, err := sip.AddressURI(m.Get(sip.From)); err == nil {
		from = u.Canonical()
	}
	u, name := h.edge.users.any(r.Flow.ID(), h.edge.deps.Now(), from)
	h.caller = h.set.kind(r.Flow.Remote())
	if id != r.Flow.ID() && u == nil && (h.caller == phone || id.Remote.Addr() != r.Flow.Remote().Addr()) {
		return h.forbid(r, "the dialog belongs to another flow")
	}
	if len(rest) == 0 {
		if next, err := sip.ParseURI(m.URI); err != nil || h.set.local(next) {
			return refuse(r, 404, "the dialog leads nowhere")
		}
	}
	switch {
	case h.caller == trunk:
		h.enter(m, r.Flow)
	default:
		h.stripUntrusted(m)
		m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.RecordRoute, sip.Path)
		if u != nil && m.Method != sip.ACK {
			if name == "" {
				name = u.identities[0]
			}
			m.Set(sip.PAssertedIdentity, "<"+name+">")
		}
		h.charge(m)
	}
	h.peer = id
	h.dialog = dialogKey{m.CallID(), id}
	return proxy.Forward(proxy.Target{Msg: m})
}

// dropOwnRoute removes the second of our two Routes (double Record-Routing) and returns its user part.
func (h *handler) dropOwnRoute(m *sip.Message) (user string) {
	u, err := sip.AddressURI(m.Get(sip.Route))
	if err != nil || !h.set.local(u) {
		return ""
	}
	m.Pop(sip.Route)
	return u.User
}

// recordFromPhone puts the edge twice into the route set of a dialog that a phone begins (RFC 5658): once for each
// side. The token gets its seal in the responses, when the whole route set is known.
func (h *handler) recordFromPhone(m *sip.Message, f proxy.Flow) {
	h.peer = f.ID()
	if !startsDialog(m.Method) {
		return
	}
	h.dialog = dialogKey{m.CallID(), f.ID()}
	m.Push(sip.RecordRoute, h.accessRoute(m, f, nil))
	m.Push(sip.RecordRoute, h.coreRoute())
}

// accessRoute is the phone's side of our Record-Route. A request for a sips: URI on a secure flow gets a sips: one (RFC
// 3261 16.6 step 4), whose transport is that below TLS (RFC 5630 3.1.4, RFC 7118 5.2.3).
func (h *handler) accessRoute(m *sip.Message, f proxy.Flow, seal []byte) string {
	scheme, kind := "sip:", f.Transport().String()
	if len(m.URI) > 5 && strings.EqualFold(m.URI[:5], "sips:") {
		switch f.Transport() {
		case resolve.TLS:
			scheme, kind = "sips:", "tcp"
		case resolve.WSS:
			scheme, kind = "sips:", "ws"
		}
	}
	return "<" + scheme + h.set.key.token(f.ID(), seal) + "@" + sip.HostPort(h.set.publicHost, h.set.ports[f.Transport()]) + ";transport=" + kind + ";lr>"
}

func (h *handler) coreRoute() string { return "<sip:" + h.set.coreAddr + ";transport=TCP;lr>" }

// toCaller takes a response to a phone's request: nothing of the core's own leaves, and our Record-Route gets its seal.
func (h *handler) toCaller(m *sip.Message) {
	if h.caller == trunk {
		h.answerPeer(m)
	} else {
		stripToPhone(m)
	}
	hideKeys(m)
	m.Del(sip.Path, sip.ServiceRoute)
	if !startsDialog(h.method) || m.Status >= 300 || m.Status == 100 || h.dialog.callID == "" {
		return
	}
	values := m.All(sip.RecordRoute)
	at := -1
	for i, v := range values {
		u, err := sip.AddressURI(v)
		if err != nil || !h.set.local(u) || u.User == "" {
			continue
		}
		if id, seal, err := h.set.key.open(u.User); err == nil && len(seal) == 0 && id == h.peer {
			at = i
		}
	}
	if at < 1 {
		return // a response within the dialog has no need of it
	}
	// The phone's route set is the list from below; behind our two come the others.
	rest := slices.Clone(values[:at-1])
	slices.Reverse(rest)
	u, _ := sip.AddressURI(values[at])
	u.User = h.set.key.token(h.peer, h.set.key.sealRoutes(h.peer, m.CallID(), rest))
	values[at] = "<" + u.String() + ">"
	m.Del(sip.RecordRoute)
	for _, v := range values {
		m.Add(sip.RecordRoute, v)
	}
}
