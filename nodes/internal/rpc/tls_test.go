package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
)

// deployment signs certificates for tests.
type deployment struct {
	ca *pki.Authority
}

func newDeployment(t testing.TB) deployment {
	t.Helper()
	ca, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	return deployment{ca}
}

// peer returns the server and the client side of a node's mutual TLS; peers are the roles it talks to.
func (d deployment) peer(t testing.TB, name, role string, peers ...string) (server, client *tls.Config) {
	t.Helper()
	chain, key, err := d.ca.Issue(pki.Subject{Name: name, Role: role}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.Static(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.Pool(d.ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	return pki.ServerTLS(roots, own, peers...), pki.ClientTLS(roots, own, peers...)
}

func startTLSServer(t testing.TB, conf *tls.Config) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.21.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := NewServer(conf, map[Method]Handler{
		methodEcho: func(_ context.Context, p []byte) ([]byte, error) { return p, nil },
		methodWho: func(ctx context.Context, _ []byte) ([]byte, error) {
			p := PeerFrom(ctx)
			return []byte(p.Name + " " + p.Role), nil
		},
	}, slog.New(slog.DiscardHandler))
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return &testServer{addr: netip.MustParseAddrPort(ln.Addr().String())}
}

func TestHandlersKnowTheirCaller(t *testing.T) {
	d := newDeployment(t)
	server, _ := d.peer(t, "store-1.site1", "store", "router", "edge")
	_, client := d.peer(t, "router-2.site1", "router", "store")
	c := startClient(t, ClientConfig{TLS: client}, startTLSServer(t, server))
	if got, err := c.Call(within(t, 5*time.Second), methodWho, nil); err != nil || string(got) != "router-2.site1 router" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
}

func TestCallersOfAWrongRoleAreUnavailable(t *testing.T) {
	d := newDeployment(t)
	server, _ := d.peer(t, "store-1.site1", "store", "router")
	s := startTLSServer(t, server)
	_, portal := d.peer(t, "portal-1.site1", "portal", "store")
	_, fooled := d.peer(t, "router-1.site1", "router", "diameter")
	_, stranger := newDeployment(t).peer(t, "router-1.site1", "router", "store")
	for name, tc := range map[string]struct {
		conf *tls.Config
		want string
	}{
		"caller of the wrong role":     {portal, "certificate"},
		"server of the wrong role":     {fooled, "wanted is diameter"},
		"caller of another deployment": {stranger, "not of this deployment"},
		"no TLS":                       {nil, "greeting"},
	} {
		c := startClient(t, ClientConfig{TLS: tc.conf}, s)
		_, err := c.Call(within(t, 10*time.Second), methodEcho, nil)
		if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout) {
			t.Errorf("%s: got %v", name, err)
		}
		if tc.conf != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: the error does not say %q: %v", name, tc.want, err)
		}
		if err := c.Ready(); err == nil {
			t.Errorf("%s: counts as ready", name)
		}
	}
}

func BenchmarkCallTLS(b *testing.B) {
	d := newDeployment(b)
	server, _ := d.peer(b, "store-1.site1", "store")
	_, client := d.peer(b, "router-1.site1", "router")
	c := startClient(b, ClientConfig{TLS: client}, startTLSServer(b, server))
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
	for range 64 {
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
}
