// Package transport carries SIP messages over UDP, TCP, TLS (RFC 3261 section 18) and WebSocket (RFC 7118): listeners, connections, framing,
// and flows. It hands every parsed message to one Handler, in the order in which a peer sent them, on the goroutine
// that read it. It knows no transactions: it neither repeats nor chooses a next hop, and the switch from UDP to TCP
// for large requests is its caller's business.
//
// A Layer is made by New, which binds its listeners, and lives while Run runs. Flow finds or opens the way to a hop,
// Flow.Send sends on it; both return at once. Package transporttest has the same in memory, for tests in fake time.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/prometheus/client_golang/prometheus"
)

// Errors of sending. The flow cannot be used any more after ErrClosed.
var (
	ErrClosed      = errors.New("flow is closed")
	ErrQueueFull   = errors.New("peer does not read: send queue is full")
	ErrUnsupported = errors.New("no listener for this transport")
	ErrLimit       = errors.New("too many connections")
)

// Handler takes the messages that arrive. Message is called on the goroutine that reads from the peer, in order, and
// must not block. The message is the handler's to keep.
type Handler interface {
	Message(m *sip.Message, f *Flow)
}

// Listener is a local address. Its name tells flows apart by where they came in (for instance "access" and "core").
type Listener struct {
	Name      string
	Transport resolve.Transport
	Addr      netip.AddrPort // a certain address; port 0 takes a free one
}

// Config of a Layer. Zero values take the defaults that are named.
type Config struct {
	Listeners      []Listener
	TLS            *tls.Config   // what listeners of TLS and secure WebSocket show; they need it
	TLSClient      *tls.Config   // of TLS connections that are opened; nil: the system's authorities
	Sockets        int           // UDP sockets (and readers) of each UDP listener; GOMAXPROCS
	ReceiveBuffer  int           // of each UDP socket, bytes; 4 MiB
	ConnectTimeout time.Duration // sip_tcp_connect_timeout; 2 s
	SendTimeout    time.Duration // sip_tcp_send_timeout: how long a peer may refuse to read; 2 s
	IdleTimeout    time.Duration // nothing sent or received on a connection; 30 min
	FrameTimeout   time.Duration // from the first byte of a message to its last, and to the first message of a connection; 15 s
	MaxMessage     int           // bytes; 64 KiB
	MaxHeader      int           // bytes; 32 KiB
	MaxQueue       int           // bytes waiting to be written on one connection; 1 MiB
	PingInterval   time.Duration // between pings on a WebSocket; 30 s
	Origins        []string      // of web pages that may open WebSockets, as host patterns with *; none: all may
	MaxConnections int           // accepted and opened together; 100000
	MaxPerSource   int           // accepted from one address at a time; 0: no limit
	// LimitedListener is the name of the listeners for which MaxPerSource holds; "": all. Exempt addresses may open any number.
	LimitedListener string
	Exempt          func(netip.Addr) bool
}

// Deps is what a Layer works with; both may be nil.
type Deps struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Layer is the transports of one node.
type Layer struct {
	cfg       Config
	log       *slog.Logger
	metrics   *metrics
	udp       []*udpListener
	tcp       []*tcpListener // and TLS
	ws        []*wsListener
	serial    atomic.Uint64
	handler   Handler
	ctx       context.Context //nolint:containedctx // the life of Run, for connections that Flow opens
	mu        sync.RWMutex
	running   bool
	bySerial  map[uint64]*conn
	byRemote  map[remoteKey]*conn
	sources   sources
	connGroup sync.WaitGroup
}

type remoteKey struct {
	listener string
	hop      resolve.Hop
}

// New binds every listener, so that an occupied port is an error here.
func New(cfg Config, deps Deps) (*Layer, error) {
	cfg.fill()
	l := &Layer{cfg: cfg, log: deps.Log, bySerial: map[uint64]*conn{}, byRemote: map[remoteKey]*conn{}}
	l.sources = sources{most: cfg.MaxPerSource, exempt: cfg.Exempt, by: map[netip.Addr]int{}}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	// Serials of connections must differ between two lives of a node: tokens of old flows must not fit new ones.
	l.serial.Store(rand.Uint64() >> 1)
	l.metrics = newMetrics(deps.Metrics)
	for _, ln := range cfg.Listeners {
		if err := l.listen(ln); err != nil {
			l.closeListeners()
			return nil, fmt.Errorf("listening for %s on %s: %w", ln.Transport, ln.Addr, err)
		}
	}
	return l, nil
}

