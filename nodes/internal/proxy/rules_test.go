package proxy_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

func message(m string) string { return strings.ReplaceAll(m, "INVITE", "MESSAGE") }

func as(method string, m *sip.Message) string {
	return strings.ReplaceAll(strings.Replace(m.String(), m.Method+" sip", method+" sip", 1), "1 "+m.Method, "1 "+method)
}

// An INVITE and its CANCEL in one segment: the CANCEL must not be lost because the function has not begun.
func TestCancelRightBehindTheInvite(t *testing.T) {
	for range 50 {
		in(t, nil, func(t *testing.T, w *world) {
			m := w.alice.Send("tcp:"+at, invite)
			w.alice.Send("tcp:"+at, as("CANCEL", m))
			w.alice.Expect("200")
			go func() { // bob may have got the INVITE or not
				for {
					b := w.bob.Maybe(40 * time.Second)
					switch {
					case b == nil:
						return
					case b.Method == sip.INVITE:
						w.bob.Reply(b, 180)
						w.bob.Reply(w.bob.Expect("CANCEL"), 200)
						w.bob.Reply(b, 487)
					}
				}
			}()
			for m := w.alice.Maybe(time.Minute); ; m = w.alice.Maybe(time.Minute) {
				if m == nil {
					t.Fatal("no end of a cancelled call")
				}
				if m.Status == 487 {
					break
				}
			}
			time.Sleep(time.Minute)
		}, fork("sip:10.0.0.2;transport=tcp"))
	}
}

// Every 2xx of an INVITE goes up, whichever phone sends it and however often (RFC 3261 16.7 step 5, RFC 6026).
func TestEverySuccessGoesUp(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("udp:"+at, invite)
		b, c := w.bob.Expect("INVITE"), w.carol.Expect("INVITE")
		tags := map[string]int{}
		w.bob.Reply(b, 200)
		w.carol.Reply(c, 200) // crosses the CANCEL
		w.bob.Reply(b, 200)   // no ACK yet
		for range 3 {
			tags[w.alice.Expect("200").ToTag()]++
		}
		if len(tags) != 2 {
			t.Errorf("200s by tag: %v", tags)
		}
		time.Sleep(31 * time.Second)
		w.carol.Reply(c, 200)
		w.alice.Expect("200")
		time.Sleep(2 * time.Second) // Timer M: now a 2xx belongs to nothing (RFC 6026 7.2)
		w.carol.Reply(c, 200)
		w.alice.Quiet(time.Second)
	}, fork("sip:10.0.0.2;transport=tcp", "sip:10.0.0.3;transport=tcp"))
}

// RFC 4320 4.1: 100 after 3.5 s and not before; no other provisional response, no 408.
func TestLateNonInvite(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		sent := time.Now()
		m := w.alice.Send("udp:"+at, message(invite))
		got := w.bob.Expect("MESSAGE")
		w.bob.Reply(got, 183)
		time.Sleep(time.Second)
		w.alice.Send("udp:"+at, m.String()) // Timer E: absorbed, not answered
		w.alice.Expect("100")
		if waited := time.Since(sent); waited < 3500*time.Millisecond || waited > 3600*time.Millisecond {
			t.Errorf("100 after %v, want 3.5 s", waited)
		}
		w.bob.Reply(got, 200)
		w.alice.Expect("200")
		w.alice.Send("udp:"+at, m.String())
		w.alice.Expect("200") // a repeat gets the answer again, not the 100
		w.bob.Quiet(time.Minute)
	}, fork("sip:10.0.0.2;transport=tcp"))
}

