// Package registrationstest is the suite that every implementation of the registration service passes: the
// in-memory double, the store, and the client in front of either. It holds no implementation of its own.
package registrationstest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// Subject is an implementation under test with its clock.
type Subject struct {
	Service registrations.Service
	Now     func() time.Time
	Advance func(time.Duration)
}

// Run tests the implementations that open returns; each case gets a fresh one.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Subject){
		"unknown set is empty":                 unknown,
		"bindings come, stay and go":           lifecycle,
		"lapse owes a deregistration":          lapse,
		"settled effects go":                   settle,
		"new registration cancels owed effect": cancelled,
		"nonce is used once":                   nonceOnce,
		"nonce count rises":                    nonceCount,
		"older CSeq is refused":                order,
		"invalid request":                      invalid,
		"subscribers are owed changes":         watched,
		"servers are owed the end":             announced,
		"the network ends challenges":          withdrawn,
		"no update is lost":                    concurrent,
		"one of many uses a nonce":             nonceRace,
	} {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			test(t, open(t))
		})
	}
}

const (
	aor  = "sip:alice@example.com"
	impi = "alice@example.com"
)

func (s Subject) apply(t *testing.T, req *registrations.ApplyRequest) *registrations.ApplyResponse {
	t.Helper()
	if req.Aor == "" {
		req.Aor = aor
	}
	resp, err := s.Service.Apply(t.Context(), req)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return resp
}

func (s Subject) get(t *testing.T) *registrations.Record {
	t.Helper()
	rec, err := s.Service.Get(t.Context(), aor)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	return rec
}

func (s Subject) binding(id string, life time.Duration) *registrations.Binding {
	return &registrations.Binding{
		Id: id, Uri: "sip:alice@127.20.0.1:5060", Impi: impi, CallId: "c1", Cseq: 1,
		ExpiresAt: s.Now().Add(life).UnixMilli(), Path: []string{"<sip:token@edge-1.site1.example.com;lr>"},
	}
}

func add(bs ...*registrations.Binding) *registrations.ApplyRequest {
	return &registrations.ApplyRequest{Impi: impi, Bindings: bs}
}

