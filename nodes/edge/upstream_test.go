package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// zoneServer is a name server whose records a test changes.
type zoneServer struct {
	addr    string
	mu      sync.Mutex
	records []dns.RR
}

func startZone(t *testing.T, ip string) *zoneServer {
	t.Helper()
	sock, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	z := &zoneServer{addr: sock.LocalAddr().String()}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: sock, Handler: z, NotifyStartedFunc: func() { close(started) }}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); <-done })
	return z
}

func (z *zoneServer) set(t *testing.T, records ...string) {
	t.Helper()
	var rrs []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = rrs
}

func (z *zoneServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	for _, rr := range z.records {
		if strings.EqualFold(rr.Header().Name, q.Question[0].Name) && rr.Header().Rrtype == q.Question[0].Qtype {
			a.Answer = append(a.Answer, rr)
		}
	}
	_ = w.WriteMsg(a)
}

// counter is a router that answers everything and knows over which connections what came.
type counter struct {
	mu    sync.Mutex
	conns map[transport.ID]bool
	count map[string]int // by method and port
	route string
}

func (c *counter) Message(m *sip.Message, f *transport.Flow) {
	if !m.IsRequest() {
		return
	}
	c.mu.Lock()
	c.conns[f.ID()] = true
	c.count[fmt.Sprint(m.Method, " ", f.Local().Port())]++
	c.mu.Unlock()
	ok := m.NewResponse(200, "", "t")
	if m.Method == sip.REGISTER {
		ok.Add(sip.Contact, m.Get(sip.Contact))
		ok.Add(sip.ServiceRoute, c.route)
	}
	_ = f.Send(ok.AppendTo(nil), nil)
}

func (c *counter) got(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count[what]
}

func startCounter(t *testing.T, ip string) *counter {
	t.Helper()
	c := &counter{conns: map[transport.ID]bool{}, count: map[string]int{}, route: "<sip:scscf.router.ims.test;transport=TCP;lr;orig>"}
	var ls []transport.Listener
	for _, port := range []uint16{5052, 5054} {
		ls = append(ls, transport.Listener{Transport: resolve.TCP, Addr: netip.AddrPortFrom(netip.MustParseAddr(ip), port)})
	}
	layer, err := transport.New(transport.Config{Listeners: ls}, transport.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = layer.Run(ctx, c) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// E18: the edge finds the I-CSCFs by SRV (upstream_port=0), spreads its connections over them, and gives a router that
// appears in DNS its share of registrations and calls without a restart; one that vanishes gets none. Requests along a
// Service-Route use the pool to the S-CSCFs, however many they are.
func TestUpstreamFollowsDNS(t *testing.T) {
	const edge, one, two = "127.33.2.1", "127.33.2.2", "127.33.2.3"
	z := startZone(t, "127.33.2.9")
	publish := func(routers ...string) {
		var records []string
		for i, ip := range routers {
			records = append(records, fmt.Sprintf("r%d.ims.test. 1 A %s", i, ip),
				fmt.Sprintf("_sip._tcp.icscf.router.ims.test. 1 SRV 1 1 5052 r%d.ims.test.", i), fmt.Sprintf("_sip._tcp.scscf.router.ims.test. 1 SRV 1 1 5054 r%d.ims.test.", i))
		}
		z.set(t, records...)
	}
	publish(one)
	first, second := startCounter(t, one), startCounter(t, two)
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: "local_ip=" + edge + "\npublic_ip=" + edge + "\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test"},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nflow_token_key=k\nedge_reg_event=N\nupstream_port=0\nbono_max_tokens=100000\nbono_init_token_rate=100000\nbono_min_token_rate=100000\nbono_target_latency_us=60000000\nbono_request_queue_timeout=60000"},
		config.File{Name: config.UserFile, Text: "upstream_connections=10"})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := resolve.New(resolve.Config{Servers: []string{z.addr}, Blacklist: time.Second}, resolve.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := compose(t.Context(), o, parts{options: func() *config.Options { return o }, resolver: resolver, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	until(t, func() bool { return e.upstream.Ready() == nil && e.serving.Ready() == nil })

	phone := startPeer(t, "127.33.2.4:5060")
	seq := 0
	load := func(n int) {
		for range n {
			seq++
			phone.send("udp:"+edge+":5060", register("udp", "127.33.2.4:5060", seq))
			phone.expect("200")
			phone.send("udp:"+edge+":5060", fmt.Sprintf("MESSAGE sip:b@ims.test SIP/2.0\nVia: SIP/2.0/UDP 127.33.2.4:5060;branch=z9hG4bKm%[1]d\nFrom: <sip:udp@ims.test>;tag=1\nTo: <sip:b@ims.test>\nCall-ID: m%[1]d\nCSeq: 1 MESSAGE\nMax-Forwards: 70\nContent-Length: 0\n\n", seq))
			phone.expect("200")
		}
	}
	load(40)
	if r, m := first.got("REGISTER 5052"), first.got("MESSAGE 5054"); r != 40 || m != 40 {
		t.Errorf("the only router got %d REGISTERs and %d MESSAGEs", r, m)
	}
	first.mu.Lock()
	if n := len(first.conns); n > 12 || n < 6 { // 10 and 2; turns need not reach each in 40
		t.Errorf("80 requests came over %d connections", n)
	}
	first.mu.Unlock()

	publish(one, two)
	until(t, func() bool { load(1); return second.got("REGISTER 5052") > 0 && second.got("MESSAGE 5054") > 0 })
	before, beforeCalls := second.got("REGISTER 5052"), second.got("MESSAGE 5054")
	load(60)
	if r, m := second.got("REGISTER 5052")-before, second.got("MESSAGE 5054")-beforeCalls; r < 15 || r > 45 || m < 15 || m > 45 {
		t.Errorf("the new router got %d REGISTERs and %d MESSAGEs of 60", r, m)
	}

	publish(two)
	r, m, since := 0, 0, time.Now()
	until(t, func() bool { // its last answers of DNS run out after a second, each at its own time
		load(1)
		if nr, nm := first.got("REGISTER 5052"), first.got("MESSAGE 5054"); nr != r || nm != m {
			r, m, since = nr, nm, time.Now()
		}
		return time.Since(since) > 1500*time.Millisecond
	})
	load(20)
	if first.got("REGISTER 5052") != r || first.got("MESSAGE 5054") != m {
		t.Error("a router that is not in DNS gets requests")
	}
}
