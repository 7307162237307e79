package registrar

import (
	"context"
	"fmt"
	"sync"
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
	return r.settle(ctx, result.GetRecord(), nil)
}

// Deregister removes bindings on behalf of the network: all of a set, or those of one private identity. With tell the
// HSS hears of it; without, it was the HSS that asked.
func (r *Registrar) Deregister(ctx context.Context, aor, impi string, tell bool) (*registrations.ApplyResponse, error) {
	return r.remove(ctx, &registrations.ApplyRequest{Aor: aor, OnlyImpi: impi}, tell)
}

// DeregisterSilently is Deregister on behalf of the HSS without a word to subscribers.
func (r *Registrar) DeregisterSilently(ctx context.Context, aor, impi string) (*registrations.ApplyResponse, error) {
	return r.remove(ctx, &registrations.ApplyRequest{Aor: aor, OnlyImpi: impi, Silent: true}, false)
}

func (r *Registrar) remove(ctx context.Context, req *registrations.ApplyRequest, tell bool) (*registrations.ApplyResponse, error) {
	req.RemoveAll, req.RemoveReason = true, registrations.ReasonAdmin
	result, err := r.deps.Store.Apply(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("deregistering %s: %w", req.GetAor(), err)
	}
	r.deps.Metrics.registration("network-deregister", 0)
	if impi := req.GetOnlyImpi(); impi != "" && r.deps.Challenges != nil {
		if err := r.changeChallenges(ctx, impi, forget); err != nil {
			return result, fmt.Errorf("forgetting the challenges of %s: %w", impi, err)
		}
	}
	if tell {
		return result, r.settle(ctx, result.GetRecord(), nil)
	}
	ids := make([]string, 0, len(result.GetRecord().GetOwed()))
	for _, e := range result.GetRecord().GetOwed() {
		if e.GetKind() == registrations.EffectKind_EFFECT_HSS_DEREGISTER {
			ids = append(ids, e.GetId())
		}
	}
	if len(ids) == 0 && len(result.GetRecord().GetOwed()) == 0 {
		return result, nil
	}
	if len(ids) > 0 {
		if err := r.deps.Store.Settle(ctx, req.GetAor(), ids...); err != nil {
			return result, err
		}
	}
	if rest := registrations.Settled(result.GetRecord(), ids...); len(rest.GetOwed()) > 0 {
		r.Settle(rest)
	}
	return result, nil
}

// Refresh takes a changed profile of a set (profile push): the identities that the user may use.
func (r *Registrar) Refresh(ctx context.Context, aor string, identities []string) error {
	record, err := r.deps.Store.Get(ctx, aor)
	if err != nil {
		return fmt.Errorf("reading the registration of %s: %w", aor, err)
	}
	if len(record.GetBindings()) == 0 {
		return nil // who registers next gets the new profile
	}
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: aor, Associated: identities})
	if err != nil {
		return fmt.Errorf("changing the identities of %s: %w", aor, err)
	}
	r.Settle(result.GetRecord())
	return nil
}

// Settle works off what a record owes, in the background.
func (r *Registrar) Settle(record *registrations.Record) {
	if len(record.GetOwed()) > 0 {
		r.deps.Background(settling, func(ctx context.Context) { r.settleLater(ctx, record, nil) })
	}
}

// settle works off what a record owes, and notes what is done. last is the REGISTER that the debts are from, nil when it
// is not known.
func (r *Registrar) settle(ctx context.Context, record *registrations.Record, last *Event) error {
	var (
		wait          sync.WaitGroup
		mu            sync.Mutex
		claimed, done []string
		failed        error
	)
	defer func() { r.pending.release(claimed) }() // once it is noted what is done
	for _, list := range independent(record.GetOwed()) {
		wait.Go(func() {
			for _, e := range list {
				if !r.pending.claim(e.GetId()) {
					continue // another call is at it
				}
				err := r.pay(ctx, record, e, last)
				mu.Lock()
				claimed = append(claimed, e.GetId())
				if err != nil {
					failed = err
				} else {
					done = append(done, e.GetId())
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	if len(done) > 0 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.deps.Store.Settle(ctx, record.GetAor(), done...); err != nil {
			return fmt.Errorf("noting what %s no longer owes: %w", record.GetAor(), err)
		}
	}
	return failed
}

// independent sorts effects into lists of those whose order matters: NOTIFYs of one subscription.
func independent(owed []*registrations.Effect) [][]*registrations.Effect {
	var out [][]*registrations.Effect
	place := map[string]int{}
	for _, e := range owed {
		switch e.GetKind() {
		case registrations.EffectKind_EFFECT_HSS_DEREGISTER, registrations.EffectKind_EFFECT_THIRD_PARTY_DEREGISTER:
		case registrations.EffectKind_EFFECT_NOTIFY:
			if i, ok := place[e.GetSubscription().GetId()]; ok {
				out[i] = append(out[i], e)
				continue
			}
			place[e.GetSubscription().GetId()] = len(out)
		default:
			continue // a newer node's is left for it
		}
		out = append(out, []*registrations.Effect{e})
	}
	return out
}

// pay does one effect.
func (r *Registrar) pay(ctx context.Context, record *registrations.Record, e *registrations.Effect, last *Event) error {
	switch e.GetKind() {
	case registrations.EffectKind_EFFECT_HSS_DEREGISTER:
		return r.tellHSS(ctx, record, e)
	case registrations.EffectKind_EFFECT_THIRD_PARTY_DEREGISTER:
		return r.tellEnd(ctx, e, last)
	default:
		if r.deps.Watchers == nil {
			return nil
		}
		return r.deps.Watchers.Notify(ctx, record.GetAor(), e)
	}
}

func (r *Registrar) tellHSS(ctx context.Context, record *registrations.Record, e *registrations.Effect) error {
	answer, err := r.deps.HSS.Assign(ctx, &hss.AssignRequest{
		Impi: e.GetImpi(), Impu: e.GetImpu(), Reqtype: e.GetReason(), ServerName: record.GetServerName(), EffectId: e.GetId(),
	})
	if err == nil && (answer.GetResult() == hss.Result_RESULT_UNAVAILABLE || answer.GetResult() == hss.Result_RESULT_TIMEOUT) {
		err = fmt.Errorf("hss: %s", answer.GetDetail())
	}
	if err != nil {
		return fmt.Errorf("telling the HSS of the end of %s: %w", record.GetAor(), err)
	}
	return nil // a refusal is final too: the HSS does not hold the registration
}

// settling is how long paying what a record owes may take.
const settling = 10 * time.Second

// settleLater is settle in the background of an answered request.
func (r *Registrar) settleLater(ctx context.Context, record *registrations.Record, last *Event) {
	if err := r.settle(ctx, record, last); err != nil {
		r.deps.Log.Info("working off what a registration owes; the store will ask again", "error", err)
	}
}
