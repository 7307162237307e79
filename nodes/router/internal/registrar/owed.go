package registrar

import (
	"context"
	"fmt"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

func newTag() string { return transaction.NewTag() }

// Expire drops what has lapsed from a set and tells others what they are owed. The store asks for it and asks again
// until nothing is owed, so every step may be repeated.
func (r *Registrar) Expire(ctx context.Context, aor string) error {
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: aor})
	if err != nil {
		return fmt.Errorf("expiring bindings of %s: %w", aor, err)
	}
	if len(result.GetLapsed()) > 0 {
		r.deps.Metrics.registration("expired", 0)
	}
	return r.settle(ctx, result.GetRecord())
}

// Deregister removes bindings on behalf of the network: all of a set, or those of one private identity. With tell the
// HSS hears of it; without, it was the HSS that asked.
func (r *Registrar) Deregister(ctx context.Context, aor, impi string, tell bool) (*registrations.ApplyResponse, error) {
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{
		Aor: aor, RemoveAll: true, OnlyImpi: impi, RemoveReason: registrations.ReasonAdmin,
	})
	if err != nil {
		return nil, fmt.Errorf("deregistering %s: %w", aor, err)
	}
	r.deps.Metrics.registration("network-deregister", 0)
	if tell {
		return result, r.settle(ctx, result.GetRecord())
	}
	ids := make([]string, 0, len(result.GetRecord().GetOwed()))
	for _, e := range result.GetRecord().GetOwed() {
		if e.GetKind() == registrations.EffectKind_EFFECT_HSS_DEREGISTER {
			ids = append(ids, e.GetId())
		}
	}
	if len(ids) == 0 {
		return result, nil
	}
	return result, r.deps.Store.Settle(ctx, aor, ids...)
}

// settle works off what a record owes, and notes what is done.
func (r *Registrar) settle(ctx context.Context, record *registrations.Record) error {
	var done []string
	var failed error
	for _, e := range record.GetOwed() {
		if e.GetKind() != registrations.EffectKind_EFFECT_HSS_DEREGISTER {
			continue // no other kind is written yet; a newer node's is left for it
		}
		answer, err := r.deps.HSS.Assign(ctx, &hss.AssignRequest{
			Impi: e.GetImpi(), Impu: e.GetImpu(), Reqtype: e.GetReason(), ServerName: record.GetServerName(), EffectId: e.GetId(),
		})
		if err == nil && (answer.GetResult() == hss.Result_RESULT_UNAVAILABLE || answer.GetResult() == hss.Result_RESULT_TIMEOUT) {
			err = fmt.Errorf("hss: %s", answer.GetDetail())
		}
		if err != nil {
			failed = fmt.Errorf("telling the HSS of the end of %s: %w", record.GetAor(), err)
			continue
		}
		done = append(done, e.GetId()) // a refusal is final too: the HSS does not hold the registration
	}
	if len(done) > 0 {
		if err := r.deps.Store.Settle(ctx, record.GetAor(), done...); err != nil {
			return fmt.Errorf("noting what %s no longer owes: %w", record.GetAor(), err)
		}
	}
	return failed
}

// settleLater is settle in the background of an answered REGISTER.
func (r *Registrar) settleLater(record *registrations.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.settle(ctx, record); err != nil {
		r.deps.Log.Info("working off what a registration owes; the store will ask again", "error", err)
	}
}
