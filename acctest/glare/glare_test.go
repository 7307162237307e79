// Package glare tests calls that are cancelled and answered at the same moment: whatever crosses whatever, each 2xx of a
// called phone reaches the caller, or that phone gets a BYE, and afterwards the nodes hold nothing.
package glare

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/phone"
)

var (
	shared *deployment.Deployment                                                    //nolint:gochecknoglobals // of this test binary
	long   = flag.Bool("long", false, "the long form: half milliseconds, ten times") //nolint:gochecknoglobals // a flag
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	return deployment.Main(m, "glare", map[string]any{"counts": map[string]int{"router": 2, "edge": 2}}, func(d *deployment.Deployment) { shared = d })
}

// variant is a kind of call.
type variant struct {
	name   string
	phones int  // that ring
	prack  bool // the ringing is acknowledged (RFC 3262)
}

const (
	answerAt = 20 * time.Millisecond // after everything rings
	lastAt   = 40 * time.Millisecond // the CANCEL leaves from 0 to this
)

// TestCancelMeetsAnswer sends the CANCEL from 20 ms before until 20 ms after the called phones answer, and once at the very
// moment. Every call has to end with the same view on both sides; at the end the nodes hold nothing.
func TestCancelMeetsAnswer(t *testing.T) {
	before := watch(t)
	step, times := 2*time.Millisecond, 1
	if *long {
		step, times = 500*time.Microsecond, 10
	}
	var all tally
	t.Run("grid", func(t *testing.T) {
		for _, v := range []variant{{"plain", 1, false}, {"prack", 1, true}, {"fork", 2, false}, {"fork and prack", 2, true}} {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, v)
				for range times {
					w.call(crossing, &all)
					for at := time.Duration(0); at <= lastAt; at += step {
						w.call(at, &all)
					}
				}
			})
		}
	})
	t.Logf("figures: %d calls: %d answered, %d cancelled, in %d a 2xx reached a caller who had cancelled, %d times several phones had the call",
		all.calls, all.answered, all.cancelled, all.crossed, all.several)
	if all.answered == 0 || all.cancelled == 0 || all.crossed == 0 || all.several == 0 {
		t.Errorf("the grid has not seen every outcome")
	}
	before.nothingLeft(t)
}

// tally counts outcomes.
type tally struct {
	mu                                           sync.Mutex
	calls, answered, cancelled, crossed, several int
}

// crossing lets the CANCEL leave at the moment of the first answer.
const crossing = -1

// world is a caller at one edge and the phones of a called user, the first at the other edge.
type world struct {
	t      *testing.T
	v      variant
	caller *phone.Phone
	called []*called
}

func newWorld(t *testing.T, v variant) *world {
	t.Helper()
	w := &world{t: t, v: v, caller: phone.Subscriber(t, shared, "")}
	w.caller.Start()
	first := phone.Subscriber(t, shared, "")
	first.Proxy = shared.Address("edge-2") + ":5060"
	phones := []*phone.Phone{first}
	for len(phones) < v.phones {
		p := phone.Device(t, shared, first.Name)
		p.Password = first.Password
		phones = append(phones, p)
	}
	for _, p := range phones {
		c := &called{Phone: p, prack: v.prack, calls: map[string]*incoming{}}
		p.Answer = c.handle
		p.Start()
		w.called = append(w.called, c)
	}
	for _, p := range append(phones, w.caller) {
		if m := p.Register(300); m.Status() != 200 {
			t.Fatalf("REGISTER is answered by\n%s", m.Raw)
		}
	}
	return w
}

// called is a phone that is called; it answers when it is told.
type called struct {
	*phone.Phone
	prack bool
	mu    sync.Mutex
	calls map[string]*incoming
}

// incoming is a call at a called phone.
type incoming struct {
	invite       *phone.Message
	tag          string
	final        int
	acked, ended bool
	settled      chan struct{}
}

func (c *called) handle(m *phone.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.calls[m.CallID().Value()]
	switch m.Method() {
	case "INVITE":
		if x != nil {
			return // a retransmission
		}
		x = &incoming{invite: m, tag: phone.Branch()[7:], settled: make(chan struct{})}
		c.calls[m.CallID().Value()] = x
		headers := []string{c.Contact()}
		if c.prack {
			headers = append(headers, "Require: 100rel", "RSeq: 1")
		}
		c.Reply(m, 180, x.tag, headers...)
	case "CANCEL":
		c.Reply(m, 200, x.tag)
		if x.final == 0 {
			x.final = 487
			c.Reply(x.invite, 487, x.tag)
		}
	case "ACK":
		x.acked = true
	default:
		x.ended = x.ended || m.Method() == "BYE"
		c.Reply(m, 200, x.tag, c.Contact())
	}
	x.settle()
}

// settle tells when the phone has nothing more to wait for: it was cancelled, or its answer was confirmed and ended.
func (x *incoming) settle() {
	if x.acked && (x.final == 487 || x.final == 200 && x.ended) {
		select {
		case <-x.settled:
		default:
			close(x.settled)
		}
	}
}

// pickUp answers unless the call is cancelled already.
func (c *called) pickUp(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.calls[id]
	if x.final != 0 {
		return false
	}
	x.final = 200
	c.Reply(x.invite, 200, x.tag, c.Contact(), "Content-Type: application/sdp", "\n"+phone.SDP)
	return true
}

func (c *called) incoming(id string) *incoming {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[id]
}

