package proxy_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// teapot answers everything.
type teapot struct{ proxy.Forwarding }

func (teapot) Name() string         { return "teapot" }
func (teapot) Serve() proxy.Handler { return teapot{} }
func (teapot) Initial(_ context.Context, r *proxy.Request) proxy.Decision {
	return proxy.Answer(r, 420)
}

func TestRequestsOfTheNodeItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := transporttest.NewNetwork(t)
		server := proxytest.NewPeer(t, n, "10.2.0.2:5060")
		core := proxytest.Start(t, ctx, n, proxy.Config{Local: func(u sip.URI) proxy.Function {
			if u.Host == "teapot.test" {
				return teapot{}
			}
			return nil
		}}, proxytest.Names{
			"server.test": {"tcp:10.2.0.9:5060", "tcp:10.2.0.2:5060"}, // the first one refuses
			"gone.test":   {"tcp:10.2.0.9:5060"},
			"other.test":  {"tcp:10.2.0.3:5060"},
		}, transporttest.TCP("", "10.2.0.1:5060"), transporttest.UDP("", "10.2.0.1:5060"))
		proxytest.Start(t, ctx, n, proxy.Config{Accept: func(*sip.Message, proxy.Flow) proxy.Function { return teapot{} }}, proxytest.Names{}, transporttest.TCP("", "10.2.0.3:5060"))
		send := func(method, uri string, patience, liveness time.Duration) (*proxy.Reply, error) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			m := &sip.Message{Method: method, URI: uri}
			m.Add(sip.From, "<sip:node.test>;tag=1")
			m.Add(sip.To, "<"+uri+">")
			m.Add(sip.CallID, "c-"+uri)
			m.Add(sip.CSeq, "1 "+method)
			return core.Send(ctx, proxy.Target{Msg: m, Liveness: liveness})
		}
		expect := func(uri string, liveness time.Duration, status int, made proxy.Made) {
			t.Helper()
			r, err := send("MESSAGE", uri, time.Minute, liveness)
			if err != nil || r.Msg.Status != status || r.Made != made {
				t.Errorf("%s: %+v, %v; want %d", uri, r, err, status)
			}
		}
		go func() {
			m := server.Expect("MESSAGE")
			if m.Count(sip.Via) != 1 || m.Get(sip.MaxForwards) != "69" {
				t.Errorf("sent as\n%s", m)
			}
			server.Reply(m, 180) // no answer yet
			server.Reply(m, 202)
		}()
		expect("sip:a@server.test", 0, 202, proxy.Received)
		expect("sip:a@teapot.test", 0, 420, proxy.Received)
		expect("sip:a@other.test", 0, 420, proxy.Received) // another proxy of ours sees no loop
		expect("sip:a@gone.test", 0, 503, proxy.Unreachable)
		expect("sip:a@unknown.test", 0, 404, proxy.Unreachable)
		start := time.Now()
		expect("sip:a@server.test", 2*time.Second, 408, proxy.NotAlive)
		if d := time.Since(start); d != 2*time.Second {
			t.Errorf("took %v", d)
		}
		if _, err := send("MESSAGE", "sip:a@server.test", time.Second, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("out of patience: %v", err)
		}
		if _, err := send("INVITE", "sip:a@server.test", time.Second, 0); !errors.Is(err, proxy.ErrMethod) {
			t.Errorf("INVITE: %v", err)
		}
		time.Sleep(time.Minute) // the transactions end
		if core.Held() != 0 {
			t.Errorf("%d transactions are left", core.Held())
		}
		cancel()
		synctest.Wait()
		if _, err := send("MESSAGE", "sip:a@server.test", time.Second, 0); !errors.Is(err, proxy.ErrEnded) {
			t.Errorf("after the end: %v", err)
		}
	})
}
