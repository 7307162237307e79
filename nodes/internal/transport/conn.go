package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/quiet"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// conn is one connection, accepted or opened. One goroutine reads; one writes while there is something to write.
type conn struct {
	layer  *Layer
	flow   *Flow
	key    remoteKey
	used   atomic.Int64 // Unix nanoseconds of the last write
	opened atomic.Bool
	source netip.Addr // of one that counts for it; zero for others
	framed bool       // every message goes in a frame of its own

	mu      sync.Mutex
	sock    wire // nil while connecting
	pending []byte
	cuts    []int         // where the messages in pending end, if framed
	spare   []byte        // the buffer that the writer has given back
	waiting []func(error) // failed callbacks of the messages in pending
	writing bool
	err     error // set once it is over
	cancel  context.CancelFunc
}

// readBuffer is what an idle connection holds; it grows with the message and shrinks when that is gone.
const readBuffer = 4096

// connTo returns the connection to a remote address, and opens one if there is none.
func (l *Layer) connTo(ln Listener, hop resolve.Hop) (*conn, error) {
	key := remoteKey{ln.Name, hop}
	l.mu.RLock()
	c := l.byRemote[key]
	l.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.byRemote[key]; c != nil {
		return c, nil
	}
	return l.open(ln, hop, true)
}

// open makes a connection and starts connecting; l.mu is held. shared lets others find it by its remote address.
func (l *Layer) open(ln Listener, hop resolve.Hop, shared bool) (*conn, error) {
	if !l.running {
		return nil, fmt.Errorf("connecting to %s: %w", hop, ErrClosed)
	}
	if len(l.bySerial) >= l.cfg.MaxConnections {
		l.metrics.failures.WithLabelValues("limit").Inc()
		return nil, fmt.Errorf("connecting to %s: %w", hop, ErrLimit)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	c := &conn{layer: l, key: remoteKey{ln.Name, hop}, cancel: cancel}
	// The local port is not known yet; a flow's identity must not change, so it stays 0. The serial tells them apart.
	c.flow = NewFlow(ID{hop.Transport, netip.AddrPortFrom(ln.Addr.Addr(), 0), hop.Addr, l.serial.Add(1)}, ln.Name, c)
	l.bySerial[c.flow.id.Serial] = c
	if shared {
		l.byRemote[c.key] = c
	}
	l.connGroup.Go(func() { c.connect(ctx, ln) })
	return c, nil
}

func (c *conn) connect(ctx context.Context, ln Listener) {
	defer c.cancel()
	d := net.Dialer{Timeout: c.layer.cfg.ConnectTimeout, KeepAliveConfig: keepAlive(), Control: userTimeout}
	if !ln.Addr.Addr().IsUnspecified() {
		// Peers trust us by address, so the connection must come from the listener's.
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(ln.Addr.Addr(), 0))
	}
	sock, err := d.DialContext(ctx, "tcp", c.key.hop.Addr.String())
	if err != nil {
		c.layer.metrics.failures.WithLabelValues("connect").Inc()
		c.shut(fmt.Errorf("connecting to %s: %w", c.key.hop, err))
		return
	}
	sock = quiet.Wrap(sock)
	if c.key.hop.Transport == resolve.TLS {
		if sock, err = c.layer.secure(ctx, sock, c.key.hop); err != nil {
			c.shut(fmt.Errorf("connecting to %s: %w", c.key.hop, err))
			return
		}
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		_ = sock.Close()
		return
	}
	c.sock = &stream{Conn: sock, timeout: c.layer.cfg.SendTimeout}
	c.opened.Store(true)
	c.start()
	c.mu.Unlock()
	c.layer.metrics.connections.Inc()
	c.read(sock, false)
}

// Send queues a message for the writer.
func (c *conn) Send(_ *Flow, buf []byte, failed func(error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("sending to %s: %w: %w", c.key.hop, ErrClosed, c.err)
	}
	if len(c.pending)+len(buf) > c.layer.cfg.MaxQueue {
		c.layer.metrics.failures.WithLabelValues("queue").Inc()
		return fmt.Errorf("sending to %s: %w", c.key.hop, ErrQueueFull)
	}
	if c.pending == nil {
		c.pending, c.spare = c.spare, nil
	}
	c.pending = append(c.pending, buf...)
	if c.framed {
		c.cuts = append(c.cuts, len(c.pending))
	}
	if failed != nil {
		c.waiting = append(c.waiting, failed)
	}
	c.layer.metrics.sent[c.flow.id.Transport].Inc()
	c.start()
	return nil
}

// start has the queue written; c.mu is held.
func (c *conn) start() {
	if c.writing || c.sock == nil || len(c.pending) == 0 {
		return
	}
	c.writing = true
	if s, ok := c.sock.(*stream); ok {
		quick, ok := s.Conn.(*quiet.Conn)
		if ok && time.Now().UnixNano()-c.used.Load() > burst.Nanoseconds() && c.writeNow(s, quick) {
			return
		}
	}
	c.layer.connGroup.Go(func() { c.write(c.sock) })
}