func TestLongRequestsPreferTCP(t *testing.T) {
	long := strings.Replace(message(invite), "CSeq", "Subject: "+strings.Repeat("x", 1300)+"\nCSeq", 1)
	t.Run("taken", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			w.alice.Send("tcp:"+at, long)
			m := w.bob.Expect("MESSAGE")
			if via := m.Get(sip.Via); !strings.Contains(via, "/TCP ") {
				t.Errorf("sent by %s", via)
			}
			w.bob.Reply(m, 200)
			w.alice.Expect("200")
		}, fork("sip:10.0.0.2;transport=udp"))
	})
	t.Run("refused", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			dave := proxytest.NewDatagramPeer(t, w.net, "10.0.0.5:5060")
			w.alice.Send("tcp:"+at, long)
			m := dave.Expect("MESSAGE")
			if via := m.Get(sip.Via); !strings.Contains(via, "/UDP ") {
				t.Errorf("sent by %s", via)
			}
			dave.Reply(m, 200)
			w.alice.Expect("200")
			w.alice.Send("tcp:"+at, strings.Replace(strings.ReplaceAll(long, "MESSAGE", "ACK"), "To: <sip:bob@ims.test>", "To: <sip:bob@ims.test>;tag=b", 1))
			dave.Expect("ACK")
		}, &function{name: "f", initial: toDave, inDialog: toDave})
	})
}

func toDave(_ context.Context, r *proxy.Request) proxy.Decision {
	r.Msg.URI = "sip:10.0.0.5;transport=udp"
	return proxy.Forward(proxy.Target{Msg: r.Msg})
}

// A function that fails costs its own transaction.
func TestPanicIsAnError(t *testing.T) {
	f := &function{name: "f", initial: func(context.Context, *proxy.Request) proxy.Decision { panic("the test wants it so") }}
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		w.alice.Expect("500")
	}, f)
	g := fork("sip:10.0.0.2;transport=tcp")
	g.response = func(*proxy.Reply) proxy.Verdict { panic("the test wants it so") }
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, message(invite))
		w.bob.Reply(w.bob.Expect("MESSAGE"), 202)
		w.alice.Expect("202")
	}, g)
}

// The caller's connection ends while the phone rings: the answer goes to where the Via says (RFC 3261 18.2.2).
func TestAnswerOnANewConnection(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		b := w.bob.Expect("INVITE")
		w.alice.Sever()
		w.bob.Reply(b, 486)
		w.bob.Expect("ACK")
		m := w.alice.Expect("486")
		w.alice.Send("tcp:"+at, as("ACK", w.alice.Parse(strings.Replace(invite, "From", "Via: "+m.Get(sip.Via)+"\nFrom", 1))))
		w.bob.Quiet(40 * time.Second) // the ACK of an error goes no further
	}, fork("sip:10.0.0.2;transport=tcp"))
}

// A target that was named by its connection ends with 430, so that the registrar hears of it (RFC 5626 5.3).
func TestFlowThatDiesUnderARequest(t *testing.T) {
	var around *world
	f := &function{name: "f", initial: func(_ context.Context, r *proxy.Request) proxy.Decision {
		return proxy.Forward(proxy.Target{Msg: r.Msg, Flow: around.phone})
	}}
	in(t, nil, func(t *testing.T, w *world) {
		around = w
		w.bob.Send("tcp:"+at, "OPTIONS sip:x SIP/2.0\nFrom: <sip:b@x>;tag=b\nTo: <sip:x@x>\nCall-ID: o\nCSeq: 1 OPTIONS\nMax-Forwards: 0\n")
		w.bob.Expect("483")
		w.alice.Send("tcp:"+at, invite)
		w.bob.Expect("INVITE")
		w.bob.Sever()
		w.alice.Expect("430")
	}, f)
}

// Messages that come while the core ends begin nothing; what had begun is waited for.
func TestMessagesWhileEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := transporttest.NewNetwork(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var under, over atomic.Int64
		slow := &function{name: "f", initial: func(ctx context.Context, r *proxy.Request) proxy.Decision {
			under.Add(1)
			<-ctx.Done()
			over.Add(1)
			return proxy.Answer(r, 503)
		}}
		proxytest.Start(t, ctx, n, proxy.Config{Accept: func(*sip.Message, proxy.Flow) proxy.Function { return slow }}, nil, transporttest.UDP("", at))
		alice := proxytest.NewPeer(t, n, "10.0.0.1:5060")
		for i := range 200 {
			if i == 100 {
				synctest.Wait()
				cancel()
			}
			alice.Send("udp:"+at, invite)
		}
		synctest.Wait()
		if a, b := under.Load(), over.Load(); a != b || a < 100 {
			t.Errorf("%d requests begun, %d brought to an end", a, b)
		}
	})
}
