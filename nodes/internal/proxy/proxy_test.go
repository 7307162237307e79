package proxy_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

const at = "10.0.0.9:5060"

// function is a test's own: hooks as fields.
type function struct {
	proxy.Forwarding
	name     string
	initial  func(ctx context.Context, r *proxy.Request) proxy.Decision
	inDialog func(ctx context.Context, r *proxy.Request) proxy.Decision
	response func(r *proxy.Reply) proxy.Verdict
}

func (f *function) Name() string         { return f.name }
func (f *function) Serve() proxy.Handler { return f }

func (f *function) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	if f.initial == nil {
		return f.Forwarding.Initial(ctx, r)
	}
	return f.initial(ctx, r)
}

func (f *function) InDialog(ctx context.Context, r *proxy.Request) proxy.Decision {
	if f.inDialog == nil {
		return f.Forwarding.InDialog(ctx, r)
	}
	return f.inDialog(ctx, r)
}

func (f *function) Response(r *proxy.Reply) proxy.Verdict {
	if f.response == nil {
		return proxy.Verdict{}
	}
	return f.response(r)
}

type world struct {
	alice, bob, carol *proxytest.Peer
	core              *proxy.Core
	net               *transporttest.Network
	phone             proxy.Flow // of the last OPTIONS
}

// in runs a test in fake time around one proxy with the given functions; the first gets what comes from the wire.
func in(t *testing.T, names proxytest.Names, test func(t *testing.T, w *world), functions ...*function) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		n := transporttest.NewNetwork(t)
		w := &world{net: n}
		cfg := proxy.Config{
			Reconnect: true,
			Accept: func(m *sip.Message, f proxy.Flow) proxy.Function {
				if m.Method == sip.OPTIONS {
					w.phone = f
				}
				return functions[0]
			},
			Local: func(u sip.URI) proxy.Function {
				for _, f := range functions {
					if u.Host == f.name {
						return f
					}
				}
				return nil
			},
		}
		w.core = proxytest.Start(t, ctx, n, cfg, names, transporttest.UDP("", at), transporttest.TCP("", at))
		w.alice = proxytest.NewPeer(t, n, "10.0.0.1:5060")
		w.bob = proxytest.NewPeer(t, n, "10.0.0.2:5060")
		w.carol = proxytest.NewPeer(t, n, "10.0.0.3:5060")
		test(t, w)
		synctest.Wait() // what is on its way arrives
		if held := w.core.Held(); held != 0 {
			t.Errorf("%d transactions are left without a final response", held)
		}
		cancel()
	})
}

const invite = `
INVITE sip:bob@10.0.0.2 SIP/2.0
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>
Call-ID: 1@alice
CSeq: 1 INVITE
Contact: <sip:alice@10.0.0.1>

v=0
`

func TestCallThrough(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("udp:"+at, invite)
		got := w.bob.Expect("INVITE")
		if got.Get(sip.MaxForwards) != "69" || got.Count(sip.Via) != 2 || got.Body != "v=0\n" {
			t.Errorf("forwarded as\n%s", got)
		}
		w.bob.Reply(got, 180)
		w.bob.Reply(got, 200, "Contact: <sip:bob@10.0.0.2>")
		if m := w.alice.Expect("180"); m.Count(sip.Via) != 1 {
			t.Errorf("our Via went up:\n%s", m)
		}
		ok := w.alice.Expect("200")
		w.alice.Send("udp:"+at, strings.NewReplacer("INVITE", "ACK", "To: <sip:bob@ims.test>", "To: "+ok.Get(sip.To)).Replace(invite))
		w.bob.Expect("ACK")
		w.alice.Send("udp:"+at, strings.NewReplacer("INVITE", "BYE", "1 INVITE", "2 BYE", "To: <sip:bob@ims.test>", "To: "+ok.Get(sip.To)).Replace(invite))
		w.bob.Reply(w.bob.Expect("BYE"), 200)
		w.alice.Expect("200")
	}, &function{name: "f"})
}

