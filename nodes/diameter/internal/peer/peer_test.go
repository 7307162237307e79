package peer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// other is the far side of a connection: it answers CER and DWR unless told not to, and hands on the rest.
type other struct {
	host    string
	silent  atomic.Bool // answers nothing from now on
	answer  func(o *other, m wire.Message) wire.Message
	cea     func(b *wire.Builder) *wire.Builder // adds to the CEA; nil: Cx
	code    uint32                              // of the CEA; 0: success
	mu      sync.Mutex
	conns   []net.Conn
	got     []wire.Message // requests but CER and DWR
	answers chan wire.Message
	probes  atomic.Int32
	greeted atomic.Int32
}

func build(b *wire.Builder) wire.Message {
	m, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return m
}

func (o *other) reply(m wire.Message, code uint32) *wire.Builder {
	flags := byte(0)
	if code >= 3000 && code < 4000 {
		flags = wire.FlagError
	}
	return wire.NewAnswer(m, flags).Uint32(wire.ResultCode, code).Text(wire.OriginHost, o.host).Text(wire.OriginRealm, "ims.test")
}

func cx(b *wire.Builder) *wire.Builder {
	return b.Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End()
}

func about(b *wire.Builder) *wire.Builder {
	return b.Address(wire.HostIPAddress, netip.MustParseAddr("127.38.0.9")).Uint32(wire.VendorID, 9).Text(wire.ProductName, "other")
}

func (o *other) serve(nc net.Conn) {
	o.mu.Lock()
	o.conns = append(o.conns, nc)
	o.mu.Unlock()
	for {
		m, err := wire.Read(nc)
		if err != nil {
			_ = nc.Close()
			return
		}
		if o.silent.Load() {
			continue
		}
		switch {
		case !m.Request():
			select {
			case o.answers <- m:
			default:
			}
			continue
		case m.Command() == wire.CapabilitiesExchange:
			o.greeted.Add(1)
			add, code := o.cea, o.code
			if add == nil {
				add = cx
			}
			if code == 0 {
				code = wire.Success
			}
			_, _ = nc.Write(build(add(about(o.reply(m, code)))))
			continue
		case m.Command() == wire.DeviceWatchdog:
			o.probes.Add(1)
			_, _ = nc.Write(build(o.reply(m, wire.Success)))
			continue
		}
		o.mu.Lock()
		o.got = append(o.got, m)
		o.mu.Unlock()
		if o.answer != nil {
			if a := o.answer(o, m); a != nil {
				_, _ = nc.Write(a)
			}
		} else if m.Command() == wire.DisconnectPeer {
			_, _ = nc.Write(build(o.reply(m, wire.Success)))
		} else {
			_, _ = nc.Write(build(o.reply(m, wire.Success).Text(wire.ServerName, o.host)))
		}
	}
}

func (o *other) requests() []wire.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

func (o *other) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.conns {
		_ = c.Close()
	}
	o.conns = nil
}

// site is a node with others that it dials over pipes, by port.
type site struct {
	*peer.Node
	reg    *prometheus.Registry
	others map[uint16]*other
	away   sync.Map // ports that refuse
}

