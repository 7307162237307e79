package turn

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// maxPacket is more than any client sends at once: media fits an MTU, requests are small.
const maxPacket = 1500

// gate is a UDP socket as pion reads it: a request with credentials comes through only when they are right. While they
// are being looked up, media goes on.
type gate struct {
	net.PacketConn
	server *Server
	ctx    context.Context //nolint:containedctx // the life of Run, for look-ups
	passed string          // the source whose key is in proven

	mu      sync.Mutex
	ready   []packet // looked up in the meantime
	pending int
	closed  bool
}

type packet struct {
	data []byte
	from net.Addr
	proof
}

func newGate(s *Server, sock net.PacketConn) *gate {
	return &gate{PacketConn: sock, server: s, ctx: context.Background()}
}

// maxPending bounds the look-ups under way for one socket.
const maxPending = 256

// ReadFrom implements net.PacketConn. Only pion's one goroutine calls it.
func (g *gate) ReadFrom(p []byte) (int, net.Addr, error) {
	g.server.forget(&g.passed)
	for {
		if next, ok := g.take(); ok {
			g.server.prove(&g.passed, next.from, next.proof)
			return copy(p, next.data), next.from, nil
		}
		n, from, err := g.PacketConn.ReadFrom(p)
		if errors.Is(err, os.ErrDeadlineExceeded) { // a look-up is done
			_ = g.SetReadDeadline(time.Time{})
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return n, from, err //nolint:wrapcheck // the socket's own
		}
		if err != nil { // a fault of the moment, such as no memory; pion would stop reading for good
			g.server.deps.Log.Warn("reading TURN", "error", err)
			if !pause(g.ctx) {
				return n, from, err //nolint:wrapcheck // the socket's own
			}
			continue
		}
		m, what := inspect(p[:n])
		switch what {
		case passes:
			return n, from, nil
		case asks:
			host := source(from)
			v, pr := g.server.credentials.cached(m, host)
			if v == open {
				g.ask(m, from, host)
			} else if out := g.server.judge(m, v); out != nil {
				g.server.prove(&g.passed, from, pr)
				return copy(p, out), from, nil
			}
		}
	}
}

// ask looks credentials up and has the packet read again when they are known.
func (g *gate) ask(m *stun.Message, from net.Addr, host netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.pending >= maxPending {
		g.server.metrics.requests.WithLabelValues("limited").Inc()
		return
	}
	g.pending++
	go func() { // ends with the look-up, which has a deadline
		v, pr := g.server.credentials.lookUp(g.ctx, m, host)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pending--
		if out := g.server.judge(m, v); out != nil && !g.closed {
			g.ready = append(g.ready, packet{out, from, pr})
			_ = g.SetReadDeadline(time.Unix(1, 0))
		}
	}()
}

func (g *gate) take() (packet, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ready) == 0 {
		return packet{}, false
	}
	next := g.ready[0]
	g.ready = g.ready[1:]
	return next, true
}

// Close implements net.PacketConn.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	return g.PacketConn.Close() //nolint:wrapcheck // the socket's own
}

// What becomes of a frame.
type course int

const (
	passes course = iota // media, indications that carry it, Binding, requests that want to be challenged
	asks                 // a request with credentials
	drops                // nothing that a client sends here
	rubbish
)

const sendIndication = 0x0016

// inspect reads a frame; of one that asks it returns a copy.
func inspect(data []byte) (*stun.Message, course) {
	switch {
	case len(data) >= 4 && data[0]>>6 == 1: // channel data
		return nil, passes
	case !stun.IsMessage(data):
		return nil, rubbish
	case binary.BigEndian.Uint16(data) == sendIndication:
		return nil, passes
	}
	m := &stun.Message{Raw: append([]byte(nil), data...)}
	if err := m.Decode(); err != nil {
		return nil, rubbish
	}
	switch {
	case m.Type.Class != stun.ClassRequest:
		return nil, drops
	case m.Type.Method == stun.MethodBinding || !m.Contains(stun.AttrMessageIntegrity):
		return nil, passes
	}
	return m, asks
}

// judge returns the request as pion shall see it: as it is when its credentials are right, else without them, so that
// it is answered 401 with a fresh nonce (RFC 8489 9.2.4). Nothing is returned for one that is not to be answered.
func (s *Server) judge(m *stun.Message, v verdict) []byte {
	s.metrics.requests.WithLabelValues(v.String()).Inc()
	switch v {
	case right:
		return m.Raw
	case wrong:
		bare := stun.New()
		bare.Type, bare.TransactionID = m.Type, m.TransactionID
		bare.WriteHeader()
		return bare.Raw
	}
	return nil
}

// source is the address of a client without its port.
func source(from net.Addr) netip.Addr {
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