func TestRetransmissionsAreAbsorbed(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		m := w.alice.Send("udp:"+at, invite)
		got := w.bob.Expect("INVITE")
		w.alice.Send("udp:"+at, m.String())
		w.bob.Expect("INVITE") // our own, over UDP, after T1: not alice's
		w.bob.Reply(got, 486)
		w.bob.Expect("ACK")
		w.alice.Expect("486")
		w.alice.Expect("486") // timer G
		w.alice.Send("udp:"+at, strings.ReplaceAll(strings.Replace(m.String(), "INVITE sip", "ACK sip", 1), "1 INVITE", "1 ACK"))
		w.alice.Quiet(40 * time.Second)
		w.bob.Quiet(time.Second)
	}, &function{name: "f"})
}

func fork(targets ...string) *function {
	f := &function{name: "f"}
	f.initial = func(_ context.Context, r *proxy.Request) proxy.Decision {
		var out []proxy.Target
		for _, uri := range targets {
			m := r.Msg.Clone()
			m.URI = uri
			out = append(out, proxy.Target{Msg: m, Tag: uri})
		}
		return proxy.Forward(out...)
	}
	return f
}

func TestForkFirstAnswerCancelsTheOthers(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		b, c := w.bob.Expect("INVITE"), w.carol.Expect("INVITE")
		w.bob.Reply(b, 180)
		w.alice.Expect("180")
		w.carol.Reply(c, 200)
		w.alice.Expect("200")
		cancel := w.bob.Expect("CANCEL")
		if cancel.Get(sip.Via) != b.Get(sip.Via) {
			t.Error("the CANCEL has another branch than its INVITE")
		}
		w.bob.Reply(cancel, 200)
		w.bob.Reply(b, 487)
		w.bob.Expect("ACK")
		w.alice.Quiet(40 * time.Second)
	}, fork("sip:10.0.0.2;transport=tcp", "sip:10.0.0.3;transport=tcp"))
}

func TestForkBestResponse(t *testing.T) {
	for name, c := range map[string]struct{ b, c, want int }{
		"lower class": {503, 486, 486}, "challenge wins": {404, 407, 407}, "6xx wins": {486, 603, 603}, "first of equals": {480, 486, 480},
		"503 last": {503, 500, 500},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, nil, func(t *testing.T, w *world) {
				w.alice.Send("tcp:"+at, invite)
				b, cc := w.bob.Expect("INVITE"), w.carol.Expect("INVITE")
				w.bob.Reply(b, c.b)
				w.bob.Expect("ACK")
				time.Sleep(time.Second) // fake time: lets the first one in first
				w.carol.Reply(cc, c.c)
				w.carol.Expect("ACK")
				if m := w.alice.Expect(describe(c.want)); m == nil {
					t.Fail()
				}
			}, fork("sip:10.0.0.2;transport=tcp", "sip:10.0.0.3;transport=tcp"))
		})
	}
}

func describe(status int) string { return (&sip.Message{Status: status}).String()[8:11] }