// call makes one call.
func (w *world) call(at time.Duration, all *tally) {
	w.t.Helper()
	headers := []string{"Supported: 100rel"}
	call := w.caller.Invite(w.called[0].URI(), headers...)
	for range w.called {
		ringing := w.caller.Expect(5*time.Second, "180", call.Answers("INVITE", 180, 180))
		if w.v.prack {
			seq := call.Within(ringing, "PRACK", "RAck: 1 1 INVITE")
			w.caller.Expect(5*time.Second, "answer to PRACK", func(m *phone.Message) bool {
				return call.Answers("PRACK", 200, 200)(m) && int(m.CSeq().SeqNo) == seq
			})
		}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan map[string]bool)
	go func() { ended <- w.confirm(ctx, call) }()
	sent := w.glare(call, at)
	for i, c := range w.called {
		select {
		case <-c.incoming(call.ID).settled:
		case <-time.After(5 * time.Second):
			w.t.Errorf("CANCEL at %v: phone %d waits for what has to come", at, i)
		}
	}
	cancel()
	w.judge(call, at, sent, <-ended, all)
}

// glare lets phones answer and the caller cancel, each at its time; it tells whether the caller did.
func (w *world) glare(call *phone.Call, at time.Duration) (cancelled bool) {
	var group sync.WaitGroup
	once := make(chan struct{}, len(w.called))
	for _, c := range w.called {
		group.Go(func() {
			<-time.After(answerAt)
			c.pickUp(call.ID)
			once <- struct{}{}
		})
	}
	group.Go(func() {
		if at == crossing {
			<-once
		} else {
			<-time.After(at)
		}
		if len(w.caller.Log(call.Answers("INVITE", 200, 699))) == 0 {
			cancelled = true
			call.Cancel()
		}
	})
	group.Wait()
	return cancelled
}

// confirm is the caller's side of every 2xx, until ctx ends: ACK, and BYE because nobody wants the call. It returns the tags.
func (w *world) confirm(ctx context.Context, call *phone.Call) map[string]bool {
	tags := map[string]bool{}
	for {
		m := w.caller.Maybe(50*time.Millisecond, call.Answers("INVITE", 200, 299))
		switch {
		case m != nil && !tags[m.ToTag()]:
			tags[m.ToTag()] = true
			call.Ack(m)
			call.Within(m, "BYE")
		case m == nil && ctx.Err() != nil:
			return tags
		}
	}
}

func (w *world) judge(call *phone.Call, at time.Duration, sent bool, seen map[string]bool, all *tally) {
	w.t.Helper()
	answered := 0
	for i, c := range w.called {
		x := c.incoming(call.ID)
		c.mu.Lock()
		if x.final == 200 {
			answered++
			if !seen[x.tag] && !x.ended {
				w.t.Errorf("CANCEL at %v: the caller has not seen the 2xx of phone %d, and that got no BYE", at, i)
			}
		}
		c.mu.Unlock()
	}
	failures := w.caller.Log(call.Answers("INVITE", 300, 699))
	if answered == 0 && (len(failures) != 1 || failures[0].Status() != 487) || len(seen) == 0 && len(failures) == 0 {
		w.t.Errorf("CANCEL at %v: %d phones answered, the caller sees %d of it and %d failures", at, answered, len(seen), len(failures))
	}
	if sent {
		w.caller.Expect(5*time.Second, "answer to CANCEL", call.Answers("CANCEL", 200, 200))
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	all.calls++
	if answered > 0 {
		all.answered++
	} else {
		all.cancelled++
	}
	if answered > 0 && sent {
		all.crossed++
	}
	if answered > 1 {
		all.several++
	}
}

// marks is what the nodes held before the calls.
type marks struct{ goroutines map[string]int }

var nodes = []string{"edge-1.site1", "edge-2.site1", "router-1.site1", "router-2.site1"} //nolint:gochecknoglobals // a list

func watch(t *testing.T) marks {
	m := marks{map[string]int{}}
	for _, n := range nodes {
		m.goroutines[n] = shared.Gauge(t.Context(), n, "go_goroutines")
		if m.goroutines[n] == 0 {
			t.Fatalf("%s shows no goroutines", n)
		}
	}
	return m
}

// nothingLeft waits until the nodes hold no transaction, dialog or place in a chain and have no more goroutines than
// before; 32 s after the last message that must be so (RFC 3261 17, timers B, F, H, I, J; RFC 6026 timer L).
func (m marks) nothingLeft(t *testing.T) {
	t.Helper()
	started := time.Now()
	for {
		left := m.left(t)
		if left == "" {
			t.Logf("figures: nothing is left %.1f s after the last call", time.Since(started).Seconds())
			return
		}
		if time.Since(started) > 36*time.Second {
			t.Fatalf("left after %v: %s", time.Since(started), left)
		}
		<-time.After(500 * time.Millisecond)
	}
}

func (m marks) left(t *testing.T) (left string) {
	t.Helper()
	for _, n := range nodes {
		held, err := shared.Held(t.Context(), n)
		if err != nil {
			t.Fatalf("status of %s: %v", n, err)
		}
		if _, ok := held["transactions"]; !ok {
			t.Fatalf("%s does not tell its transactions: %v", n, held)
		}
		for what, count := range held {
			if count != 0 && what != "registrations" {
				left += fmt.Sprintf(" %s %d %s;", n, count, what)
			}
		}
		if k := shared.Gauge(t.Context(), n, "ims_scscf_chain_tokens"); k != 0 {
			left += fmt.Sprintf(" %s %d chain tokens;", n, k)
		}
		if now := shared.Gauge(t.Context(), n, "go_goroutines"); now > m.goroutines[n]+20 {
			left += fmt.Sprintf(" %s %d goroutines, before %d;", n, now, m.goroutines[n])
		}
	}
	return left
}
