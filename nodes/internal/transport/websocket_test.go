package transport

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// serveWS starts a layer with one WebSocket listener.
func serveWS(t testing.TB, cfg Config, h Handler) (*Layer, netip.AddrPort) {
	t.Helper()
	cfg.Listeners = []Listener{{Name: "w", Transport: resolve.WS, Addr: netip.MustParseAddrPort("127.23.2.7:0")}}
	l, _, addr := serve(t, cfg, h, nil)
	return l, addr
}

func dialWS(t testing.TB, url string, opts *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	if opts == nil {
		opts = &websocket.DialOptions{}
	}
	opts.Subprotocols = []string{"sip"}
	c, _, err := websocket.Dial(t.Context(), url, opts) //nolint:bodyclose // the library closes it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func read(t testing.TB, c *websocket.Conn) (websocket.MessageType, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	kind, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return kind, string(b)
}

func write(t testing.TB, c *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Write(ctx, kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// browser is a request as browsers write it: they do not know their address (RFC 7118 section 5).
func browser(id, body string) string {
	return strings.Replace(request(id, body), "SIP/2.0/TCP 127.0.0.1:5060", "SIP/2.0/WS df7jal23ls0d.invalid", 1)
}

func TestWebSocketCarriesOneMessageAFrame(t *testing.T) {
	got := make(collector, 10)
	l, addr := serveWS(t, Config{}, got)
	c := dialWS(t, "ws://"+addr.String()+"/any/path", nil)
	if c.Subprotocol() != "sip" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	noLength := strings.Replace(browser("3", "as long as it is"), "Content-Length: 16\r\n", "", 1)
	for i, m := range []struct {
		kind websocket.MessageType
		text string
		body string
	}{{websocket.MessageText, browser("1", "hello"), "hello"}, {websocket.MessageBinary, "\r\n" + browser("2", "\xff\xfe"), "\xff\xfe"}, {websocket.MessageText, noLength, "as long as it is"}} {
		write(t, c, m.kind, m.text)
		a := got.next(t)
		if a.m.CallID() != fmt.Sprint(i+1) || a.m.Body != m.body {
			t.Fatalf("got %s", a.m)
		}
		if id := a.f.ID(); id.Transport != resolve.WS || id.Local != addr || id.Remote.Addr() != netip.MustParseAddr("127.0.0.1") || a.f.Listener() != "w" || !a.f.Reliable() {
			t.Fatalf("flow %+v", id)
		}
		if found, ok := l.Lookup(a.f.ID()); !ok || found != a.f {
			t.Fatal("flow is not found by its identity")
		}
		for _, answer := range []struct {
			text string
			kind websocket.MessageType
		}{{"SIP/2.0 100 Trying", websocket.MessageText}, {"SIP/2.0 200 \xff", websocket.MessageBinary}} { // text must be UTF-8
			if err := a.f.Send([]byte(answer.text), nil); err != nil {
				t.Fatal(err)
			}
			if kind, text := read(t, c); kind != answer.kind || text != answer.text {
				t.Errorf("got %v %q", kind, text)
			}
		}
	}
}

// Many messages that wait together must not share a frame.
func TestWebSocketKeepsMessagesApart(t *testing.T) {
	got := make(collector, 1)
	_, addr := serveWS(t, Config{}, got)
	c := dialWS(t, "ws://"+addr.String(), nil)
	write(t, c, websocket.MessageText, browser("1", ""))
	f := got.next(t).f
	const n = 500
	for i := range n {
		if err := f.Send([]byte(fmt.Sprint("message ", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if _, text := read(t, c); text != fmt.Sprint("message ", i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
}

func TestWebSocketKeepAlives(t *testing.T) {
	got := make(collector, 1)
	_, addr := serveWS(t, Config{}, got)
	c := dialWS(t, "ws://"+addr.String(), nil)
	write(t, c, websocket.MessageText, "\r\n\r\n")
	if _, text := read(t, c); text != "\r\n" {
		t.Errorf("pong %q", text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c.CloseRead(ctx) // reads the pong
	if err := c.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func TestWebSocketHandshakeIsRefused(t *testing.T) {
	_, addr := serveWS(t, Config{Origins: []string{"*.ims.test", "https://phone.test"}}, make(collector, 1))
	for _, c := range []struct {
		protocol, origin string
		upgrade          bool
		status           int
	}{
		{"", "", true, 400}, {"chat", "", true, 400}, {"sipx, xsip", "", true, 400}, {"sip", "", false, 426},
		{"sip", "", true, 101}, {"chat, SIP", "", true, 101},
		{"sip", "https://web.ims.test", true, 101}, {"sip", "https://phone.test", true, 101},
		{"sip", "http://phone.test", true, 403}, {"sip", "https://evil.test", true, 403}, {"sip", "https://ims.test.evil.test", true, 403},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.upgrade {
			r.Header.Set("Connection", "keep-alive, Upgrade") // as Firefox writes it
			r.Header.Set("Upgrade", "websocket")
		}
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		if c.protocol != "" {
			r.Header.Set("Sec-WebSocket-Protocol", c.protocol)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != c.status {
			t.Errorf("%+v: status %d", c, answer.StatusCode)
		}
		if c.status == 101 && (!strings.EqualFold(answer.Header.Get("Sec-WebSocket-Protocol"), "sip") || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
			t.Errorf("%+v: %v", c, answer.Header)
		}
	}
}

// upgrade shakes hands by hand, for frames that no library writes.
func upgrade(t testing.TB, addr netip.AddrPort) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	answer, err := http.ReadResponse(r, nil)
	if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v %v", answer, err)
	}
	_ = answer.Body.Close()
	return c, r
}

// frame is a masked frame of a client (RFC 6455 section 5.2); head has FIN and the opcode.
func frame(head byte, text string) []byte {
	b := []byte{head}
	switch {
	case len(text) < 126:
		b = append(b, 0x80|byte(len(text)))
	default:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(text)))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i := range len(text) {
		b = append(b, text[i]^mask[i%4])
	}
	return b
}

func TestWebSocketFramesCutAtEveryByte(t *testing.T) {
	got := make(collector, 10)
	_, addr := serveWS(t, Config{}, got)
	c, _ := upgrade(t, addr)
	text := browser("1", "hello")
	// One message in three frames with a pong between, and one in a single frame.
	stream := bytes.Join([][]byte{frame(0x01, text[:20]), frame(0x00, text[20:25]), frame(0x8a, ""), frame(0x80, text[25:]), frame(0x82, browser("2", ""))}, nil)
	for cut := 1; cut < len(stream); cut++ {
		for _, part := range [][]byte{stream[:cut], stream[cut:]} {
			if _, err := c.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		a, b := got.next(t), got.next(t)
		if a.m.CallID() != "1" || a.m.Body != "hello" || b.m.CallID() != "2" {
			t.Fatalf("cut at %d: %s %s", cut, a.m, b.m)
		}
	}
}

func TestWebSocketFaults(t *testing.T) {
	one := browser("1", "")
	for name, c := range map[string]struct {
		frame []byte
		sip   bool // answered 400, and the connection lives
		close uint16
	}{
		"two messages":       {frame(0x81, one+browser("2", "")), true, 0},
		"faulty":             {frame(0x81, strings.Replace(one, "CSeq: 1 MESSAGE", "CSeq: 1 INVITE", 1)), true, 0},
		"cut short":          {frame(0x81, strings.Replace(one, "Content-Length: 0", "Content-Length: 5", 1)), true, 0},
		"huge":               {append([]byte{0x81, 0x80 | 127, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4}, make([]byte, 70000)...), false, 1009},
		"too long headers":   {frame(0x81, "MESSAGE sip:x SIP/2.0\r\nX: "+strings.Repeat("x", 40000)), false, 0},
		"not masked":         {append([]byte{0x81, 5}, "hello"...), false, 0},
		"unknown opcode":     {frame(0x83, "x"), false, 1002},
		"fragmented control": {frame(0x09, "x"), false, 1002},
		"goodbye":            {frame(0x88, "\x03\xe8"), false, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(collector, 2)
			l, addr := serveWS(t, Config{}, got)
			sock, r := upgrade(t, addr)
			if _, err := sock.Write(c.frame); err != nil && c.sip {
				t.Fatal(err)
			}
			if c.sip {
				head, _ := r.Peek(4)
				if len(head) < 4 || !strings.Contains(string(must(r.Peek(30))), "SIP/2.0 400 ") {
					t.Fatalf("got %q", head)
				}
				if _, err := sock.Write(frame(0x81, browser("3", ""))); err != nil {
					t.Fatal(err)
				}
				if a := got.next(t); a.m.CallID() != "3" {
					t.Errorf("got %s", a.m)
				}
				return
			}
			rest, err := io.ReadAll(r)
			if err != nil && !strings.Contains(err.Error(), "reset") {
				t.Fatal(err)
			}
			if c.close != 0 && err == nil && (len(rest) < 4 || rest[0] != 0x88 || binary.BigEndian.Uint16(rest[2:]) != c.close) {
				t.Errorf("got %q, want a close frame with %d", rest, c.close)
			}
			waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == 0 })
			if len(got) > 0 {
				t.Error("handed over")
			}
		})
	}
}

func must(b []byte, _ error) []byte { return b }

func TestWebSocketSlowPeersAreDropped(t *testing.T) {
	got := make(collector, 10)
	l, addr := serveWS(t, Config{FrameTimeout: 200 * time.Millisecond, IdleTimeout: 600 * time.Millisecond, PingInterval: 100 * time.Millisecond}, got)
	asking, silent := dial(t, addr), dialWS(t, "ws://"+addr.String(), nil)
	if _, err := io.WriteString(asking, "GET / HTTP/1.1\r\nHost"); err != nil {
		t.Fatal(err)
	}
	slow, slowReader := upgrade(t, addr)
	deaf, deafReader := upgrade(t, addr) // answers no ping
	idle := dialWS(t, "ws://"+addr.String(), nil)
	if _, err := slow.Write(frame(0x81, browser("s", ""))[:50]); err != nil {
		t.Fatal(err)
	}
	if _, err := deaf.Write(frame(0x81, browser("d", ""))); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	write(t, idle, websocket.MessageText, browser("i", ""))
	silentDone, idleDone := make(chan error, 1), make(chan error, 1)
	go func() { _, _, err := silent.Read(context.Background()); silentDone <- err }() // reading answers pings
	go func() { _, _, err := idle.Read(context.Background()); idleDone <- err }()
	for range 2 {
		if id := got.next(t).m.CallID(); id != "d" && id != "i" {
			t.Fatal(id)
		}
	}
	readAll(t, asking)
	for _, r := range []io.Reader{slowReader, deafReader} {
		if _, err := io.ReadAll(r); err != nil && isTimeout(err) {
			t.Fatal("a slow peer lives on")
		}
	}
	if err := <-silentDone; err == nil {
		t.Error("a silent peer got a message")
	}
	if err := <-idleDone; err == nil || time.Since(began) < 500*time.Millisecond {
		t.Errorf("idle peer was dropped after %v: %v", time.Since(began), err)
	}
	waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == 0 })
}

func TestWebSocketPeerThatDoesNotReadIsCutOff(t *testing.T) {
	got := make(collector, 1)
	l, addr := serveWS(t, Config{SendTimeout: 200 * time.Millisecond}, got)
	c := dialWS(t, "ws://"+addr.String(), nil)
	write(t, c, websocket.MessageText, browser("1", ""))
	f := got.next(t).f
	big := []byte(request("2", strings.Repeat("x", 60000)))
	deadline := time.Now().Add(10 * time.Second)
	for err := error(nil); !errors.Is(err, ErrClosed); err = f.Send(big, nil) {
		if time.Now().After(deadline) {
			t.Fatal("a peer that does not read is still served")
		}
	}
	waitFor(t, func() bool { return f.Closed() && testutil.ToFloat64(l.metrics.connections) == 0 })
}

func TestWebSocketConnectionLimit(t *testing.T) {
	_, addr := serveWS(t, Config{MaxConnections: 2}, make(collector, 1))
	upgrade(t, addr)
	dial(t, addr) // its handshake counts too
	third := dial(t, addr)
	if _, err := third.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a third connection: %v", err)
	}
}

func TestSecureWebSocket(t *testing.T) {
	got := make(collector, 1)
	_, addr, a := serveTLS(t, resolve.WSS, Config{}, got)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.client(), ForceAttemptHTTP2: true}}
	c := dialWS(t, "wss://"+addr.String(), &websocket.DialOptions{HTTPClient: client})
	write(t, c, websocket.MessageText, strings.Replace(browser("1", ""), "/WS ", "/WSS ", 1))
	in := got.next(t)
	if in.f.Transport() != resolve.WSS {
		t.Errorf("flow %+v", in.f.ID())
	}
	if err := in.f.Send([]byte("pong"), nil); err != nil {
		t.Fatal(err)
	}
	if _, text := read(t, c); text != "pong" {
		t.Errorf("got %q", text)
	}
	closed := make(chan struct{})
	in.f.OnClose(func() { close(closed) })
	_ = c.Close(websocket.StatusNormalClosure, "")
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("nobody was told that the flow closed")
	}
}

