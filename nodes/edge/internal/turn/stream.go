package turn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// How long a connection may take, and how many there may be.
const (
	proveTime  = 30 * time.Second // from its first byte to credentials that are right, with the TLS handshake
	frameTime  = 15 * time.Second // from the first byte of a frame to its last
	silentTime = time.Hour + 5*time.Minute
	writeTime  = 5 * time.Second

	maxStreams       = 10000
	streamsPerSource = 256
)

var errFrame = errors.New("neither STUN nor channel data")

// streams accepts connections. Each comes to pion as one that yields whole frames with proven credentials only.
type streams struct {
	net.Listener
	server *Server
	tls    *tls.Config
	ctx    context.Context //nolint:containedctx // the life of Run, for look-ups

	mu     sync.Mutex
	open   map[*stream]bool
	by     map[netip.Addr]int
	closed bool
}

func newStreams(s *Server, ln net.Listener, cfg *tls.Config) *streams {
	return &streams{Listener: ln, server: s, tls: cfg, ctx: context.Background(), open: map[*stream]bool{}, by: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *streams) Accept() (net.Conn, error) {
	for {
		sock, err := l.Listener.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && !errors.Is(err, net.ErrClosed) && ne.Timeout() { //nolint:errorlint // as net documents
				continue
			}
			if !errors.Is(err, net.ErrClosed) && pause(l.ctx) {
				continue // out of descriptors, for the moment
			}
			return nil, err //nolint:wrapcheck // the listener's own
		}
		if c := l.admit(sock); c != nil {
			return c, nil
		}
		l.server.metrics.requests.WithLabelValues("limited").Inc()
		_ = sock.Close()
	}
}

// pause waits a moment after a fault of the system; false when the server ends.
func pause(ctx context.Context) bool {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *streams) admit(sock net.Conn) *stream {
	host := source(sock.RemoteAddr())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.open) >= maxStreams || l.by[host] >= streamsPerSource {
		return nil
	}
	c := &stream{Conn: sock, owner: l, host: host, born: time.Now()}
	if l.tls != nil {
		c.Conn = tls.Server(sock, l.tls)
	}
	c.in = bufio.NewReaderSize(c.Conn, 2*maxPacket)
	l.open[c] = true
	l.by[host]++
	return c
}

// Close implements net.Listener; it ends the connections too.
func (l *streams) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	l.closed = true
	left := make([]*stream, 0, len(l.open))
	for c := range l.open {
		left = append(left, c)
	}
	l.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
	return err //nolint:wrapcheck // the listener's own
}

// stream is one connection. pion reads it on one goroutine and writes from several.
type stream struct {
	net.Conn
	owner  *streams
	host   netip.Addr
	in     *bufio.Reader
	born   time.Time
	proven bool
	passed string
	once   sync.Once
}

// Read implements net.Conn: it returns one whole frame, with its padding, to which pion need add nothing.
func (c *stream) Read(p []byte) (int, error) {
	s := c.owner.server
	s.forget(&c.passed)
	for {
		frame, err := c.frame()
		if err != nil {
			return 0, err
		}
		m, what := inspect(frame)
		switch what {
		case passes:
			return copy(p, frame), nil
		case rubbish:
			return 0, errFrame
		case drops:
			continue
		}
		v, pr := s.credentials.cached(m, c.host)
		if v == open {
			v, pr = s.credentials.lookUp(c.owner.ctx, m, c.host)
		}
		c.proven = c.proven || v == right
		if out := s.judge(m, v); out != nil {
			s.prove(&c.passed, c.RemoteAddr(), pr)
			return copy(p, out), nil
		}
	}
}

// frame reads one frame that carries something: pion waits for nine bytes before it looks.
func (c *stream) frame() ([]byte, error) {
	for {
		frame, err := c.next()
		if err != nil || len(frame) >= 9 {
			return frame, err
		}
	}
}

// next reads one frame. Its first byte may take as long as a client may be silent, the others may not.
func (c *stream) next() ([]byte, error) {
	deadline := time.Now().Add(silentTime)
	if !c.proven {
		deadline = c.born.Add(proveTime)
	}
	_ = c.SetReadDeadline(deadline)
	head, err := c.in.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	if whole := time.Now().Add(frameTime); whole.Before(deadline) {
		_ = c.SetReadDeadline(whole)
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	switch head[0] >> 6 {
	case 0:
		size += 20
	case 1:
		size = 4 + (size+3)&^3 // RFC 8656 12.5
	default:
		return nil, errFrame
	}
	if size > maxPacket || (head[0]>>6 == 0 && size%4 != 0) {
		return nil, errFrame
	}
	data, err := c.in.Peek(size)
	if err != nil {
		return nil, fmt.Errorf("reading a frame: %w", err)
	}
	if head[0]>>6 == 0 && !stun.IsMessage(data) {
		return nil, errFrame
	}
	frame := append([]byte(nil), data...)
	_, _ = c.in.Discard(size)
	return frame, nil
}

// Write implements net.Conn. Who does not read loses the connection, lest half a frame is followed by another.
func (c *stream) Write(p []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(writeTime))
	n, err := c.Conn.Write(p)
	if err != nil {
		_ = c.Close()
	}
	return n, err //nolint:wrapcheck // the socket's own
}

// Close implements net.Conn.
func (c *stream) Close() error {
	var err error
	c.once.Do(func() {
		l := c.owner
		l.mu.Lock()
		delete(l.open, c)
		if l.by[c.host]--; l.by[c.host] <= 0 {
			delete(l.by, c.host)
		}
		l.mu.Unlock()
		if secured, ok := c.Conn.(*tls.Conn); ok {
			err = secured.NetConn().Close() // without a goodbye that the peer may not read
			return
		}
		err = c.Conn.Close()
	})
	return err //nolint:wrapcheck // the socket's own
}