func target(port uint16) peer.Target {
	return peer.Target{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.38.0.9"), port)}
}

func start(t *testing.T, cfg peer.Config, handlers map[uint32]peer.Handler, others ...*other) *site {
	t.Helper()
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{reg: prometheus.NewRegistry(), others: map[uint16]*other{}}
	var targets []peer.Target
	for i, o := range others {
		o.answers = make(chan wire.Message, 64)
		s.others[uint16(i+1)] = o
		targets = append(targets, target(uint16(i+1)))
	}
	if cfg.Host == "" {
		cfg.Host, cfg.Realm = "gw.ims.test", "ims.test"
	}
	if cfg.Watchdog == 0 {
		cfg.Watchdog = 6 * time.Second
	}
	if cfg.Applications == nil {
		cfg.Applications = []uint32{wire.Cx}
	}
	cfg.Connect, cfg.Addresses = time.Second, []netip.Addr{netip.MustParseAddr("127.38.0.1")}
	if cfg.Find == nil {
		cfg.Find = func(context.Context) ([]peer.Target, error) { return targets, nil }
	}
	s.Node, err = peer.New(cfg, peer.Deps{Dictionary: d, Handlers: handlers, Log: slog.New(slog.DiscardHandler), Metrics: s.reg, Dial: func(_ context.Context, to peer.Target) (net.Conn, error) {
		o := s.others[to.Addr.Port()]
		if _, away := s.away.Load(to.Addr.Port()); away || o == nil {
			return nil, errors.New("connection refused")
		}
		near, far := net.Pipe()
		go o.serve(far)
		return near, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, o := range others {
			o.drop()
		}
	})
	return s
}

func (s *site) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(labels) == 0 || (len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == labels[0]) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func request(n *peer.Node) wire.Message {
	return build(cx(wire.NewRequest(nil, wire.LocationInfo, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, n.SessionID())).
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, n.Host()).Text(wire.OriginRealm, n.Realm()).Text(wire.DestinationRealm, "ims.test").Text(wire.PublicIdentity, "sip:a@ims.test"))
}

func (s *site) ask(t *testing.T, host string, timeout time.Duration) (wire.Message, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	return s.Do(ctx, request(s.Node), host)
}

func TestRequestsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &other{host: "hss1.ims.test"}, &other{host: "hss2.ims.test"}
		s := start(t, peer.Config{}, nil, a, b)
		synctest.Wait()
		if got := s.Peers(); len(got) != 2 || s.Ready(wire.Cx) != nil {
			t.Fatalf("peers %v", got)
		}
		seen := map[string]int{}
		for range 40 {
			m, err := s.ask(t, "", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			seen[m.Text(wire.OriginHost)]++
		}
		if seen["hss1.ims.test"] < 10 || seen["hss2.ims.test"] < 10 {
			t.Errorf("requests are not spread: %v", seen)
		}
		for range 10 {
			if m, err := s.ask(t, "HSS2.ims.test", time.Second); err != nil || m.Text(wire.OriginHost) != "hss2.ims.test" {
				t.Fatalf("the Destination-Host was not preferred: %v", err)
			}
		}
		ids := map[uint32]bool{}
		for _, m := range append(a.requests(), b.requests()...) {
			ids[m.EndToEnd()] = true
			if m.Flags() != wire.FlagRequest|wire.FlagProxiable {
				t.Errorf("flags %x", m.Flags())
			}
		}
		if len(ids) != 50 {
			t.Errorf("%d end-to-end identifiers for 50 requests", len(ids))
		}
		if got := s.metric(t, "ims_diameter_requests_sent_total", "Location-Info"); got != 50 {
			t.Errorf("%v requests counted", got)
		}
		if problems, err := testutil.GatherAndLint(s.reg); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
	})
}

func TestAnswersAreMatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spoil := map[string]func(wire.Message){
			"hop-by-hop": func(m wire.Message) { m.SetHopByHop(m.HopByHop() + 77) },
			"end-to-end": func(m wire.Message) { m.SetEndToEnd(m.EndToEnd() + 1) },
			"command":    func(m wire.Message) { m[7]++ },
		}
		for name, change := range spoil {
			a := &other{host: "hss1.ims.test"}
			a.answer = func(o *other, m wire.Message) wire.Message {
				answer := build(o.reply(m, wire.Success))
				change(answer)
				return answer
			}
			s := start(t, peer.Config{}, nil, a)
			synctest.Wait()
			began := time.Now()
			if m, err := s.ask(t, "", 200*time.Millisecond); !errors.Is(err, peer.ErrTimeout) || time.Since(began) != 200*time.Millisecond {
				t.Errorf("%s: got %v, %v after %v", name, m, err, time.Since(began))
			}
			if got := s.metric(t, "ims_diameter_unmatched_answers_total"); got != 1 {
				t.Errorf("%s: %v unmatched answers", name, got)
			}
		}
	})
}

func TestNoPeerFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &other{host: "hss1.ims.test"}
		s := start(t, peer.Config{}, nil, a)
		s.away.Store(uint16(1), true)
		synctest.Wait()
		a.drop()
		synctest.Wait()
		began := time.Now()
		if _, err := s.ask(t, "", time.Minute); !errors.Is(err, peer.ErrNoPeer) || time.Since(began) != 0 {
			t.Errorf("got %v after %v", err, time.Since(began))
		}
		if s.Ready(wire.Cx) == nil {
			t.Error("ready without a peer")
		}
	})
}

