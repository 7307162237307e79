package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// subprotocol is what both sides must agree on (RFC 7118 section 4).
const subprotocol = "sip"

// maxRequest bounds the HTTP headers of a handshake.
const maxRequest = 16 << 10

var errTwoMessages = errors.New("more than one message in a WebSocket message")

// wsListener accepts WebSocket connections on one address (RFC 7118): by HTTP, or by HTTPS.
type wsListener struct {
	Listener
	layer  *Layer
	ln     net.Listener
	server *http.Server
	asking atomic.Int64 // connections whose handshake is not over
}

func listenWS(l *Layer, ln Listener) (*wsListener, error) {
	if ln.Transport == resolve.WSS && l.cfg.TLS == nil {
		return nil, errNoCertificate
	}
	lc := net.ListenConfig{KeepAliveConfig: keepAlive()}
	nl, err := lc.Listen(context.Background(), "tcp", ln.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	ln.Addr = addrPort(nl.Addr())
	w := &wsListener{Listener: ln, layer: l, ln: nl}
	w.server = &http.Server{
		Handler: w, MaxHeaderBytes: maxRequest, ConnState: w.state,
		ReadHeaderTimeout: l.cfg.FrameTimeout, // also of the TLS handshake
		ReadTimeout:       l.cfg.FrameTimeout, WriteTimeout: l.cfg.FrameTimeout, IdleTimeout: l.cfg.FrameTimeout,
		ErrorLog:     slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: it has no upgrade
	}
	return w, nil
}

// serve accepts until the listener closes.
func (w *wsListener) serve() {
	var ln net.Listener = w
	if w.Transport == resolve.WSS {
		cfg := w.layer.cfg.TLS.Clone()
		cfg.NextProtos = []string{"http/1.1"}
		ln = tls.NewListener(w, cfg)
	}
	if err := w.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		w.layer.log.Error("listener has ended", "listener", w.Name, "transport", w.Transport.String(), "error", err)
	}
}

func (w *wsListener) close() { _ = errors.Join(w.server.Close(), w.ln.Close()) }

// Accept implements net.Listener: what is too many is closed at once.
func (w *wsListener) Accept() (net.Conn, error) {
	for {
		sock, err := w.ln.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // net/http looks at it
		}
		w.layer.mu.RLock()
		known := len(w.layer.bySerial)
		w.layer.mu.RUnlock()
		source := addrPort(sock.RemoteAddr()).Addr()
		switch {
		case known+int(w.asking.Load()) >= w.layer.cfg.MaxConnections:
		case !w.layer.limits(w.Listener):
			return sock, nil
		case w.layer.sources.enter(source):
			return &counted{sock, sync.OnceFunc(func() { w.layer.sources.leave(source) })}, nil
		}
		w.layer.metrics.failures.WithLabelValues("limit").Inc()
		_ = sock.Close()
	}
}

// Close and Addr implement net.Listener.
func (w *wsListener) Close() error   { return w.ln.Close() } //nolint:wrapcheck // as net.Listener
func (w *wsListener) Addr() net.Addr { return w.ln.Addr() }

// state counts connections until they are WebSockets.
func (w *wsListener) state(_ net.Conn, s http.ConnState) {
	switch s {
	case http.StateNew:
		w.asking.Add(1)
	case http.StateClosed, http.StateHijacked:
		w.asking.Add(-1)
	}
}

// ServeHTTP is the handshake. Any path will do; the subprotocol must be sip.
func (w *wsListener) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	l := w.layer
	l.mu.RLock()
	running := l.running
	if running {
		l.connGroup.Add(1)
	}
	l.mu.RUnlock()
	if !running {
		return
	}
	defer l.connGroup.Done()
	if !offersSIP(r) {
		l.bad(w.Transport, "closed")
		rw.Header().Set("Connection", "close")
		http.Error(rw, "the WebSocket subprotocol must be "+subprotocol, http.StatusBadRequest)
		return
	}
	ws, err := websocket.Accept(rw, r, &websocket.AcceptOptions{
		Subprotocols: []string{subprotocol}, OriginPatterns: l.cfg.Origins, InsecureSkipVerify: len(l.cfg.Origins) == 0,
	})
	if err != nil { // it has answered
		l.metrics.failures.WithLabelValues("handshake").Inc()
		return
	}
	w.adopt(ws, r)
}

func (w *wsListener) adopt(ws *websocket.Conn, r *http.Request) {
	l := w.layer
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || local == nil {
		_ = ws.CloseNow()
		return
	}
	ws.SetReadLimit(int64(l.cfg.MaxMessage))
	c := l.accepted(w.Listener, addrPort(local), netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()))
	c.framed, c.sock = true, &socket{ws, l.cfg.SendTimeout}
	c.used.Store(time.Now().UnixNano())
	if !l.enter(c, func() { c.readFrames(ws) }) {
		_ = ws.CloseNow()
	}
}

