package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
)

type arrival struct {
	m *sip.Message
	f *Flow
}

type collector chan arrival

func (c collector) Message(m *sip.Message, f *Flow) { c <- arrival{m, f} }

func (c collector) next(t *testing.T) arrival {
	t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("no message came")
		return arrival{}
	}
}

// serve starts a layer with one UDP and one TCP listener; it ends with the test.
func serve(t testing.TB, cfg Config, h Handler, reg prometheus.Registerer) (l *Layer, udp, tcp netip.AddrPort) {
	t.Helper()
	if cfg.Listeners == nil {
		cfg.Listeners = []Listener{
			{Name: "u", Transport: resolve.UDP, Addr: netip.MustParseAddrPort("127.23.2.1:0")},
			{Name: "t", Transport: resolve.TCP, Addr: netip.MustParseAddrPort("127.23.2.1:0")},
		}
	}
	l, err := New(cfg, Deps{Metrics: reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx, h) }()
	t.Cleanup(func() { cancel(); <-done })
	waitFor(t, func() bool { l.mu.RLock(); defer l.mu.RUnlock(); return l.running })
	for _, ln := range l.Listeners() {
		if ln.Transport == resolve.UDP {
			udp = ln.Addr
		} else {
			tcp = ln.Addr
		}
	}
	return l, udp, tcp
}

// waitFor polls a condition that another goroutine makes true.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("condition did not come true")
		}
	}
}

func request(id string, body string) string {
	return fmt.Sprintf("MESSAGE sip:bob@home.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK%s\r\nFrom: <sip:a@home.test>;tag=1\r\nTo: <sip:bob@home.test>\r\nCall-ID: %s\r\nCSeq: 1 MESSAGE\r\nContent-Length: %d\r\n\r\n%s",
		id, id, len(body), body)
}

func dial(t testing.TB, addr netip.AddrPort) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func readAll(t *testing.T, c net.Conn) string {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("reading until the end: %v (got %q)", err, b)
	}
	return string(b)
}

func TestUDPKeepsOrderAndAnswersFromTheSamePort(t *testing.T) {
	got := make(collector, 4096)
	_, udp, _ := serve(t, Config{}, got, nil)
	peer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(udp)) // connected: takes answers from that port only
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	const n = 1000
	for i := range n {
		if _, err := peer.Write([]byte(request(fmt.Sprint(i), "x"))); err != nil {
			t.Fatal(err)
		}
	}
	var last *Flow
	for i := range n {
		a := got.next(t)
		if a.m.CallID() != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, a.m.CallID())
		}
		last = a.f
	}
	if last.Remote() != peer.LocalAddr().(*net.UDPAddr).AddrPort() || last.Local() != udp || last.Reliable() || last.Listener() != "u" {
		t.Errorf("flow %+v", last.ID())
	}
	if err := last.Send([]byte("pong"), nil); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 10)
	if k, err := peer.Read(b); err != nil || string(b[:k]) != "pong" {
		t.Errorf("%q %v", b[:k], err)
	}
}

func TestOccupiedPortIsAnError(t *testing.T) {
	_, udp, tcp := serve(t, Config{}, make(collector, 1), nil)
	for _, ln := range []Listener{{"u", resolve.UDP, udp}, {"t", resolve.TCP, tcp}} {
		if l, err := New(Config{Listeners: []Listener{ln}}, Deps{}); err == nil {
			l.closeListeners()
			t.Errorf("%s: a second listener on an occupied port", ln.Transport)
		}
	}
}

