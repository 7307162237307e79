package scscf

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/regevent"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

// maxForks is how many bindings of a user are called at once.
const maxForks = 10

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
	bindings = registrar.OfInstance(m.URI, bindings)
	if len(bindings) == 0 {
		return proxy.AnswerReason(r, 480, "scscf", u.self.URI+" is not registered")
	}
	h.aor, h.called = u.main.Key, u.profile
	if startsDialog(m.Method) {
		h.recordRoute(m, "charge-term")
	}
	m.Set(sip.PCalledPartyID, "<"+u.self.URI+">")
	targets := make([]proxy.Target, len(bindings))
	for i, b := range bindings {
		targets[i] = proxy.Target{Msg: toBinding(m, b), Tag: b.GetId()}
	}
	return proxy.Forward(targets...)
}

func (h *handler) holds(located *hss.LocateResponse, key string) bool {
	p, err := h.deps.Profiles.Parse(located.GetRegData().GetImsSubscription())
	if err != nil {
		return false
	}
	_, ok := p.Find(key)
	return ok
}

// callable are the bindings to ring: the best by q, then the latest to expire, at most maxForks.
func callable(record *registrations.Record, now time.Time) []*registrations.Binding {
	var out []*registrations.Binding
	for _, b := range record.GetBindings() {
		if b.GetExpiresAt() > now.UnixMilli() && !b.GetEmergency() {
			out = append(out, b)
		}
	}
	if len(out) > maxForks {
		slices.SortStableFunc(out, func(a, b *registrations.Binding) int {
			return cmp.Or(cmp.Compare(b.GetQ(), a.GetQ()), cmp.Compare(b.GetExpiresAt(), a.GetExpiresAt()))
		})
		out = out[:maxForks]
	}
	return out
}

// toBinding addresses a copy of the request to one binding through its Path (RFC 3327 5.4).
func toBinding(m *sip.Message, b *registrations.Binding) *sip.Message {
	c := m.Clone()
	c.URI = b.GetUri()
	for i := len(b.GetPath()) - 1; i >= 0; i-- {
		c.Push(sip.Route, b.GetPath()[i])
	}
	return c
}

// dropBinding removes a binding whose flow is gone (RFC 5626 5.3, 11.5).
func (h *handler) dropBinding(ctx context.Context, id string) {
	result, err := h.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: h.aor, Remove: []string{id}, RemoveReason: registrations.ReasonTimeout})
	if err != nil {
		h.deps.Log.Info("removing a binding whose flow is gone; it lapses by itself", "aor", h.aor, "error", err)
		return
	}
	h.deps.Registrar.Settle(result.GetRecord())
}
