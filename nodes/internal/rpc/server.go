package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/quiet"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	handshakeTimeout = 5 * time.Second
	closeGrace       = 5 * time.Second // for clients to leave after they were told that the server goes away
	serverInFlight   = 32 << 10        // calls in work at once; more are told to go elsewhere
	idleWorkers      = 64              // per connection
)

// Server answers calls on any number of connections.
type Server struct {
	tls      *tls.Config
	handlers map[Method]Handler
	log      *slog.Logger
	metrics  *serverMetrics
	inFlight atomic.Int64
}

// NewServer prepares a server. tlsConf must require and verify client certificates (identity.Server does); nil means
// no TLS at all, which only tests within one process may use.
func NewServer(tlsConf *tls.Config, handlers map[Method]Handler, log *slog.Logger) *Server {
	return &Server{tls: tlsConf, handlers: handlers, log: log, metrics: newServerMetrics(nil, nil, handlers)}
}

// Instrument counts calls in reg under names; call it before Serve. A method that names lacks is counted by number.
func (s *Server) Instrument(reg prometheus.Registerer, names map[Method]string) *Server {
	s.metrics = newServerMetrics(reg, names, s.handlers)
	return s
}

// Serve accepts connections until ctx ends. Then it tells clients to go elsewhere, finishes the calls that have
// arrived (for a few seconds at most) and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	set := &connSet{conns: map[*serverConn]struct{}{}}
	stop := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		set.goAway()
	})
	defer stop()
	var wg sync.WaitGroup
	err := s.accept(ctx, ln, func(nc net.Conn) {
		wg.Go(func() { s.serveConn(base, nc, set) })
	})
	_ = ln.Close()
	set.goAway()
	force := time.AfterFunc(closeGrace, func() {
		abort()
		set.close()
	})
	defer force.Stop()
	wg.Wait()
	return err
}

func (s *Server) accept(ctx context.Context, ln net.Listener, handle func(net.Conn)) error {
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			handle(quiet.Wrap(nc))
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting calls: %w", err)
		default: // out of descriptors and the like: it passes
			s.log.Warn("accepting a connection", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// connSet lets Serve reach its connections when it ends.
type connSet struct {
	mu    sync.Mutex
	away  bool
	conns map[*serverConn]struct{}
}

func (c *connSet) add(conn *serverConn) (away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns[conn] = struct{}{}
	return c.away
}

func (c *connSet) remove(conn *serverConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

func (c *connSet) goAway() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return
	}
	c.away = true
	for conn := range c.conns {
		go func() { _ = conn.out.append(header{code: statusGoingAway}, nil, false) }()
	}
}

func (c *connSet) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.nc.Close()
	}
}

// serverConn is one client's connection.
type serverConn struct {
	server *Server
	nc     net.Conn
	out    *outbox
	work   chan request // to idle workers
	idle   atomic.Int32
}

type request struct {
	header
	payload  *buffer
	deadline time.Time
}

func (s *Server) serveConn(base context.Context, nc net.Conn, set *connSet) {
	peer, nc, err := s.handshake(nc)
	if err != nil {
		s.log.Info("refused a caller", "remote", nc.RemoteAddr().String(), "error", err)
		_ = nc.Close()
		return
	}
	c := &serverConn{server: s, nc: nc, out: newOutbox(), work: make(chan request)}
	greeting := header{} // the client counts the connection as up when it has read this
	if set.add(c) {
		greeting.code = statusGoingAway
	}
	_ = c.out.append(greeting, nil, false)
	defer set.remove(c)
	s.metrics.connections.Inc()
	defer s.metrics.connections.Dec()

	ctx, cancel := context.WithCancel(context.WithValue(base, peerKey{}, peer))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.out.run(nc); err != nil {
			_ = nc.Close()
		}
	})
	err = c.read(ctx, &wg)
	cancel() // nobody is left to hear the answers
	close(c.work)
	_ = nc.Close()
	c.out.close(net.ErrClosed)
	wg.Wait()
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.log.Info("connection of a caller ended", "peer", peer.Name, "remote", nc.RemoteAddr().String(), "error", err)
	}
}

func (s *Server) handshake(nc net.Conn) (Peer, net.Conn, error) {
	peer := Peer{Addr: nc.RemoteAddr()}
	if s.tls == nil {
		return peer, nc, nil
	}
	tc := tls.Server(nc, s.tls)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return peer, tc, fmt.Errorf("TLS handshake: %w", err)
	}
	if certs := tc.ConnectionState().PeerCertificates; len(certs) > 0 {
		peer.Name = certs[0].Subject.CommonName
		if ou := certs[0].Subject.OrganizationalUnit; len(ou) > 0 {
			peer.Role = ou[0]
		}
	}
	return peer, tc, nil
}

// read hands requests to workers until the connection ends, and says why it did.
func (c *serverConn) read(ctx context.Context, wg *sync.WaitGroup) error {
	r := bufio.NewReaderSize(c.nc, readBuffer)
	for {
		h, payload, err := readFrame(r)
		if err != nil {
			return err
		}
		if Method(h.code) == methodPing {
			payload.release()
			if err := c.out.append(header{}, nil, false); err != nil {
				return err
			}
			continue
		}
		req := request{header: h, payload: payload}
		if h.left > 0 {
			req.deadline = time.Now().Add(time.Duration(h.left) * time.Millisecond)
		}
		if c.server.inFlight.Add(1) > serverInFlight {
			c.server.inFlight.Add(-1)
			payload.release()
			if err := c.out.append(header{id: h.id, code: StatusUnavailable}, []byte("overloaded"), true); err != nil {
				return err
			}
			continue
		}
		select {
		case c.work <- req:
		default:
			wg.Go(func() { c.worker(ctx, req) })
		}
	}
}

// worker answers req and then what else comes, so that a warm stack is used again.
func (c *serverConn) worker(ctx context.Context, req request) {
	for {
		c.answer(ctx, req)
		if c.idle.Add(1) > idleWorkers {
			c.idle.Add(-1)
			return
		}
		next, ok := <-c.work
		c.idle.Add(-1)
		if !ok {
			return
		}
		req = next
	}
}

func (c *serverConn) answer(ctx context.Context, req request) {
	defer c.server.inFlight.Add(-1)
	started := time.Now()
	defer req.payload.release() // last: the answer may be a part of it
	answer, err := c.server.handle(ctx, req)
	if err == nil && len(answer) > MaxPayload {
		err = &StatusError{StatusTooLarge, fmt.Sprintf("the answer has %d bytes, at most %d can be sent", len(answer), MaxPayload)}
	}
	code, message := statusOf(err)
	if err != nil {
		answer = []byte(message[:min(len(message), MaxPayload)])
	}
	c.server.metrics.done(Method(req.code), code, time.Since(started))
	_ = c.out.append(header{id: req.id, code: code}, answer, true) // fails only when the connection is gone
}

// handle runs the method's handler within the caller's deadline. A panic is that call's failure, not the server's.
func (s *Server) handle(ctx context.Context, req request) (answer []byte, err error) {
	h, ok := s.handlers[Method(req.code)]
	if !ok {
		return nil, &StatusError{StatusUnknownMethod, fmt.Sprintf("method %d is not served here", req.code)}
	}
	if !req.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, req.deadline)
		defer cancel()
		if ctx.Err() != nil {
			return nil, &StatusError{StatusTimeout, "the deadline passed before the call was started"}
		}
	}
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a handler panicked", "method", req.code, "panic", p, "stack", string(debug.Stack()))
			answer, err = nil, &StatusError{StatusInternal, "internal error"}
		}
	}()
	return h(ctx, req.payload.bytes)
}
