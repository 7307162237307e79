package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// peer is a phone or a router on real sockets.
type peer struct {
	t     *testing.T
	layer *transport.Layer
	in    chan message
	stop  func()
}

type message struct {
	m *sip.Message
	f *transport.Flow
}

func (p *peer) Message(m *sip.Message, f *transport.Flow) { p.in <- message{m, f} }

func startPeer(t *testing.T, addr string) *peer {
	t.Helper()
	a := netip.MustParseAddrPort(addr)
	layer, err := transport.New(transport.Config{Sockets: 1, Listeners: []transport.Listener{
		{Transport: resolve.UDP, Addr: a}, {Transport: resolve.TCP, Addr: a},
	}}, transport.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, layer: layer, in: make(chan message, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = layer.Run(ctx, p) }()
	p.stop = func() { cancel(); <-done }
	t.Cleanup(p.stop)
	return p
}

func (p *peer) expect(what string) message {
	p.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case got := <-p.in:
			have := got.m.Method
			if !got.m.IsRequest() {
				have = fmt.Sprint(got.m.Status)
			}
			if have == what {
				return got
			}
			if have != "100" {
				p.t.Fatalf("got %s, want %s\n%s", have, what, got.m)
			}
		case <-deadline:
			p.t.Fatalf("nothing, want %s", what)
		}
	}
}

func (p *peer) send(to string, text string) {
	p.t.Helper()
	kind, addr, _ := strings.Cut(to, ":")
	tr, _ := resolve.ParseTransport(kind)
	var f *transport.Flow
	send := func() error {
		var err error
		f, err = p.layer.Flow(resolve.Hop{Addr: netip.MustParseAddrPort(addr), Transport: tr})
		if err == nil {
			err = f.Send([]byte(strings.ReplaceAll(strings.TrimLeft(text, "\n"), "\n", "\r\n")), nil)
		}
		return err
	}
	err := send()
	for deadline := time.Now().Add(5 * time.Second); errors.Is(err, transport.ErrClosed) && time.Now().Before(deadline); {
		err = send() // Run has just been started
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func reply(got message, status int, headers ...string) {
	m := got.m.NewResponse(status, "", "tag")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		m.AddNamed(name, value)
	}
	_ = got.f.Send(m.AppendTo(nil), nil)
}

func register(transport, addr string, seq int) string {
	return fmt.Sprintf(`REGISTER sip:ims.test SIP/2.0
Via: SIP/2.0/%[1]s %[2]s;branch=z9hG4bK%[1]s%[3]d;rport
From: <sip:%[1]s@ims.test>;tag=1
To: <sip:%[1]s@ims.test>
Call-ID: %[1]s
CSeq: %[3]d REGISTER
Contact: <sip:%[1]s@%[2]s>;expires=300
Max-Forwards: 70
Content-Length: 0

`, transport, addr, seq)
}

// The composed edge on real sockets: registrations over both transports, a call to each phone, a flow that closes, an
// I-CSCF that dies and comes back, and a drain.
func TestEdgeOnRealSockets(t *testing.T) {
	const local = "local_ip=127.23.4.1\npublic_ip=127.23.4.1\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test"
	o, _, err := config.Parse(config.File{Name: config.LocalFile, Text: local},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nflow_token_key=k\nedge_reg_event=N\nupstream_hostname=127.23.4.2\nupstream_port=5052\nsip_blacklist_duration=1"},
		config.File{Name: config.UserFile, Text: "upstream_connections=3"})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.23.4.9:53"}, Blacklist: time.Second}, resolve.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	router := startPeer(t, "127.23.4.2:5052")
	reg := prometheus.NewPedanticRegistry()
	e, err := compose(context.Background(), o, parts{options: func() *config.Options { return o }, resolver: resolver, log: slog.New(slog.DiscardHandler), metrics: reg})
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
	until(t, func() bool { return e.upstream.Ready() == nil })
	phone := startPeer(t, "127.23.4.3:5060")

	paths := map[string]string{}
	for _, kind := range []string{"udp", "tcp"} {
		phone.send(kind+":127.23.4.1:5060", register(kind, "127.23.4.3:5060", 1))
		up := router.expect("REGISTER")
		if up.f.Remote().Addr() != netip.MustParseAddr("127.23.4.1") || !up.f.Reliable() {
			t.Errorf("REGISTER came from %s", up.f.Hop())
		}
		paths[kind] = up.m.Get(sip.Path)
		reply(up, 200, "Contact: "+up.m.Get(sip.Contact), "Path: "+paths[kind], "Service-Route: <sip:127.23.4.2:5052;transport=tcp;lr;orig>")
		phone.expect("200")
	}
	if e.function.Registrations() != 2 {
		t.Errorf("%d registrations", e.function.Registrations())
	}

	call := func(kind string, n int) {
		router.send("tcp:127.23.4.1:5058", fmt.Sprintf("MESSAGE sip:%[1]s@127.23.4.3:5060 SIP/2.0\nVia: SIP/2.0/TCP 127.23.4.2:5052;branch=z9hG4bKm%[1]s%[2]d\nRoute: %[3]s\nFrom: <sip:x@ims.test>;tag=1\nTo: <sip:%[1]s@ims.test>\nCall-ID: m%[1]s%[2]d\nCSeq: 1 MESSAGE\nMax-Forwards: 9\nContent-Length: 2\n\nhi", kind, n, paths[kind]))
	}
	for _, kind := range []string{"udp", "tcp"} {
		call(kind, 1)
		got := phone.expect("MESSAGE")
		if got.f.Transport().String() != kind || got.m.Body != "hi" {
			t.Errorf("%s phone was reached over %s: %q", kind, got.f.Transport(), got.m.Body)
		}
		reply(got, 200)
		router.expect("200")
	}

	phone.stop() // every connection of the phone closes
	until(t, func() bool { return e.function.Registrations() == 1 })
	call("tcp", 2)
	router.expect("430")

	router.stop() // the I-CSCF dies and comes back
	until(t, func() bool { return e.upstream.Ready() != nil })
	router = startPeer(t, "127.23.4.2:5052")
	until(t, func() bool { return e.upstream.Ready() == nil })
	phone = startPeer(t, "127.23.4.3:5060")
	phone.send("udp:127.23.4.1:5060", strings.Replace(register("udp", "127.23.4.3:5060", 2), "expires=300", "expires=0", 1))
	reply(router.expect("REGISTER"), 200)
	phone.expect("200")

	drain, cancelDrain := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancelDrain()
	if err := e.Drain(drain); err != nil {
		t.Errorf("drain: %v, %d registrations", err, e.function.Registrations())
	}
	phone.send("tcp:127.23.4.1:5060", register("tcp", "127.23.4.3:5060", 3))
	phone.expect("305")
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("condition did not come true")
		}
	}
}
