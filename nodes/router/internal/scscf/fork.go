package scscf

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/preference"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

const (
	// maxForks is how many phones of a user are called.
	maxForks = 10
	// ringing is how long a phone rings before the next one does, where they are called one after the other.
	ringing = 20 * time.Second
)

// fork is a request on its way to the phones of a user.
type fork struct {
	msg     *sip.Message
	waiting []*registrations.Binding            // phones that are called when those before them have failed
	spares  map[string][]*registrations.Binding // further flows of the same phones
	best    *sip.Message                        // of the answers of those that have failed
}

// ring calls those of the bindings that the Request-URI means and the caller prefers (TS 24.229 5.4.3.3 step 10). False
// when none is left.
func (h *handler) ring(m *sip.Message, bindings []*registrations.Binding) (proxy.Decision, bool) {
	f := &fork{msg: m}
	f.waiting, f.spares = flows(preference.Order(m, registrar.OfInstance(m.URI, bindings)))
	if len(f.waiting) == 0 {
		return proxy.Decision{}, false
	}
	f.waiting = f.waiting[:min(len(f.waiting), maxForks)]
	h.fork = f
	now := f.waiting
	switch preference.Disposition(m) {
	case preference.Parallel:
		f.waiting = nil
	case preference.Single:
		now, f.waiting = now[:1], nil
	case preference.Sequential:
		now, f.waiting = now[:1], now[1:]
	}
	targets := make([]proxy.Target, len(now))
	for i, b := range now {
		targets[i] = f.target(b)
	}
	return proxy.Forward(targets...), true
}

func (f *fork) target(b *registrations.Binding) proxy.Target {
	t := proxy.Target{Msg: toBinding(f.msg, b), Tag: b}
	if len(f.waiting) > 0 {
		t.Ring = ringing
	}
	return t
}

// flows leaves one binding of each phone: of several flows of one instance only one is tried at a time (RFC 5626 5.3), the
// one that lasts longest, for it is the newest.
func flows(bindings []*registrations.Binding) (first []*registrations.Binding, spares map[string][]*registrations.Binding) {
	place := map[string]int{}
	for _, b := range bindings {
		instance, _ := sip.Param(b.GetParams(), "+sip.instance")
		if _, flow := sip.Param(b.GetParams(), "reg-id"); instance == "" || !flow {
			first = append(first, b)
			continue
		}
		key := b.GetImpi() + " " + strings.ToLower(instance)
		at, known := place[key]
		if !known {
			place[key] = len(first)
			first = append(first, b)
			continue
		}
		if spares == nil {
			spares = map[string][]*registrations.Binding{}
		}
		spares[first[at].GetId()] = append(spares[first[at].GetId()], b)
	}
	return first, spares
}

// answeredBy takes the final answer of a phone: a dead flow loses its binding (RFC 5626 5.3, 11.5), and where phones are
// called one after the other the next has its turn.
func (h *handler) answeredBy(r *proxy.Reply, b *registrations.Binding) proxy.Verdict {
	f := h.fork
	if r.Msg.Status == 430 {
		id := b.GetId()
		h.deps.Background(5*time.Second, func(ctx context.Context) { h.dropBinding(ctx, id) })
		r.Msg.Status, r.Msg.Reason = 480, sip.StatusText(480) // 430 means the caller's own flow
		if spares := f.spares[id]; len(spares) > 0 {
			f.spares[spares[0].GetId()] = spares[1:]
			return proxy.Instead(proxy.Forward(f.target(spares[0])))
		}
	}
	if r.Msg.Status < 300 || r.Msg.Status >= 600 {
		return proxy.Verdict{}
	}
	if len(f.waiting) > 0 {
		f.best = proxy.Better(f.best, r.Msg)
		next := f.waiting[0]
		f.waiting = f.waiting[1:]
		return proxy.Instead(proxy.Forward(f.target(next)))
	}
	if f.best != nil {
		r.Msg = proxy.Better(f.best, r.Msg)
	}
	return proxy.Verdict{}
}

// callable are the bindings that a user can be reached at.
func callable(record *registrations.Record, now time.Time) []*registrations.Binding {
	return slices.DeleteFunc(slices.Clone(record.GetBindings()), func(b *registrations.Binding) bool {
		return b.GetExpiresAt() <= now.UnixMilli() || b.GetEmergency()
	})
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

// dropBinding removes a binding whose flow is gone.
func (h *handler) dropBinding(ctx context.Context, id string) {
	result, err := h.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: h.aor, Remove: []string{id}, RemoveReason: registrations.ReasonTimeout})
	if err != nil {
		h.deps.Log.Info("removing a binding whose flow is gone; it lapses by itself", "aor", h.aor, "error", err)
		return
	}
	h.deps.Registrar.Settle(result.GetRecord())
}