func TestCancel(t *testing.T) {
	cancelOf := func(m *sip.Message) string {
		return strings.ReplaceAll(strings.Replace(m.String(), "INVITE sip", "CANCEL sip", 1), "1 INVITE", "1 CANCEL")
	}
	t.Run("after ringing", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			m := w.alice.Send("tcp:"+at, invite)
			b, c := w.bob.Expect("INVITE"), w.carol.Expect("INVITE")
			w.bob.Reply(b, 180)
			w.carol.Reply(c, 180)
			w.alice.Expect("180")
			w.alice.Expect("180")
			w.alice.Send("tcp:"+at, cancelOf(m))
			w.alice.Expect("200")
			for _, leg := range []struct {
				p *proxytest.Peer
				m *sip.Message
			}{{w.bob, b}, {w.carol, c}} {
				leg.p.Reply(leg.p.Expect("CANCEL"), 200)
				leg.p.Reply(leg.m, 487)
				leg.p.Expect("ACK")
			}
			w.alice.Expect("487")
		}, fork("sip:10.0.0.2;transport=tcp", "sip:10.0.0.3;transport=tcp"))
	})
	t.Run("before any response", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			m := w.alice.Send("tcp:"+at, invite)
			b := w.bob.Expect("INVITE")
			w.alice.Send("tcp:"+at, cancelOf(m))
			w.alice.Expect("200")
			w.bob.Quiet(10 * time.Second) // no CANCEL before a provisional response (RFC 3261 9.1)
			w.bob.Reply(b, 100)
			w.bob.Reply(w.bob.Expect("CANCEL"), 200)
			w.bob.Reply(b, 487)
			w.bob.Expect("ACK")
			w.alice.Expect("487")
		}, fork("sip:10.0.0.2;transport=tcp"))
	})
	t.Run("crossing a 200", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			m := w.alice.Send("tcp:"+at, invite)
			b := w.bob.Expect("INVITE")
			w.bob.Reply(b, 180)
			w.alice.Expect("180")
			w.alice.Send("tcp:"+at, cancelOf(m))
			w.alice.Expect("200")
			cancel := w.bob.Expect("CANCEL")
			w.bob.Reply(b, 200)
			w.bob.Reply(cancel, 200)
			if ok := w.alice.Expect("200"); ok.Get(sip.CSeq) != "1 INVITE" {
				t.Errorf("the 2xx of the INVITE is lost: %s", ok)
			}
		}, fork("sip:10.0.0.2;transport=tcp"))
	})
	t.Run("while the function asks a back end", func(t *testing.T) {
		slow := &function{name: "f", initial: func(ctx context.Context, r *proxy.Request) proxy.Decision {
			<-ctx.Done()
			return proxy.Answer(r, 504)
		}}
		in(t, nil, func(t *testing.T, w *world) {
			m := w.alice.Send("tcp:"+at, invite)
			w.alice.Expect("100")
			w.alice.Send("tcp:"+at, cancelOf(m))
			w.alice.Expect("200")
			w.alice.Expect("487")
		}, slow)
	})
	t.Run("of nothing", func(t *testing.T) {
		in(t, nil, func(t *testing.T, w *world) {
			w.alice.Send("tcp:"+at, strings.ReplaceAll(invite, "INVITE", "CANCEL"))
			w.alice.Expect("481")
		}, fork("sip:10.0.0.2"))
	})
}

func TestFailOver(t *testing.T) {
	names := proxytest.Names{"pool.test": {"tcp:10.0.0.8:5060", "tcp:10.0.0.2:5060", "tcp:10.0.0.3:5060"}}
	in(t, names, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite) // nobody is at 10.0.0.8
		w.bob.Reply(w.bob.Expect("INVITE"), 503)
		w.bob.Expect("ACK")
		w.carol.Reply(w.carol.Expect("INVITE"), 200)
		w.alice.Expect("200")
	}, fork("sip:pool.test"))
}

func TestNonInviteTimeoutIsSilent(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, strings.ReplaceAll(invite, "INVITE", "MESSAGE"))
		w.bob.Expect("MESSAGE")
		w.alice.Quiet(50 * time.Second) // RFC 4320: no 408
	}, fork("sip:10.0.0.2;transport=tcp"))
}

func TestInviteTimeout(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		w.bob.Expect("INVITE")
		w.alice.Expect("408")
	}, fork("sip:10.0.0.2;transport=tcp"))
}

func TestTimerC(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		b := w.bob.Expect("INVITE")
		w.bob.Reply(b, 180)
		w.alice.Expect("180")
		time.Sleep(181 * time.Second)
		w.bob.Reply(w.bob.Expect("CANCEL"), 200)
		w.bob.Reply(b, 487)
		w.bob.Expect("ACK")
		w.alice.Expect("487")
	}, fork("sip:10.0.0.2;transport=tcp"))
}

func TestHopsInMemory(t *testing.T) {
	first := &function{name: "first.test", initial: func(_ context.Context, r *proxy.Request) proxy.Decision {
		r.Msg.Push(sip.Route, "<sip:second.test;lr;x=1>")
		return proxy.Forward(proxy.Target{Msg: r.Msg, Carry: "luggage"})
	}}
	var seen proxy.Request
	second := &function{name: "second.test", initial: func(_ context.Context, r *proxy.Request) proxy.Decision {
		seen = *r
		return proxy.Forward(proxy.Target{Msg: r.Msg})
	}}
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		got := w.bob.Expect("INVITE")
		if got.Has(sip.Route) || got.Count(sip.Via) != 2 {
			t.Errorf("after two functions:\n%s", got)
		}
		if x, _ := seen.Own.Param("x"); x != "1" || seen.Carry != "luggage" || !seen.Local {
			t.Errorf("second saw %+v", seen)
		}
		w.bob.Reply(got, 200)
		w.alice.Expect("200")
	}, first, second)
}

