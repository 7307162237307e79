package proxy_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// A target that has rung for as long as it may is cancelled, and the function tries the next; the best answer goes up.
func TestOneTargetAfterTheOther(t *testing.T) {
	var best *sip.Message
	f := &function{name: "proxy"}
	f.initial = func(_ context.Context, r *proxy.Request) proxy.Decision {
		m := r.Msg.Clone()
		m.URI = "sip:10.0.0.2;transport=tcp"
		return proxy.Forward(proxy.Target{Msg: m, Ring: 20 * time.Second, Tag: r.Msg})
	}
	f.response = func(r *proxy.Reply) proxy.Verdict {
		next, first := r.Target.Tag.(*sip.Message)
		if r.Msg.Status < 300 {
			return proxy.Verdict{}
		}
		best = proxy.Better(best, r.Msg)
		if !first {
			r.Msg = best
			return proxy.Verdict{}
		}
		m := next.Clone()
		m.URI = "sip:10.0.0.3;transport=tcp"
		return proxy.Instead(proxy.Forward(proxy.Target{Msg: m}))
	}
	in(t, nil, func(t *testing.T, w *world) {
		w.alice.Send("udp:"+at, invite)
		start := time.Now()
		b := w.bob.Expect("INVITE")
		w.bob.Reply(b, 180)
		w.alice.Expect("180")
		c := w.bob.Expect("CANCEL")
		if d := time.Since(start); d < 20*time.Second || d > 20100*time.Millisecond {
			t.Errorf("it rang for %v", d)
		}
		w.bob.Reply(c, 200)
		w.bob.Reply(b, 487)
		w.bob.Expect("ACK")
		m := w.carol.Expect("INVITE")
		time.Sleep(30 * time.Second) // no limit for this one
		w.carol.Reply(m, 404)
		w.carol.Expect("ACK")
		w.alice.Expect("487") // the first of two of one rank
		best = nil
	}, f)
}

// reports is a resolver of one name that remembers what it was told.
type reports struct {
	hop  resolve.Hop
	told []bool
}

func (r *reports) SIP(context.Context, resolve.Target) ([]resolve.Hop, error) {
	return []resolve.Hop{r.hop}, nil
}

func (r *reports) Report(_ resolve.Hop, ok bool) { r.told = append(r.told, ok) }

// A stateless proxy is not held to be dead when a request to it times out; it is when it cannot be reached.
func TestStatelessProxyThatIsSilent(t *testing.T) {
	for name, c := range map[string]struct {
		stateless, there bool
		failures         int
	}{
		"silent": {false, true, 1}, "silent and stateless": {true, true, 0}, "gone": {false, false, 1}, "gone and stateless": {true, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := transporttest.NewNetwork(t)
				r := &reports{hop: resolve.Hop{Addr: netip.MustParseAddrPort("10.0.0.2:5060"), Transport: resolve.TCP, Stateless: c.stateless}}
				f := &function{name: "proxy"}
				proxytest.Start(t, ctx, n, proxy.Config{Accept: func(*sip.Message, proxy.Flow) proxy.Function { return f }}, r, transporttest.UDP("", at), transporttest.TCP("", at))
				alice := proxytest.NewPeer(t, n, "10.0.0.1:5060")
				if c.there {
					proxytest.NewPeer(t, n, "10.0.0.2:5060")
				}
				alice.Send("udp:"+at, invite)
				answer := map[bool]string{true: "408", false: "503"}[c.there]
				if m := alice.Maybe(40 * time.Second); m == nil || m.Status/100 == 2 {
					t.Fatalf("got %v, want about %s", m, answer)
				}
				if len(r.told) != c.failures {
					t.Errorf("told %v", r.told)
				}
				cancel()
			})
		})
	}
}
