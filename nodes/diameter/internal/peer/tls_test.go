package peer_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// certificate is one that signs itself, for a name.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestTLSPeers: a peer that shows a certificate for the name that is meant is asked over TLS; one for another name is not.
func TestTLSPeers(t *testing.T) {
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	cert, pool := certificate(t, "hss.test")
	plain, err := net.Listen("tcp", "127.38.0.5:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := tls.NewListener(plain, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}})
	far, err := peer.New(peer.Config{Host: "hss1.hss.test", Realm: "ims.test", Applications: []uint32{wire.Cx}, Watchdog: 6 * time.Second, Connect: 2 * time.Second}, peer.Deps{
		Dictionary: d, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Handlers: map[uint32]peer.Handler{wire.Cx: func(_ context.Context, m wire.Message) wire.Message {
			return build(cx(wire.NewAnswer(m, 0)).Uint32(wire.ResultCode, 2001))
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { _ = far.Serve(ctx, ln) })
	work.Go(func() { _ = far.Run(ctx) })
	addr := plain.Addr().(*net.TCPAddr).AddrPort()
	for name, good := range map[string]bool{"hss.test": true, "other.test": false} {
		near, err := peer.New(peer.Config{
			Host: "gw." + name, Realm: "ims.test", Applications: []uint32{wire.Cx}, Watchdog: 6 * time.Second, Connect: 2 * time.Second, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
			Find: func(context.Context) ([]peer.Target, error) {
				return []peer.Target{{Addr: addr, TLS: true, Name: name}}, nil
			},
		}, peer.Deps{Dictionary: d, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		work.Go(func() { _ = near.Run(ctx) })
		wait := 10 * time.Second
		if !good {
			wait = 700 * time.Millisecond
		}
		deadline := time.Now().Add(wait)
		for near.Ready(wire.Cx) != nil && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		if ready := near.Ready(wire.Cx) == nil; ready != good {
			t.Errorf("certificate asked for %s: ready %v", name, ready)
		}
		if good {
			asking, stop := context.WithTimeout(ctx, 2*time.Second)
			if _, err := near.Do(asking, request(near), ""); err != nil {
				t.Error(err)
			}
			stop()
		}
	}
}
