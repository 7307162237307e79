package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/cx"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/hssrole"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
)

const (
	greetTimeout = 3 * time.Second // for connecting to a Diameter peer and exchanging capabilities
	settleTime   = 5 * time.Second // for what is still to be told when the node stops
)

// gateway is this node among Diameter peers. Its peers, names and ports are those of the start; what concerns single
// questions follows the options.
type gateway struct {
	*cx.Client // nil when subscribers are provisioned here

	node      *peer.Node
	pusher    *hssrole.Pusher // nil when the HSS is an external one
	listeners []net.Listener
	transport *http.Transport
}

// identityOf is the Origin-Host: hs_diameteridentity, else the node's host name; of an IPv6 address the colons become
// hyphens, since a DiameterIdentity is a name.
func identityOf(o *config.Options) string {
	if o.DiameterIdentity != "" {
		return o.DiameterIdentity
	}
	return strings.ReplaceAll(strings.Trim(o.PublicHostname, "[]"), ":", "-")
}

// settings are what questions to the HSS are made of.
func settings(o *config.Options) cx.Settings {
	realm, host := o.ExternalHSSRealm, o.ExternalHSSHostname
	if realm == "" {
		realm = o.HomeDomain
	}
	if host == "0.0.0.0" {
		host = ""
	}
	return cx.Settings{
		Realm: realm, Host: host, HomeDomain: o.HomeDomain, ServerName: serverName(o), Timeout: o.DiameterTimeout,
		ReAssign: max(o.ReRegistration, o.RegMaxExpires/2), Registration: o.RegMaxExpires, Digest: o.IMPUCache, Negative: o.HSSNegativeCache,
		Schemes:    cx.Schemes{Unknown: o.MARSchemeUnknown, Digest: o.MARSchemeDigest, AKAv1: o.MARSchemeAKAv1, AKAv2: o.MARSchemeAKAv2},
		SharedIFCs: o.RequestSharedIFCs,
	}
}

// newGateway prepares the connections to an external HSS.
func newGateway(ctx context.Context, n *service.Node, rows cx.Rows) (*gateway, error) {
	dict, err := dictionary.Load()
	if err != nil {
		return nil, err
	}
	o := n.Options()
	g := &gateway{transport: &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute}}
	routers := &cx.HTTPRouters{Client: &http.Client{Transport: g.transport}, Find: func(ctx context.Context) ([]netip.AddrPort, error) {
		return hostPort(ctx, n, n.Options().RouterCallback)
	}}
	dialling, accepting, err := secure(n, o)
	if err != nil {
		return nil, err
	}
	most := o.MaxPeers
	if o.ExternalHSSRealm == "" {
		most = 1 // the manual: with a host name alone there is one connection
	}
	handlers := map[uint32]peer.Handler{}
	g.node, err = peer.New(peer.Config{
		Host: identityOf(o), Realm: o.HomeDomain, Applications: []uint32{wire.Cx}, Watchdog: o.DiameterWatchdog, Connect: greetTimeout,
		Blacklist: o.DiameterBlacklist, MaxPeers: most, CheckHost: o.CheckDestinationHost, TLS: dialling,
		Find: func(ctx context.Context) ([]peer.Target, error) { return targets(ctx, n) },
	}, peer.Deps{Dictionary: dict, Handlers: handlers, Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, fmt.Errorf("preparing Diameter (hs_diameteridentity): %w", err)
	}
	g.Client = cx.New(cx.Deps{Peers: g.node, Rows: rows, Settings: func() cx.Settings { return settings(n.Options()) }, Now: time.Now, Log: n.Log, Metrics: n.Metrics})
	handlers[wire.Cx] = g.Serve(routers)
	if err := g.listen(ctx, o, accepting); err != nil {
		return nil, err
	}
	n.OnOptions(func(now *config.Options) {
		if identityOf(now) != identityOf(o) || now.DiameterPort != o.DiameterPort || now.DiameterTLSPort != o.DiameterTLSPort || now.DiameterWatchdog != o.DiameterWatchdog ||
			now.MaxPeers != o.MaxPeers || now.ExternalHSS() != o.ExternalHSS() {
			n.Log.Warn("options of the Diameter peers have changed; they take effect when this node is started again")
		}
	})
	return g, nil
}

