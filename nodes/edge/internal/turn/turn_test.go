package turn

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	pion "github.com/pion/turn/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
)

const (
	serverIP = "127.33.1.1"
	realm    = "ims.test"
)

// book is the subscriber data: passwords by user name, and what may go wrong.
type book struct {
	passwords map[string]string
	asked     atomic.Int64
	hold      chan struct{} // look-ups of "slow" wait for it
	mu        sync.Mutex
	failing   bool
}

func (b *book) Key(ctx context.Context, username string) (string, error) {
	b.asked.Add(1)
	if strings.HasPrefix(username, "slow") {
		select {
		case <-b.hold:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing {
		return "", errors.New("nobody answers")
	}
	password, ok := b.passwords[username]
	if !ok {
		return "", ErrUnknown
	}
	return longTerm(username, realm, password), nil
}

func (b *book) set(user, password string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.passwords[user] = password
}

// world is a server on sockets of its own, with clients around it.
type world struct {
	t      *testing.T
	server *Server
	book   *book
	limits atomic.Pointer[Limits]
	late   atomic.Int64 // nanoseconds that the server's clock is ahead
	reg    *prometheus.Registry
	stop   func()
}

func start(t *testing.T, change func(*Config, *Limits)) *world {
	t.Helper()
	w := &world{t: t, reg: prometheus.NewPedanticRegistry(), book: &book{hold: make(chan struct{}), passwords: map[string]string{
		"alice@ims.test": "secret", "bob@ims.test": "hidden", "6505550000%40ims.test": "escaped", "slow@ims.test": "slow",
	}}}
	ca, err := pki.NewDeploymentCA("d")
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := ca.Issue(pki.Subject{Name: "edge-1.site1", Role: "edge", Addresses: []string{serverIP}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{PerUser: 10, Total: 100, Denied: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.99.0.0/16")}}
	cfg := Config{
		Listen: []netip.Addr{netip.MustParseAddr(serverIP)}, TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}},
		Relay: netip.MustParseAddr(serverIP), Public: netip.MustParseAddr(serverIP), MinPort: 40000, MaxPort: 40999, Realm: realm,
	}
	if change != nil {
		change(&cfg, &limits)
	}
	w.limits.Store(&limits)
	w.server, err = New(t.Context(), cfg, Deps{
		Subscribers: w.book, Limits: func() Limits { return *w.limits.Load() }, Log: slog.New(slog.DiscardHandler), Metrics: w.reg,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.late.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Run(ctx) }()
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

// dial opens what a client speaks TURN on.
func (w *world) dial(kind, from string) net.PacketConn {
	w.t.Helper()
	addr := w.server.Addresses()[kind].String()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	switch kind {
	case "udp":
		sock, err := net.ListenPacket("udp", from+":0")
		if err != nil {
			w.t.Fatal(err)
		}
		return sock
	case "tls":
		sock, err := tls.DialWithDialer(&dialer, "tcp", addr, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test
		if err != nil {
			w.t.Fatal(err)
		}
		return pion.NewSTUNConn(sock)
	}
	sock, err := dialer.Dial("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	return pion.NewSTUNConn(sock)
}

func (w *world) client(kind, from, user, password string) *pion.Client {
	w.t.Helper()
	addr := w.server.Addresses()[kind].String()
	sock := w.dial(kind, from)
	c, err := pion.NewClient(&pion.ClientConfig{STUNServerAddr: addr, TURNServerAddr: addr, Conn: sock, Username: user, Password: password, Realm: realm, LoggerFactory: logs{slog.New(slog.DiscardHandler)}})
	if err == nil {
		err = c.Listen()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close(); _ = sock.Close() })
	return c
}

func (w *world) allocate(kind, from, user, password string) net.PacketConn {
	w.t.Helper()
	relay, err := w.client(kind, from, user, password).Allocate()
	if err != nil {
		w.t.Fatalf("%s as %s: %v", kind, user, err)
	}
	return relay
}

// pass sends from one side to the other until it arrives, for permissions may still be on their way.
func pass(t *testing.T, from, to net.PacketConn, at net.Addr, text string) net.Addr {
	t.Helper()
	buf := make([]byte, 2000)
	for range 50 {
		if _, err := from.WriteTo([]byte(text), at); err != nil {
			t.Fatalf("sending %q: %v", text, err)
		}
		_ = to.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, source, err := to.ReadFrom(buf); err == nil && string(buf[:n]) == text {
			return source
		}
	}
	t.Fatalf("%q did not arrive", text)
	return nil
}

func peer(t *testing.T, ip string) net.PacketConn {
	t.Helper()
	sock, err := net.ListenPacket("udp", ip+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sock.Close() })
	return sock
}

// Binding tells a phone its address, over each transport, without credentials.
func TestBindingOverEachTransport(t *testing.T) {
	w := start(t, nil)
	for _, kind := range []string{"udp", "tcp", "tls"} {
		c := w.client(kind, "127.33.1.2", "", "")
		mapped, err := c.SendBindingRequest()
		if err != nil || !strings.HasPrefix(mapped.String(), "127.33.1.2:") {
			t.Errorf("%s: %v %v", kind, mapped, err)
		}
	}
}

// Media goes both ways through a relay of the port range, over each transport and with each kind of credentials.
func TestRelayWithEachKindOfCredentials(t *testing.T) {
	w := start(t, func(_ *Config, l *Limits) { l.Workaround, l.Secret = "workaround", "shared" })
	short, shortPassword, err := pion.GenerateLongTermTURNRESTCredentials("shared", "carol", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ kind, user, password string }{
		{"udp", "alice@ims.test", "secret"},
		{"udp", "6505550000%40ims.test", "escaped"},
		{"tcp", "alice@ims.test", "secret"},
		{"tls", "bob@ims.test", "hidden"},
		{"udp", "whoever", "workaround"},
		{"tcp", "alice@ims.test", "workaround"},
		{"udp", short, shortPassword},
	} {
		t.Run(c.kind+" "+c.user+" "+c.password, func(t *testing.T) {
			relay, other := w.allocate(c.kind, "127.33.1.2", c.user, c.password), peer(t, "127.33.1.3")
			at := relay.LocalAddr().(*net.UDPAddr)
			if !at.IP.Equal(net.ParseIP(serverIP)) || at.Port < 40000 || at.Port > 40999 {
				t.Errorf("relay at %s", at)
			}
			if from := pass(t, relay, other, other.LocalAddr(), "out"); from.String() != at.String() {
				t.Errorf("peer sees %s, not the relay at %s", from, at)
			}
			pass(t, other, relay, at, "in")
			stranger := peer(t, "127.33.1.4")
			_, _ = stranger.WriteTo([]byte("unasked"), at)
			_ = relay.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if n, from, err := relay.ReadFrom(make([]byte, 100)); err == nil {
				t.Errorf("%d bytes of %s came without permission", n, from)
			}
			if err := relay.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	until(t, func() bool { return w.server.Allocations() == 0 })
	if problems, err := testutil.GatherAndLint(w.reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

// Wrong credentials are answered 401, whatever is wrong with them; a server that can ask nobody is silent.
func TestWrongCredentialsAre401(t *testing.T) {
	w := start(t, func(_ *Config, l *Limits) { l.Secret = "shared" })
	past, pastPassword, _ := pion.GenerateLongTermTURNRESTCredentials("shared", "carol", -time.Minute)
	for _, c := range []struct{ user, password string }{
		{"alice@ims.test", "wrong"}, {"nobody@ims.test", "secret"}, {"bob@ims.test", "secret"}, {past, pastPassword},
		{fmt.Sprintf("%d:carol", time.Now().Add(time.Hour).Unix()), "shared"},
	} {
		for _, kind := range []string{"udp", "tcp"} {
			_, err := w.client(kind, "127.33.1.2", c.user, c.password).Allocate()
			if err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("%s over %s: %v", c.user, kind, err)
			}
		}
	}
	if w.server.Allocations() != 0 {
		t.Errorf("%d relays", w.server.Allocations())
	}
	w.book.mu.Lock()
	w.book.failing = true
	w.book.mu.Unlock()
	sock, m := w.dial("udp", "127.33.1.2"), w.challenged("new@ims.test", "x")
	_, _ = sock.WriteTo(m.Raw, w.server.Addresses()["udp"])
	_ = sock.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _, err := sock.ReadFrom(make([]byte, 2000)); err == nil {
		t.Errorf("answered with %d bytes though nobody could be asked", n)
	}
	_ = sock.Close()
}

// challenged is an Allocate with the nonce of a challenge.
func (w *world) challenged(user, password string) *stun.Message {
	w.t.Helper()
	sock := w.dial("udp", "127.33.1.2")
	defer func() { _ = sock.Close() }()
	transport := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	ask := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport)
	if _, err := sock.WriteTo(ask.Raw, w.server.Addresses()["udp"]); err != nil {
		w.t.Fatal(err)
	}
	buf := make([]byte, 2000)
	_ = sock.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, _, err := sock.ReadFrom(buf)
	if err != nil {
		w.t.Fatal(err)
	}
	answer := &stun.Message{Raw: buf[:n]}
	var nonce stun.Nonce
	var code stun.ErrorCodeAttribute
	if err := errors.Join(answer.Decode(), nonce.GetFrom(answer), code.GetFrom(answer)); err != nil || code.Code != 401 {
		w.t.Fatalf("%v %v", code, err)
	}
	return stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), transport,
		stun.NewUsername(user), stun.NewRealm(realm), nonce, stun.MessageIntegrity(longTerm(user, realm, password)))
}

// A password that is changed holds after moments; a look-up that takes long holds nobody else up.
func TestChangedPasswordAndSlowLookUp(t *testing.T) {
	w := start(t, nil)
	w.allocate("udp", "127.33.1.2", "alice@ims.test", "secret")
	w.book.set("alice@ims.test", "changed")
	w.late.Add(int64(2 * renewAfter))
	w.allocate("udp", "127.33.1.2", "alice@ims.test", "changed")

	asked := w.book.asked.Load()
	w.allocate("udp", "127.33.1.2", "alice@ims.test", "changed")
	if again := w.book.asked.Load() - asked; again != 0 {
		t.Errorf("%d look-ups for a key that is known", again)
	}
	slow := w.client("udp", "127.33.1.2", "slow@ims.test", "slow")
	got := make(chan error, 1)
	go func() {
		_, err := slow.Allocate()
		got <- err
	}()
	until(t, func() bool { return w.book.asked.Load() > asked })
	relay, other := w.allocate("udp", "127.33.1.2", "bob@ims.test", "hidden"), peer(t, "127.33.1.3")
	pass(t, relay, other, other.LocalAddr(), "meanwhile")
	select {
	case err := <-got:
		t.Fatalf("ended early: %v", err)
	default:
	}
	close(w.book.hold)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A source that guesses passwords is not heard any more; others are.
func TestGuessingIsLimited(t *testing.T) {
	w := start(t, nil)
	m := w.challenged("alice@ims.test", "guess")
	sock := w.dial("udp", "127.33.1.2")
	defer func() { _ = sock.Close() }()
	answers := 0
	for range 400 {
		_, _ = sock.WriteTo(m.Raw, w.server.Addresses()["udp"])
		_ = sock.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := sock.ReadFrom(make([]byte, 2000)); err == nil {
			answers++
		} else if answers > 50 {
			break
		}
	}
	if answers < 50 || answers > 200 {
		t.Errorf("%d guesses were answered", answers)
	}
	w.allocate("udp", "127.33.1.5", "alice@ims.test", "secret")
}

// Relays are counted for each user and in all, whatever the transport; those of the workaround password for each address.
func TestQuotas(t *testing.T) {
	w := start(t, func(_ *Config, l *Limits) { l.PerUser, l.Total, l.Workaround = 2, 5, "workaround" })
	first := w.allocate("udp", "127.33.1.2", "alice@ims.test", "secret")
	w.allocate("tcp", "127.33.1.3", "alice@ims.test", "secret")
	refused := func(from, user, password string) {
		t.Helper()
		_, err := w.client("udp", from, user, password).Allocate()
		if err == nil || !strings.Contains(err.Error(), "486") {
			t.Errorf("%s from %s: %v", user, from, err)
		}
	}
	refused("127.33.1.4", "alice@ims.test", "secret")
	w.allocate("udp", "127.33.1.5", "a", "workaround")
	w.allocate("udp", "127.33.1.5", "b", "workaround")
	refused("127.33.1.5", "c", "workaround")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return w.server.Allocations() == 3 })
	w.allocate("udp", "127.33.1.4", "alice@ims.test", "secret")
	w.allocate("udp", "127.33.1.6", "alice@ims.test", "workaround")
	refused("127.33.1.7", "bob@ims.test", "hidden")
	w.limits.Store(&Limits{PerUser: 100, Total: 100})
	w.server.Refuse(true)
	refused("127.33.1.7", "bob@ims.test", "hidden")
	w.server.Refuse(false)
	w.allocate("udp", "127.33.1.7", "bob@ims.test", "hidden")
}

// Peers that the options deny are not reached, nor is anything of this node but its relays; allowed ones go first.
func TestPeersThatAreNotReached(t *testing.T) {
	w := start(t, func(cfg *Config, l *Limits) {
		cfg.Own = []netip.Addr{netip.MustParseAddr("127.33.1.9")}
		l.Denied = []netip.Prefix{netip.MustParsePrefix("127.33.1.16/28")}
		l.Allowed = []netip.Prefix{netip.MustParsePrefix("127.33.1.20/32")}
	})
	relay := w.allocate("udp", "127.33.1.2", "alice@ims.test", "secret")
	denied := peer(t, "127.33.1.17")
	if _, err := relay.WriteTo([]byte("no"), denied.LocalAddr()); err == nil {
		t.Error("a permission for a denied peer")
	}
	allowed := peer(t, "127.33.1.20")
	pass(t, relay, allowed, allowed.LocalAddr(), "yes")
	for _, ip := range []string{serverIP, "127.33.1.9"} { // as if it were the trusted SIP port
		core := peer(t, ip)
		_, _ = relay.WriteTo([]byte("INVITE"), core.LocalAddr())
		_ = core.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, _, err := core.ReadFrom(make([]byte, 100)); err == nil {
			t.Errorf("%d bytes reached the node itself at %s", n, ip)
		}
		_, _ = core.WriteTo([]byte("answer"), relay.LocalAddr())
	}
	_ = relay.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, from, err := relay.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes of %s", n, from)
	}
	if got := testutil.ToFloat64(w.server.metrics.dropped.WithLabelValues("peer")); got < 2 {
		t.Errorf("%v packets counted as dropped", got)
	}
}

// Two phones behind relays of one node reach each other, also where the node's public address is not its own.
func TestRelayToRelay(t *testing.T) {
	const public = "192.0.2.1"
	w := start(t, func(cfg *Config, _ *Limits) { cfg.Public = netip.MustParseAddr(public) })
	a, b := w.allocate("udp", "127.33.1.2", "alice@ims.test", "secret"), w.allocate("tcp", "127.33.1.3", "bob@ims.test", "hidden")
	if !strings.HasPrefix(a.LocalAddr().String(), public) {
		t.Fatalf("relay is at %s", a.LocalAddr())
	}
	_, _ = b.WriteTo([]byte("permission"), a.LocalAddr())
	if from := pass(t, a, b, b.LocalAddr(), "hello"); from.String() != a.LocalAddr().String() {
		t.Errorf("it came from %s", from)
	}
	pass(t, b, a, a.LocalAddr(), "hello yourself")
}

// A relay carries no more than its bandwidth.
func TestBandwidth(t *testing.T) {
	w := start(t, func(_ *Config, l *Limits) { l.Bandwidth = 10000 })
	relay, other := w.allocate("udp", "127.33.1.2", "alice@ims.test", "secret"), peer(t, "127.33.1.3")
	pass(t, relay, other, other.LocalAddr(), "x")
	for range 40 {
		_, _ = relay.WriteTo(make([]byte, 1000), other.LocalAddr())
	}
	got := 0
	for {
		_ = other.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, _, err := other.ReadFrom(make([]byte, 2000))
		if err != nil {
			break
		}
		got += n
	}
	if got < 8000 || got > 14000 {
		t.Errorf("%d bytes got through at once", got)
	}
	if testutil.ToFloat64(w.server.metrics.dropped.WithLabelValues("bandwidth")) == 0 {
		t.Error("what was dropped is not counted")
	}
}

// Rubbish and idle connections end; neither stops others.
func TestBadStreams(t *testing.T) {
	w := start(t, nil)
	addr := w.server.Addresses()["tcp"].String()
	huge := make([]byte, 100)
	binary.BigEndian.PutUint16(huge[2:], 65516) // whose size with its header is 0 in 16 bits
	copy(huge[4:], []byte{0x21, 0x12, 0xa4, 0x42})
	for _, text := range []string{"INVITE sip:a@b SIP/2.0\r\n\r\n", string(huge), "\x40\x00\xff\xff" + strings.Repeat("x", 100), "\x80" + strings.Repeat("\x00", 30), "\x00\x03\x00\x03!\x12\xa4Babcdefghijklmno"} {
		sock, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = sock.Write([]byte(text))
		_ = sock.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := sock.Read(make([]byte, 100)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%.20q: %v", text, err)
		}
		_ = sock.Close()
	}
	var socks []net.Conn
	for range streamsPerSource + 20 {
		sock, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		socks = append(socks, sock)
	}
	closed := 0
	for _, sock := range socks[streamsPerSource:] {
		_ = sock.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := sock.Read(make([]byte, 1)); err != nil && !strings.Contains(err.Error(), "timeout") {
			closed++
		}
	}
	if closed != 20 {
		t.Errorf("%d of 20 connections over the limit of a source were closed", closed)
	}
	w.allocate("tcp", "127.33.1.6", "alice@ims.test", "secret")
	for _, sock := range socks {
		_ = sock.Close()
	}
	until(t, func() bool {
		l := w.server.streams[0]
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.open) == 1
	})
	w.stop() // returns: no relay and no connection holds it up
}

func until(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("condition did not come true")
		}
	}
}
