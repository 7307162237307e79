package proxy_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// dice are random numbers for many goroutines.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) roll(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(n)
}

// agent is one side of a storm: phones that call, or phones that are called and do what they like.
type agent struct {
	dice *dice
	node *transporttest.Node
	addr string
	mu   sync.Mutex
	seen map[string][]string     // of a caller: what came back, by Call-ID and CSeq
	sent map[string]*sip.Message // of a caller: by Call-ID; of a phone that is called: what it got, by Via
}

func newAgent(n *transporttest.Network, d *dice, addr string) *agent {
	a := &agent{dice: d, addr: addr, seen: map[string][]string{}, sent: map[string]*sip.Message{}}
	a.node = n.Node(a, transporttest.UDP("", addr), transporttest.TCP("", addr))
	return a
}

func (a *agent) Message(m *sip.Message, f *transport.Flow) {
	if m.IsRequest() {
		a.called(m, f)
		return
	}
	a.answered(m, f)
}

func (a *agent) send(f *transport.Flow, m *sip.Message) { _ = f.Send(m.AppendTo(nil), nil) }

// called is a phone's mood.
func (a *agent) called(m *sip.Message, f *transport.Flow) {
	say := func(after time.Duration, status int) {
		time.AfterFunc(after, func() { a.send(f, m.NewResponse(status, "", "t-"+a.addr[len(a.addr)-6:])) })
	}
	ms := func() time.Duration { return time.Duration(a.dice.roll(3000)) * time.Millisecond }
	switch m.Method {
	case sip.ACK:
	case sip.CANCEL:
		a.mu.Lock()
		invite := a.sent[m.Get(sip.Via)]
		a.mu.Unlock()
		if invite == nil || a.dice.roll(8) == 0 {
			return // no answer to the CANCEL at all
		}
		say(0, 200)
		switch a.dice.roll(4) {
		case 0: // it answers all the same
			a.send(f, invite.NewResponse(200, "", "late"))
		case 1: // nothing more
		default:
			a.send(f, invite.NewResponse(487, "", "gone"))
		}
	case sip.INVITE:
		a.mu.Lock()
		a.sent[m.Get(sip.Via)] = m
		a.mu.Unlock()
		for range a.dice.roll(3) {
			say(ms(), 180)
		}
		switch a.dice.roll(12) {
		case 0: // silence
		case 1:
			say(0, 100)
		case 2:
			say(time.Second, 600)
		case 3:
			say(ms(), 503)
		case 4:
			say(ms(), 302)
		case 5: // two 2xx, repeated
			for i := range 4 {
				at := ms()
				time.AfterFunc(at, func() { a.send(f, m.NewResponse(200, "", fmt.Sprint("twin", i%2))) })
			}
		case 6: // changes its mind after all was over
			say(time.Second, 486)
			say(3*time.Second, 200)
		case 7:
			say(40*time.Second, 200)
		case 8:
			f.Close()
		default:
			say(ms(), 200)
		}
	default:
		switch a.dice.roll(6) {
		case 0:
		case 1:
			say(ms(), 183)
			say(3*time.Second, 200)
		case 2:
			say(35*time.Second, 200)
		case 3:
			f.Close()
		default:
			say(ms(), 200)
		}
	}
}

func (a *agent) answered(m *sip.Message, f *transport.Flow) {
	if m.Status < 200 {
		return
	}
	a.mu.Lock()
	id := m.CallID() + " " + m.Get(sip.CSeq)
	a.seen[id] = append(a.seen[id], fmt.Sprint(m.Status))
	request := a.sent[m.CallID()]
	a.mu.Unlock()
	if _, method := m.CSeq(); method != sip.INVITE || a.dice.roll(10) == 0 {
		return
	}
	ack := request.Clone()
	ack.Method, ack.Body = sip.ACK, ""
	ack.Set(sip.CSeq, "1 ACK")
	ack.Set(sip.To, m.Get(sip.To))
	if m.Status < 300 {
		ack.Set(sip.Via, fmt.Sprintf("SIP/2.0/UDP %s;branch=z9hG4bKack%d", a.addr, a.dice.roll(1<<30)))
	}
	a.send(f, ack)
}

