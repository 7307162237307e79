package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// router is a router as the store sees it: a client that finds any store node.
func (s *siteLab) router(name string) *registrations.Client {
	s.t.Helper()
	l := s.any()
	c := rpc.NewClient(rpc.ClientConfig{
		Name: "store", TLS: l.client(s.site, pki.Subject{Name: name, Role: "router"}), Timeout: 2 * time.Second,
		Resolve: func(context.Context) ([]netip.AddrPort, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			var out []netip.AddrPort
			for _, l := range s.nodes {
				out = append(out, netip.AddrPortFrom(netip.MustParseAddr(l.address), config.PortStoreRPC))
			}
			return out, nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	s.t.Cleanup(func() {
		cancel()
		<-done
	})
	return registrations.NewClient(c)
}

// contact is what one phone knows of its own binding: nobody else changes that one, but everybody changes the same record.
type contact struct {
	mu sync.Mutex
	// possible are the states that the binding may be in: one after an answer, two after none. Call-ID "" is no binding.
	possible map[string]time.Time // Call-ID -> when it expires
}

// set of identities that several phones share.
type set struct {
	aor      string
	contacts []*contact
	admin    sync.RWMutex // held whole by an administrative deregistration, which touches every binding
}

// history is what the checker has seen.
type history struct {
	operations, unanswered, fetches atomic.Int64
}

const slack = 20 * time.Millisecond // between the clocks of a test and of a store that answers

// change makes one change of one binding through a router, and notes what may be there afterwards.
func (h *history) change(t *testing.T, r *registrations.Client, s *set, i, n int) {
	c := s.contacts[i]
	c.mu.Lock()
	defer c.mu.Unlock()
	s.admin.RLock()
	defer s.admin.RUnlock()
	id, call := fmt.Sprint("phone-", i), fmt.Sprint("call-", i, "-", n)
	req := &registrations.ApplyRequest{Aor: s.aor, Impi: "i"}
	until := time.Time{}
	if rand.IntN(4) == 0 {
		req.Remove, call = []string{id}, ""
	} else {
		until = time.UnixMilli(time.Now().Add([]time.Duration{300 * time.Millisecond, time.Hour}[rand.IntN(2)]).UnixMilli())
		req.Bindings = []*registrations.Binding{{Id: id, Impi: "i", Uri: "sip:x@127.0.0.1", CallId: call, ExpiresAt: until.UnixMilli()}}
	}
	h.operations.Add(1)
	resp, err := r.Apply(t.Context(), req)
	if err != nil {
		h.unanswered.Add(1)
		c.possible[call] = until // or what was there before
		return
	}
	c.possible = map[string]time.Time{call: until}
	h.check(t, s, i, resp.GetRecord(), "its own answer")
}

// check compares what a record says of one phone's binding with what may be; the phone's lock is held.
func (h *history) check(t *testing.T, s *set, i int, rec *registrations.Record, where string) {
	c, id, now := s.contacts[i], fmt.Sprint("phone-", i), time.Now()
	call := ""
	for _, b := range rec.GetBindings() {
		if b.GetId() == id {
			call = b.GetCallId()
			if b.GetExpiresAt() < now.Add(-time.Second).UnixMilli() {
				t.Errorf("%s: %s shows the binding of %s %s after its end", s.aor, where, id, now.Sub(time.UnixMilli(b.GetExpiresAt())))
			}
		}
	}
	if _, may := c.possible[call]; may {
		return
	}
	if call == "" {
		for _, until := range c.possible { // it may have run out
			if !until.IsZero() && now.After(until.Add(-slack)) {
				return
			}
		}
		t.Errorf("%s: %s has lost the binding of %s: it may be %v", s.aor, where, id, c.possible)
		return
	}
	t.Errorf("%s: %s shows a ghost of %s, Call-ID %s: it may be %v", s.aor, where, id, call, c.possible)
}

// fetch reads the record while one phone stands still, and checks that phone's binding.
func (h *history) fetch(t *testing.T, r *registrations.Client, s *set, i int) {
	c := s.contacts[i]
	c.mu.Lock()
	defer c.mu.Unlock()
	s.admin.RLock()
	defer s.admin.RUnlock()
	rec, err := r.Get(t.Context(), s.aor)
	if err != nil {
		h.unanswered.Add(1)
		return
	}
	h.fetches.Add(1)
	h.check(t, s, i, rec, "a fetch")
}

// deregister removes all bindings by order of the network.
func (h *history) deregister(t *testing.T, r *registrations.Client, s *set) {
	s.admin.Lock()
	defer s.admin.Unlock()
	h.operations.Add(1)
	_, err := r.Apply(t.Context(), &registrations.ApplyRequest{Aor: s.aor, RemoveAll: true, RemoveReason: registrations.ReasonAdmin})
	for _, c := range s.contacts { // no phone changes anything now
		if err != nil {
			c.possible[""] = time.Time{}
		} else {
			c.possible = map[string]time.Time{"": {}}
		}
	}
	if err != nil {
		h.unanswered.Add(1)
	}
}

// run makes random operations on a few sets from many goroutines through two routers for a while.
func (h *history) run(t *testing.T, routers []*registrations.Client, sets []*set, disturb func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				s, r, i := sets[rand.IntN(len(sets))], routers[rand.IntN(len(routers))], rand.IntN(4)
				switch rand.IntN(20) {
				case 0:
					h.deregister(t, r, s)
				case 1, 2, 3, 4, 5, 6, 7:
					h.fetch(t, r, s, i)
				default:
					h.change(t, r, s, i, w*1_000_000+n)
				}
			}
		})
	}
	disturb()
	close(stop)
	wg.Wait()
}

// TestHistoryOfSharedIdentities lets two routers register, refresh, let expire, deregister and fetch bindings of the same
// identities through two store nodes, while one of these is cut off from the engine and then killed. No acknowledged change is
// lost, and nothing comes back that was removed or has run out.
func TestHistoryOfSharedIdentities(t *testing.T) {
	s := newSiteLab(t, "127.37.25")
	one := s.add(1)
	s.add(2)
	routers := []*registrations.Client{s.router("router-1.site1"), s.router("router-2.site1")}
	var sets []*set
	for i := range 5 {
		x := &set{aor: fmt.Sprint("sip:", i, "@example.com")}
		for range 4 {
			x.contacts = append(x.contacts, &contact{possible: map[string]time.Time{"": {}}})
		}
		sets = append(sets, x)
	}
	h := &history{}
	h.run(t, routers, sets, func() {
		<-time.After(2 * time.Second) // load, not synchronisation
		s.engine.cut(true)
		<-time.After(1500 * time.Millisecond) // the time of the fault
		s.engine.cut(false)
		<-time.After(time.Second) // load, not synchronisation
		one.kill()
		<-time.After(2 * time.Second) // load, not synchronisation
		one.start()
		one.ready()
		<-time.After(time.Second) // load, not synchronisation
	})
	// At the end everything is fetched through both routers.
	for _, r := range routers {
		for _, x := range sets {
			for i := range x.contacts {
				h.fetch(t, r, x, i)
			}
		}
	}
	if h.operations.Load() < 500 || h.fetches.Load() < 200 {
		t.Errorf("only %d operations and %d fetches were made", h.operations.Load(), h.fetches.Load())
	}
	t.Logf("figures: %d changes and %d fetches of 20 bindings in 5 sets, %d of them unanswered: no lost update, no ghost", h.operations.Load(), h.fetches.Load(), h.unanswered.Load())
}