func TestGarbageIsAnsweredOrDropped(t *testing.T) {
	got := make(collector, 10)
	reg := prometheus.NewPedanticRegistry()
	l, udp, _ := serve(t, Config{}, got, reg)
	peer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(udp))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	for _, s := range []string{"\r\n", "rubbish", "\x00\x01\x00\x00", strings.Repeat("A", 60000), "ACK sip:x SIP/2.0\r\nVia: x\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"} {
		if _, err := peer.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	// Two From headers: readable enough for an answer.
	if _, err := peer.Write([]byte(strings.Replace(request("bad", ""), "From:", "From: <sip:x@y>;tag=9\r\nFrom:", 1))); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 2000)
	n, err := peer.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "SIP/2.0 400 Bad Request") {
		t.Fatalf("%v %q", err, b[:n])
	}
	if _, err := peer.Write([]byte(request("good", ""))); err != nil {
		t.Fatal(err)
	}
	if a := got.next(t); a.m.CallID() != "good" {
		t.Errorf("got %s", a.m)
	}
	if n := testutil.ToFloat64(l.metrics.bad.WithLabelValues("udp", "dropped")); n != 5 {
		t.Errorf("%v dropped, want 5", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestFramingSplitAtEveryByte(t *testing.T) {
	got := make(collector, 10)
	_, _, tcp := serve(t, Config{}, got, nil)
	c := dial(t, tcp)
	_ = c.(*net.TCPConn).SetNoDelay(true)
	one := strings.Replace(request("1", "hello\r\n\r\nMESSAGE x"), "Content-Length:", "Subject: a\r\n folded\r\nl :", 1)
	two := "\r\n\r\n" + strings.Replace(request("2", ""), "Content-Length: 0", "content-length:\r\n\t0", 1)
	stream := one + two
	for cut := 1; cut < len(stream); cut++ {
		for _, part := range []string{stream[:cut], stream[cut:]} {
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		a, b := got.next(t), got.next(t)
		if a.m.CallID() != "1" || a.m.Body != "hello\r\n\r\nMESSAGE x" || b.m.CallID() != "2" || b.m.Body != "" || a.f != b.f {
			t.Fatalf("cut at %d: %s %s", cut, a.m, b.m)
		}
	}
}

// The framer alone, byte by byte and in every cut, must find the same sizes.
func TestFramerIsIndependentOfCuts(t *testing.T) {
	text := []byte(request("1", strings.Repeat("b", 50)))
	for cut := range text {
		f := framer{maxHeader: 1000, maxMessage: 1000}
		f.reset()
		if n, err := f.next(text[:cut]); n != 0 || err != nil {
			t.Fatalf("%d bytes: %d %v", cut, n, err)
		}
		if n, err := f.next(append(slices.Clone(text), "more"...)); n != len(text) || err != nil {
			t.Fatalf("whole after %d: %d %v", cut, n, err)
		}
	}
}

func TestStreamFaultsEndTheConnection(t *testing.T) {
	noLength := strings.Replace(request("1", ""), "Content-Length: 0\r\n", "", 1)
	for name, c := range map[string]struct {
		send   string
		answer bool
	}{
		"no Content-Length":       {noLength, true},
		"two Content-Lengths":     {strings.Replace(request("1", ""), "Content-Length: 0", "Content-Length: 0\r\nl: 5", 1), false},
		"negative Content-Length": {strings.Replace(request("1", ""), "Content-Length: 0", "Content-Length: -1", 1), false},
		"too long a body":         {strings.Replace(request("1", ""), "Content-Length: 0", "Content-Length: 70000", 1), true},
		"too long headers":        {"MESSAGE sip:x SIP/2.0\r\nX: " + strings.Repeat("x", 40000), false},
		"endless line":            {strings.Repeat("x", 40000), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(collector, 1)
			_, _, tcp := serve(t, Config{}, got, nil)
			conn := dial(t, tcp)
			if _, err := io.WriteString(conn, c.send); err != nil {
				t.Fatal(err)
			}
			if answer := readAll(t, conn); strings.HasPrefix(answer, "SIP/2.0 400 ") != c.answer {
				t.Errorf("answered %q", answer)
			}
			if len(got) > 0 {
				t.Error("handed over")
			}
		})
	}
}

func TestFaultInsideAFrameLeavesTheConnection(t *testing.T) {
	got := make(collector, 2)
	_, _, tcp := serve(t, Config{}, got, nil)
	c := dial(t, tcp)
	bad := strings.Replace(request("1", ""), "CSeq: 1 MESSAGE", "CSeq: 1 INVITE", 1)
	if _, err := io.WriteString(c, bad+request("2", "")); err != nil {
		t.Fatal(err)
	}
	if a := got.next(t); a.m.CallID() != "2" {
		t.Errorf("got %s", a.m)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "SIP/2.0 400 ") {
		t.Errorf("%q %v", line, err)
	}
}

func TestKeepAliveIsAnswered(t *testing.T) {
	_, _, tcp := serve(t, Config{}, make(collector, 1), nil)
	c := dial(t, tcp)
	for range 3 {
		if _, err := io.WriteString(c, "\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "\r\n" {
			t.Fatalf("pong %q %v", b, err)
		}
	}
}

func TestSlowPeersAreDropped(t *testing.T) {
	got := make(collector, 10)
	l, _, tcp := serve(t, Config{FrameTimeout: 100 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}, got, nil)
	silent, slow, idle := dial(t, tcp), dial(t, tcp), dial(t, tcp)
	if _, err := io.WriteString(idle, request("1", "")); err != nil {
		t.Fatal(err)
	}
	got.next(t)
	began := time.Now()
	go func() { // a byte at a time keeps it busy, but the message must be whole in time
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte(request("2", "")) {
			<-tick.C
			if _, err := slow.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	readAll(t, silent)
	readAll(t, slow)
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("slow peers lived %v", d)
	}
	readAll(t, idle)
	if d := time.Since(began); d < 300*time.Millisecond {
		t.Errorf("idle peer was dropped after %v", d)
	}
	waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == 0 })
}

func TestThousandIdleConnections(t *testing.T) {
	got := make(collector, 1000)
	l, _, tcp := serve(t, Config{}, got, nil)
	before := runtime.NumGoroutine()
	conns := make([]net.Conn, 1000)
	for i := range conns {
		conns[i] = dial(t, tcp)
		if _, err := io.WriteString(conns[i], request(fmt.Sprint(i), "")); err != nil {
			t.Fatal(err)
		}
	}
	for range conns {
		if err := got.next(t).f.Send([]byte("\r\n"), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return runtime.NumGoroutine()-before <= 1000+10 })
	for _, c := range conns {
		_ = c.Close()
	}
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before+5 }) // the listeners may have started after the count
	waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == 0 })
}

