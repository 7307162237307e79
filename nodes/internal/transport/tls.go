package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

var errNoCertificate = errors.New("TLS needs a certificate")

// wire is what a connection writes to.
type wire interface {
	// write sends a batch of whole messages, which end at cuts where that matters, in the time that a peer may refuse to read.
	write(batch []byte, cuts []int) error
	// end closes it without waiting for the peer; what takes time goes on in the group.
	end(group *sync.WaitGroup)
}

// stream is a socket of TCP, or of TLS over it.
type stream struct {
	net.Conn
	timeout time.Duration
	armed   bool // a deadline for writing is set; who writes may look
}

func (s *stream) write(batch []byte, _ []int) error {
	_ = s.SetWriteDeadline(time.Now().Add(s.timeout))
	_, err := s.Write(batch)
	s.armed = true
	return err
}

func (s *stream) end(group *sync.WaitGroup) {
	if _, ok := s.Conn.(*tls.Conn); ok {
		group.Go(func() { _ = s.Close() }) // says goodbye first, to a peer that perhaps does not read
		return
	}
	_ = s.Close()
}

// secure makes the client's side of TLS on a socket that has just been opened. The peer must show a certificate for
// the name of the hop, else for its address (RFC 5922 section 7.3).
func (l *Layer) secure(ctx context.Context, sock net.Conn, hop resolve.Hop) (net.Conn, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if l.cfg.TLSClient != nil {
		cfg = l.cfg.TLSClient.Clone()
	}
	if cfg.ServerName = hop.Name; hop.Name == "" {
		cfg.ServerName = hop.Addr.Addr().String()
	}
	secured := tls.Client(sock, cfg)
	if err := l.handshake(ctx, secured, l.cfg.ConnectTimeout); err != nil {
		_ = sock.Close()
		return nil, err
	}
	return secured, nil
}

// handshake completes TLS where the socket is one; others are ready at once.
func (l *Layer) handshake(ctx context.Context, sock net.Conn, timeout time.Duration) error {
	secured, ok := sock.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		l.metrics.failures.WithLabelValues("handshake").Inc()
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}
