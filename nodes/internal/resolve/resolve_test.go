package resolve

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a name server whose behaviour a test can change.
type zone struct {
	addr  string
	mu    sync.Mutex
	rrs   []string
	rcode int
	mute  bool
	cut   bool // truncate over UDP
	asked atomic.Int64
	hold  chan struct{} // if set, answers wait for it
}

func startZone(t *testing.T, rrs ...string) *zone {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.23.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{addr: pc.LocalAddr().String(), rrs: rrs}
	ln, err := net.Listen("tcp", z.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: ln, Handler: z}} {
		done := make(chan struct{})
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return z
}

func (z *zone) set(f func()) { z.mu.Lock(); defer z.mu.Unlock(); f() }

func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.asked.Add(1)
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.hold != nil {
		<-z.hold
	}
	if z.mute {
		return
	}
	m := new(dns.Msg)
	m.SetRcode(q, z.rcode)
	if z.cut && w.LocalAddr().Network() == "udp" {
		m.Truncated = true
		_ = w.WriteMsg(m)
		return
	}
	known := false
	for _, text := range z.rrs {
		rr, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if !strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
			continue
		}
		known = true
		if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !known && z.rcode == dns.RcodeSuccess {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.now }
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newResolver(t *testing.T, cfg Config) (*Resolver, *clock) {
	t.Helper()
	c := &clock{now: time.Unix(1e9, 0)}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Second // long: only tests of silence wait for it
	}
	r, err := New(cfg, Deps{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

func sip(t *testing.T, r *Resolver, target Target) []string {
	t.Helper()
	hops, err := r.SIP(t.Context(), target)
	if err != nil {
		t.Fatalf("SIP(%+v): %v", target, err)
	}
	var out []string
	for _, h := range hops {
		out = append(out, h.String())
	}
	return out
}

func TestSIPFollowsRFC3263(t *testing.T) {
	z := startZone(t,
		`home.test. 60 IN NAPTR 20 10 "s" "SIP+D2U" "" _sip._udp.home.test.`,
		`home.test. 60 IN NAPTR 10 10 "s" "SIP+D2T" "" _sip._tcp.home.test.`,
		`home.test. 60 IN NAPTR 5 10 "s" "SIP+D2S" "" _sip._sctp.home.test.`,
		`_sip._tcp.home.test. 60 IN SRV 2 0 5061 b.home.test.`,
		`_sip._tcp.home.test. 60 IN SRV 1 0 5060 a.home.test.`,
		`_sip._udp.home.test. 60 IN SRV 1 0 5070 a.home.test.`,
		`_sips._tcp.home.test. 60 IN SRV 1 0 5081 a.home.test.`,
		`home.test. 60 IN A 10.0.0.9`,
		`a.home.test. 60 IN A 10.0.0.1`,
		`b.home.test. 60 IN A 10.0.0.2`,
		`plain.test. 60 IN A 10.0.1.1`,
		`srvonly.test. 60 IN TXT "x"`,
		`_sip._tcp.srvonly.test. 60 IN SRV 1 0 5099 a.home.test.`,
		`six.test. 60 IN AAAA 2001:db8::1`,
		`gone.test. 60 IN TXT "x"`,
		`_sip._udp.gone.test. 60 IN SRV 0 0 0 .`,
		`half.test. 60 IN TXT "x"`,
		`_sip._udp.half.test. 60 IN SRV 1 0 5060 nowhere.test.`,
		`_sip._udp.half.test. 60 IN SRV 2 0 5060 a.home.test.`,
		`alias.test. 60 IN CNAME plain.test.`,
	)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	for _, c := range []struct {
		name   string
		target Target
		want   []string
	}{
		{"NAPTR order wins, unknown service skipped", Target{Host: "home.test"}, []string{"tcp:10.0.0.1:5060", "tcp:10.0.0.2:5061"}},
		{"transport given: SRV of it", Target{Host: "HOME.test", Transport: UDP}, []string{"udp:10.0.0.1:5070"}},
		{"port given: addresses only", Target{Host: "home.test", Port: 5054, Transport: TCP}, []string{"tcp:10.0.0.9:5054"}},
		{"port given, no transport: UDP", Target{Host: "home.test", Port: 5054}, []string{"udp:10.0.0.9:5054"}},
		{"sips: TLS", Target{Host: "home.test", Scheme: "sips"}, []string{"tls:10.0.0.1:5081"}},
		{"sips with transport tcp: TLS", Target{Host: "10.1.1.1", Scheme: "sips", Transport: TCP}, []string{"tls:10.1.1.1:5061"}},
		{"numeric", Target{Host: "10.1.1.1"}, []string{"udp:10.1.1.1:5060"}},
		{"numeric with all", Target{Host: "10.1.1.1", Port: 7, Transport: TCP}, []string{"tcp:10.1.1.1:7"}},
		{"numeric IPv6 reference", Target{Host: "[::1]", Transport: TCP}, []string{"tcp:[::1]:5060"}},
		{"nothing but A: UDP 5060", Target{Host: "plain.test"}, []string{"udp:10.0.1.1:5060"}},
		{"no NAPTR: SRV of what we speak", Target{Host: "srvonly.test"}, []string{"tcp:10.0.0.1:5099"}},
		{"AAAA when there is no A", Target{Host: "six.test"}, []string{"udp:[2001:db8::1]:5060"}},
		{"dead SRV target does not hide others", Target{Host: "half.test"}, []string{"udp:10.0.0.1:5060"}},
		{"CNAME followed by a second question", Target{Host: "alias.test", Port: 1}, []string{"udp:10.0.1.1:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sip(t, r, c.target); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	for _, host := range []string{"gone.test", "never.test"} {
		if _, err := r.SIP(t.Context(), Target{Host: host}); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", host, err)
		}
	}
}

func TestWeightsShareTraffic(t *testing.T) {
	z := startZone(t,
		`_sip._tcp.w.test. 60 IN SRV 1 30 5060 a.w.test.`,
		`_sip._tcp.w.test. 60 IN SRV 1 10 5060 b.w.test.`,
		`_sip._tcp.w.test. 60 IN SRV 1 0 5060 c.w.test.`,
		`_sip._tcp.w.test. 60 IN SRV 2 90 5060 d.w.test.`,
		`a.w.test. 60 IN A 10.0.0.1`, `b.w.test. 60 IN A 10.0.0.2`, `c.w.test. 60 IN A 10.0.0.3`, `d.w.test. 60 IN A 10.0.0.4`)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	first := map[string]int{}
	for range 4000 {
		hops := sip(t, r, Target{Host: "w.test", Transport: TCP})
		first[hops[0]]++
		if len(hops) != 4 || hops[3] != "tcp:10.0.0.4:5060" || hops[2] != "tcp:10.0.0.3:5060" {
			t.Fatalf("order %v: the weightless one must be third, priority 2 last", hops)
		}
	}
	if a := first["tcp:10.0.0.1:5060"]; a < 2800 || a > 3200 {
		t.Errorf("weight 30 of 40 was first %d of 4000 times", a)
	}
	if n := z.asked.Load(); n > 12 {
		t.Errorf("%d questions for cached names", n)
	}
}

func TestServersAreTriedInOrder(t *testing.T) {
	const rr = `h.test. 1 IN A 10.0.0.1`
	silent, broken, good := startZone(t), startZone(t), startZone(t, rr)
	silent.set(func() { silent.mute = true })
	broken.set(func() { broken.rcode = dns.RcodeServerFailure })
	r, clk := newResolver(t, Config{Servers: []string{silent.addr, broken.addr, good.addr}, Timeout: 50 * time.Millisecond})
	want := []string{"udp:10.0.0.1:9"}
	if got := sip(t, r, Target{Host: "h.test", Port: 9}); !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
	if silent.asked.Load() != 1 || broken.asked.Load() != 1 {
		t.Fatalf("asked %d, %d", silent.asked.Load(), broken.asked.Load())
	}
	clk.advance(2 * time.Second) // TTL over, but the silent server still rests
	sip(t, r, Target{Host: "h.test", Port: 9})
	if silent.asked.Load() != 1 {
		t.Error("a server that was silent a moment ago was asked first again")
	}
	clk.advance(serverRest)
	sip(t, r, Target{Host: "h.test", Port: 9})
	if silent.asked.Load() != 2 {
		t.Error("a silent server was given up for good")
	}
}

func TestStaleAnswersOutliveServers(t *testing.T) {
	z := startZone(t, `h.test. 5 IN A 10.0.0.1`)
	r, clk := newResolver(t, Config{Servers: []string{z.addr}})
	sip(t, r, Target{Host: "h.test", Port: 9})
	z.set(func() { z.rcode = dns.RcodeServerFailure })
	clk.advance(time.Hour)
	if got := sip(t, r, Target{Host: "h.test", Port: 9}); got[0] != "udp:10.0.0.1:9" {
		t.Fatalf("stale answer %v", got)
	}
	asked := z.asked.Load()
	sip(t, r, Target{Host: "h.test", Port: 9})
	if z.asked.Load() != asked {
		t.Error("servers asked again at once while they are down")
	}
	z.set(func() { z.rcode, z.rrs = dns.RcodeSuccess, []string{`h.test. 5 IN A 10.0.0.2`} })
	clk.advance(staleRetry)
	if got := sip(t, r, Target{Host: "h.test", Port: 9}); got[0] != "udp:10.0.0.2:9" {
		t.Errorf("after recovery %v", got)
	}
	z.set(func() { z.rcode = dns.RcodeServerFailure })
	clk.advance(staleKeep + time.Hour)
	if _, err := r.SIP(t.Context(), Target{Host: "h.test", Port: 9}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("far too old an answer: %v", err)
	}
}

func TestAbsenceIsRememberedShortly(t *testing.T) {
	z := startZone(t)
	r, clk := newResolver(t, Config{Servers: []string{z.addr}})
	for range 3 {
		if _, err := r.Addrs(t.Context(), "new.test", 80); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	if n := z.asked.Load(); n != 2 { // A and AAAA
		t.Errorf("%d questions, want 2", n)
	}
	z.set(func() { z.rrs = []string{`new.test. 5 IN A 10.0.0.1`} })
	clk.advance(negativeTTL)
	got, err := r.Addrs(t.Context(), "new.test", 80)
	if err != nil || !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}) {
		t.Errorf("%v %v", got, err)
	}
}

func TestNothingAnswers(t *testing.T) {
	z := startZone(t)
	z.set(func() { z.mute = true })
	r, _ := newResolver(t, Config{Servers: []string{z.addr}, Timeout: 20 * time.Millisecond})
	if _, err := r.Addrs(t.Context(), "h.test", 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Addrs(ctx, "other.test", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOneQuestionForManyCallers(t *testing.T) {
	z := startZone(t, `h.test. 60 IN A 10.0.0.1`)
	hold := make(chan struct{})
	z.set(func() { z.hold = hold })
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := r.Addrs(t.Context(), "h.test", 1); err != nil {
				t.Error(err)
			}
		})
	}
	close(hold)
	wg.Wait()
	if n := z.asked.Load(); n != 1 {
		t.Errorf("%d questions", n)
	}
}

func TestTruncatedAnswerIsAskedOverTCP(t *testing.T) {
	z := startZone(t, `h.test. 60 IN A 10.0.0.1`)
	z.set(func() { z.cut = true })
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	if got, err := r.Addrs(t.Context(), "h.test", 1); err != nil || len(got) != 1 {
		t.Errorf("%v %v", got, err)
	}
}

func TestOverrides(t *testing.T) {
	z := startZone(t, `real.test. 60 IN A 10.0.0.1`)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	o, err := ParseOverrides(`{"hostnames":[{"name":"Made.Up","records":[{"rrtype":"CNAME","target":"real.test"}]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	r.SetOverrides(o)
	if got := sip(t, r, Target{Host: "made.up"}); got[0] != "udp:10.0.0.1:5060" {
		t.Errorf("got %v", got)
	}
	for _, bad := range []string{
		`{`, `{"hostnames":[{"name":"","records":[]}]}`,
		`{"hostnames":[{"name":"a","records":[]}]}`,
		`{"hostnames":[{"name":"a","records":[{"rrtype":"A","target":"b"}]}]}`,
		`{"hostnames":[{"name":"a","records":[{"rrtype":"CNAME","target":""}]}]}`,
	} {
		if _, err := ParseOverrides(bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestBlacklist(t *testing.T) {
	z := startZone(t,
		`_sip._tcp.b.test. 600 IN SRV 1 0 5060 a.b.test.`, `_sip._tcp.b.test. 600 IN SRV 2 0 5060 b.b.test.`,
		`a.b.test. 600 IN A 10.0.0.1`, `b.b.test. 600 IN A 10.0.0.2`)
	r, clk := newResolver(t, Config{Servers: []string{z.addr}, Blacklist: 30 * time.Second})
	first := func() string { return sip(t, r, Target{Host: "b.test", Transport: TCP})[0] }
	a := Hop{Addr: netip.MustParseAddrPort("10.0.0.1:5060"), Transport: TCP}
	const one, two = "tcp:10.0.0.1:5060", "tcp:10.0.0.2:5060"
	expect := func(step, want string) {
		t.Helper()
		if got := first(); got != want {
			t.Errorf("%s: first is %s, want %s", step, got, want)
		}
	}
	expect("white", one)
	r.Report(Hop{Addr: a.Addr, Transport: UDP}, false)
	expect("other transport failed", one)
	r.Report(a, false)
	expect("black", two)
	if n := len(sip(t, r, Target{Host: "b.test", Transport: TCP})); n != 2 {
		t.Errorf("a black hop is still the last resort, got %d hops", n)
	}
	clk.advance(30 * time.Second)
	expect("grey: one probe", one)
	expect("grey: no second probe", two)
	r.Report(a, false)
	expect("probe failed: black again", two)
	clk.advance(30 * time.Second)
	expect("grey again", one)
	r.Report(a, true)
	expect("probe succeeded: white", one)
	expect("white for all", one)
	r.Report(a, false)
	clk.advance(61 * time.Second)
	expect("grey time over without a probe: white", one)
	expect("white for all", one)
}

// The name of an S-CSCF that all sites share (dns_json leads it to this site's) has this site's servers; with a port it
// means addresses only.
func TestOverriddenNameHasTheServicesOfTheOther(t *testing.T) {
	z := startZone(t,
		`_sip._tcp.scscf.site1.test. 60 IN SRV 1 1 5054 one.site1.test.`, `_sip._tcp.scscf.site1.test. 60 IN SRV 2 1 5055 two.site1.test.`,
		`one.site1.test. 60 IN A 10.0.0.1`, `two.site1.test. 60 IN A 10.0.0.2`, `scscf.site1.test. 60 IN A 10.0.0.3`,
		`_sip._tcp.scscf.test. 60 IN SRV 1 1 5054 other.test.`, `other.test. 60 IN A 10.9.9.9`)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	r.SetOverrides(must(ParseOverrides(`{"hostnames":[{"name":"scscf.test","records":[{"rrtype":"CNAME","target":"scscf.site1.test"}]}]}`)))
	for target, want := range map[Target]string{
		{Host: "scscf.test", Transport: TCP}:                            "tcp:10.0.0.1:5054 tcp:10.0.0.2:5055",
		{Host: "SCSCF.test", Transport: TCP, Port: 5054}:                "tcp:10.0.0.3:5054",
		{Host: "scscf.site1.test", Transport: TCP, Port: 5060}:          "tcp:10.0.0.3:5060",
		{Host: "other.test", Transport: TCP, Port: 5060, Scheme: "sip"}: "tcp:10.9.9.9:5060",
	} {
		if got := strings.Join(sip(t, r, target), " "); got != want {
			t.Errorf("%+v leads to %s, want %s", target, got, want)
		}
	}
}

// A proxy is stateless by the name that SIP gives it, not by its addresses; being black has nothing to do with that.
func TestStatelessProxies(t *testing.T) {
	z := startZone(t, `a.test. 600 IN A 10.0.0.1`, `a.test. 600 IN A 10.0.0.2`, `b.test. 600 IN A 10.0.0.1`)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}, Blacklist: 30 * time.Second})
	r.SetStateless([]string{"A.test."})
	stateless := func(host string) (hops []Hop) {
		t.Helper()
		hops, err := r.SIP(t.Context(), Target{Host: host, Port: 5060, Transport: TCP})
		if err != nil {
			t.Fatal(err)
		}
		for _, hop := range hops {
			if hop.Stateless != (host != "b.test") {
				t.Errorf("%s: %+v", host, hop)
			}
		}
		return hops
	}
	hops := stateless("a.test")
	stateless("b.test")
	r.Report(hops[0], false)
	if again := stateless("a.test"); again[0] == hops[0] {
		t.Error("a stateless proxy that cannot be reached is not black")
	}
	r.SetStateless(nil)
	for _, hop := range must(r.SIP(t.Context(), Target{Host: "a.test", Port: 5060, Transport: TCP})) {
		if hop.Stateless {
			t.Error("the old names stay in force")
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPreferredIsOnePriority(t *testing.T) {
	z := startZone(t,
		`_sip._tcp.p.test. 600 IN SRV 1 1 5060 a.p.test.`, `_sip._tcp.p.test. 600 IN SRV 1 1 5060 b.p.test.`,
		`_sip._tcp.p.test. 600 IN SRV 2 1 5060 c.p.test.`,
		`a.p.test. 600 IN A 10.0.0.1`, `b.p.test. 600 IN A 10.0.0.2`, `c.p.test. 600 IN A 10.0.0.3`)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}, Blacklist: 30 * time.Second})
	expect := func(want ...string) {
		t.Helper()
		hops, err := r.Preferred(t.Context(), Target{Host: "p.test", Transport: TCP})
		var got []string
		for _, h := range hops {
			got = append(got, h.Addr.Addr().String())
		}
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v %v, want %v", got, err, want)
		}
	}
	black := func(addr string) { r.Report(Hop{Addr: netip.MustParseAddrPort(addr + ":5060"), Transport: TCP}, false) }
	expect("10.0.0.1", "10.0.0.2")
	black("10.0.0.1")
	expect("10.0.0.2")
	black("10.0.0.2")
	expect("10.0.0.3")
	black("10.0.0.3")
	expect("10.0.0.1", "10.0.0.2")
}

func TestNewRefusesBadServers(t *testing.T) {
	for _, servers := range [][]string{nil, {"a"}, {"1.1.1.1", "1.1.1.1", "1.1.1.1", "1.1.1.1"}, {"1.1.1.1:x"}} {
		if _, err := New(Config{Servers: servers}, Deps{}); err == nil {
			t.Errorf("%v was accepted", servers)
		}
	}
	if _, err := New(Config{Servers: []string{"1.1.1.1", "[::1]:53", "::1"}}, Deps{}); err != nil {
		t.Error(err)
	}
}

func BenchmarkSIPCached(b *testing.B) {
	r, err := New(Config{Servers: []string{"127.23.1.1:1"}}, Deps{})
	if err != nil {
		b.Fatal(err)
	}
	for _, text := range []string{`_sip._tcp.b.test. 600 IN SRV 1 0 5060 a.b.test.`, `a.b.test. 600 IN A 10.0.0.1`} {
		rr, _ := dns.NewRR(text)
		r.cache.put(question{rr.Header().Name, rr.Header().Rrtype}, answer{[]dns.RR{rr}, time.Now().Add(time.Hour), time.Now().Add(time.Hour)}, time.Now())
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.SIP(b.Context(), Target{Host: "b.test", Transport: TCP}); err != nil {
			b.Fatal(err)
		}
	}
}