// call places call number n: with repeats, and given up by some.
func (a *agent) call(t *testing.T, n int, kind resolve.Transport) {
	f, err := a.node.Flow(resolve.Hop{Addr: netip.MustParseAddrPort(at), Transport: kind})
	if err != nil {
		t.Error(err)
		return
	}
	method := sip.INVITE
	if a.dice.roll(4) == 0 {
		method = sip.MESSAGE
	}
	text := fmt.Sprintf("%s sip:%d@anywhere.test SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s-%d;rport\r\nFrom: <sip:a@ims.test>;tag=a\r\nTo: <sip:%d@ims.test>\r\n"+
		"Call-ID: %d\r\nCSeq: 1 %s\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", method, n, kind, a.addr, strings.ReplaceAll(a.addr, ":", "-"), n, n, n, method)
	m, err := sip.Parse([]byte(text))
	if err != nil {
		t.Error(err)
		return
	}
	a.mu.Lock()
	a.sent[m.CallID()] = m
	a.mu.Unlock()
	a.send(f, m)
	if kind == resolve.UDP {
		for i := range a.dice.roll(4) {
			time.AfterFunc(time.Duration(i+1)*500*time.Millisecond, func() { a.send(f, m) })
		}
	}
	if method == sip.INVITE && a.dice.roll(3) == 0 {
		cancel := m.Clone()
		cancel.Method = sip.CANCEL
		cancel.Set(sip.CSeq, "1 CANCEL")
		wait := time.Duration(a.dice.roll(4)) * 700 * time.Millisecond
		if wait == 0 {
			a.send(f, cancel)
		} else {
			time.AfterFunc(wait, func() { a.send(f, cancel) })
		}
	}
}

// moody sends requests on in every way that a function can, chosen by the Call-ID.
type moody struct {
	dice *dice
	mu   sync.Mutex
	seen []context.Context
}

func (*moody) Name() string           { return "moody.test" }
func (f *moody) Serve() proxy.Handler { return &moodyHandler{f: f} }

type moodyHandler struct {
	f      *moody
	target proxy.Target
}

func (h *moodyHandler) to(r *proxy.Request, uri string) proxy.Target {
	m := r.Msg.Clone()
	m.URI = uri
	return proxy.Target{Msg: m}
}

func (h *moodyHandler) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	h.f.mu.Lock()
	h.f.seen = append(h.f.seen, ctx)
	h.f.mu.Unlock()
	sum := fnv.New32()
	_, _ = sum.Write([]byte(r.Msg.CallID()))
	const bob, carol = "sip:10.0.0.2", "sip:10.0.0.3;transport=tcp"
	switch n := sum.Sum32() % 10; {
	case r.Local || n == 0:
		return proxy.Forward(h.to(r, bob), h.to(r, carol))
	case n == 1:
		return proxy.Forward(h.to(r, bob))
	case n == 2:
		return proxy.Forward(h.to(r, "sip:pool.test"), h.to(r, carol), h.to(r, "sip:nowhere.test"))
	case n == 3 || n == 4: // a chain in memory that forks twice
		one, two := r.Msg.Clone(), r.Msg.Clone()
		one.Push(sip.Route, "<sip:moody.test;lr>")
		two.Push(sip.Route, "<sip:moody.test;lr>")
		return proxy.Forward(proxy.Target{Msg: one}, proxy.Target{Msg: two})
	case n == 5:
		t := h.to(r, carol)
		t.Liveness = time.Second
		h.target = h.to(r, bob)
		return proxy.Forward(t)
	case n == 6: // a back end that is slow, and notices a CANCEL
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(h.f.dice.roll(3000)) * time.Millisecond):
		}
		return proxy.Forward(h.to(r, bob))
	case n == 7 && h.f.dice.roll(4) == 0:
		panic("the test wants it so")
	case n == 8:
		h.target = h.to(r, "sip:pool.test")
		return proxy.Forward(h.to(r, carol))
	default:
		return proxy.Forward(h.to(r, carol))
	}
}

