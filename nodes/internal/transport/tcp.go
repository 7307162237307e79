package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/quiet"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"golang.org/x/sys/unix"
)

// tcpListener accepts connections on one address, for TCP or TLS.
type tcpListener struct {
	Listener
	layer *Layer
	ln    net.Listener
}

func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 60 * time.Second, Interval: 15 * time.Second, Count: 4}
}

// userTimeout bounds how long the kernel repeats what the peer does not acknowledge, so that a connection to a machine
// that vanished without a word ends in seconds rather than in a quarter of an hour.
func userTimeout(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10000)
	})
	return errors.Join(err, failed)
}

func listenTCP(l *Layer, ln Listener) (*tcpListener, error) {
	if ln.Transport == resolve.TLS && l.cfg.TLS == nil {
		return nil, errNoCertificate
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	nl, err := lc.Listen(context.Background(), "tcp", ln.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	ln.Addr = addrPort(nl.Addr())
	return &tcpListener{Listener: ln, layer: l, ln: nl}, nil
}

// accept serves until the listener closes. Running out of descriptors only slows it down.
func (t *tcpListener) accept(ctx context.Context) {
	for {
		sock, err := t.ln.Accept()
		switch {
		case err == nil:
			t.layer.adopt(t.Listener, quiet.Wrap(sock))
		case errors.Is(err, net.ErrClosed):
			return
		default:
			t.layer.log.Error("connections are refused", "listener", t.Name, "error", err)
			pause := time.NewTimer(100 * time.Millisecond)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
		}
	}
}

// adopt makes an accepted socket a connection and starts reading it.
func (l *Layer) adopt(ln Listener, sock net.Conn) {
	source := addrPort(sock.RemoteAddr()).Addr()
	if l.limits(ln) {
		if !l.sources.enter(source) {
			l.metrics.failures.WithLabelValues("limit").Inc()
			_ = sock.Close()
			return
		}
	} else {
		source = netip.Addr{}
	}
	if ln.Transport == resolve.TLS {
		sock = tls.Server(sock, l.cfg.TLS)
	}
	c := l.accepted(ln, addrPort(sock.LocalAddr()), addrPort(sock.RemoteAddr()))
	c.sock, c.source = &stream{Conn: sock, timeout: l.cfg.SendTimeout}, source
	if !l.enter(c, func() {
		if err := l.handshake(l.ctx, sock, l.cfg.FrameTimeout); err != nil {
			c.shut(fmt.Errorf("accepting %s: %w", c.key.hop, err))
			return
		}
		c.read(sock, true)
	}) {
		l.sources.leave(source)
		_ = sock.Close()
	}
}

// accepted makes a connection that a peer has opened.
func (l *Layer) accepted(ln Listener, local, remote netip.AddrPort) *conn {
	c := &conn{layer: l, key: remoteKey{ln.Name, resolve.Hop{Addr: remote, Transport: ln.Transport}}}
	c.flow = NewFlow(ID{ln.Transport, local, remote, l.serial.Add(1)}, ln.Name, c)
	return c
}

// enter makes a connection known and starts what serves it; false when there are too many or the layer has ended.
func (l *Layer) enter(c *conn, serve func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running || len(l.bySerial) >= l.cfg.MaxConnections {
		l.metrics.failures.WithLabelValues("limit").Inc()
		return false
	}
	l.bySerial[c.flow.id.Serial] = c
	if l.byRemote[c.key] == nil {
		l.byRemote[c.key] = c
	}
	l.metrics.connections.Inc()
	l.connGroup.Go(serve)
	return true
}
