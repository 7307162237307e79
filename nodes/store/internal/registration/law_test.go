package registration_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/registration"
)

var errDead = errors.New("this process is dead")

// plant is two store nodes over one engine, two routers, and those to whom effects are owed. One process is killed at one step.
type plant struct {
	t      *testing.T
	engine engine.Engine
	aor    string

	mu      sync.Mutex
	steps   int
	killAt  int             // 0: nobody
	dead    map[string]bool // processes
	stop    map[string]context.CancelFunc
	where   string // the step at which one was killed
	told    map[registrations.EffectKind][]string
	stores  map[string]*registration.Service
	changed []func()
}

// step is one thing that a process does; it does not return nil any more once the process is dead.
func (p *plant) step(who, what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps++
	if p.steps == p.killAt && !p.dead[who] {
		p.dead[who] = true
		p.where = fmt.Sprintf("%s: %s", who, what)
		if stop := p.stop[who]; stop != nil {
			stop()
		}
		time.AfterFunc(5*time.Second, func() { // then its lease is over
			p.mu.Lock()
			changed := p.changed
			p.dead["lease of "+who] = true
			p.mu.Unlock()
			for _, f := range changed {
				f()
			}
		})
	}
	if p.dead[who] {
		return errDead
	}
	return nil
}

// access is the engine as one store node has it: it may die before each operation and after it.
type access struct {
	engine.Engine

	plant *plant
	who   string
}

func (a *access) Get(ctx context.Context, table, key string) (engine.Row, error) {
	if err := a.plant.step(a.who, "before reading "+table); err != nil {
		return engine.Row{}, err
	}
	return a.Engine.Get(ctx, table, key)
}

func (a *access) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	if err := a.plant.step(a.who, fmt.Sprintf("before committing %d to %s", len(writes), writes[0].Table)); err != nil {
		return 0, false, err
	}
	version, done, err := a.Engine.Commit(ctx, writes...)
	if dead := a.plant.step(a.who, "after a commit"); dead != nil {
		return 0, false, dead // done, and nobody knows
	}
	return version, done, err
}

// owner gives every shard to the first store node, and to the second when the first one's lease is over.
type owner struct {
	plant *plant
	who   string
}

func (o *owner) Owns(int) (int64, bool) {
	o.plant.mu.Lock()
	defer o.plant.mu.Unlock()
	if o.who == "store-1" {
		return 1, !o.plant.dead["store-1"]
	}
	return 2, o.plant.dead["lease of store-1"]
}

func (o *owner) OnChange(f func()) {
	o.plant.mu.Lock()
	defer o.plant.mu.Unlock()
	o.plant.changed = append(o.plant.changed, f)
}

func (o *owner) Sole() bool { return false }

// anyStore is a store node that lives.
func (p *plant) anyStore() registrations.Service {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.dead["store-1"] {
		return p.stores["store-1"]
	}
	return p.stores["store-2"]
}

// lapse is what a store node asks of a router: the first that lives.
func (p *plant) lapse(from string) func(ctx context.Context, aor string) error {
	return func(ctx context.Context, aor string) error {
		if err := p.step(from, "before asking a router"); err != nil {
			return err
		}
		for _, router := range []string{"router-1", "router-2"} {
			if p.step(router, "before taking a request") == nil {
				return p.route(ctx, router, aor)
			}
		}
		return errors.New("no router answers")
	}
}

// route works a record off as a router does: apply, do what is owed, settle it.
func (p *plant) route(ctx context.Context, router, aor string) error {
	resp, err := p.anyStore().Apply(ctx, &registrations.ApplyRequest{Aor: aor})
	if err != nil {
		return err
	}
	for _, e := range resp.GetRecord().GetOwed() {
		if err := p.step(router, "before telling "+e.GetKind().String()); err != nil {
			return err
		}
		p.mu.Lock()
		p.told[e.GetKind()] = append(p.told[e.GetKind()], e.GetId())
		p.mu.Unlock()
		if err := p.step(router, "after telling "+e.GetKind().String()); err != nil {
			return err
		}
		if err := p.anyStore().Settle(ctx, aor, e.GetId()); err != nil {
			return err
		}
		if err := p.step(router, "after settling "+e.GetKind().String()); err != nil {
			return err
		}
	}
	return nil
}

