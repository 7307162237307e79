package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"golang.org/x/sys/unix"
)

// maxUDPFlows bounds the flows that a reader remembers. They are only a saving: a forgotten one is made again.
const maxUDPFlows = 16384

// udpListener is one address with several sockets. The kernel spreads peers over the sockets by address, so each peer
// always meets the same reader and its messages keep their order.
type udpListener struct {
	Listener
	layer   *Layer
	sockets []*net.UDPConn
	once    sync.Once
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
		s, ok := pc.(*net.UDPConn)
		if !ok {
			return nil, errors.New("not a UDP socket")
		}
		u.sockets = append(u.sockets, s)
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
func (u *udpListener) enlarge(s *net.UDPConn) {
	raw, err := s.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, u.layer.cfg.ReceiveBuffer)
		})
		if err == nil && failed == nil {
			return
		}
	}
	if err := s.SetReadBuffer(u.layer.cfg.ReceiveBuffer); err != nil {
		u.layer.log.Warn("receive buffer stays small", "listener", u.Name, "error", err)
	}
}

func (u *udpListener) close() {
	u.once.Do(func() {
		for _, s := range u.sockets {
			_ = s.Close()
		}
	})
}

// read is the loop of one socket: read, parse, hand over.
func (u *udpListener) read(s *net.UDPConn) {
	buf := make([]byte, 65535)
	flows := map[netip.AddrPort]*Flow{}
	received := u.layer.metrics.received[resolve.UDP]
	for {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error of an earlier send
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		flow := flows[from]
		if flow == nil {
			if len(flows) >= maxUDPFlows {
				clear(flows)
			}
			flow = u.flow(from, s)
			flows[from] = flow
		}
		if u.keptAlive(s, buf[:n], from) {
			continue
		}
		received.Inc()
		u.take(buf[:n], flow)
	}
}

// keptAlive answers keep-alives and tells whether it was one: STUN (RFC 5626 4.4.2), or the double CRLF of phones that
// use it on UDP too. Other blanks open a NAT and want no answer.
func (u *udpListener) keptAlive(s *net.UDPConn, data []byte, from netip.AddrPort) bool {
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
		_, _ = s.WriteToUDPAddrPort(answer, from) // the phone asks again
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

func (u *udpListener) flow(remote netip.AddrPort, s *net.UDPConn) *Flow {
	return NewFlow(ID{Transport: resolve.UDP, Local: u.Addr, Remote: remote}, u.Name, &udpLink{u, s})
}

// udpLink sends on one socket of a listener, so that answers come from the port that was asked (RFC 3581 section 4).
type udpLink struct {
	u *udpListener
	s *net.UDPConn
}

func (l *udpLink) Send(f *Flow, buf []byte, _ func(error)) error {
	if _, err := l.s.WriteToUDPAddrPort(buf, f.id.Remote); err != nil {
		l.u.layer.metrics.failures.WithLabelValues("send").Inc()
		return fmt.Errorf("sending to udp:%s: %w", f.id.Remote, err)
	}
	l.u.layer.metrics.sent[resolve.UDP].Inc()
	return nil
}

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
