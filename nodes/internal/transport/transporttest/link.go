package transporttest

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// datagrams is the Link of every UDP flow of one listener.
type datagrams struct {
	node     *Node
	listener transport.Listener
}

func (n *Node) udpFlow(l transport.Listener, remote netip.AddrPort) *transport.Flow {
	id := transport.ID{Transport: resolve.UDP, Local: l.Addr, Remote: remote}
	return transport.NewFlow(id, l.Name, &datagrams{n, l})
}

// Send loses the datagram silently when nobody listens, as UDP does.
func (d *datagrams) Send(f *transport.Flow, buf []byte, _ func(error)) error {
	d.node.mu.Lock()
	dead := d.node.dead
	d.node.mu.Unlock()
	peer := d.node.net.at(f.Remote())
	if dead || peer == nil {
		return nil
	}
	for _, l := range peer.listeners {
		if l.Addr == f.Remote() && l.Transport == resolve.UDP {
			d.node.net.deliver(peer, delivery{data: slices.Clone(buf), flow: peer.udpFlow(l, d.listener.Addr), from: d.listener.Addr})
		}
	}
	return nil
}

func (d *datagrams) Close() {}

// link is one end of a connection.
type link struct {
	node *Node
	flow *transport.Flow
	peer *link // nil: connecting failed
}

var errRefused = errors.New("connection refused")

// connect finds or makes a connection, as transport.Layer does. Nobody there: sending on it fails.
func (n *Node) connect(l transport.Listener, remote netip.AddrPort) *link {
	n.mu.Lock()
	old := n.links[remote]
	n.mu.Unlock()
	if old != nil {
		return old
	}
	n.net.mu.Lock()
	n.net.port++
	local := netip.AddrPortFrom(l.Addr.Addr(), n.net.port)
	n.net.mu.Unlock()
	mine := n.end(l.Name, local, remote)
	peer := n.net.at(remote)
	if peer == nil || !peer.accepts(remote) {
		return mine
	}
	theirs := peer.end(peer.nameOf(remote), remote, local)
	mine.peer, theirs.peer = theirs, mine
	n.keep(mine)
	peer.keep(theirs)
	return mine
}

func (n *Node) end(listener string, local, remote netip.AddrPort) *link {
	n.net.mu.Lock()
	n.net.serial++
	serial := n.net.serial
	n.net.mu.Unlock()
	l := &link{node: n}
	l.flow = transport.NewFlow(transport.ID{Transport: resolve.TCP, Local: local, Remote: remote, Serial: serial}, listener, l)
	return l
}

func (n *Node) keep(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[l.flow.Remote()], n.serials[l.flow.ID().Serial] = l, l
}

func (n *Node) accepts(addr netip.AddrPort) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.dead && n.nameOf(addr) != "\x00"
}

func (n *Node) nameOf(addr netip.AddrPort) string {
	for _, l := range n.listeners {
		if l.Addr == addr && l.Transport == resolve.TCP {
			return l.Name
		}
	}
	return "\x00"
}

func (l *link) Send(f *transport.Flow, buf []byte, failed func(error)) error {
	switch {
	case f.Closed():
		return transport.ErrClosed
	case l.peer == nil:
		if failed != nil {
			l.node.net.group.Go(func() { failed(errRefused) })
		}
		f.MarkClosed()
		return nil
	}
	l.node.net.deliver(l.peer.node, delivery{data: slices.Clone(buf), flow: l.peer.flow, from: f.Local()})
	return nil
}

func (l *link) Close() {
	l.drop()
	if l.peer != nil {
		l.peer.drop()
	}
}

func (l *link) drop() {
	l.node.mu.Lock()
	delete(l.node.serials, l.flow.ID().Serial)
	if l.node.links[l.flow.Remote()] == l {
		delete(l.node.links, l.flow.Remote())
	}
	l.node.mu.Unlock()
	l.flow.MarkClosed()
}