// expire registers, lets the registration lapse while one process is killed at a step, and returns when all is quiet.
func expire(t *testing.T, killAt int) *plant {
	t.Helper()
	p := &plant{t: t, engine: memory.New(), aor: "sip:a@example.com", dead: map[string]bool{}, stop: map[string]context.CancelFunc{},
		told: map[registrations.EffectKind][]string{}, stores: map[string]*registration.Service{}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, who := range []string{"store-1", "store-2"} {
			s := registration.New(registration.Config{Writer: who, Log: quiet, Owner: &owner{p, who}, Lapse: p.lapse(who)},
				&access{p.engine, p, who}, prometheus.NewRegistry())
			life, stop := context.WithCancel(ctx)
			p.stores[who], p.stop[who] = s, stop
			wg.Go(func() { _ = s.Run(life) })
		}
		request := bind(p.aor, "b", time.Minute)
		request.Announce, request.Associated = p.aor, []string{p.aor}
		request.Subscribe = &registrations.Subscription{Id: "tag", Target: "sip:w@127.0.0.1", ExpiresAt: time.Now().Add(time.Hour).UnixMilli(), Event: "reg"}
		apply(t, p.stores["store-2"], request)
		rec, err := p.stores["store-2"].Get(ctx, p.aor)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range rec.GetOwed() { // the NOTIFY of the subscription itself
			if err := p.stores["store-2"].Settle(ctx, p.aor, e.GetId()); err != nil {
				t.Fatal(err)
			}
		}
		p.mu.Lock()
		p.steps, p.killAt = 0, killAt
		p.mu.Unlock()
		time.Sleep(5 * time.Minute) // fake time
		if rec, err = p.stores["store-2"].Get(ctx, p.aor); err != nil && !p.dead["store-2"] {
			t.Error(err)
		}
		if p.dead["store-2"] {
			if rec, err = p.stores["store-1"].Get(ctx, p.aor); err != nil {
				t.Error(err)
			}
		}
		if len(rec.GetBindings()) > 0 || len(rec.GetOwed()) > 0 {
			t.Errorf("after five minutes the record has %d bindings and owes %v", len(rec.GetBindings()), rec.GetOwed())
		}
		cancel()
		wg.Wait()
	})
	return p
}

// TestEveryOwedEffectArrivesWhoeverDies kills the owner of the shard, the other store node or a router at each step of an expiry,
// one at a time: HSS, application server and subscriber are all told at least once, and repeats carry the same id.
func TestEveryOwedEffectArrivesWhoeverDies(t *testing.T) {
	kinds := []registrations.EffectKind{registrations.EffectKind_EFFECT_HSS_DEREGISTER, registrations.EffectKind_EFFECT_THIRD_PARTY_DEREGISTER, registrations.EffectKind_EFFECT_NOTIFY}
	whole := expire(t, 0)
	for _, kind := range kinds {
		if len(whole.told[kind]) != 1 {
			t.Fatalf("without a fault %s was told %d times", kind, len(whole.told[kind]))
		}
	}
	killed, repeats := map[string]int{}, 0
	for at := 1; at <= whole.steps; at++ {
		p := expire(t, at)
		if p.where != "" {
			killed[p.where]++
		}
		for _, kind := range kinds {
			told := p.told[kind]
			if len(told) == 0 {
				t.Errorf("killed at step %d (%s): %s was never told", at, p.where, kind)
				continue
			}
			for _, id := range told[1:] {
				repeats++
				if id != told[0] {
					t.Errorf("killed at step %d (%s): %s was told as %s and as %s", at, p.where, kind, told[0], id)
				}
			}
		}
	}
	if len(killed) < 12 {
		t.Errorf("only %d different places were tried: %v", len(killed), killed)
	}
	t.Logf("figures: a process killed at each of %d steps of an expiry, %d different places: every effect arrived, %d repeats with the same id", whole.steps, len(killed), repeats)
}
