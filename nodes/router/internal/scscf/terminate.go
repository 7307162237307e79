package scscf

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/regevent"
)

// terminate serves the called user (TS 24.229 5.4.3.3).
func (h *handler) terminate(ctx context.Context, r *proxy.Request) proxy.Decision {
	m := r.Msg
	called, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
	}
	located, _ := r.Carry.(*hss.LocateResponse)
	key := called.Canonical()
	if tel := "tel:" + called.Number(); located != nil && key != tel && called.IsNumber(false) && h.holds(located, tel) {
		key = tel // the I-CSCF found the number under its tel: form
	}
	u, status, why := h.find(ctx, key, located.GetRegData())
	switch {
	case status != 0:
		return proxy.AnswerReason(r, status, "scscf", why)
	case u.self.Barred:
		return proxy.AnswerReason(r, 404, "scscf", u.self.URI+" is barred")
	case h.deps.Events != nil && regevent.Wants(m):
		return h.deps.Events.Subscribe(ctx, r, u.main.Key, u.profile)
	}
	h.charged = h.inNetwork(m.Get(sip.PChargingVector), "term-ioi", u.self.URI)
	record, err := h.record(ctx, u, m)
	if err != nil {
		return proxy.AnswerReason(r, 500, "store", err.Error())
	}
	h.bindings = callable(record, h.deps.Now())
	c := &chain{user: u, session: ifc.Terminating, registered: len(h.bindings) > 0, asked: called.Canonical()}
	if !c.registered {
		c.session = ifc.TerminatingUnregistered
	}
	if !h.begin(m, c) {
		return proxy.AnswerReason(r, 400, "scscf", "no filter criterion selects the request")
	}
	if startsDialog(m.Method) && h.names.RecordRoutesICSCF() {
		h.recordRoute(m, "charge-none")
	}
	return h.advance(ctx, r, m, c, 0)
}

// toBindings ends a terminating chain at the phones of the called user. They are read again when a server has returned the
// request: it may have taken its time.
func (h *handler) toBindings(ctx context.Context, r *proxy.Request, m *sip.Message, c *chain) proxy.Decision {
	u := c.user
	if m.Has(sip.Route) {
		h.deps.Metrics.preloaded.Inc()
		return proxy.Forward(proxy.Target{Msg: m}) // an application server has loaded a route
	}
	bindings := h.bindings
	if bindings == nil {
		record, err := h.record(ctx, u, m)
		if err != nil {
			return proxy.AnswerReason(r, 500, "store", err.Error())
		}
		bindings = callable(record, h.deps.Now())
	}
	if refusal, ok := h.timeSession(&proxy.Request{Msg: m}); !ok {
		return refusal
	}
	h.aor, h.called, h.charged = u.main.Key, u.profile, h.inNetwork(m.Get(sip.PChargingVector), "term-ioi", u.self.URI)
	if startsDialog(m.Method) {
		h.recordRoute(m, "charge-term")
	}
	m.Set(sip.PCalledPartyID, "<"+u.self.URI+">")
	if d, ok := h.ring(m, bindings); ok {
		return d
	}
	return proxy.AnswerReason(r, 480, "scscf", u.self.URI+" is not registered with a phone that the caller would have")
}

func (h *handler) holds(located *hss.LocateResponse, key string) bool {
	p, err := h.deps.Profiles.Parse(located.GetRegData().GetImsSubscription())
	if err != nil {
		return false
	}
	_, ok := p.Find(key)
	return ok
}
