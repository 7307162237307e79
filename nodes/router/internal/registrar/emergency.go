package registrar

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// EmergencyRecord is where the emergency registrations of a set are kept: a record of their own, for nothing that a
// registration means for others holds for them (TS 24.229 5.4.8.2). The HSS, application servers and subscribers hear
// nothing of them, a deregistration leaves them alone, and each lasts until it lapses.
func EmergencyRecord(aor string) string { return "sos:" + aor }

// bindEmergency stores an emergency registration. It is authenticated as any other is, but a set whose identities are
// all barred may have one too.
func (r *Registrar) bindEmergency(ctx context.Context, a *attempt, profile *subscriber.Profile, c contacts) proxy.Decision {
	for _, b := range c.add {
		if !b.GetEmergency() {
			return proxy.AnswerReason(a.req, 400, "registrar", "an emergency registration has no other contacts")
		}
		b.Impu = a.impu
	}
	if len(c.add) == 0 { // TS 24.229 5.4.8.3
		return proxy.AnswerReason(a.req, 501, "registrar", "an emergency registration ends by itself")
	}
	aor := a.impu
	if main, ok := profile.Default(); ok {
		aor = main.Key
	}
	// The nonce is used up where every REGISTER of the set uses up its own, so that it cannot serve for both kinds.
	if a.nonce != nil {
		used, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: aor, Nonce: a.nonce})
		if err != nil {
			return r.notStored(a, aor, err)
		}
		if used.GetOutcome() == registrations.OutcomeNonceUsed {
			r.deps.Metrics.challenge("stale")
			return r.challenge(a, true)
		}
	}
	number, _ := a.m.CSeq()
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{
		Aor: EmergencyRecord(aor), Impi: a.impi, Bindings: c.add, Associated: profile.Unbarred(), CallId: a.m.CallID(), Cseq: number,
	})
	switch {
	case err != nil:
		return r.notStored(a, EmergencyRecord(aor), err)
	case result.GetOutcome() == registrations.OutcomeOutOfOrder:
		return proxy.AnswerReason(a.req, 500, "registrar", "an older REGISTER than the one that is stored (RFC 3261 10.3)")
	}
	r.deps.Metrics.registration("emergency", 200)
	return proxy.AnswerWith(r.accepted(a, profile, result.GetRecord(), r.deps.Now()))
}

func (r *Registrar) notStored(a *attempt, aor string, err error) proxy.Decision {
	r.deps.Log.Error("storing registration", "aor", aor, "call_id", a.m.CallID(), "error", err)
	return proxy.AnswerReason(a.req, 500, "store", reason(err))
}
