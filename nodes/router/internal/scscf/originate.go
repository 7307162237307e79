package scscf

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// originate serves the calling user (TS 24.229 5.4.3.2).
func (h *handler) originate(ctx context.Context, r *proxy.Request) proxy.Decision {
	m := r.Msg
	served, err := callingUser(m)
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
	}
	known, status, why := h.autoRegister(ctx, r, served)
	var u user
	if status == 0 {
		u, status, why = h.find(ctx, served.Canonical(), known)
	}
	switch {
	case status != 0:
		return proxy.AnswerReason(r, status, "scscf", why)
	case u.self.Barred:
		return proxy.AnswerReason(r, 403, "scscf", u.self.URI+" is barred")
	}
	if d, ok := h.deps.Registrar.Prove(ctx, r, u.self.Key, u.main.Key); !ok {
		return d
	}
	if refusal, ok := h.timeSession(r); !ok {
		return refusal
	}
	if startsDialog(m.Method) {
		h.recordRoute(m, "charge-orig")
	}
	diverted := servesDiversion(m)
	m.Del(sip.PServedUser)
	h.stampNetwork(m, "orig-ioi", served.String())
	h.assertBoth(m, u.profile)
	c := &chain{user: u, session: ifc.Originating, registered: true}
	if h.hasServices(u) {
		if here, err := h.registered(ctx, u, m); err == nil && !here { // who asked for this case is taken for registered in doubt
			c.session, c.registered = ifc.OriginatingUnregistered, false
		}
	}
	if diverted {
		c.session = ifc.OriginatingCDIV
	}
	if !h.begin(m, c) {
		return proxy.AnswerReason(r, 400, "scscf", "no filter criterion selects the request")
	}
	return h.advance(ctx, r, m, c, 0)
}

// servesDiversion tells a request by which a server makes its user divert (RFC 8498).
func servesDiversion(m *sip.Message) bool {
	a, err := sip.ParseAddress(m.Get(sip.PServedUser))
	if err != nil {
		return false
	}
	_, yes := sip.Param(a.Params, "orig-cdiv")
	return yes
}

// hasServices tells whether criteria can select anything for a user; else nothing depends on the registration.
func (h *handler) hasServices(u user) bool {
	own := u.profile.Criteria(u.self)
	return len(own.Criteria) > 0 || len(own.Shared) > 0 || h.deps.Services().ApplyFallback
}

// callingUser is the one that the request is served for.
func callingUser(m *sip.Message) (sip.URI, error) {
	for _, id := range []sip.ID{sip.PServedUser, sip.PAssertedIdentity} {
		if v := m.Get(id); v != "" {
			return sip.AddressURI(v)
		}
	}
	return sip.AddressURI(m.Get(sip.From))
}

// routeOut sends the request to whom its Request-URI names: a user or number of ours by the I-CSCF, others by the BGCF. A
// number is looked up in ENUM first (TS 24.229 5.4.3.2 step 10).
func (h *handler) routeOut(ctx context.Context, r *proxy.Request, m *sip.Message) proxy.Decision {
	u, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
	}
	if translation, ok, err := h.deps.Numbers.Translate(ctx, u); err != nil {
		h.deps.Log.Warn("a number could not be looked up and is routed as it is", "function", "scscf", "error", err)
	} else if ok {
		u, m.URI = translation, translation.String()
		if rn, _ := enum.Portability(u); rn != "" { // ported to another network
			return proxy.Forward(proxy.Target{Msg: m, Hop: h.names.URI(network.BGCF)})
		}
	}
	next := network.BGCF
	switch u.Scheme {
	case "tel":
		next = network.ICSCF
	case "sip", "sips":
		if h.names.Home(u.Host) {
			next = network.ICSCF
		}
		if _, isGlobal := u.Param("gr"); isGlobal && h.names.Home(u.Host) {
			next = network.ICSCF
		}
	default:
		return proxy.AnswerReason(r, 416, "scscf", "no route for scheme "+u.Scheme)
	}
	if outer := h.names.ExternalICSCF(); next == network.ICSCF && outer != "" {
		m.Push(sip.Route, outer)
		return proxy.Forward(proxy.Target{Msg: m})
	}
	return proxy.Forward(proxy.Target{Msg: m, Hop: h.names.URI(next)})
}
