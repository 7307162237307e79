package registrationstest

import (
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

func (s Subject) registering(id string, lasts time.Duration) *registrations.ApplyRequest {
	return &registrations.ApplyRequest{Bindings: []*registrations.Binding{{Id: id, Uri: "sip:" + id, Impi: impi, ExpiresAt: s.Now().Add(lasts).UnixMilli()}}}
}

// watched: subscriptions are kept, each change owes a NOTIFY until it is settled, and they end in time.
func watched(t *testing.T, s Subject) {
	s.apply(t, s.registering("one", time.Hour))
	s.apply(t, &registrations.ApplyRequest{Subscribe: &registrations.Subscription{Id: "s", Cseq: 1, ExpiresAt: s.Now().Add(time.Minute).UnixMilli()}})
	s.apply(t, s.registering("two", time.Hour))
	rec, err := s.Service.Get(t.Context(), aor)
	if err != nil || len(rec.GetSubscriptions()) != 1 || len(rec.GetOwed()) != 2 {
		t.Fatalf("%v, %v", rec, err)
	}
	for version, e := range rec.GetOwed() {
		if e.GetKind() != registrations.EffectKind_EFFECT_NOTIFY || int(e.GetSubscription().GetNotified()) != version || len(e.GetContacts()) != version+1 {
			t.Errorf("effect %v", e)
		}
		if err := s.Service.Settle(t.Context(), aor, e.GetId()); err != nil {
			t.Error(err)
		}
	}
	if late := s.apply(t, &registrations.ApplyRequest{Subscribe: &registrations.Subscription{Id: "s", Cseq: 1, ExpiresAt: s.Now().Add(time.Hour).UnixMilli()}}); late.GetOutcome() != registrations.OutcomeOutOfOrder {
		t.Errorf("an old SUBSCRIBE: %v", late.GetOutcome())
	}
	s.Advance(time.Minute)
	resp := s.apply(t, &registrations.ApplyRequest{})
	if owed := resp.GetRecord().GetOwed(); len(owed) != 1 || owed[0].GetSubscription().GetEnded() != registrations.EndedTimeout || len(resp.GetRecord().GetSubscriptions()) != 0 {
		t.Errorf("%v", resp.GetRecord())
	}
}

// announced: application servers that heard of a registration are owed its end.
func announced(t *testing.T, s Subject) {
	req := s.registering("one", time.Minute)
	req.Announce = aor
	s.apply(t, req)
	s.Advance(time.Minute)
	resp := s.apply(t, &registrations.ApplyRequest{})
	kinds := map[registrations.EffectKind]int{}
	for _, e := range resp.GetRecord().GetOwed() {
		kinds[e.GetKind()]++
	}
	if kinds[registrations.EffectKind_EFFECT_THIRD_PARTY_DEREGISTER] != 1 || kinds[registrations.EffectKind_EFFECT_HSS_DEREGISTER] != 1 {
		t.Errorf("owed is %v", resp.GetRecord().GetOwed())
	}
	if again := s.apply(t, s.registering("one", time.Minute)); len(again.GetRecord().GetOwed()) != 0 || len(again.GetRecord().GetAnnounced()) != 1 {
		t.Errorf("after it came back: %v", again.GetRecord())
	}
}

// withdrawn: after a deregistration by the network no old challenge is good for anything.
func withdrawn(t *testing.T, s Subject) {
	use := func(nc uint32) *registrations.ApplyRequest {
		req := s.registering("one", time.Minute)
		req.Nonce = &registrations.NonceUse{Id: []byte("n"), Nc: nc, Counting: true, ExpiresAt: s.Now().Add(time.Hour).UnixMilli()}
		return req
	}
	s.apply(t, use(1))
	s.apply(t, use(2))
	s.apply(t, &registrations.ApplyRequest{RemoveAll: true, RemoveReason: registrations.ReasonUser})
	if resp := s.apply(t, use(3)); resp.GetOutcome() != registrations.OutcomeDone {
		t.Errorf("after the user's own deregistration: %v", resp.GetOutcome())
	}
	s.apply(t, &registrations.ApplyRequest{RemoveAll: true, RemoveReason: registrations.ReasonAdmin})
	if resp := s.apply(t, use(4)); resp.GetOutcome() != registrations.OutcomeNonceUsed {
		t.Errorf("after the network's: %v", resp.GetOutcome())
	}
}