// burst is how close to the last write messages come that are better gathered by a goroutine and written together.
const burst = 100 * time.Microsecond

// writeNow writes the queue on the sender's goroutine as far as the system takes it at once, which is nearly always all of
// it. It returns false when something is left for a goroutine. c.mu is held, but not meanwhile.
func (c *conn) writeNow(s *stream, quick *quiet.Conn) bool {
	batch, waiting := c.pending, c.waiting
	c.pending, c.waiting = nil, nil
	c.mu.Unlock()
	if s.armed {
		_ = s.SetWriteDeadline(time.Time{})
		s.armed = false
	}
	n, err := quick.TryWrite(batch)
	c.used.Store(time.Now().UnixNano())
	c.mu.Lock()
	if c.err != nil { // it has ended meanwhile
		c.writing = false
		if n < len(batch) || err != nil {
			why := c.err
			c.layer.connGroup.Go(func() { fail(waiting, why) })
		}
		return true
	}
	if n < len(batch) || err != nil {
		c.pending, c.waiting = append(batch[n:], c.pending...), append(waiting, c.waiting...)
		return false
	}
	if len(c.pending) > 0 {
		return false
	}
	c.writing = false
	if cap(batch) <= 64<<10 && c.spare == nil {
		c.spare = batch[:0]
	}
	return true
}

// write drains the queue. Whatever gathers while one write runs goes out with the next.
func (c *conn) write(sock wire) {
	for {
		c.mu.Lock()
		if len(c.pending) == 0 || c.err != nil {
			c.writing = false
			c.mu.Unlock()
			return
		}
		batch, cuts, waiting := c.pending, c.cuts, c.waiting
		c.pending, c.cuts, c.waiting = nil, nil, nil
		c.mu.Unlock()

		c.used.Store(time.Now().UnixNano())
		if err := sock.write(batch, cuts); err != nil {
			c.layer.metrics.failures.WithLabelValues("send").Inc()
			err = fmt.Errorf("sending to %s: %w", c.key.hop, err)
			c.shut(err)
			fail(waiting, err)
			return
		}
		c.mu.Lock()
		if cap(batch) <= 64<<10 && c.spare == nil {
			c.spare = batch[:0]
		}
		c.mu.Unlock()
	}
}

func fail(waiting []func(error), err error) {
	for _, failed := range waiting {
		failed(err)
	}
}

// Close ends the connection.
func (c *conn) Close() { c.shut(ErrClosed) }

// shut ends the connection once: it is forgotten, waiting messages fail, the flow is closed.
func (c *conn) shut(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	waiting := c.waiting
	c.pending, c.cuts, c.spare, c.waiting = nil, nil, nil, nil
	c.layer.forget(c)
	c.layer.sources.leave(c.source)
	if c.cancel != nil {
		c.cancel()
	}
	if c.sock != nil {
		c.sock.end(&c.layer.connGroup)
		c.layer.metrics.connections.Dec()
	}
	// Not on the caller's goroutine: it may hold locks that these take.
	c.layer.connGroup.Go(func() {
		fail(waiting, err)
		c.flow.MarkClosed()
	})
}

func (l *Layer) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.bySerial, c.flow.id.Serial)
	if l.byRemote[c.key] == c {
		delete(l.byRemote, c.key)
	}
}

// read is the loop of a connection: fill, frame, parse, hand over. It ends the connection when it returns.
func (c *conn) read(sock net.Conn, accepted bool) {
	r := reader{conn: c, sock: sock, buf: make([]byte, readBuffer)}
	r.frame.maxHeader, r.frame.maxMessage = c.layer.cfg.MaxHeader, c.layer.cfg.MaxMessage
	r.frame.reset()
	r.partial = accepted // whoever connects has to say something
	r.since = time.Now()
	err := r.run()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.layer.metrics.failures.WithLabelValues("timeout").Inc()
	}
	c.shut(fmt.Errorf("reading from %s: %w", c.key.hop, err))
}

// broken answers a fault in framing if the request can be made out, and counts it. The connection is over, so the
// answer is written at once, and a little of what the peer still sends is read, lest a reset overtakes the answer.
func (c *conn) broken(sock net.Conn, data []byte, fault error) {
	m, _ := sip.Parse(data[:headerEnd(data)]) // without its body a message is faulty, but complete enough for an answer
	answer := refusal(m, fault)
	if answer == nil {
		c.layer.bad(c.flow.id.Transport, "closed")
		return
	}
	c.layer.bad(c.flow.id.Transport, "answered")
	_ = sock.SetDeadline(time.Now().Add(lingerTime))
	if _, err := sock.Write(answer.AppendTo(nil)); err != nil {
		return
	}
	if half, ok := sock.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(sock, lingerBytes))
	}
}

// What a peer may still send after a fault while we wait for it to read the answer.
const (
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)
