// Package proxytest runs a proxy core with its functions on a network in memory, with scripted peers around it, for
// tests in the fake time of testing/synctest. No sockets are used.
package proxytest

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// Names resolves from a table: host to "udp:addr:port" hops, tried in order. Numeric hosts resolve to themselves.
type Names map[string][]string

// SIP implements proxy.Resolver.
func (n Names) SIP(_ context.Context, t resolve.Target) ([]resolve.Hop, error) {
	if addr, ok := resolve.ParseHost(t.Host); ok {
		port, transport := t.Port, t.Transport
		if port == 0 {
			port = 5060
		}
		if transport == resolve.None {
			transport = resolve.UDP
		}
		return []resolve.Hop{{Addr: netip.AddrPortFrom(addr, port), Transport: transport}}, nil
	}
	var hops []resolve.Hop
	for _, text := range n[t.Host] {
		transport, addr, _ := strings.Cut(text, ":")
		kind, _ := resolve.ParseTransport(transport)
		hops = append(hops, resolve.Hop{Addr: netip.MustParseAddrPort(addr), Transport: kind})
	}
	if len(hops) == 0 {
		return nil, resolve.ErrNotFound
	}
	return hops, nil
}

// Report implements proxy.Resolver.
func (Names) Report(resolve.Hop, bool) {}

// Start runs a core on the network at the listeners until the test's context ends. It fills what cfg leaves open.
func Start(t *testing.T, ctx context.Context, network *transporttest.Network, cfg proxy.Config, names proxy.Resolver, listeners ...transport.Listener) *proxy.Core {
	t.Helper()
	node := network.Node(nil, listeners...)
	if cfg.SentBy == nil {
		cfg.SentBy = func(f proxy.Flow) string {
			for _, l := range listeners {
				if l.Transport == f.Transport() {
					return l.Addr.String()
				}
			}
			return listeners[0].Addr.String()
		}
	}
	if cfg.Local == nil {
		cfg.Local = func(sip.URI) proxy.Function { return nil }
	}
	core := proxy.New(cfg, proxy.Deps{Resolver: names, Wire: node})
	node.Handle(core)
	done := make(chan struct{})
	go func() { defer close(done); _ = core.Run(ctx) }()
	t.Cleanup(func() { <-done })
	return core
}

// Peer is a phone or server that a test plays by hand.
type Peer struct {
	t     *testing.T
	node  *transporttest.Node
	net   *transporttest.Network
	Addr  string
	inbox chan got
	last  proxy.Flow
	seq   int
}

type got struct {
	m *sip.Message
	f proxy.Flow
}

// NewPeer adds a peer that listens on UDP and TCP at addr.
func NewPeer(t *testing.T, network *transporttest.Network, addr string) *Peer {
	p := &Peer{t: t, net: network, Addr: addr, inbox: make(chan got, 1000)}
	p.node = network.Node(p, transporttest.UDP("", addr), transporttest.TCP("", addr))
	return p
}

// NewDatagramPeer adds a peer that listens on UDP only: connections to it are refused.
func NewDatagramPeer(t *testing.T, network *transporttest.Network, addr string) *Peer {
	p := &Peer{t: t, net: network, Addr: addr, inbox: make(chan got, 1000)}
	p.node = network.Node(p, transporttest.UDP("", addr))
	return p
}

// Network is where the peer lives.
func (p *Peer) Network() *transporttest.Network { return p.net }

// Message implements transport.Handler.
func (p *Peer) Message(m *sip.Message, f *transport.Flow) { p.inbox <- got{m, f} }

// Expect waits for a message that starts with the given words: a method, or a status such as "180". A 100 in between
// is read past unless it is what is expected. It fails the test after 60 s of (fake) time.
func (p *Peer) Expect(what string) *sip.Message {
	p.t.Helper()
	for {
		select {
		case g := <-p.inbox:
			if have := describe(g.m); have != what {
				if have == "100" {
					continue
				}
				p.t.Fatalf("%s: got %s, want %s\n%s", p.Addr, have, what, g.m)
			}
			if g.m.IsRequest() {
				p.last = g.f
			}
			return g.m
		case <-time.After(60 * time.Second):
			p.t.Fatalf("%s: nothing, want %s", p.Addr, what)
		}
	}
}

