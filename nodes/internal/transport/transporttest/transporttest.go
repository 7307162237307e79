// Package transporttest is a network in memory for tests of what stands on package transport. It needs no sockets, so
// it works with the fake time of testing/synctest. Messages really are printed and parsed again on the way.
package transporttest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// Network joins nodes. Deliveries between two nodes keep their order.
type Network struct {
	ctx    context.Context //nolint:containedctx // the test's life
	mu     sync.Mutex
	nodes  map[netip.AddrPort]*Node // by listener address; UDP and TCP share it
	serial uint64
	port   uint16
	drop   func(from, to netip.AddrPort, m *sip.Message) bool
	delay  time.Duration
	group  sync.WaitGroup
}

// NewNetwork makes a network whose goroutines end with the test (inside a synctest bubble: before the bubble does).
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n := &Network{ctx: ctx, nodes: map[netip.AddrPort]*Node{}, port: 40000}
	t.Cleanup(func() { cancel(); n.group.Wait() })
	return n
}

// Drop loses every message for which f says so; nil loses none. On a connection only use it for peers that hang.
func (n *Network) Drop(f func(from, to netip.AddrPort, m *sip.Message) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = f
}

// Delay is how long each delivery takes from now on.
func (n *Network) Delay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = d
}

// Node is one machine; it has the methods of transport.Layer that a user of flows calls.
type Node struct {
	net       *Network
	listeners []transport.Listener
	handler   transport.Handler
	inbox     chan delivery
	mu        sync.Mutex
	dead      bool
	links     map[netip.AddrPort]*link // connections by remote address
	serials   map[uint64]*link
}

type delivery struct {
	data []byte
	flow *transport.Flow
	from netip.AddrPort
	due  time.Time
}

// Node adds a machine that listens at the given places and hands what arrives to h, from one goroutine, in order.
// The handler may be set later with Handle, but before the first message.
func (n *Network) Node(h transport.Handler, listeners ...transport.Listener) *Node {
	node := &Node{
		net: n, listeners: listeners, handler: h, inbox: make(chan delivery, 10000),
		links: map[netip.AddrPort]*link{}, serials: map[uint64]*link{},
	}
	n.mu.Lock()
	for _, l := range listeners {
		n.nodes[l.Addr] = node
	}
	n.mu.Unlock()
	n.group.Go(node.run)
	return node
}

// UDP and TCP make a Listener from "address:port".
func UDP(name, addr string) transport.Listener {
	return transport.Listener{Name: name, Transport: resolve.UDP, Addr: netip.MustParseAddrPort(addr)}
}

// TCP makes a Listener from "address:port".
func TCP(name, addr string) transport.Listener {
	return transport.Listener{Name: name, Transport: resolve.TCP, Addr: netip.MustParseAddrPort(addr)}
}

// Handle sets the handler.
func (n *Node) Handle(h transport.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handler = h
}

// Listeners is as transport.Layer's.
func (n *Node) Listeners() []transport.Listener { return n.listeners }

// Flow is as transport.Layer's.
func (n *Node) Flow(hop resolve.Hop) (*transport.Flow, error) { return n.FlowFrom("", hop) }

// FlowFrom is as transport.Layer's.
func (n *Node) FlowFrom(listener string, hop resolve.Hop) (*transport.Flow, error) {
	for _, l := range n.listeners {
		if l.Transport != hop.Transport || (listener != "" && l.Name != listener) {
			continue
		}
		if hop.Transport == resolve.UDP {
			return n.udpFlow(l, hop.Addr), nil
		}
		return n.connect(l, hop.Addr).flow, nil
	}
	return nil, fmt.Errorf("sending to %s: %w", hop, transport.ErrUnsupported)
}

// Lookup is as transport.Layer's.
func (n *Node) Lookup(id transport.ID) (*transport.Flow, bool) {
	if id.Transport == resolve.UDP {
		for _, l := range n.listeners {
			if l.Transport == resolve.UDP && l.Addr == id.Local {
				return n.udpFlow(l, id.Remote), true
			}
		}
		return nil, false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.serials[id.Serial]
	if l == nil || l.flow.ID() != id {
		return nil, false
	}
	return l.flow, true
}

// Kill ends the node: its connections break, connecting to it fails, datagrams to it are lost.
func (n *Node) Kill() {
	n.mu.Lock()
	n.dead = true
	links := make([]*link, 0, len(n.serials))
	for _, l := range n.serials {
		links = append(links, l)
	}
	n.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
}

// Sever breaks every connection of the node, which lives on.
func (n *Node) Sever() {
	n.Kill()
	n.mu.Lock()
	n.dead = false
	n.mu.Unlock()
}

func (n *Node) run() {
	for {
		select {
		case <-n.net.ctx.Done():
			return
		case d := <-n.inbox:
			if wait := time.Until(d.due); wait > 0 {
				timer := time.NewTimer(wait)
				select {
				case <-n.net.ctx.Done():
					timer.Stop()
					return
				case <-timer.C:
				}
			}
			n.take(d)
		}
	}
}

func (n *Node) take(d delivery) {
	n.mu.Lock()
	h, dead := n.handler, n.dead
	n.mu.Unlock()
	if dead || h == nil {
		return
	}
	m, err := sip.Parse(d.data)
	if err != nil {
		if m != nil {
			transport.Refuse(m, err, d.flow)
		}
		return
	}
	h.Message(m, d.flow)
}

// deliver puts data into the node's inbox unless the network loses it.
func (n *Network) deliver(to *Node, d delivery) {
	n.mu.Lock()
	drop, delay := n.drop, n.delay
	n.mu.Unlock()
	if drop != nil {
		if m, _ := sip.Parse(d.data); m != nil && drop(d.from, d.flow.Local(), m) {
			return
		}
	}
	d.due = time.Now().Add(delay)
	select {
	case to.inbox <- d:
	default: // a full socket buffer
	}
}

func (n *Network) at(addr netip.AddrPort) *Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[addr]
}
