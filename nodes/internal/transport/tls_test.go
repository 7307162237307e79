package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// authority is a CA and certificates of it.
type authority struct {
	t     testing.TB
	ca    *pki.Authority
	roots *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	ca, err := pki.NewDeploymentCA("test")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertificatePEM())
	return &authority{t, ca, roots}
}

// server is a configuration with a certificate for names and addresses, client one that trusts the authority.
func (a *authority) server(names, addresses []string) *tls.Config {
	a.t.Helper()
	chain, key, err := a.ca.Issue(pki.Subject{Name: "edge-1.site1", Role: "edge", DNSNames: names, Addresses: addresses}, 0)
	if err != nil {
		a.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
}

func (a *authority) client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.roots}
}

const tlsAddr = "127.23.2.5"

// serveTLS starts a layer with one listener of TLS or secure WebSocket.
func serveTLS(t testing.TB, kind resolve.Transport, cfg Config, h Handler) (*Layer, netip.AddrPort, *authority) {
	t.Helper()
	a := newAuthority(t)
	cfg.TLS = a.server([]string{"edge.ims.test"}, []string{tlsAddr})
	cfg.Listeners = []Listener{{Name: "s", Transport: kind, Addr: netip.MustParseAddrPort(tlsAddr + ":0")}}
	l, _, addr := serve(t, cfg, h, nil)
	return l, addr, a
}

func dialTLS(t testing.TB, addr netip.AddrPort, a *authority) *tls.Conn {
	t.Helper()
	cfg := a.client()
	cfg.ServerName = tlsAddr
	c := tls.Client(dial(t, addr), cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLSFramingSplitAtEveryByte(t *testing.T) {
	got := make(collector, 10)
	l, addr, a := serveTLS(t, resolve.TLS, Config{}, got)
	c := dialTLS(t, addr, a)
	stream := request("1", "hello\r\n\r\nworld") + request("2", "")
	for cut := 1; cut < len(stream); cut++ {
		for _, part := range []string{stream[:cut], stream[cut:]} { // a TLS record each
			if _, err := io.WriteString(c, part); err != nil {
				t.Fatal(err)
			}
		}
		first, second := got.next(t), got.next(t)
		if first.m.CallID() != "1" || first.m.Body != "hello\r\n\r\nworld" || second.m.CallID() != "2" {
			t.Fatalf("cut at %d: %s %s", cut, first.m, second.m)
		}
		if id := first.f.ID(); id.Transport != resolve.TLS || id.Local != addr || !first.f.Reliable() || first.f.Hop().String() != "tls:"+c.LocalAddr().String() {
			t.Fatalf("flow %+v", id)
		}
		if found, ok := l.Lookup(first.f.ID()); !ok || found != first.f {
			t.Fatal("flow is not found by its identity")
		}
	}
}

func TestTLSAnswersKeepAlivesAndFaults(t *testing.T) {
	_, addr, a := serveTLS(t, resolve.TLS, Config{}, make(collector, 1))
	c := dialTLS(t, addr, a)
	if _, err := io.WriteString(c, "\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "\r\n" {
		t.Fatalf("pong %q %v", b, err)
	}
	if _, err := io.WriteString(c, strings.Replace(request("1", ""), "Content-Length: 0\r\n", "", 1)); err != nil {
		t.Fatal(err)
	}
	if answer := readAll(t, c); !strings.HasPrefix(answer, "SIP/2.0 400 ") {
		t.Errorf("answered %q", answer)
	}
}

func TestTLSSlowPeersAreDropped(t *testing.T) {
	got := make(collector, 10)
	l, addr, a := serveTLS(t, resolve.TLS, Config{FrameTimeout: 200 * time.Millisecond, IdleTimeout: 400 * time.Millisecond}, got)
	mute, plain := dial(t, addr), dial(t, addr) // neither shakes hands
	silent, slow, idle := dialTLS(t, addr, a), dialTLS(t, addr, a), dialTLS(t, addr, a)
	for c, text := range map[net.Conn]string{plain: request("p", ""), slow: request("s", "")[:100], idle: request("1", "")} {
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	if m := got.next(t).m; m.CallID() != "1" {
		t.Fatalf("got %s", m)
	}
	for name, c := range map[string]net.Conn{"mute": mute, "plain": plain, "silent": silent, "slow": slow, "idle": idle} {
		if answer := readAll(t, c); strings.Contains(answer, "SIP") {
			t.Errorf("%s peer got %q", name, answer)
		}
	}
	if n := testutil.ToFloat64(l.metrics.failures.WithLabelValues("handshake")); n != 2 {
		t.Errorf("%v handshakes failed, want 2", n)
	}
	waitFor(t, func() bool { return testutil.ToFloat64(l.metrics.connections) == 0 })
}

func TestTLSPeerThatDoesNotReadIsCutOff(t *testing.T) {
	got := make(collector, 1)
	l, addr, a := serveTLS(t, resolve.TLS, Config{SendTimeout: 200 * time.Millisecond}, got)
	c := dialTLS(t, addr, a)
	if _, err := io.WriteString(c, request("1", "")); err != nil {
		t.Fatal(err)
	}
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

// Connections that are opened check the name of the hop, else its address (RFC 5922).
func TestTLSChecksTheServer(t *testing.T) {
	got := make(collector, 10)
	_, addr, a := serveTLS(t, resolve.TLS, Config{}, got)
	client, _, _ := serve(t, Config{TLSClient: a.client()}, make(collector, 1), nil)
	stranger, _, _ := serve(t, Config{Listeners: []Listener{{"t", resolve.TCP, netip.MustParseAddrPort("127.23.2.6:0")}}}, make(collector, 1), nil)
	for _, c := range []struct {
		from *Layer
		name string
		ok   bool
	}{{client, "edge.ims.test", true}, {client, "", true}, {client, "other.test", false}, {stranger, "edge.ims.test", false}} {
		f, err := c.from.Flow(resolve.Hop{Addr: addr, Transport: resolve.TLS, Name: c.name})
		if err != nil {
			t.Fatal(err)
		}
		failed := make(chan error, 1)
		if err := f.Send([]byte(request("id-"+c.name, "")), func(err error) { failed <- err }); err != nil {
			t.Fatal(err)
		}
		select {
		case in := <-got:
			if !c.ok || in.m.CallID() != "id-"+c.name {
				t.Errorf("%q: message arrived", c.name)
			}
		case err := <-failed:
			if c.ok {
				t.Errorf("%q: %v", c.name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%q: nothing", c.name)
		}
	}
	one, _ := client.Flow(resolve.Hop{Addr: addr, Transport: resolve.TLS, Name: "edge.ims.test"})
	two, _ := client.Flow(resolve.Hop{Addr: addr, Transport: resolve.TLS})
	if one == two {
		t.Error("a connection that was checked for one name is used for another")
	}
}

func TestTLSNeedsACertificate(t *testing.T) {
	for _, kind := range []resolve.Transport{resolve.TLS, resolve.WSS} {
		if _, err := New(Config{Listeners: []Listener{{"s", kind, netip.MustParseAddrPort(tlsAddr + ":0")}}}, Deps{}); !errors.Is(err, errNoCertificate) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