// Browsers cannot be called: only they open connections.
func TestWebSocketIsNotOpened(t *testing.T) {
	l, addr := serveWS(t, Config{}, make(collector, 1))
	if _, err := l.Flow(resolve.Hop{Addr: addr, Transport: resolve.WS}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// Hundreds of clients that come, talk and vanish leave nothing, and neither does a layer that ends among them.
func TestWebSocketsLeaveNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	got := make(collector, 1000)
	l, err := New(Config{Listeners: []Listener{{"w", resolve.WS, netip.MustParseAddrPort("127.23.2.8:0")}}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx, got) }()
	addr := l.Listeners()[0].Addr
	const n = 300
	conns := make([]net.Conn, n)
	for i := range conns {
		c, r := upgrade(t, addr)
		if _, err := c.Write(frame(0x81, browser(fmt.Sprint(i), ""))); err != nil {
			t.Fatal(err)
		}
		if err := got.next(t).f.Send([]byte("ok"), nil); err != nil {
			t.Fatal(err)
		}
		if answer, err := r.Peek(4); err != nil || string(answer[2:]) != "ok" {
			t.Fatalf("%q %v", answer, err)
		}
		conns[i] = c
	}
	waitFor(t, func() bool { return runtime.NumGoroutine()-before <= n+10 }) // one each
	for i, c := range conns[:n/2] {
		if i%2 == 0 {
			_, _ = c.Write(frame(0x88, "\x03\xe8"))
		}
		_ = c.Close()
	}
	waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == n/2 })
	asking := dial(t, addr) // its handshake never ends
	if _, err := io.WriteString(asking, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the layer does not end")
	}
	if open := testutil.ToFloat64(l.metrics.connections); open != 0 {
		t.Errorf("%v connections are left", open)
	}
	readAll(t, asking)
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before+2 })
}