func (h *moodyHandler) InDialog(_ context.Context, r *proxy.Request) proxy.Decision {
	return proxy.Forward(h.to(r, "sip:10.0.0.2"))
}

// Response replaces a target that failed, once, after asking a back end.
func (h *moodyHandler) Response(r *proxy.Reply) proxy.Verdict {
	if h.target.Msg == nil || r.Msg.Status < 300 {
		return proxy.Verdict{}
	}
	next := h.target
	h.target = proxy.Target{}
	return proxy.Later(func(ctx context.Context) proxy.Decision {
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
		return proxy.Forward(next)
	})
}

// Thousands of calls with losses, repeats, CANCELs, broken connections and phones that follow no rule: each caller over
// TCP hears exactly one end, and nothing of it stays.
func TestStorm(t *testing.T) {
	seeds, calls := 3, 1500
	if testing.Short() {
		seeds, calls = 1, 500
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { storm(t, uint64(seed), calls) }) }) //nolint:gosec // small
	}
}

func storm(t *testing.T, seed uint64, calls int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := &dice{r: rand.New(rand.NewPCG(seed, 7))} //nolint:gosec // a test's
	n := transporttest.NewNetwork(t)
	n.Drop(func(from, to netip.AddrPort, _ *sip.Message) bool {
		return from.Port() == 5060 && to.Port() == 5060 && d.roll(10) == 0 // datagrams only
	})
	f := &moody{dice: d}
	names := proxytest.Names{"pool.test": {"tcp:10.0.0.8:5060", "tcp:10.0.0.2:5060", "udp:10.0.0.3:5060"}}
	core := proxytest.Start(t, ctx, n, proxy.Config{
		Accept: func(*sip.Message, proxy.Flow) proxy.Function { return f },
		Local: func(u sip.URI) proxy.Function {
			if u.Host == f.Name() {
				return f
			}
			return nil
		},
	}, names, transporttest.UDP("", at), transporttest.TCP("", at))
	alice, dave := newAgent(n, d, "10.0.0.1:5060"), newAgent(n, d, "10.0.0.4:5060")
	newAgent(n, d, "10.0.0.2:5060")
	newAgent(n, d, "10.0.0.3:5060")
	synctest.Wait()
	before := runtime.NumGoroutine()
	for i := range calls {
		if i%2 == 0 {
			alice.call(t, i, resolve.TCP)
		} else {
			dave.call(t, i, resolve.UDP)
		}
		time.Sleep(time.Duration(d.roll(40)) * time.Millisecond)
	}
	time.Sleep(10 * time.Minute) // Timer C, then Timer B, of a chain of two targets
	synctest.Wait()
	if held, left := core.Held(), core.Remembered(); held != 0 || left != 0 {
		t.Errorf("%d transactions without an end, %d remembered", held, left)
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before the calls", after, before)
	}
	for i, c := range f.seen {
		if c.Err() == nil {
			t.Errorf("the context of exchange %d lives on", i)
			break
		}
	}
	for i := 0; i < calls; i += 2 {
		alice.check(t, fmt.Sprint(i))
	}
}

// check looks at what one caller over TCP heard.
func (a *agent) check(t *testing.T, callID string) {
	if a.sent[callID].Method != sip.INVITE {
		if got := a.seen[callID+" 1 MESSAGE"]; len(got) > 1 {
			t.Errorf("MESSAGE %s was answered %q", callID, got)
		}
		return
	}
	got := a.seen[callID+" 1 INVITE"]
	errors := 0
	for i, status := range got {
		if status[0] == '2' {
			continue
		}
		if errors++; i != len(got)-1 || i > 0 {
			t.Errorf("INVITE %s was answered %q", callID, got)
		}
	}
	if len(got) == 0 || errors > 1 {
		t.Errorf("INVITE %s was answered %q", callID, got)
	}
	for _, status := range a.seen[callID+" 1 CANCEL"] {
		if status != "200" && status != "481" {
			t.Errorf("CANCEL of %s was answered %s", callID, status)
		}
	}
}
