package scscf

import (
	"context"

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
	u, status, why := h.find(ctx, served.Canonical(), nil)
	switch {
	case status == 404:
		return proxy.AnswerReason(r, 404, "scscf", why)
	case status != 0:
		return proxy.AnswerReason(r, status, "scscf", why)
	case u.self.Barred:
		return proxy.AnswerReason(r, 403, "scscf", u.self.URI+" is barred")
	}
	if startsDialog(m.Method) {
		h.recordRoute(m, "charge-orig")
		if h.names.RecordRoutesICSCF() {
			h.recordRoute(m, "charge-none")
		}
	}
	m.Del(sip.PServedUser)
	h.stampNetwork(m, served)
	if m.Has(sip.Route) {
		return proxy.Forward(proxy.Target{Msg: m}) // an application server has loaded a route
	}
	return h.routeOut(r, m)
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

// stampNetwork names the originating network in P-Charging-Vector (RFC 7315 5.6).
func (h *handler) stampNetwork(m *sip.Message, served sip.URI) {
	vector := m.Get(sip.PChargingVector)
	if vector == "" {
		return
	}
	ioi := served.Host
	if ioi == "" {
		ioi = h.names.HomeDomain()
	}
	m.Set(sip.PChargingVector, sip.SetParam(";"+vector, "orig-ioi", ioi)[1:])
}

// routeOut sends the request to whom its Request-URI names: a user or number of ours by the I-CSCF, others by the BGCF.
func (h *handler) routeOut(r *proxy.Request, m *sip.Message) proxy.Decision {
	u, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
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
	return proxy.Forward(proxy.Target{Msg: m, Hop: h.names.URI(next)})
}