// newHome offers our subscriber master to the S-CSCFs and I-CSCFs of other cores (hss_role).
func newHome(ctx context.Context, n *service.Node, m *master.Master, rows hssrole.Rows, db hssrole.Sets) (*gateway, error) {
	dict, err := dictionary.Load()
	if err != nil {
		return nil, err
	}
	o := n.Options()
	_, accepting, err := secure(n, o)
	if err != nil {
		return nil, err
	}
	g := &gateway{transport: &http.Transport{}}
	home := hssrole.New(hssrole.Deps{Master: m, Rows: rows, Host: identityOf(o), Realm: o.HomeDomain, Log: n.Log, Metrics: n.Metrics})
	g.node, err = peer.New(peer.Config{
		Host: identityOf(o), Realm: o.HomeDomain, Applications: []uint32{wire.Cx}, Watchdog: o.DiameterWatchdog, Connect: greetTimeout, CheckHost: o.CheckDestinationHost,
	}, peer.Deps{Dictionary: dict, Handlers: map[uint32]peer.Handler{wire.Cx: home.Serve}, Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, fmt.Errorf("preparing Diameter (hs_diameteridentity): %w", err)
	}
	g.pusher = &hssrole.Pusher{Server: home, Sets: db, Describe: m.Describe, Peers: g.node, Attempts: 5, Pause: 2 * time.Second}
	return g, g.listen(ctx, o, accepting)
}

// hostPort resolves host:port.
func hostPort(ctx context.Context, n *service.Node, text string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", text, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", text, err)
	}
	return n.Resolver().Addrs(ctx, host, uint16(port))
}

// targets are the HSS's peers, as the manual says: force_hss_peer, else those of the realm, else the host.
func targets(ctx context.Context, n *service.Node) ([]peer.Target, error) {
	o := n.Options()
	port := uint16(o.ExternalHSSPort) //nolint:gosec // bounded by the option
	if port == 0 {
		port = resolve.PortDiameter
	}
	var hops []resolve.Hop
	var err error
	switch {
	case o.ForceHSSPeer != "":
		hops, err = n.Resolver().Diameter(ctx, o.ForceHSSPeer, port, wire.Cx)
	case o.ExternalHSSRealm != "":
		hops, err = n.Resolver().Diameter(ctx, o.ExternalHSSRealm, port, wire.Cx)
	default:
		var addrs []netip.AddrPort
		addrs, err = n.Resolver().Addrs(ctx, o.ExternalHSSHostname, port)
		for _, a := range addrs {
			hops = append(hops, resolve.Hop{Addr: a, Transport: resolve.TCP})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("finding the HSS: %w", err)
	}
	out := make([]peer.Target, 0, len(hops))
	for _, h := range hops {
		out = append(out, peer.Target{Addr: h.Addr, TLS: h.Transport == resolve.TLS, Name: h.Name})
	}
	return out, nil
}

// secure returns the TLS configurations for peers that are dialled and accepted. tls_peer_ca_file names who signs the
// certificates of peers; without it those of the deployment are taken.
func secure(n *service.Node, o *config.Options) (dialling, accepting *tls.Config, err error) {
	roots := n.Identity.Roots()
	if o.TLSPeerCA != "" {
		if roots, err = os.ReadFile(o.TLSPeerCA); err != nil {
			return nil, nil, fmt.Errorf("reading tls_peer_ca_file: %w", err)
		}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, nil, fmt.Errorf("reading tls_peer_ca_file: there is no certificate in it")
	}
	dialling = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return n.Identity.Certificate()
	}}
	accepting = &tls.Config{MinVersion: tls.VersionTLS12, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return n.Identity.Certificate()
	}}
	return dialling, accepting, nil
}

// listen opens hs_listen_port and, if it is set, hs_secure_listen_port.
func (g *gateway) listen(ctx context.Context, o *config.Options, accepting *tls.Config) error {
	for _, port := range []int{o.DiameterPort, o.DiameterTLSPort} {
		if port == 0 {
			continue
		}
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o.LocalIP, strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("opening the port for Diameter peers: %w", err)
		}
		if port == o.DiameterTLSPort {
			ln = tls.NewListener(ln, accepting)
		}
		g.listeners = append(g.listeners, ln)
	}
	return nil
}

// settle waits for what other cores are still to be told, but not for long.
func (g *gateway) settle() {
	if g.pusher == nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.pusher.Wait()
	}()
	select {
	case <-done:
	case <-time.After(settleTime):
	}
}

// Run serves peers until the context is over, then takes leave of them.
func (g *gateway) Run(ctx context.Context) error {
	defer g.transport.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	for _, ln := range g.listeners {
		group.Go(func() error { return g.node.Serve(ctx, ln) })
	}
	group.Go(func() error { return g.node.Run(ctx) })
	return group.Wait() //nolint:wrapcheck // they say what failed
}

// serverName is the S-CSCF of this deployment.
func serverName(o *config.Options) string { return "sip:scscf." + o.RouterHostname + ";transport=TCP" }