// TestFailoverRepeatsWithT loses the connection while a request waits: it goes to the other peer with the T flag and the
// same end-to-end identifier.
func TestFailoverRepeatsWithT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &other{host: "hss1.ims.test"}, &other{host: "hss2.ims.test"}
		a.answer = func(*other, wire.Message) wire.Message { return nil }
		s := start(t, peer.Config{}, nil, a, b)
		synctest.Wait()
		time.AfterFunc(50*time.Millisecond, a.drop)
		m, err := s.ask(t, "hss1.ims.test", time.Second)
		if err != nil || m.Text(wire.OriginHost) != "hss2.ims.test" {
			t.Fatalf("got %v, %v", m, err)
		}
		first, second := a.requests()[0], b.requests()[0]
		if first.Flags()&wire.FlagRetransmitted != 0 || second.Flags()&wire.FlagRetransmitted == 0 || first.EndToEnd() != second.EndToEnd() || first.Text(wire.SessionID) != second.Text(wire.SessionID) {
			t.Errorf("first % x, second % x", []byte(first[:20]), []byte(second[:20]))
		}
		if got := s.metric(t, "ims_diameter_failovers_total"); got != 1 {
			t.Errorf("%v fail-overs counted", got)
		}
	})
}

// TestSuspectPeerFailsOver: a peer falls silent. After Tw it is probed, after another its requests go elsewhere and no new
// ones come, after a third it is closed.
func TestSuspectPeerFailsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &other{host: "hss1.ims.test"}, &other{host: "hss2.ims.test"}
		s := start(t, peer.Config{Watchdog: 6 * time.Second}, nil, a, b)
		synctest.Wait()
		a.silent.Store(true)
		began := time.Now()
		m, err := s.ask(t, "hss1.ims.test", time.Minute)
		after := time.Since(began)
		if err != nil || m.Text(wire.OriginHost) != "hss2.ims.test" {
			t.Fatalf("got %v, %v", m, err)
		}
		if after < 8*time.Second || after > 16*time.Second {
			t.Errorf("failed over after %v, want two silences of 4 to 8 s", after)
		}
		for range 5 {
			if m, err := s.ask(t, "hss1.ims.test", time.Second); err != nil || m.Text(wire.OriginHost) != "hss2.ims.test" {
				t.Errorf("a suspect peer was asked: %v", err)
			}
		}
		if got := s.Peers(); len(got) != 1 {
			t.Errorf("peers %v", got)
		}
		s.away.Store(uint16(1), true)
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if got := s.metric(t, "ims_diameter_peer_connections"); got != 1 {
			t.Errorf("%v connections, the silent one must be closed", got)
		}
	})
}

// TestProbesOnlySilence: traffic stands for probes.
func TestProbesOnlySilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &other{host: "hss1.ims.test"}
		s := start(t, peer.Config{Watchdog: 6 * time.Second}, nil, a)
		synctest.Wait()
		for range 60 {
			time.Sleep(time.Second)
			if _, err := s.ask(t, "", time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if got := a.probes.Load(); got != 0 {
			t.Errorf("%d probes under traffic", got)
		}
		time.Sleep(time.Minute)
		if got := a.probes.Load(); got < 7 || got > 15 {
			t.Errorf("%d probes in a silent minute, want one each 4 to 8 s", got)
		}
		if got := s.Peers(); len(got) != 1 || a.greeted.Load() != 1 {
			t.Errorf("peers %v after %d connections", got, a.greeted.Load())
		}
	})
}

// TestReconnects: a lone peer that is away for a minute is used within 5 s of its return, although it has yet to prove
// itself; after three answered probes it is preferred like any other.
func TestReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &other{host: "hss1.ims.test"}
		s := start(t, peer.Config{Blacklist: 30 * time.Second}, nil, a)
		synctest.Wait()
		s.away.Store(uint16(1), true)
		a.drop()
		time.Sleep(time.Minute)
		s.away.Delete(uint16(1))
		back := time.Now()
		for s.Ready(wire.Cx) != nil {
			if time.Since(back) > time.Minute {
				t.Fatal("it never came back")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(back); took > 5*time.Second {
			t.Errorf("reconnected after %v", took)
		}
		if _, err := s.ask(t, "", time.Second); err != nil {
			t.Error(err)
		}
	})
}

func TestBusyPeerIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &other{host: "hss1.ims.test"}, &other{host: "hss2.ims.test"}
		a.answer = func(o *other, m wire.Message) wire.Message { return build(o.reply(m, wire.TooBusy)) }
		s := start(t, peer.Config{}, nil, a, b)
		synctest.Wait()
		for range 20 {
			if m, err := s.ask(t, "", time.Second); err != nil || m.Text(wire.OriginHost) != "hss2.ims.test" {
				t.Fatalf("got %v, %v", m, err)
			}
		}
		if n := len(a.requests()); n != 1 {
			t.Errorf("the busy peer was asked %d times", n)
		}
		b.drop()
		s.away.Store(uint16(2), true)
		synctest.Wait()
		if m, err := s.ask(t, "", time.Second); err != nil {
			t.Error(err)
		} else if code, _ := m.Uint32(wire.ResultCode); code != wire.TooBusy {
			t.Errorf("the only peer's answer is %d, want its 3004", code)
		}
	})
}

func TestMaxPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []*other{{host: "hss1.ims.test"}, {host: "hss2.ims.test"}, {host: "hss3.ims.test"}}
		s := start(t, peer.Config{MaxPeers: 2, Blacklist: 30 * time.Second}, nil, all...)
		time.Sleep(2 * time.Minute)
		if got := s.Peers(); len(got) != 2 || all[2].greeted.Load() != 0 {
			t.Fatalf("peers %v", got)
		}
		s.away.Store(uint16(1), true)
		all[0].drop()
		time.Sleep(5 * time.Second)
		got := s.Peers()
		slices.Sort(got)
		if strings.Join(got, " ") != "hss2.ims.test hss3.ims.test" {
			t.Errorf("peers %v, the third must take the place of the first", got)
		}
	})
}

func TestPeersThatDoNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, o := range map[string]*other{
			"refuses us":             {host: "hss1.ims.test", code: wire.NoCommonApplication},
			"another application":    {host: "hss1.ims.test", cea: func(b *wire.Builder) *wire.Builder { return b.Uint32(wire.AuthApplicationID, 4) }},
			"is ourselves":           {host: "gw.ims.test"},
			"unknown AVP with M set": {host: "hss1.ims.test", cea: func(b *wire.Builder) *wire.Builder { return cx(b).Uint32(wire.Mandatory|9999, 4) }},
		} {
			s := start(t, peer.Config{}, nil, o)
			time.Sleep(10 * time.Second)
			if s.Ready(wire.Cx) == nil || o.greeted.Load() < 3 {
				t.Errorf("%s: ready, or not tried again (%d times)", name, o.greeted.Load())
			}
		}
		relay := &other{host: "dra.ims.test", cea: func(b *wire.Builder) *wire.Builder { return b.Uint32(wire.AuthApplicationID, wire.Relay) }}
		s := start(t, peer.Config{}, nil, relay)
		synctest.Wait()
		if s.Ready(wire.Cx) != nil {
			t.Error("a relay was not taken")
		}
	})
}

func TestDisconnectByPeer(t *testing.T) {
	for cause, quick := range map[uint32]bool{0: true, 2: false} {
		t.Run(fmt.Sprintf("cause %d", cause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &other{host: "hss1.ims.test"}
				s := start(t, peer.Config{Blacklist: 30 * time.Second}, nil, a)
				synctest.Wait()
				dpr := build(wire.NewRequest(nil, wire.DisconnectPeer, wire.Base, 0).Text(wire.OriginHost, a.host).Text(wire.OriginRealm, "ims.test").Uint32(wire.DisconnectCause, cause))
				_, _ = a.conns[0].Write(dpr)
				dpa := <-a.answers
				if code, _ := dpa.Uint32(wire.ResultCode); code != wire.Success || dpa.Command() != wire.DisconnectPeer {
					t.Errorf("answer %d to command %d", code, dpa.Command())
				}
				synctest.Wait()
				if s.Ready(wire.Cx) == nil {
					t.Error("requests still go to a peer that takes leave")
				}
				time.Sleep(10 * time.Second)
				if again := a.greeted.Load() > 1; again != quick {
					t.Errorf("connected again: %v", again)
				}
			})
		})
	}
}

// TestLeavesWithDPR: a node that stops takes leave of its peers.
func TestLeavesWithDPR(t *testing.T) {
	a := &other{host: "hss1.ims.test"}
	synctest.Test(t, func(t *testing.T) {
		start(t, peer.Config{}, nil, a)
		synctest.Wait()
	})
	got := a.requests()
	if len(got) != 1 || got[0].Command() != wire.DisconnectPeer {
		t.Errorf("got %d requests at the end", len(got))
	}
}

