package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/quiet"
)

const (
	dialTimeout  = 2 * time.Second // connect, TLS and greeting
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// States of a server as a client sees it.
const (
	stateConnecting int32 = iota // the outcome of the present attempt is worth waiting for
	stateUp
	stateDown
)

// server is one address of the cluster; it keeps one connection.
type server struct {
	client     *Client
	addr       netip.AddrPort
	state      atomic.Int32
	avoidUntil atomic.Int64 // Unix nanoseconds
	retired    chan struct{}

	mu   sync.Mutex
	conn *conn
	err  error
}

func newServer(c *Client, addr netip.AddrPort) *server {
	return &server{client: c, addr: addr, retired: make(chan struct{})}
}

// retire lets the server go: it is no longer named.
func (s *server) retire() {
	close(s.retired)
	if conn := s.current(); conn != nil {
		conn.leave()
	}
}

func (s *server) current() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

func (s *server) lastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *server) set(state int32, conn *conn, err error) {
	s.mu.Lock()
	s.conn = conn
	if err != nil || state == stateUp {
		s.err = err
	}
	s.mu.Unlock()
	s.state.Store(state)
	s.client.notify()
}

// run connects, again and again, until ctx ends or the server is retired.
func (s *server) run(ctx context.Context) {
	backoff := firstBackoff
	for {
		nc, in, err := s.dial(ctx)
		if err == nil {
			up := time.Now()
			err = s.serve(ctx, nc, in)
			s.client.cfg.Log.Debug("connection lost", "cluster", s.client.cfg.Name, "server", s.addr.String(), "error", err)
			if time.Since(up) > lastBackoff { // it did serve: worth a new attempt at once
				backoff = firstBackoff
				if !s.stopped(ctx) {
					s.set(stateConnecting, nil, err)
					s.client.resolveSoon()
					continue
				}
			}
		}
		if s.stopped(ctx) {
			s.set(stateDown, nil, err)
			return
		}
		s.set(stateDown, nil, err)
		s.client.resolveSoon()
		select {
		case <-ctx.Done():
		case <-s.retired:
		case <-time.After(backoff):
		}
		backoff = min(backoff*2, lastBackoff)
	}
}

func (s *server) stopped(ctx context.Context) bool {
	select {
	case <-s.retired:
		return true
	default:
		return ctx.Err() != nil
	}
}

func (s *server) serve(ctx context.Context, nc net.Conn, in *bufio.Reader) error {
	conn := newConn(nc, in)
	s.avoidUntil.Store(0)
	s.set(stateUp, conn, nil)
	if s.stopped(ctx) {
		conn.leave()
	}
	s.client.metrics.connections.Inc()
	defer s.client.metrics.connections.Dec()
	return conn.run(ctx)
}

// dial connects and reads the greeting: with TLS 1.3 only that shows that the server accepted our certificate.
func (s *server) dial(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", s.addr.String())
	if err != nil {
		return nil, nil, fmt.Errorf("connecting: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	conn := quiet.Wrap(nc)
	if s.client.cfg.TLS != nil {
		tc := tls.Client(conn, s.client.cfg.TLS)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, nil, fmt.Errorf("TLS handshake: %w", err)
		}
		conn = tc
	}
	in := bufio.NewReaderSize(conn, readBuffer)
	h, payload, err := readFrame(in)
	payload.release()
	if err == nil && h.code == statusGoingAway {
		err = errNotSent
	}
	if err != nil {
		_ = nc.Close()
		return nil, nil, fmt.Errorf("reading the greeting: %w", err)
	}
	return conn, in, nil
}

// call sends one call on the present connection.
func (s *server) call(ctx context.Context, m Method, req []byte, take func([]byte) error) (uint16, error) {
	conn := s.current()
	if conn == nil {
		return StatusUnavailable, errNotSent
	}
	status, answer, err := conn.roundTrip(ctx, m, req)
	if err != nil {
		if !conn.usable() && s.state.CompareAndSwap(stateUp, stateDown) {
			s.client.notify()
		}
		return StatusUnavailable, err
	}
	defer answer.release()
	if status != StatusOK {
		if status == StatusUnavailable {
			s.avoidUntil.Store(time.Now().Add(s.client.cfg.Blacklist).UnixNano())
		}
		return status, &StatusError{status, string(answer.bytes)}
	}
	return status, take(answer.bytes)
}
