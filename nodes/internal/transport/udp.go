package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"golang.org/x/sys/unix"
)

// maxUDPFlows bounds the flows that a socket remembers. They are only a saving: a forgotten one is made again.
const maxUDPFlows = 16384

// udpListener is one address with several sockets. The kernel spreads peers over the sockets by address, so each peer
// always meets the same reader and its messages keep their order.
type udpListener struct {
	Listener
	layer   *Layer
	sockets []*udpSocket
	once    sync.Once
}

// udpSocket is one of them, with the flows that it remembers.
type udpSocket struct {
	u    *udpListener
	conn *net.UDPConn
	raw  syscall.RawConn
	none atomic.Uint64 // how often there was nothing to read
	seen uint64        // that number when Unread last looked

	mu    sync.RWMutex
	flows map[netip.AddrPort]*Flow
}

func listenUDP(l *Layer, ln Listener) (*udpListener, error) {
	// With SO_REUSEPORT an occupied port goes unnoticed, so take it once without.
	probe, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(ln.Addr))
	if err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	ln.Addr = addrPort(probe.LocalAddr())
	_ = probe.Close()
	u := &udpListener{Listener: ln, layer: l}
	lc := net.ListenConfig{Control: reusePort}
	for range l.cfg.Sockets {
		pc, err := lc.ListenPacket(context.Background(), "udp", ln.Addr.String())
		if err != nil {
			u.close()
			return nil, fmt.Errorf("binding: %w", err)
		}
		conn, ok := pc.(*net.UDPConn)
		if !ok {
			return nil, errors.New("not a UDP socket")
		}
		s := &udpSocket{u: u, conn: conn, flows: map[netip.AddrPort]*Flow{}}
		u.sockets = append(u.sockets, s)
		if s.raw, err = conn.SyscallConn(); err != nil {
			u.close()
			return nil, fmt.Errorf("binding: %w", err)
		}
		u.enlarge(s)
	}
	return u, nil
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, failed)
}

// enlarge asks for the configured receive buffer: beyond the system's limit where we may, else what it allows.
func (u *udpListener) enlarge(s *udpSocket) {
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, u.layer.cfg.ReceiveBuffer)
	})
	if err == nil && failed == nil {
		return
	}
	if err := s.conn.SetReadBuffer(u.layer.cfg.ReceiveBuffer); err != nil {
		u.layer.log.Warn("receive buffer stays small", "listener", u.Name, "error", err)
	}
}

func (u *udpListener) close() {
	u.once.Do(func() {
		for _, s := range u.sockets {
			_ = s.conn.Close()
		}
	})
}

// read is the loop of one socket: read, parse, hand over. It returns when the socket is closed.
//
// It stays in one call of the poller for its whole life. Datagrams are taken in batches without waiting, and only when
// there are none is the goroutine parked. What arrives between the last look and parking wakes it at once, so after a
// batch that was not full there is no need to look again.
func (s *udpSocket) read() {
	b := newBatch()
	_ = s.raw.Read(func(fd uintptr) (done bool) {
		for {
			n, errno := b.receive(fd)
			switch errno {
			case 0:
			case unix.EAGAIN:
				s.none.Add(1)
				return false
			case unix.EBADF, unix.ENOTSOCK:
				return true
			default:
				continue // interrupted, or an ICMP error of an earlier send
			}
			for i := range n {
				data, from := b.datagram(i)
				s.arrived(data, from)
			}
			if n == 1 {
				s.none.Add(1)
				return false
			}
		}
	})
}

func (s *udpSocket) arrived(data []byte, from netip.AddrPort) {
	u := s.u
	flow := s.flow(from)
	if u.keptAlive(flow, data, from) {
		return
	}
	u.layer.metrics.received[resolve.UDP].Inc()
	u.take(data, flow)
}

// keptAlive answers keep-alives and tells whether it was one: STUN (RFC 5626 4.4.2), or the double CRLF of phones that
// use it on UDP too. Other blanks open a NAT and want no answer.
func (u *udpListener) keptAlive(flow *Flow, data []byte, from netip.AddrPort) bool {
	var answer []byte
	switch {
	case isSTUN(data):
		answer = answerSTUN(data, from)
	case !blank(data):
		return false
	case bytes.HasPrefix(data, []byte("\r\n\r\n")):
		answer = []byte("\r\n")
	}
	if answer != nil {
		u.layer.metrics.keepalives.Inc()
		_ = flow.link.(*udpLink).write(answer) // the phone asks again
	}
	return true
}

func (u *udpListener) take(data []byte, flow *Flow) {
	if len(data) > u.layer.cfg.MaxMessage {
		u.layer.bad(resolve.UDP, "dropped")
		return
	}
	m, err := sip.Parse(data)
	if err == nil {
		u.layer.handler.Message(m, flow)
		return
	}
	if Refuse(m, err, flow) {
		u.layer.bad(resolve.UDP, "answered")
		return
	}
	u.layer.bad(resolve.UDP, "dropped")
}

func (l *Layer) bad(t resolve.Transport, result string) {
	l.metrics.bad.WithLabelValues(t.String(), result).Inc()
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != '\r' && c != '\n' && c != 0 {
			return false
		}
	}
	return true
}

// flow is the flow to a peer.
func (s *udpSocket) flow(remote netip.AddrPort) *Flow {
	s.mu.RLock()
	f := s.flows[remote]
	s.mu.RUnlock()
	if f != nil {
		return f
	}
	u := s.u
	link := &udpLink{s: s}
	link.address(u.Addr.Addr().Is4(), remote)
	f = NewFlow(ID{Transport: resolve.UDP, Local: u.Addr, Remote: remote}, u.Name, link)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.flows) >= maxUDPFlows {
		clear(s.flows)
	}
	s.flows[remote] = f
	return f
}

// udpLink sends on one socket of a listener, so that answers come from the port that was asked (RFC 3581 section 4).
type udpLink struct {
	s    *udpSocket
	to   [unix.SizeofSockaddrInet6]byte // the peer as the system has it
	size int
}

// Send implements Link.
func (l *udpLink) Send(f *Flow, buf []byte, _ func(error)) error {
	metrics := l.s.u.layer.metrics
	if err := l.write(buf); err != nil {
		metrics.failures.WithLabelValues("send").Inc()
		return fmt.Errorf("sending to udp:%s: %w", f.id.Remote, err)
	}
	metrics.sent[resolve.UDP].Inc()
	return nil
}

// Close implements Link.
func (l *udpLink) Close() {}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.UDPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	case *net.TCPAddr:
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}