func TestConnectionIsReusedAndReplaced(t *testing.T) {
	fromA, fromB := make(collector, 10), make(collector, 10)
	a, _, _ := serve(t, Config{}, fromB, nil)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := New(Config{Listeners: []Listener{{"t", resolve.TCP, netip.MustParseAddrPort("127.23.2.2:0")}}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx, fromA) }()
	hop := resolve.Hop{Addr: b.Listeners()[0].Addr, Transport: resolve.TCP}

	first, err := a.Flow(hop)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := a.Flow(hop); err != nil || again != first {
		t.Fatal("a second connection to the same hop")
	}
	if err := first.Send([]byte(request("1", "")), nil); err != nil { // queued until connected
		t.Fatal(err)
	}
	in := fromA.next(t)
	if in.f.Remote().Addr() != netip.MustParseAddr("127.23.2.1") {
		t.Errorf("connected from %s, not from the listener's address", in.f.Remote())
	}
	if err := in.f.Send([]byte(request("2", "")), nil); err != nil {
		t.Fatal(err)
	}
	if back := fromB.next(t); back.f != first {
		t.Error("answer came on another flow")
	}
	if found, ok := b.Lookup(in.f.ID()); !ok || found != in.f {
		t.Error("flow is not found by its identity")
	}

	closed := make(chan struct{})
	first.OnClose(func() { close(closed) })
	cancel()
	<-done
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told that the flow closed")
	}
	if err := first.Send([]byte("x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("sending on a closed flow: %v", err)
	}
	if _, ok := b.Lookup(in.f.ID()); ok {
		t.Error("a closed flow is found")
	}
	failures := make(chan error, 1)
	second, err := a.Flow(hop) // the peer is dead
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Send([]byte(request("3", "")), func(err error) { failures <- err }); err == nil {
		select {
		case err := <-failures:
			if err == nil {
				t.Error("no reason")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a message to a dead peer vanished")
		}
	}

	c, err := New(Config{Listeners: []Listener{{"t", resolve.TCP, hop.Addr}}}, Deps{}) // the peer is back
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	done = make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx, fromA) }()
	defer func() { cancel(); <-done }()
	waitFor(t, func() bool { f, err := a.Flow(hop); return err == nil && f != second })
	third, err := a.Flow(hop)
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Send([]byte(request("4", "")), nil); err != nil {
		t.Fatal(err)
	}
	if m := fromA.next(t); m.m.CallID() != "4" || third == first {
		t.Errorf("after reconnecting: %s", m.m)
	}
}

