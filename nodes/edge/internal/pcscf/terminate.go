package pcscf

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// terminate passes a request of the core to the phone that the token in its Route names (RFC 5626 5.3).
func (h *handler) terminate(ctx context.Context, r *proxy.Request, initial bool) proxy.Decision {
	m := r.Msg
	if m.Method == sip.REGISTER {
		return refuse(r, 405, "the core does not register here")
	}
	if r.Own.Scheme == "" {
		return refuse(r, 404, "no Route names a flow of this edge")
	}
	user := r.Own.User
	if user == "" { // a Record-Route of ours: the one with the token is below
		user = h.dropOwnRoute(m)
	}
	if user == "" {
		return h.toPeer(ctx, r, initial)
	}
	id, _, err := h.set.key.open(user)
	if err != nil {
		return h.gone(r, err.Error())
	}
	f, ok := h.edge.deps.Flows.Lookup(id)
	h.callee = h.set.kind(id.Remote)
	if !ok && h.callee != phone {
		return h.toPeer(ctx, r, initial) // it listens
	}
	if !ok {
		return h.gone(r, "the flow has closed")
	}
	h.fromCore, h.toPhone = true, f
	if a, err := sip.ParseAddress(m.Get(sip.PCalledPartyID)); err == nil {
		h.called = a.URI
	}
	if h.callee == trunk {
		h.leave(m, f)
	} else {
		stripToPhone(m)
	}
	if initial && startsDialog(m.Method) {
		h.recordToPhone(m, f)
	} else if !initial {
		h.dialog = dialogKey{m.CallID(), id}
	}
	return proxy.Forward(proxy.Target{Msg: m, Flow: f})
}

func (h *handler) gone(r *proxy.Request, why string) proxy.Decision {
	h.edge.metrics.refused.WithLabelValues("flow").Inc()
	return refuse(r, 430, why)
}

// recordToPhone puts the edge twice into the route set of a dialog that the core begins; the phone's side on top.
func (h *handler) recordToPhone(m *sip.Message, f *transport.Flow) {
	seal := h.set.key.sealRoutes(f.ID(), m.CallID(), m.All(sip.RecordRoute))
	m.Push(sip.RecordRoute, h.coreRoute())
	m.Push(sip.RecordRoute, h.accessRoute(m, f, seal))
	h.routes = m.All(sip.RecordRoute)
	h.dialog = dialogKey{m.CallID(), f.ID()}
}

// fromPhone takes a phone's response: what it says of the core goes, the route set is put back as it was sent, and the
// identity that answers is the registered one (TS 24.229 5.2.6.4.4).
func (h *handler) fromPhone(r *proxy.Reply) {
	m := r.Msg
	if r.Made != proxy.Received {
		return
	}
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Path, sip.Route, sip.RecordRoute)
	if m.Status < 300 {
		for _, v := range h.routes {
			m.Add(sip.RecordRoute, v)
		}
	}
	if m.Status == 430 {
		m.Status, m.Reason = 480, sip.StatusText(480) // only the edge itself knows which flows are gone
	}
	if m.Status == 100 || m.Status >= 300 {
		return
	}
	if identity := h.answering(); identity != "" {
		m.Set(sip.PAssertedIdentity, "<"+identity+">")
	}
}

// answering is the called identity if it is registered on the flow, else the flow's default one.
func (h *handler) answering() string {
	u, name := h.edge.users.any(h.toPhone.ID(), h.edge.deps.Now(), canonical(h.called))
	switch {
	case u == nil:
		return ""
	case name != "" && h.called != "":
		return h.called
	}
	return u.identities[0]
}
