package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

const (
	methodEcho Method = 200 + iota
	methodBlock
	methodWho
	methodRefuse
	methodPanic
	methodHuge
	methodBusy
)

// testServer is a Server on a loopback port that a test can stop.
type testServer struct {
	addr netip.AddrPort
	stop context.CancelFunc
	done chan error
}

func startServer(t testing.TB, name string, extra map[Method]Handler) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.21.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handlers := map[Method]Handler{
		methodEcho:   func(_ context.Context, p []byte) ([]byte, error) { return p, nil },
		methodWho:    func(context.Context, []byte) ([]byte, error) { return []byte(name), nil },
		methodRefuse: func(context.Context, []byte) ([]byte, error) { return nil, &StatusError{100, "no such thing"} },
		methodPanic:  func(context.Context, []byte) ([]byte, error) { panic("oops") },
		methodHuge:   func(context.Context, []byte) ([]byte, error) { return make([]byte, MaxPayload+1), nil },
		methodBlock: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	for m, h := range extra {
		handlers[m] = h
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &testServer{addr: netip.MustParseAddrPort(ln.Addr().String()), stop: cancel, done: make(chan error, 1)}
	server := NewServer(nil, handlers, slog.New(slog.DiscardHandler))
	go func() { s.done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-s.done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func startClient(t testing.TB, cfg ClientConfig, servers ...*testServer) *Client {
	t.Helper()
	if cfg.Resolve == nil {
		cfg.Resolve = func(context.Context) ([]netip.AddrPort, error) {
			var out []netip.AddrPort
			for _, s := range servers {
				out = append(out, s.addr)
			}
			return out, nil
		}
	}
	c := NewClient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCallReturnsTheHandlersAnswer(t *testing.T) {
	c := startClient(t, ClientConfig{}, startServer(t, "a", nil))
	for _, size := range []int{0, 1, 1000, 100_000, MaxPayload} {
		want := bytes.Repeat([]byte{'x'}, size)
		got, err := c.Call(within(t, 10*time.Second), methodEcho, want)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("echo of %d bytes: got %d bytes, error %v", size, len(got), err)
		}
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	c := startClient(t, ClientConfig{}, startServer(t, "a", nil))
	for _, tc := range []struct {
		method Method
		req    []byte
		code   uint16
		text   string
	}{
		{methodRefuse, nil, 100, "no such thing"},
		{methodPanic, nil, StatusInternal, "internal error"},
		{methodHuge, nil, StatusTooLarge, "at most"},
		{999, nil, StatusUnknownMethod, "method 999"},
		{methodEcho, make([]byte, MaxPayload+1), StatusTooLarge, "the request has"},
	} {
		_, err := c.Call(within(t, 5*time.Second), tc.method, tc.req)
		var status *StatusError
		if !errors.As(err, &status) || status.Code != tc.code || !strings.Contains(status.Message, tc.text) {
			t.Errorf("method %d: got %v, want status %d with %q", tc.method, err, tc.code, tc.text)
		}
	}
	if _, err := c.Call(within(t, 5*time.Second), methodEcho, []byte("still alive")); err != nil {
		t.Errorf("after the errors: %v", err)
	}
}

func TestDeadlineCrossesTheWire(t *testing.T) {
	left := make(chan time.Duration, 1)
	s := startServer(t, "a", map[Method]Handler{methodBusy: func(ctx context.Context, _ []byte) ([]byte, error) {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	c := startClient(t, ClientConfig{}, s)
	if _, err := c.Call(within(t, 5*time.Second), methodEcho, nil); err != nil {
		t.Fatal(err)
	}
	_, err := c.Call(within(t, 300*time.Millisecond), methodBusy, nil)
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if got := <-left; got <= 0 || got > 301*time.Millisecond {
		t.Errorf("the handler had %v left, want at most 301ms", got)
	}
}

func TestCanceledCallReturnsAtOnce(t *testing.T) {
	c := startClient(t, ClientConfig{}, startServer(t, "a", nil))
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.Call(ctx, methodBlock, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestCallsSpreadOverServers(t *testing.T) {
	a, b := startServer(t, "a", nil), startServer(t, "b", nil)
	c := startClient(t, ClientConfig{}, a, b)
	seen := map[string]int{}
	deadline := time.Now().Add(5 * time.Second)
	for len(seen) < 2 && time.Now().Before(deadline) {
		got, err := c.Call(within(t, time.Second), methodWho, nil)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(got)]++
	}
	seen = map[string]int{}
	for range 100 {
		got, _ := c.Call(within(t, time.Second), methodWho, nil)
		seen[string(got)]++
	}
	if seen["a"] != 50 || seen["b"] != 50 {
		t.Errorf("got %v, want 50 each", seen)
	}
}

func TestFailsOverWhenAServerIsNotThere(t *testing.T) {
	gone, err := net.Listen("tcp", "127.21.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := &testServer{addr: netip.MustParseAddrPort(gone.Addr().String())}
	_ = gone.Close()
	c := startClient(t, ClientConfig{}, dead, startServer(t, "b", nil))
	for range 20 {
		if got, err := c.Call(within(t, 5*time.Second), methodWho, nil); err != nil || string(got) != "b" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestUnavailableIsTriedElsewhereAndThenAvoided(t *testing.T) {
	var asked atomic.Int32
	busy := startServer(t, "busy", map[Method]Handler{methodWho: func(context.Context, []byte) ([]byte, error) {
		asked.Add(1)
		return nil, fmt.Errorf("the engine is away: %w", ErrUnavailable)
	}})
	c := startClient(t, ClientConfig{}, busy, startServer(t, "b", nil))
	for range 50 {
		if got, err := c.Call(within(t, 5*time.Second), methodWho, nil); err != nil || string(got) != "b" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if n := asked.Load(); n > 1 {
		t.Errorf("the unavailable server was asked %d times, want once at most", n)
	}
	alone := startClient(t, ClientConfig{Name: "store"}, busy)
	_, err := alone.Call(within(t, 5*time.Second), methodWho, nil)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the engine is away") || !strings.Contains(err.Error(), "store") {
		t.Errorf("got %v, want ErrUnavailable with the reason and the cluster's name", err)
	}
}

// closingServer accepts, greets, reads one call and closes without an answer.
func closingServer(t *testing.T) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.21.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = nc.Write(appendFrame(nil, header{}, nil))
			_, _ = io.ReadAtLeast(nc, make([]byte, 100), lengthSize+headerSize)
			_ = nc.Close()
		}
	}()
	return &testServer{addr: netip.MustParseAddrPort(ln.Addr().String())}
}

func TestServerDeathInMidCallIsReportedAsInterrupted(t *testing.T) {
	c := startClient(t, ClientConfig{}, closingServer(t))
	_, err := c.Call(within(t, 5*time.Second), methodEcho, []byte("x"))
	if !errors.Is(err, ErrInterrupted) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v, want ErrInterrupted and ErrUnavailable", err)
	}
}

func TestIdempotentCallsSurviveServerDeath(t *testing.T) {
	c := startClient(t, ClientConfig{RetryInterrupted: true}, closingServer(t), startServer(t, "b", nil))
	for range 10 {
		if got, err := c.Call(within(t, 5*time.Second), methodWho, nil); err != nil || string(got) != "b" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestServerThatLeavesLosesNoCall(t *testing.T) {
	slow := map[Method]Handler{methodBusy: func(ctx context.Context, p []byte) ([]byte, error) {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return p, nil
	}}
	a, b := startServer(t, "a", slow), startServer(t, "b", slow)
	c := startClient(t, ClientConfig{}, a, b)
	var wg sync.WaitGroup
	var failed, done atomic.Int32
	stop := make(chan struct{})
	for range 50 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Call(within(t, 5*time.Second), methodBusy, []byte("x")); err != nil {
					failed.Add(1)
					t.Log(err)
				}
				done.Add(1)
			}
		})
	}
	for done.Load() < 500 {
		time.Sleep(time.Millisecond) //nolint:forbidigo // polling for load, bounded by the test's time limit
	}
	a.stop()
	if err := <-a.done; err != nil {
		t.Error(err)
	}
	a.done <- nil
	for at := done.Load(); done.Load() < at+500; {
		time.Sleep(time.Millisecond) //nolint:forbidigo // as above
	}
	close(stop)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d calls failed", failed.Load(), done.Load())
	}
}

func TestReconnectsWhenTheServerIsBack(t *testing.T) {
	ln, err := net.Listen("tcp", "127.21.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	c := startClient(t, ClientConfig{}, &testServer{addr: netip.MustParseAddrPort(addr)})
	if _, err := c.Call(within(t, 5*time.Second), methodEcho, nil); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("without a server: %v", err)
	}
	ln, err = net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	server := NewServer(nil, map[Method]Handler{methodEcho: func(_ context.Context, p []byte) ([]byte, error) { return p, nil }}, slog.New(slog.DiscardHandler))
	go func() { served <- server.Serve(ctx, ln) }()
	defer func() {
		cancel()
		<-served
	}()
	deadline := time.Now().Add(5 * time.Second)
	for {
		if _, err = c.Call(within(t, time.Second), methodEcho, nil); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still failing: %v", err)
		}
		time.Sleep(5 * time.Millisecond) //nolint:forbidigo // polling with a deadline
	}
}

func TestResolverChangesAreFollowed(t *testing.T) {
	a, b := startServer(t, "a", nil), startServer(t, "b", nil)
	var current atomic.Pointer[testServer]
	current.Store(a)
	c := startClient(t, ClientConfig{Refresh: 10 * time.Millisecond, Resolve: func(context.Context) ([]netip.AddrPort, error) {
		if s := current.Load(); s != nil {
			return []netip.AddrPort{s.addr}, nil
		}
		return nil, errors.New("DNS is away")
	}})
	who := func() string {
		got, err := c.Call(within(t, 5*time.Second), methodWho, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(got)
	}
	if got := who(); got != "a" {
		t.Fatalf("got %q", got)
	}
	current.Store(b)
	for deadline := time.Now().Add(5 * time.Second); who() != "b"; {
		if time.Now().After(deadline) {
			t.Fatal("the client stayed with the old server")
		}
	}
	current.Store(nil) // what was known stays in use
	for range 20 {
		if got := who(); got != "b" {
			t.Fatalf("got %q while DNS is away", got)
		}
	}
}

func TestUnresolvableNameIsUnavailable(t *testing.T) {
	c := startClient(t, ClientConfig{Name: "hss", Resolve: func(context.Context) ([]netip.AddrPort, error) {
		return nil, errors.New("no such name")
	}})
	_, err := c.Call(within(t, 5*time.Second), methodEcho, nil)
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "no such name") {
		t.Errorf("got %v", err)
	}
}

func TestBrokenFramesEndOnlyTheirConnection(t *testing.T) {
	s := startServer(t, "a", nil)
	for name, raw := range map[string][]byte{
		"oversize":  binary.BigEndian.AppendUint32(nil, MaxFrame+1),
		"too short": binary.BigEndian.AppendUint32(nil, 3),
		"http":      []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	} {
		nc, err := net.Dial("tcp", s.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		r := bufio.NewReader(nc)
		if _, _, err := readFrame(r); err != nil {
			t.Fatalf("%s: greeting: %v", name, err)
		}
		_, _ = nc.Write(append(raw, make([]byte, 32)...))
		if _, err := r.ReadByte(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: the connection stayed open", name)
		}
		_ = nc.Close()
	}
	half, err := net.Dial("tcp", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = half.Write([]byte{0, 0})
	_ = half.Close()
	c := startClient(t, ClientConfig{}, s)
	if _, err := c.Call(within(t, 5*time.Second), methodEcho, nil); err != nil {
		t.Errorf("after broken frames: %v", err)
	}
}

func TestTenThousandConcurrentCalls(t *testing.T) {
	c := startClient(t, ClientConfig{}, startServer(t, "a", nil), startServer(t, "b", nil))
	var wg sync.WaitGroup
	errs := make(chan error, 10_000)
	for i := range 10_000 {
		wg.Go(func() {
			want := fmt.Sprintf("call %d", i)
			got, err := c.Call(within(t, 20*time.Second), methodEcho, []byte(want))
			if err == nil && string(got) != want {
				err = fmt.Errorf("got %q, want %q", got, want)
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}

func TestCallsAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	cfg := ClientConfig{Name: "store", Metrics: reg, MethodNames: map[Method]string{methodEcho: "echo", methodRefuse: "refuse"}}
	s := startServer(t, "a", nil)
	c, second := startClient(t, cfg, s), startClient(t, cfg, s)
	for range 3 {
		_, _ = c.Call(within(t, 5*time.Second), methodEcho, nil)
	}
	_, _ = second.Call(within(t, 5*time.Second), methodEcho, nil)
	_, _ = c.Call(within(t, 5*time.Second), methodRefuse, nil)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ims_rpc_client_calls_total Calls to other nodes, by method and outcome.
# TYPE ims_rpc_client_calls_total counter
ims_rpc_client_calls_total{cluster="store",method="echo",status="ok"} 4
ims_rpc_client_calls_total{cluster="store",method="refuse",status="ok"} 0
ims_rpc_client_calls_total{cluster="store",method="refuse",status="refused"} 1
`), "ims_rpc_client_calls_total")
	if err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, header{id: 7, code: 3, left: 9}, []byte("abc")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, b, err := readFrame(bufio.NewReaderSize(bytes.NewReader(raw), 64))
		if err != nil {
			return
		}
		if again := appendFrame(nil, h, b.bytes); !bytes.HasPrefix(raw, again) {
			t.Errorf("read %x, wrote %x", raw, again)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	for _, parallel := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", parallel), func(b *testing.B) {
			c := startClient(b, ClientConfig{}, startServer(b, "a", nil))
			payload := bytes.Repeat([]byte{'x'}, 200)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			if _, err := c.Call(ctx, methodEcho, payload); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range parallel {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := c.Call(ctx, methodEcho, payload); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