// Maybe returns the next message that is no 100, nil when none comes within d.
func (p *Peer) Maybe(d time.Duration) *sip.Message {
	deadline := time.After(d)
	for {
		select {
		case g := <-p.inbox:
			if describe(g.m) == "100" {
				continue
			}
			if g.m.IsRequest() {
				p.last = g.f
			}
			return g.m
		case <-deadline:
			return nil
		}
	}
}

// Quiet fails the test if anything but 100 comes within d.
func (p *Peer) Quiet(d time.Duration) {
	p.t.Helper()
	deadline := time.After(d)
	for {
		select {
		case g := <-p.inbox:
			if describe(g.m) != "100" {
				p.t.Fatalf("%s: got %s, want silence\n%s", p.Addr, describe(g.m), g.m)
			}
		case <-deadline:
			return
		}
	}
}

func describe(m *sip.Message) string {
	if m.IsRequest() {
		return m.Method
	}
	return fmt.Sprint(m.Status)
}

// Send sends a message as text to "udp:addr:port" or "tcp:addr:port". Lines may end in LF; headers are as written, with
// Via, Max-Forwards and Content-Length added when they are missing.
func (p *Peer) Send(to, text string) *sip.Message {
	p.t.Helper()
	m := p.Parse(text)
	transport, addr, _ := strings.Cut(to, ":")
	kind, _ := resolve.ParseTransport(transport)
	if !m.Has(sip.Via) {
		p.t.Fatalf("no Via in\n%s", m)
	}
	f, err := p.node.Flow(resolve.Hop{Addr: netip.MustParseAddrPort(addr), Transport: kind})
	if err == nil {
		err = f.Send(m.AppendTo(nil), nil)
	}
	if err != nil {
		p.t.Fatalf("sending to %s: %v", to, err)
	}
	return m
}

// Parse reads a message as Send does.
func (p *Peer) Parse(text string) *sip.Message {
	p.t.Helper()
	if strings.Contains(text, "\r\n") { // a message that was printed
		m, err := sip.Parse([]byte(text))
		if err != nil {
			p.t.Fatalf("test message: %v\n%s", err, text)
		}
		return m
	}
	head, body, _ := strings.Cut(strings.TrimLeft(text, "\n"), "\n\n")
	if !strings.Contains(head, "\nVia:") {
		p.seq++
		first, rest, _ := strings.Cut(head, "\n")
		head = fmt.Sprintf("%s\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-%s-%d;rport\n%s", first, p.Addr, strings.ReplaceAll(p.Addr, ":", "-"), p.seq, rest)
	}
	if !strings.Contains(head, "\nMax-Forwards:") && !strings.HasPrefix(head, "SIP/2.0") {
		head += "\nMax-Forwards: 70"
	}
	full := strings.ReplaceAll(strings.TrimRight(head, "\n"), "\n", "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body)) + body
	m, err := sip.Parse([]byte(full))
	if err != nil {
		p.t.Fatalf("test message: %v\n%s", err, full)
	}
	return m
}

// Reply answers a request on the flow on which it came, with extra header lines.
func (p *Peer) Reply(req *sip.Message, status int, extra ...string) *sip.Message {
	p.t.Helper()
	m := req.NewResponse(status, "", "tag-"+strings.ReplaceAll(p.Addr, ":", "-"))
	for _, line := range extra {
		name, value, _ := strings.Cut(line, ": ")
		m.AddNamed(name, value)
	}
	if err := p.last.Send(m.AppendTo(nil), nil); err != nil {
		p.t.Fatalf("answering: %v", err)
	}
	return m
}

// Sever breaks every connection of the peer, which lives on.
func (p *Peer) Sever() { p.node.Sever() }
