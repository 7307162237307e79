// Command portal is the sign-up and line management node: the HTTP API on ports 80 and 443. It makes subscribers through the
// provisioning API and their documents through the document server; what it keeps itself is in the store.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/httpapi"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
)

// backendTimeout bounds one call to the provisioning API or the document server.
const backendTimeout = 5 * time.Second

// expiryInterval is how often accounts whose time is over are removed.
const expiryInterval = time.Hour

func main() { service.Main(config.Portal, start) }

// node is the running role.
type node struct {
	store *rpc.Client
	http  *httpserver.Server
	api   *httpapi.Handler
	log   *slog.Logger
}

func start(ctx context.Context, n *service.Node) (service.Running, error) {
	o := n.Options()
	store := rpc.NewClient(rpc.ClientConfig{
		Name: "store", TLS: n.Identity.Client(config.Store), Log: n.Log, Metrics: n.Metrics,
		MethodNames: map[rpc.Method]string{records.MethodGet: "get", records.MethodSwap: "swap", records.MethodScan: "scan"},
		Resolve: func(ctx context.Context) ([]netip.AddrPort, error) {
			return n.Resolver().Addrs(ctx, "store."+o.Site+"."+o.Zone, config.PortStoreRPC)
		},
	})
	api, err := newAPI(n, records.NewClient(store))
	if err != nil {
		return nil, err
	}
	server, err := httpserver.New(httpserver.Config{Name: "portal", MaxBody: 256 << 10},
		httpserver.Deps{Handler: api, Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the metrics
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return n.Identity.Certificate()
	}}
	for _, l := range []struct {
		port   int
		secure *tls.Config
	}{{o.PortalHTTP, nil}, {o.PortalHTTPS, secure}} {
		if _, err := server.Listen(ctx, net.JoinHostPort(o.LocalIP, strconv.Itoa(l.port)), l.secure); err != nil {
			return nil, err //nolint:wrapcheck // it names the port
		}
	}
	n.Holds("http requests", server.Active)
	return &node{store: store, http: server, api: api, log: n.Log}, nil
}

func newAPI(n *service.Node, store *records.Client) (*httpapi.Handler, error) {
	o := n.Options()
	client := rest.NewHTTPClient(rest.Options{DNS: o.SignalingDNS, Timeout: backendTimeout})
	subscribers := provisioning.New("http://"+withPort(o.HSSProvisioning, config.PortProvisioning), client)
	documents := xdms.New("http://"+withPort(o.XDMSHostname, config.PortXDMS), client)
	users, err := accounts.New(store, time.Now, 0)
	if err != nil {
		return nil, fmt.Errorf("preparing accounts: %w", err)
	}
	pool := numbers.New(numbers.Deps{
		Store: store, Subscribers: subscribers, Documents: documents, Now: time.Now,
		Usable: func(ctx context.Context, email string) error { _, err := users.Get(ctx, email); return err },
	})
	settings := func() httpapi.Settings {
		o := n.Options()
		return httpapi.Settings{SignupKey: o.SignupKey, APIKey: o.PortalAPIKey, CookieKey: o.PortalCookieKey, HomeDomain: o.HomeDomain}
	}
	return httpapi.New(httpapi.Deps{
		Settings: settings, Accounts: users, Numbers: pool, Provisioning: subscribers, Documents: documents, Log: n.Log, Now: time.Now,
	}), nil
}

// withPort adds the public port to an option that names only a host.
func withPort(hostport string, port int) string {
	if _, _, err := net.SplitHostPort(hostport); err == nil {
		return hostport
	}
	return net.JoinHostPort(hostport, strconv.Itoa(port))
}

// Run serves until the context is over.
func (r *node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.store.Run(ctx) })
	group.Go(func() error { return r.http.Run(ctx) })
	group.Go(func() error { r.removeExpired(ctx); return nil })
	return group.Wait() //nolint:wrapcheck // each says what it is
}

// Drain closes the ports and waits for the requests under way.
func (r *node) Drain(ctx context.Context) error { return r.http.Drain(ctx) }

// removeExpired deletes demo users whose time is over.
func (r *node) removeExpired(ctx context.Context) {
	tick := time.NewTicker(expiryInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if removed, err := r.api.RemoveExpired(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("removing expired accounts", "removed", removed, "error", err)
		}
	}
}
