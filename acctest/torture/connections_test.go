package torture

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clearwater-ims/clearwater/acctest/phone"
)

// poll is an OPTIONS to the edge itself, which any sender may send and which it answers by 200.
func poll(transport string) string {
	edge := shared.Address("edge-1")
	return phone.CRLF(strings.Join([]string{
		"OPTIONS sip:" + edge + ":5060 SIP/2.0", "Via: SIP/2.0/" + transport + " 127.35.0.9;branch=" + phone.Branch() + ";rport", "Max-Forwards: 70",
		"From: <sip:poll@example.net>;tag=1", "To: <sip:" + edge + ">", "Call-ID: " + phone.Branch(), "CSeq: 1 OPTIONS", "Content-Length: 4", "", "body",
	}, "\n"))
}

// TestCutMessages cuts a message at every third byte, in datagrams and on streams that end there.
func TestCutMessages(t *testing.T) {
	w := watch(t)
	udp, err := net.Dial("udp4", shared.Address("edge-1")+":5060")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	text := poll("UDP")
	for end := 0; end < len(text); end += 3 {
		if _, err := udp.Write([]byte(text[:end])); err != nil {
			t.Fatal(err)
		}
		tcp := dial(t)
		if _, err := tcp.Write([]byte(text[:end])); err != nil {
			t.Fatal(err)
		}
		_ = tcp.Close()
	}
	ask(t, udp, text)
	w.unharmed(t)
}

// ask sends a poll and wants its 200.
func ask(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	answered(t, conn)
}

func answered(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	buffer := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatalf("a poll is not answered: %v", err)
		}
		if strings.HasPrefix(string(buffer[:n]), "SIP/2.0 200 ") {
			return
		}
	}
}

// closed waits until the edge ends a connection.
func closed(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the edge keeps the connection", what)
	}
}

// TestHugeMessages sends more than a message may have: the edge ends such a stream, and takes what is only large.
func TestHugeMessages(t *testing.T) {
	w := watch(t)
	head, _, _ := strings.Cut(poll("TCP"), "Content-Length")
	for name, text := range map[string]string{
		"a header without an end":    head + "Subject: " + strings.Repeat("x", 4<<20),
		"headers without an end":     head + strings.Repeat("Subject: x\r\n", 1<<18),
		"a body of 100 MB announced": head + "Content-Length: 100000000\r\n\r\n" + strings.Repeat("x", 4<<20),
		"a length beyond all":        head + "Content-Length: 99999999999999999999\r\n\r\n",
		"no line at all":             strings.Repeat("x", 4<<20),
	} {
		conn := dial(t)
		_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Write([]byte(text)) // the edge may end it before all is written
		closed(t, name, conn)
	}
	ws := dialWebSocket(t)
	_ = ws.Write(t.Context(), websocket.MessageText, []byte(head+"Subject: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := ws.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a frame of 1 MB: the edge keeps the connection: %v", err)
	}
	udp, err := net.Dial("udp4", shared.Address("edge-1")+":5060")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write([]byte(strings.Repeat("x", 65000))); err != nil {
		t.Fatal(err)
	}
	head, _, _ = strings.Cut(poll("UDP"), "Content-Length")
	ask(t, udp, head+"Content-Length: 60000\r\n\r\n"+strings.Repeat("x", 60000))
	w.unharmed(t)
}

// TestSlowAndHalfOpenConnections drips messages byte by byte on a hundred connections while two hundred others have begun a
// message, a TLS or a WebSocket handshake and say nothing more. Phones are served meanwhile, and the drips are answered.
func TestSlowAndHalfOpenConnections(t *testing.T) {
	w := watch(t)
	var hanging []net.Conn
	for i := range 200 {
		port, text := "5060", poll("TCP")[:100]
		switch i % 4 {
		case 1:
			port, text = "5061", "\x16\x03\x01\x02\x00\x01"
		case 2:
			port, text = "5062", "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: webso"
		case 3:
			port, text = "5063", ""
		}
		conn, err := net.DialTimeout("tcp4", shared.Address("edge-1")+":"+port, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text))
		hanging = append(hanging, conn)
	}
	var group sync.WaitGroup
	for range 100 {
		conn := dial(t)
		text := poll("TCP")
		group.Go(func() {
			for i := range len(text) {
				if _, err := conn.Write([]byte(text[i : i+1])); err != nil {
					t.Errorf("the edge ends a slow connection: %v", err)
					return
				}
				<-time.After(10 * time.Millisecond)
			}
			_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			buffer := make([]byte, 1<<16)
			if n, err := conn.Read(buffer); err != nil || !strings.HasPrefix(string(buffer[:n]), "SIP/2.0 200 ") {
				t.Errorf("a slow poll is answered by %q, %v", buffer[:n], err)
			}
			_ = conn.Close()
		})
	}
	served(t)
	group.Wait()
	for _, conn := range hanging {
		_ = conn.Close()
	}
	w.unharmed(t)
}

// served lets two phones register and call, each step within its second.
func served(t *testing.T) {
	t.Helper()
	a, b := phone.Subscriber(t, shared, ""), phone.Subscriber(t, shared, "")
	a.Start()
	b.PickUp()
	for _, p := range []*phone.Phone{a, b} {
		if m := p.Register(60); m.Status() != 200 {
			t.Fatalf("REGISTER is answered by\n%s", m.Raw)
		}
	}
	call := a.Invite(b.URI())
	final := call.Final(2 * time.Second)
	if final.Status() != 200 {
		t.Fatalf("the call is answered by\n%s", final.Raw)
	}
	call.Ack(final)
	call.Bye(final)
}

// TestIdleConnections opens thousands of connections that say nothing. What they cost is given back when they close.
func TestIdleConnections(t *testing.T) {
	w := watch(t)
	const streams, sockets = 4000, 1000
	before := shared.Gauge(t.Context(), "edge-1.site1", "process_resident_memory_bytes")
	var mu sync.Mutex
	var group sync.WaitGroup
	var open []io.Closer
	slots := make(chan struct{}, 50)
	for i := range streams + sockets {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var c io.Closer
			var err error
			// One address may not open so many (edge_connections_per_address): they come from sixteen.
			from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 35, 2, byte(1+i%16))}, Timeout: 10 * time.Second}
			if i < streams {
				c, err = from.DialContext(t.Context(), "tcp4", shared.Address("edge-1")+":5060")
			} else {
				client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext}}
				ws, _, dialErr := websocket.Dial(t.Context(), "ws://"+shared.Address("edge-1")+":5062", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"sip"}}) //nolint:bodyclose // it is the connection's
				if err = dialErr; err == nil {
					c = closer(ws.CloseNow)
				}
			}
			if err != nil {
				t.Errorf("connection %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, c)
		})
	}
	group.Wait()
	served(t)
	after := shared.Gauge(t.Context(), "edge-1.site1", "process_resident_memory_bytes")
	t.Logf("figures: %d idle connections, %.1f kB of the edge's memory each", len(open), float64(after-before)/1024/float64(len(open)))
	for _, c := range open {
		_ = c.Close()
	}
	w.unharmed(t)
}

type closer func() error

func (c closer) Close() error { return c() }