func ids(rec *registrations.Record) []string {
	var out []string
	for _, b := range rec.GetBindings() {
		out = append(out, b.GetId())
	}
	return out
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func unknown(t *testing.T, s Subject) {
	rec := s.get(t)
	if rec.GetAor() != aor || len(rec.GetBindings()) > 0 {
		t.Errorf("record of an unknown set: %v", rec)
	}
	if resp := s.apply(t, &registrations.ApplyRequest{}); resp.GetOutcome() != registrations.OutcomeDone || resp.GetWasRegistered() {
		t.Errorf("fetch of an unknown set: %v", resp)
	}
	if err := s.Service.Settle(t.Context(), aor, "none"); err != nil {
		t.Errorf("settling what is not owed: %v", err)
	}
}

func lifecycle(t *testing.T, s Subject) {
	start := s.Now().UnixMilli()
	req := add(s.binding("b", time.Minute))
	req.Associated, req.ServerName = []string{aor, "tel:+15550100"}, "sip:scscf.example.com:5054"
	first := s.apply(t, req)
	equal(t, "created", first.GetCreated(), []string{"b"})
	if first.GetWasRegistered() || first.GetOtherBindings() {
		t.Errorf("first registration: %v", first)
	}
	s.Advance(time.Second)
	second := s.apply(t, add(s.binding("b", time.Minute), s.binding("a", time.Minute)))
	equal(t, "created", second.GetCreated(), []string{"a"})
	equal(t, "refreshed", second.GetRefreshed(), []string{"b"})
	if !second.GetWasRegistered() {
		t.Error("not registered before the second one")
	}
	rec := s.get(t)
	equal(t, "bindings", ids(rec), []string{"a", "b"})
	equal(t, "associated", rec.GetAssociated(), []string{aor, "tel:+15550100"})
	if got := rec.GetBindings()[1].GetRegisteredAt(); got != start {
		t.Errorf("registered_at of b moved from %d to %d", start, got)
	}
	if rec.GetServerName() != "sip:scscf.example.com:5054" || rec.GetAssignedAt() != start {
		t.Errorf("server %q assigned at %d", rec.GetServerName(), rec.GetAssignedAt())
	}
	third := s.apply(t, &registrations.ApplyRequest{Impi: "bob@example.com", Remove: []string{"a"}})
	equal(t, "removed", third.GetRemoved(), []string{"a"})
	if !third.GetOtherBindings() || len(third.GetRecord().GetOwed()) > 0 {
		t.Errorf("one of two removed: %v", third)
	}
	last := s.apply(t, &registrations.ApplyRequest{Impi: impi, RemoveAll: true, RemoveReason: registrations.ReasonAdmin})
	equal(t, "removed", last.GetRemoved(), []string{"b"})
	owes(t, last.GetRecord(), registrations.ReasonAdmin)
}

func owes(t *testing.T, rec *registrations.Record, reason string) *registrations.Effect {
	t.Helper()
	if len(rec.GetOwed()) != 1 {
		t.Fatalf("owed: %v, want one deregistration", rec.GetOwed())
	}
	e := rec.GetOwed()[0]
	if e.GetKind() != registrations.EffectKind_EFFECT_HSS_DEREGISTER || e.GetReason() != reason || e.GetImpi() != impi || e.GetImpu() != aor || e.GetId() == "" {
		t.Fatalf("owed: %v, want %s", e, reason)
	}
	return e
}

func lapse(t *testing.T, s Subject) {
	s.apply(t, add(s.binding("a", 10*time.Second), s.binding("b", 20*time.Second)))
	s.Advance(10 * time.Second)
	equal(t, "bindings after the first lapse", ids(s.get(t)), []string{"b"})
	resp := s.apply(t, &registrations.ApplyRequest{})
	equal(t, "lapsed", resp.GetLapsed(), []string{"a"})
	if len(resp.GetRecord().GetOwed()) > 0 || !resp.GetWasRegistered() {
		t.Errorf("one of two lapsed: %v", resp)
	}
	s.Advance(10 * time.Second)
	resp = s.apply(t, &registrations.ApplyRequest{})
	equal(t, "lapsed", resp.GetLapsed(), []string{"b"})
	if resp.GetWasRegistered() {
		t.Error("a set whose last binding has lapsed is not registered")
	}
	id := owes(t, resp.GetRecord(), registrations.ReasonTimeout).GetId()
	again := s.apply(t, &registrations.ApplyRequest{})
	if got := owes(t, again.GetRecord(), registrations.ReasonTimeout).GetId(); got != id {
		t.Errorf("the owed effect changed its id from %s to %s", id, got)
	}
}

func settle(t *testing.T, s Subject) {
	s.apply(t, add(s.binding("a", time.Minute)))
	s.apply(t, &registrations.ApplyRequest{Impi: impi, Remove: []string{"a"}})
	e := owes(t, s.get(t), registrations.ReasonUser)
	for range 2 {
		if err := s.Service.Settle(t.Context(), aor, e.GetId()); err != nil {
			t.Fatalf("Settle: %v", err)
		}
		if rec := s.get(t); len(rec.GetOwed()) > 0 {
			t.Fatalf("still owed: %v", rec.GetOwed())
		}
	}
}

func cancelled(t *testing.T, s Subject) {
	s.apply(t, add(s.binding("a", time.Minute)))
	s.apply(t, &registrations.ApplyRequest{Impi: impi, Remove: []string{"a"}})
	owes(t, s.get(t), registrations.ReasonUser)
	other := s.binding("o", time.Minute)
	other.Impi = "other@example.com"
	s.apply(t, add(other))
	owes(t, s.get(t), registrations.ReasonUser)
	resp := s.apply(t, add(s.binding("a", time.Minute)))
	if len(resp.GetRecord().GetOwed()) > 0 || len(s.get(t).GetOwed()) > 0 {
		t.Errorf("owed after the registration came back: %v", resp.GetRecord().GetOwed())
	}
}

func (s Subject) nonce(id string, nc uint32, counting bool) *registrations.NonceUse {
	return &registrations.NonceUse{Id: []byte(id), Nc: nc, Counting: counting, ExpiresAt: s.Now().Add(30 * time.Second).UnixMilli()}
}

func (s Subject) withNonce(t *testing.T, n *registrations.NonceUse) registrations.Outcome {
	t.Helper()
	req := add(s.binding("a", time.Hour))
	req.Nonce = n
	return s.apply(t, req).GetOutcome()
}

func nonceOnce(t *testing.T, s Subject) {
	n := s.nonce("n1", 1, false)
	if got := s.withNonce(t, n); got != registrations.OutcomeDone {
		t.Fatalf("first use: %v", got)
	}
	before := s.get(t)
	s.Advance(time.Second)
	if got := s.withNonce(t, n); got != registrations.OutcomeNonceUsed {
		t.Errorf("second use: %v", got)
	}
	if after := s.get(t); after.GetBindings()[0].GetExpiresAt() != before.GetBindings()[0].GetExpiresAt() {
		t.Error("a refused use changed the record")
	}
	if got := s.withNonce(t, s.nonce("n2", 1, false)); got != registrations.OutcomeDone {
		t.Errorf("another nonce: %v", got)
	}
	s.Advance(time.Hour)
	if got := s.withNonce(t, n); got != registrations.OutcomeNonceUsed {
		t.Errorf("use of a nonce that has run out: %v", got)
	}
}

func nonceCount(t *testing.T, s Subject) {
	for _, step := range []struct {
		nc   uint32
		want registrations.Outcome
	}{
		{1, registrations.OutcomeDone},
		{1, registrations.OutcomeNonceUsed},
		{3, registrations.OutcomeDone},
		{2, registrations.OutcomeNonceUsed},
		{4, registrations.OutcomeDone},
	} {
		if got := s.withNonce(t, s.nonce("n", step.nc, true)); got != step.want {
			t.Errorf("nc %d: %v, want %v", step.nc, got, step.want)
		}
	}
	if got := len(s.get(t).GetNonces()); got != 1 {
		t.Errorf("%d nonces kept, want 1", got)
	}
}

func order(t *testing.T, s Subject) {
	register := func(callID string, cseq uint32) registrations.Outcome {
		b := s.binding("a", time.Minute)
		b.CallId, b.Cseq = callID, cseq
		req := add(b)
		req.CallId, req.Cseq = callID, cseq
		return s.apply(t, req).GetOutcome()
	}
	for _, step := range []struct {
		callID string
		cseq   uint32
		want   registrations.Outcome
	}{
		{"c1", 5, registrations.OutcomeDone},
		{"c1", 5, registrations.OutcomeOutOfOrder},
		{"c1", 4, registrations.OutcomeOutOfOrder},
		{"c1", 6, registrations.OutcomeDone},
		{"c2", 1, registrations.OutcomeDone},
		{"c1", 6, registrations.OutcomeDone},
	} {
		if got := register(step.callID, step.cseq); got != step.want {
			t.Errorf("%s CSeq %d: %v, want %v", step.callID, step.cseq, got, step.want)
		}
	}
	stale := &registrations.ApplyRequest{Impi: impi, RemoveAll: true, CallId: "c1", Cseq: 6}
	if got := s.apply(t, stale).GetOutcome(); got != registrations.OutcomeOutOfOrder {
		t.Errorf("removal with an old CSeq: %v", got)
	}
	equal(t, "bindings", ids(s.get(t)), []string{"a"})
}

func invalid(t *testing.T, s Subject) {
	for name, req := range map[string]*registrations.ApplyRequest{
		"no aor":        {},
		"no binding id": {Aor: aor, Bindings: []*registrations.Binding{{}}},
		"same id twice": {Aor: aor, Bindings: []*registrations.Binding{{Id: "a"}, {Id: "a"}}},
		"empty nonce":   {Aor: aor, Nonce: &registrations.NonceUse{}},
	} {
		if _, err := s.Service.Apply(t.Context(), req); !errors.Is(err, registrations.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
}

func concurrent(t *testing.T, s Subject) {
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				req := add(s.binding(fmt.Sprintf("w%d-%d", w, i), time.Minute))
				req.Aor = aor
				if _, err := s.Service.Apply(t.Context(), req); err != nil {
					t.Errorf("Apply: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(s.get(t).GetBindings()); got != writers*each {
		t.Errorf("%d bindings, want %d", got, writers*each)
	}
}

func nonceRace(t *testing.T, s Subject) {
	const writers = 16
	outcomes := make([]registrations.Outcome, writers)
	n := s.nonce("n", 1, true)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			req := add(s.binding(fmt.Sprintf("w%d", w), time.Minute))
			req.Aor, req.Nonce = aor, n
			resp, err := s.Service.Apply(t.Context(), req)
			if err != nil {
				t.Errorf("Apply: %v", err)
			}
			outcomes[w] = resp.GetOutcome()
		})
	}
	wg.Wait()
	done := 0
	for _, o := range outcomes {
		if o == registrations.OutcomeDone {
			done++
		}
	}
	if done != 1 || len(s.get(t).GetBindings()) != 1 {
		t.Errorf("%d of %d uses of one nonce succeeded", done, writers)
	}
}