// offersSIP tells whether a handshake offers the subprotocol.
func offersSIP(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), subprotocol) {
				return true
			}
		}
	}
	return false
}

// socket is a WebSocket; every SIP message is one of its messages (RFC 7118 section 5).
type socket struct {
	*websocket.Conn
	timeout time.Duration
}

func (s *socket) write(batch []byte, cuts []int) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	start := 0
	for _, end := range cuts {
		kind := websocket.MessageText
		if !utf8.Valid(batch[start:end]) {
			kind = websocket.MessageBinary
		}
		if err := s.Write(ctx, kind, batch[start:end]); err != nil {
			return err //nolint:wrapcheck // the caller does
		}
		start = end
	}
	return nil
}

func (s *socket) end(group *sync.WaitGroup) { group.Go(func() { _ = s.CloseNow() }) }

// readFrames is the loop of a WebSocket. It ends the connection when it returns.
func (c *conn) readFrames(ws *websocket.Conn) {
	p := &pulse{conn: c, ws: ws}
	p.start()
	err := c.messages(ws)
	c.shut(fmt.Errorf("reading from %s: %w", c.key.hop, err))
	p.stop()
}

// messages hands over what arrives. As on TCP the peer must say something soon, and finish soon what it has begun.
func (c *conn) messages(ws *websocket.Conn) error {
	var buf bytes.Buffer
	limit := c.layer.cfg.FrameTimeout
	for first := true; ; first = false {
		ctx, cancel := context.WithCancel(c.layer.ctx)
		timer := time.AfterFunc(limit, cancel)
		if !first {
			timer.Stop()
		}
		_, r, err := ws.Reader(ctx)
		if err == nil {
			timer.Reset(limit)
			_, err = buf.ReadFrom(r)
		}
		timer.Stop()
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() != nil && c.layer.ctx.Err() == nil {
			c.layer.metrics.failures.WithLabelValues("timeout").Inc()
		}
		cancel()
		if err == nil {
			c.used.Store(time.Now().UnixNano())
			err = c.takeFrame(buf.Bytes())
		}
		if err != nil {
			return err
		}
		if buf.Reset(); buf.Cap() > 4*readBuffer {
			buf = bytes.Buffer{}
		}
	}
}

// takeFrame hands over one message, or answers a keep-alive (RFC 5626 4.4.1). Content-Length may be missing (RFC 7118
// section 5); whatever is wrong in a frame, the next one can be understood, unless headers have no end.
func (c *conn) takeFrame(data []byte) error {
	l, kind := c.layer, c.flow.id.Transport
	if blank(data) {
		if bytes.HasPrefix(data, []byte("\r\n\r\n")) {
			l.metrics.keepalives.Inc()
			_ = c.Send(c.flow, []byte("\r\n"), nil)
		}
		return nil
	}
	data = bytes.TrimLeft(data, "\r\n")
	l.metrics.received[kind].Inc()
	f := framer{maxHeader: l.cfg.MaxHeader, maxMessage: l.cfg.MaxMessage}
	f.reset()
	size, fault := f.next(data)
	switch {
	case errors.Is(fault, errHeaderSize):
		l.bad(kind, "closed")
		return fault
	case fault == nil && size > 0 && !blank(data[size:]):
		data, fault = data[:size], errTwoMessages
	default:
		fault = nil // the parser finds the others
	}
	m, err := sip.Parse(data)
	if err == nil {
		err = fault
	}
	switch {
	case err == nil:
		l.handler.Message(m, c.flow)
	case Refuse(m, err, c.flow):
		l.bad(kind, "answered")
	default:
		l.bad(kind, "dropped")
	}
	return nil
}

// pulse asks a peer now and then whether it is alive, which also keeps proxies and NATs between from forgetting the
// connection, since browsers cannot send pings themselves (RFC 7118 section 6). It ends idle connections.
type pulse struct {
	conn  *conn
	ws    *websocket.Conn
	mu    sync.Mutex
	timer *time.Timer // nil when stopped
}

func (p *pulse) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(p.conn.layer.cfg.PingInterval, p.beat)
}

func (p *pulse) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	p.timer = nil
}

func (p *pulse) beat() {
	cfg := &p.conn.layer.cfg
	if time.Since(time.Unix(0, p.conn.used.Load())) > cfg.IdleTimeout {
		p.conn.layer.metrics.failures.WithLabelValues("timeout").Inc()
		p.conn.shut(errIdle)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.FrameTimeout)
	defer cancel()
	if err := p.ws.Ping(ctx); err != nil {
		if ctx.Err() != nil {
			p.conn.layer.metrics.failures.WithLabelValues("timeout").Inc()
		}
		p.conn.shut(fmt.Errorf("waiting for a pong: %w", err))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Reset(cfg.PingInterval)
	}
}

var errIdle = errors.New("connection is idle")