// rtr is a request of an HSS that is right.
func rtr(change func(b *wire.Builder)) wire.Message {
	b := cx(wire.NewRequest(nil, wire.RegistrationTermination, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, "hss1;1;2")).
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, "hss1.ims.test").Text(wire.OriginRealm, "ims.test")
	if change == nil {
		b.Text(wire.DestinationHost, "gw.ims.test").Text(wire.DestinationRealm, "ims.test").Text(wire.UserName, "a@ims.test").
			Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, 0).End()
	} else {
		change(b)
	}
	return build(b)
}

// TestRequestsOfPeers sends what a careless or hostile peer may send; each is answered, and the connection lives.
func TestRequestsOfPeers(t *testing.T) {
	to := func(host, realm string) func(b *wire.Builder) {
		return func(b *wire.Builder) {
			b.Text(wire.DestinationHost, host).Text(wire.DestinationRealm, realm).Text(wire.UserName, "a@ims.test").Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, 0).End()
		}
	}
	flagged := func(m wire.Message, flags byte) wire.Message { m.SetFlags(flags); return m }
	truncated := rtr(nil)
	truncated[wire.HeaderSize+7] = 200 // Session-Id beyond what follows it
	truncated[wire.HeaderSize+6] = 200
	for _, c := range []struct {
		name string
		m    wire.Message
		code uint32
		e    bool
	}{
		{"right", rtr(nil), 2001, false},
		{"application that nobody knows", build(wire.NewRequest(nil, 304, 4711, 0).Text(wire.SessionID, "x")), 3007, true},
		{"application that is not offered", build(wire.NewRequest(nil, 306, wire.Sh, 0).Text(wire.SessionID, "x")), 3007, true},
		{"command that nobody knows", build(wire.NewRequest(nil, 999, wire.Cx, 0).Text(wire.SessionID, "x")), 3001, true},
		{"base command that nobody knows", build(wire.NewRequest(nil, 999, wire.Base, 0).Text(wire.SessionID, "x")), 3001, true},
		{"E flag on a request", flagged(rtr(nil), 0xe0), 3008, true},
		{"reserved flag", flagged(rtr(nil), 0xc1), 3008, true},
		{"another realm", rtr(to("gw.ims.test", "elsewhere.test")), 3003, true},
		{"another host", rtr(to("gw2.ims.test", "ims.test")), 3002, true},
		{"names in capitals", rtr(to("GW.ims.test", "IMS.TEST")), 2001, false},
		{"no User-Name", rtr(func(b *wire.Builder) {
			b.Text(wire.DestinationHost, "gw.ims.test").Text(wire.DestinationRealm, "ims.test").Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, 0).End()
		}), 5005, false},
		{"unknown AVP with M set", rtr(func(b *wire.Builder) { to("gw.ims.test", "ims.test")(b); b.Uint32(wire.Mandatory|9999, 1) }), 5001, false},
		{"loop", rtr(func(b *wire.Builder) { to("gw.ims.test", "ims.test")(b); b.Text(wire.RouteRecord, "gw.ims.test") }), 3005, true},
		{"truncated AVP", truncated, 5014, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &other{host: "hss1.ims.test"}
				handled := 0
				s := start(t, peer.Config{CheckHost: true}, map[uint32]peer.Handler{wire.Cx: func(_ context.Context, m wire.Message) wire.Message {
					handled++
					return build(cx(wire.NewAnswer(m, 0)).Uint32(wire.ResultCode, 2001).Text(wire.OriginHost, "gw.ims.test"))
				}}, a)
				synctest.Wait()
				c.m.SetHopByHop(5)
				c.m.SetEndToEnd(6)
				_, _ = a.conns[0].Write(c.m)
				var answer wire.Message
				select {
				case answer = <-a.answers:
				case <-time.After(time.Second):
					t.Fatal("no answer")
				}
				code, _ := answer.Uint32(wire.ResultCode)
				if code != c.code || answer.HopByHop() != 5 || answer.EndToEnd() != 6 || (answer.Flags()&wire.FlagError != 0) != c.e || answer.Text(wire.OriginHost) != "gw.ims.test" {
					t.Errorf("got %d %q with flags %x", code, answer.Text(wire.ErrorMessage), answer.Flags())
				}
				if (handled == 1) != (c.code == 2001) {
					t.Errorf("handled %d times", handled)
				}
				if failed, ok := answer.Find(wire.FailedAVP); (c.code == 5001 || c.code == 5005 || c.code == 5014) && (!ok || len(failed) < 8) {
					t.Error("no Failed-AVP")
				}
				if _, err := s.ask(t, "", time.Second); err != nil {
					t.Errorf("the connection did not survive: %v", err)
				}
				wrong := map[uint32]string{3003: "realm", 3002: "host"}[c.code]
				if wrong != "" && s.metric(t, "ims_diameter_requests_misdirected_total", wrong) != 1 {
					t.Error("not counted")
				}
			})
		})
	}
}

func TestDestinationHostUnchecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &other{host: "hss1.ims.test"}
		start(t, peer.Config{}, map[uint32]peer.Handler{wire.Cx: func(_ context.Context, m wire.Message) wire.Message {
			return build(cx(wire.NewAnswer(m, 0)).Uint32(wire.ResultCode, 2001))
		}}, a)
		synctest.Wait()
		_, _ = a.conns[0].Write(rtr(func(b *wire.Builder) {
			b.Text(wire.DestinationHost, "other").Text(wire.DestinationRealm, "ims.test").Text(wire.UserName, "a").Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, 0).End()
		}))
		answer := <-a.answers
		if code, _ := answer.Uint32(wire.ResultCode); code != 2001 {
			t.Errorf("got %d", code)
		}
	})
}

// TestBadFramingEndsTheConnection: what cannot be read on ends, and is dialled again.
func TestBadFramingEndsTheConnection(t *testing.T) {
	for name, head := range map[string][]byte{
		"length 8":   {1, 0, 0, 8, 0x80, 0, 1, 48, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"16 MiB":     {1, 0xff, 0xff, 0xfc, 0x80, 0, 1, 48, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"version 16": {16, 0, 0, 20, 0x80, 0, 1, 48, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"HTTP":       []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &other{host: "hss1.ims.test"}
				s := start(t, peer.Config{}, nil, a)
				synctest.Wait()
				go func() { _, _ = a.conns[0].Write(head) }()
				time.Sleep(5 * time.Second)
				if got := s.metric(t, "ims_diameter_requests_refused_total", "framing"); got != 1 || a.greeted.Load() != 2 || s.Ready(wire.Cx) != nil {
					t.Errorf("counted %v, connected %d times", got, a.greeted.Load())
				}
			})
		})
	}
}

// TestDuplicateRequestIsDoneOnce: the same request comes again with the T flag, over another connection.
func TestDuplicateRequestIsDoneOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &other{host: "hss1.ims.test"}, &other{host: "dra.ims.test"}
		handled := 0
		s := start(t, peer.Config{}, map[uint32]peer.Handler{wire.Cx: func(_ context.Context, m wire.Message) wire.Message {
			handled++
			time.Sleep(300 * time.Millisecond)
			return build(cx(wire.NewAnswer(m, 0)).Uint32(wire.ResultCode, 2001).Uint32(wire.OriginStateID, uint32(handled)))
		}}, a, b)
		synctest.Wait()
		send := func(o *other, hop, end uint32, flags byte) {
			m := rtr(nil)
			m.SetFlags(flags)
			m.SetHopByHop(hop)
			m.SetEndToEnd(end)
			_, _ = o.conns[0].Write(m)
		}
		send(a, 1, 9, 0xc0)
		send(b, 2, 9, 0xd0) // while the first is in work
		first, second := <-a.answers, <-b.answers
		if n, _ := second.Uint32(wire.OriginStateID); handled != 1 || first.HopByHop() != 1 || second.HopByHop() != 2 || n != 1 {
			t.Errorf("handled %d times, hop-by-hop %d and %d", handled, first.HopByHop(), second.HopByHop())
		}
		if got := s.metric(t, "ims_diameter_duplicates_total"); got != 1 {
			t.Errorf("%v duplicates counted", got)
		}
		send(a, 3, 10, 0xc0)
		<-a.answers
		send(a, 4, 10, 0xc0) // the same identifier, and neither says that it is a repetition: another request
		<-a.answers
		if handled != 3 {
			t.Errorf("handled %d times", handled)
		}
		time.Sleep(5 * time.Minute)
		send(a, 5, 10, 0xd0)
		<-a.answers
		if handled != 4 {
			t.Errorf("what is too old was remembered")
		}
	})
}