func (l *Layer) listen(ln Listener) error {
	switch ln.Transport {
	case resolve.UDP:
		u, err := listenUDP(l, ln)
		if err == nil {
			l.udp = append(l.udp, u)
		}
		return err
	case resolve.TCP, resolve.TLS:
		t, err := listenTCP(l, ln)
		if err == nil {
			l.tcp = append(l.tcp, t)
		}
		return err
	case resolve.WS, resolve.WSS:
		w, err := listenWS(l, ln)
		if err == nil {
			l.ws = append(l.ws, w)
		}
		return err
	default:
		return ErrUnsupported
	}
}

// Listeners returns the bound listeners, with the ports that were taken.
func (l *Layer) Listeners() []Listener {
	var out []Listener
	for _, u := range l.udp {
		out = append(out, u.Listener)
	}
	for _, t := range l.tcp {
		out = append(out, t.Listener)
	}
	for _, w := range l.ws {
		out = append(out, w.Listener)
	}
	return out
}

// Run serves until ctx ends, then closes every listener and connection and returns when all goroutines are gone.
func (l *Layer) Run(ctx context.Context, h Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.handler, l.ctx, l.running = h, ctx, true
	l.mu.Unlock()
	var group sync.WaitGroup
	for _, u := range l.udp {
		for _, s := range u.sockets {
			group.Go(s.read)
		}
	}
	for _, t := range l.tcp {
		group.Go(func() { t.accept(ctx) })
	}
	for _, w := range l.ws {
		group.Go(w.serve)
	}
	<-ctx.Done()
	l.closeListeners()
	l.mu.Lock()
	l.running = false
	conns := make([]*conn, 0, len(l.bySerial))
	for _, c := range l.bySerial {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	for _, c := range conns {
		c.shut(ErrClosed)
	}
	group.Wait()
	l.connGroup.Wait()
	return nil
}

func (l *Layer) closeListeners() {
	for _, u := range l.udp {
		u.close()
	}
	for _, t := range l.tcp {
		_ = t.ln.Close()
	}
	for _, w := range l.ws {
		w.close()
	}
}

// Flow finds or opens a flow to a hop from the first listener of its transport. It does not wait for a connection:
// what is sent meanwhile is queued, and if connecting fails the failed callbacks of those messages are called.
func (l *Layer) Flow(hop resolve.Hop) (*Flow, error) { return l.FlowFrom("", hop) }

// FlowFrom is Flow from a certain listener's address.
func (l *Layer) FlowFrom(listener string, hop resolve.Hop) (*Flow, error) {
	switch hop.Transport {
	case resolve.UDP:
		for _, u := range l.udp {
			if listener == "" || u.Name == listener {
				return u.sockets[0].flow(hop.Addr), nil
			}
		}
	case resolve.TCP, resolve.TLS:
		if ln, ok := l.origin(listener, hop.Transport); ok {
			c, err := l.connTo(ln, hop)
			if err != nil {
				return nil, err
			}
			return c.flow, nil
		}
	}
	return nil, fmt.Errorf("sending to %s: %w", hop, ErrUnsupported)
}

// origin is the listener from whose address connections of a transport are opened: one of that transport, else any for
// connections, for TLS needs no listener of its own to be used.
func (l *Layer) origin(listener string, transport resolve.Transport) (Listener, bool) {
	var other *tcpListener
	for _, t := range l.tcp {
		switch {
		case listener != "" && t.Name != listener:
		case t.Transport == transport:
			return t.Listener, true
		case other == nil && transport == resolve.TLS:
			other = t
		}
	}
	if other == nil {
		return Listener{}, false
	}
	return other.Listener, true
}

// Lookup finds the flow with an identity that was given out earlier. UDP flows always exist while their listener does.
func (l *Layer) Lookup(id ID) (*Flow, bool) {
	if id.Transport == resolve.UDP {
		for _, u := range l.udp {
			if u.Addr == id.Local {
				return u.sockets[0].flow(id.Remote), true
			}
		}
		return nil, false
	}
	l.mu.RLock()
	c := l.bySerial[id.Serial]
	l.mu.RUnlock()
	if c == nil || c.flow.id != id || c.flow.Closed() {
		return nil, false
	}
	return c.flow, true
}

func (c *Config) fill() {
	orDuration(&c.ConnectTimeout, 2*time.Second)
	orDuration(&c.SendTimeout, 2*time.Second)
	orDuration(&c.IdleTimeout, 30*time.Minute)
	orDuration(&c.FrameTimeout, 15*time.Second)
	orDuration(&c.PingInterval, 30*time.Second)
	orInt(&c.Sockets, maxProcs())
	orInt(&c.ReceiveBuffer, 4<<20)
	orInt(&c.MaxMessage, sip.MaxMessage)
	orInt(&c.MaxHeader, sip.MaxHeaderSize)
	orInt(&c.MaxQueue, 1<<20)
	orInt(&c.MaxConnections, 100000)
}

func orDuration(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}

func orInt(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}