func TestPeerThatDoesNotReadIsCutOff(t *testing.T) {
	got := make(collector, 1)
	_, _, tcp := serve(t, Config{SendTimeout: 200 * time.Millisecond, MaxQueue: 256 << 10}, got, nil)
	c := dial(t, tcp)
	if _, err := io.WriteString(c, request("1", "")); err != nil {
		t.Fatal(err)
	}
	f := got.next(t).f
	var failed atomic.Int64
	full, sent := false, int64(0)
	big := []byte(request("2", strings.Repeat("x", 8000)))
	waitFor(t, func() bool { // the kernel takes some megabytes before it makes us wait
		for range 100 {
			switch err := f.Send(big, func(error) { failed.Add(1) }); {
			case err == nil:
				sent++
			case errors.Is(err, ErrQueueFull):
				full = true
			case !errors.Is(err, ErrClosed):
				t.Fatal(err)
			}
		}
		return f.Closed()
	})
	if !full {
		t.Error("the queue never was full")
	}
	waitFor(t, func() bool { return failed.Load() > 0 })
	if failed.Load() > sent {
		t.Errorf("%d failures of %d messages", failed.Load(), sent)
	}
}

func TestWritesAreCoalescedInOrder(t *testing.T) {
	got := make(collector, 5000)
	a, _, _ := serve(t, Config{}, make(collector, 1), nil)
	_, _, tcp := serve(t, Config{Listeners: []Listener{{"t", resolve.TCP, netip.MustParseAddrPort("127.23.2.2:0")}}}, got, nil)
	f, err := a.Flow(resolve.Hop{Addr: tcp, Transport: resolve.TCP})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 500 {
				if err := f.Send([]byte(request(fmt.Sprintf("%d-%d", w, i), "body")), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := [4]int{}
	for range 2000 {
		var w, i int
		if _, err := fmt.Sscanf(got.next(t).m.CallID(), "%d-%d", &w, &i); err != nil {
			t.Fatal(err)
		}
		if i != next[w] {
			t.Fatalf("sender %d: message %d, want %d", w, i, next[w])
		}
		next[w]++
	}
}

func TestIdentityRoundTrip(t *testing.T) {
	for _, id := range []ID{
		{resolve.UDP, netip.MustParseAddrPort("1.2.3.4:5060"), netip.MustParseAddrPort("[2001:db8::1]:9"), 0},
		{resolve.TCP, netip.MustParseAddrPort("[::1]:5060"), netip.MustParseAddrPort("9.9.9.9:65535"), 1 << 63},
	} {
		b, _ := id.AppendBinary(nil)
		if back, err := ParseID(b); err != nil || back != id {
			t.Errorf("%+v -> %+v %v", id, back, err)
		}
		for n := range b {
			if _, err := ParseID(b[:n]); err == nil {
				t.Errorf("%d bytes of %d were accepted", n, len(b))
			}
		}
	}
}

func TestConnectionLimit(t *testing.T) {
	_, _, tcp := serve(t, Config{MaxConnections: 2}, make(collector, 1), nil)
	conns := []net.Conn{dial(t, tcp), dial(t, tcp), dial(t, tcp)}
	if _, err := conns[2].Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("a third connection: %v", err)
	}
}

// A peer whose kernel does not even answer: its queue of connections is full.
func TestConnectTimeout(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 23, 2, 9}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 23, 2, 9}), uint16(name.(*unix.SockaddrInet4).Port))
	d := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 16 {
		c, err := d.DialContext(t.Context(), "tcp", addr.String())
		if err != nil {
			break // full
		}
		defer func() { _ = c.Close() }()
	}
	l, _, _ := serve(t, Config{ConnectTimeout: 200 * time.Millisecond}, make(collector, 1), nil)
	began := time.Now()
	f, err := l.Flow(resolve.Hop{Addr: addr, Transport: resolve.TCP})
	if err != nil {
		t.Fatal(err)
	}
	failures := make(chan error, 1)
	if err := f.Send([]byte("x"), func(err error) { failures <- err }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failures:
		if took := time.Since(began); !isTimeout(errors.Unwrap(err)) || took < 150*time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("connecting went on for ever")
	}
}