func TestLoopInMemoryEnds(t *testing.T) {
	loop := &function{name: "loop.test", initial: func(_ context.Context, r *proxy.Request) proxy.Decision {
		r.Msg.Push(sip.Route, "<sip:loop.test;lr>")
		return proxy.Forward(proxy.Target{Msg: r.Msg})
	}}
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		w.alice.Expect("482")
	}, loop)
}

func TestLivenessAndInstead(t *testing.T) {
	f := fork("sip:10.0.0.2;transport=tcp")
	f.initial = func(_ context.Context, r *proxy.Request) proxy.Decision {
		return proxy.Forward(proxy.Target{Msg: r.Msg, Liveness: 2 * time.Second})
	}
	f.response = func(r *proxy.Reply) proxy.Verdict {
		if r.Made != proxy.NotAlive {
			return proxy.Verdict{}
		}
		m := r.Target.Msg.Clone()
		m.URI = "sip:10.0.0.3;transport=tcp"
		return proxy.Later(func(context.Context) proxy.Decision { return proxy.Forward(proxy.Target{Msg: m}) })
	}
	in(t, nil, func(t *testing.T, w *world) {
		start := time.Now()
		w.alice.Send("tcp:"+at, strings.Replace(invite, "10.0.0.2", "10.0.0.2;transport=tcp", 1))
		b := w.bob.Expect("INVITE")
		w.bob.Reply(b, 100) // 100 is no sign of life for an application server
		c := w.carol.Expect("INVITE")
		if waited := time.Since(start); waited < 2*time.Second || waited > 2100*time.Millisecond {
			t.Errorf("went on after %v, want 2 s", waited)
		}
		w.bob.Reply(w.bob.Expect("CANCEL"), 200)
		w.bob.Reply(b, 487)
		w.bob.Expect("ACK")
		w.carol.Reply(c, 200)
		w.alice.Expect("200")
	}, f)
}

func TestMaxForwards(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, strings.Replace(invite, "CSeq", "Max-Forwards: 0\nCSeq", 1))
		w.alice.Expect("483")
	}, fork("sip:10.0.0.2"))
}

// A gateway sends the request back as it got it, but for its own Via: that is a loop. With another Request-URI it is a spiral.
func TestLoopOverTheWire(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, invite)
		got := w.bob.Expect("INVITE")
		back := got.Clone()
		back.Push(sip.Via, "SIP/2.0/TCP 10.0.0.2:5060;branch=z9hG4bKback")
		back.URI = "sip:bob@10.0.0.2"
		w.bob.Send("tcp:"+at, back.String())
		w.bob.Expect("482")
		spiral := got.Clone()
		spiral.Push(sip.Via, "SIP/2.0/TCP 10.0.0.2:5060;branch=z9hG4bKspiral")
		spiral.URI = "sip:10.0.0.3"
		w.bob.Send("tcp:"+at, spiral.String())
		w.carol.Reply(w.carol.Expect("INVITE"), 486)
		w.carol.Expect("ACK")
		w.bob.Expect("486")
		w.bob.Reply(got, 486)
		w.bob.Expect("ACK")
		w.alice.Expect("486")
	}, &function{name: "f"})
}

func TestMaxBreadth(t *testing.T) {
	two := fork("sip:10.0.0.2;transport=tcp", "sip:10.0.0.3;transport=tcp")
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, strings.Replace(invite, "CSeq", "Max-Breadth: 1\nCSeq", 1))
		w.alice.Expect("440")
	}, two)
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("tcp:"+at, strings.Replace(invite, "CSeq", "Max-Breadth: 5\nCSeq", 1))
		b, c := w.bob.Expect("INVITE"), w.carol.Expect("INVITE")
		if got := b.Get(sip.MaxBreadth) + c.Get(sip.MaxBreadth); got != "32" {
			t.Errorf("a breadth of 5 is shared as %s", got)
		}
		w.carol.Reply(c, 180)
		w.alice.Expect("180")
		w.bob.Reply(b, 603)
		w.bob.Expect("ACK")
		w.carol.Reply(w.carol.Expect("CANCEL"), 200)
		w.carol.Reply(c, 487)
		w.carol.Expect("ACK")
		w.alice.Expect("603")
	}, two)
}