// TestTCPPeersMeet connects two nodes over TCP, each dialling and listening: one connection stays, and both can ask.
func TestTCPPeersMeet(t *testing.T) {
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.38.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	lns := []net.Listener{listen(), listen()}
	var nodes []*peer.Node
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	for i, host := range []string{"a.ims.test", "b.ims.test"} {
		far := lns[1-i].Addr().(*net.TCPAddr).AddrPort()
		n, err := peer.New(peer.Config{
			Host: host, Realm: "ims.test", Applications: []uint32{wire.Cx}, Watchdog: 6 * time.Second, Connect: 2 * time.Second,
			Find: func(context.Context) ([]peer.Target, error) { return []peer.Target{{Addr: far}}, nil },
		}, peer.Deps{Dictionary: d, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Handlers: map[uint32]peer.Handler{
			wire.Cx: func(_ context.Context, m wire.Message) wire.Message {
				return build(cx(wire.NewAnswer(m, 0)).Uint32(wire.ResultCode, 2001).Text(wire.OriginHost, host))
			},
		}})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
		work.Go(func() { _ = n.Serve(ctx, lns[i]) })
		work.Go(func() { _ = n.Run(ctx) })
	}
	for i, n := range nodes {
		deadline := time.Now().Add(10 * time.Second)
		for {
			asking, stop := context.WithTimeout(ctx, time.Second)
			m, err := n.Do(asking, request(n), "")
			stop()
			if err == nil {
				if want := nodes[1-i].Host(); m.Text(wire.OriginHost) != want {
					t.Errorf("answer of %q, want %s", m.Text(wire.OriginHost), want)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := n.Peers(); len(got) != 1 {
			t.Errorf("%s has peers %v", n.Host(), got)
		}
	}
}

// TestStrangersAreRefused: what is accepted must introduce itself.
func TestStrangersAreRefused(t *testing.T) {
	synctestless, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	n, err := peer.New(peer.Config{Host: "gw.ims.test", Realm: "ims.test", Applications: []uint32{wire.Cx}, Watchdog: 6 * time.Second, Connect: time.Second},
		peer.Deps{Dictionary: synctestless, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.38.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { _ = n.Serve(ctx, ln) })
	work.Go(func() { _ = n.Run(ctx) })
	cer := func(host string, application uint32) *wire.Builder {
		return about(wire.NewRequest(nil, wire.CapabilitiesExchange, wire.Base, 0).Text(wire.OriginHost, host).Text(wire.OriginRealm, "ims.test")).Uint32(wire.AuthApplicationID, application)
	}
	for name, c := range map[string]struct {
		m    wire.Message
		code uint32 // 0: closed without an answer
	}{
		"no CER":               {rtr(nil), 0},
		"no application":       {build(cer("x.ims.test", 4)), wire.NoCommonApplication},
		"our own name":         {build(cer("gw.ims.test", wire.Cx)), wire.UnknownPeer},
		"name that is none":    {build(cer("x y", wire.Cx)), wire.InvalidAVPValue},
		"CER without vendor":   {build(wire.NewRequest(nil, 257, 0, 0).Text(wire.OriginHost, "x").Text(wire.OriginRealm, "y")), wire.MissingAVP},
		"unknown AVP with M":   {build(cer("x.ims.test", wire.Cx).Uint32(wire.Mandatory|8888, 1)), wire.AVPUnsupported},
		"not even Diameter":    {wire.Message("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 0},
		"right, for comparing": {build(cer("x.ims.test", wire.Cx)), wire.Success},
	} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = nc.Write(c.m)
		answer, err := wire.Read(nc)
		switch {
		case c.code == 0 && err == nil:
			t.Errorf("%s: answered", name)
		case c.code != 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code != 0:
			if code, _ := answer.Uint32(wire.ResultCode); code != c.code {
				t.Errorf("%s: got %d, want %d", name, code, c.code)
			}
		}
		if c.code != wire.Success {
			if _, err := wire.Read(nc); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: not closed: %v", name, err)
			} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: %v", name, err)
			}
		}
		_ = nc.Close()
	}
}
