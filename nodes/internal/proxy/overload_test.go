package proxy_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// door lets in as it is told and counts what it hears.
type door struct {
	mu                sync.Mutex
	shut              bool
	asked, done, busy int
}

func (d *door) Admit(*sip.Message, proxy.Flow) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	return 2300 * time.Millisecond, !d.shut
}

func (d *door) Done(time.Time, time.Duration) { d.count(&d.done) }
func (d *door) Busy(proxy.Flow)               { d.count(&d.busy) }

func (d *door) count(n *int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	*n++
}

func (d *door) set(shut bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = shut
}

func behindDoor(t *testing.T, names proxytest.Names, test func(t *testing.T, d *door, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := transporttest.NewNetwork(t)
		d, w := &door{}, &world{net: n}
		f := fork("sip:pool.test")
		w.core = proxytest.Start(t, ctx, n, proxy.Config{Overload: d, Accept: func(*sip.Message, proxy.Flow) proxy.Function { return f }}, names,
			transporttest.UDP("", at), transporttest.TCP("", at))
		w.alice = proxytest.NewPeer(t, n, "10.0.0.1:5060")
		w.bob = proxytest.NewPeer(t, n, "10.0.0.2:5060")
		w.carol = proxytest.NewPeer(t, n, "10.0.0.3:5060")
		test(t, d, w)
		synctest.Wait()
		if held := w.core.Held(); held != 0 {
			t.Errorf("%d transactions are left without a final response", held)
		}
		cancel()
	})
}

func TestRefusalIsCheapAndLeavesNothing(t *testing.T) {
	behindDoor(t, proxytest.Names{"pool.test": {"udp:10.0.0.2:5060"}}, func(t *testing.T, d *door, w *world) {
		d.set(true)
		m := w.alice.Send("udp:"+at, invite)
		refusal := w.alice.Expect("503")
		if refusal.Get(sip.RetryAfter) != "3" || refusal.ToTag() == "" || !strings.Contains(refusal.Get(sip.Via), "received=10.0.0.1") && !strings.Contains(refusal.Get(sip.Via), "rport=5060") {
			t.Errorf("refused with\n%s", refusal)
		}
		ack := strings.NewReplacer("INVITE sip", "ACK sip", "1 INVITE", "1 ACK", "To: <sip:bob@ims.test>", "To: "+refusal.Get(sip.To)).Replace(m.String())
		w.alice.Send("udp:"+at, ack)
		w.bob.Quiet(40 * time.Second) // the ACK leads nowhere
		w.alice.Quiet(time.Second)    // and nothing is repeated: nothing was kept
		d.set(false)
		w.alice.Send("udp:"+at, m.String()) // a retransmission of what was refused
		w.bob.Reply(w.bob.Expect("INVITE"), 486)
		w.bob.Expect("ACK")
		w.alice.Expect("486")
		w.alice.Send("udp:"+at, strings.NewReplacer("INVITE sip", "ACK sip", "1 INVITE", "1 ACK").Replace(m.String()))
		w.bob.Quiet(40 * time.Second)
		if d.asked != 2 || d.done != 1 {
			t.Errorf("asked %d times for 2 requests, %d of 1 done", d.asked, d.done)
		}
	})
}

func TestDialogsAreNotRefused(t *testing.T) {
	behindDoor(t, proxytest.Names{"pool.test": {"tcp:10.0.0.2:5060"}}, func(t *testing.T, d *door, w *world) {
		m := w.alice.Send("tcp:"+at, invite)
		req := w.bob.Expect("INVITE")
		d.set(true)
		w.alice.Send("tcp:"+at, m.String()) // a retransmission is no new request
		w.bob.Reply(req, 200, "Contact: <sip:bob@10.0.0.2>")
		ok := w.alice.Expect("200")
		within := strings.NewReplacer("To: <sip:bob@ims.test>", "To: "+ok.Get(sip.To))
		for _, method := range []string{"ACK", "BYE"} {
			text := strings.NewReplacer("INVITE", method).Replace(within.Replace(invite))
			w.alice.Send("tcp:"+at, text)
			if req := w.bob.Expect(method); method == "BYE" {
				w.bob.Reply(req, 200)
				w.alice.Expect("200")
			}
		}
		w.alice.Send("tcp:"+at, strings.Replace(strings.ReplaceAll(within.Replace(invite), "INVITE", "REGISTER"), "1@alice", "2@alice", 1))
		w.alice.Expect("503") // a To tag makes no dialog of a REGISTER
		w.alice.Quiet(40 * time.Second)
	})
}

// An overloaded hop is left for one other at most, and neither is blacklisted.
func TestOverloadedHops(t *testing.T) {
	names := proxytest.Names{"pool.test": {"tcp:10.0.0.2:5060", "tcp:10.0.0.3:5060", "tcp:10.0.0.4:5060"}}
	shed := func(p *proxytest.Peer) {
		req := p.Expect("INVITE")
		refusal := req.NewResponse(503, "", "shed-x")
		refusal.Add(sip.RetryAfter, "2")
		p.Send("tcp:"+at, refusal.String())
		p.Expect("ACK")
	}
	behindDoor(t, names, func(t *testing.T, d *door, w *world) {
		last := proxytest.NewPeer(t, w.net, "10.0.0.4:5060")
		w.alice.Send("tcp:"+at, invite)
		shed(w.bob)
		w.carol.Reply(w.carol.Expect("INVITE"), 200)
		w.alice.Expect("200")
		w.alice.Send("tcp:"+at, strings.Replace(invite, "1@alice", "2@alice", 1))
		shed(w.bob)
		shed(w.carol)
		if m := w.alice.Expect("503"); m.Get(sip.RetryAfter) != "2" {
			t.Errorf("the caller gets\n%s", m)
		}
		last.Quiet(40 * time.Second)
		if d.busy != 3 {
			t.Errorf("%d refusals were told of 3", d.busy)
		}
	})
}
