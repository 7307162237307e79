// Package resolve turns names into addresses for every client of a node: the try-list of RFC 3263 for SIP (NAPTR,
// SRV, A, AAAA), and plain addresses for HTTP and RPC clients. It asks the configured servers itself, keeps answers
// for their TTL, and goes on with stale answers when no server answers. It remembers which SIP hops failed
// (blacklist) and puts them last. It does not send SIP; who uses a hop reports how it went.
package resolve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
)

// ErrNotFound means that the name has no usable record; the servers said so.
var ErrNotFound = errors.New("name has no address")

// ErrUnavailable means that no server answered and nothing was cached.
var ErrUnavailable = errors.New("no name server answered")

// Transport is how SIP travels to a hop.
type Transport uint8

// The transports. None leaves the choice to RFC 3263.
const (
	None Transport = iota
	UDP
	TCP
	TLS
	WS  // WebSocket (RFC 7118): accepted only, browsers cannot be called
	WSS // WebSocket over TLS
)

// String returns the name as the transport parameter of a URI writes it.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	case TLS:
		return "tls"
	case WS:
		return "ws"
	case WSS:
		return "wss"
	default:
		return ""
	}
}

// ParseTransport reads a transport parameter of a URI, in any case. Transports over which nothing can be reached, WebSocket
// among them, give None and false.
func ParseTransport(s string) (Transport, bool) {
	switch {
	case s == "":
		return None, true
	case strings.EqualFold(s, "udp"):
		return UDP, true
	case strings.EqualFold(s, "tcp"):
		return TCP, true
	case strings.EqualFold(s, "tls"):
		return TLS, true
	}
	return None, false
}

// Hop is one place to which a request can be sent.
type Hop struct {
	Addr      netip.AddrPort
	Transport Transport
	// Name is, for TLS, the name for which the peer must show a certificate: that of the URI, not that to which DNS led
	// (RFC 5922 section 4). Empty: the address.
	Name string
	// Stateless says that the name is one of those that SetStateless names: a proxy that keeps no transactions. When such a
	// hop lets a request time out it was not the hop that failed to answer.
	Stateless bool
}

// String is for logs.
func (h Hop) String() string { return h.Transport.String() + ":" + h.Addr.String() }

// Target is what a SIP URI says about where it leads: maddr or host, port (0 if absent), transport, sip or sips.
type Target struct {
	Host      string
	Port      uint16
	Transport Transport
	Scheme    string
}

// Config is what an operator can set.
type Config struct {
	Servers   []string      // signaling_dns_server: at most three, addr or addr:port, asked in this order
	Timeout   time.Duration // dns_timeout, for each server; 200 ms if zero
	Blacklist time.Duration // sip_blacklist_duration: how long a failed hop is black, and then grey; 0 turns it off
	IPv6      bool          // also ask for AAAA when there are A records
}

// Deps is what a Resolver works with. All may be left out.
type Deps struct {
	Now     func() time.Time
	Rand    func(n int) int // uniform in [0, n)
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Resolver resolves names. It is safe for concurrent use and owns no goroutine beyond running questions.
type Resolver struct {
	servers   []*server
	timeout   time.Duration
	ipv6      bool
	now       func() time.Time
	rand      func(n int) int
	log       *slog.Logger
	overrides atomic.Pointer[Overrides]
	stateless atomic.Pointer[map[string]bool] // stateless_proxies, lower case
	cache     cache
	flights   singleflight.Group
	black     blacklist
	metrics   metrics
}

// New checks the server list and returns a Resolver.
func New(cfg Config, deps Deps) (*Resolver, error) {
	if len(cfg.Servers) == 0 || len(cfg.Servers) > 3 {
		return nil, fmt.Errorf("reading signaling_dns_server: %d servers given, 1 to 3 allowed", len(cfg.Servers))
	}
	r := &Resolver{timeout: cfg.Timeout, ipv6: cfg.IPv6, now: deps.Now, rand: deps.Rand, log: deps.Log}
	for _, s := range cfg.Servers {
		addr, err := parseServer(s)
		if err != nil {
			return nil, fmt.Errorf("reading signaling_dns_server: %w", err)
		}
		r.servers = append(r.servers, &server{addr: addr.String()})
	}
	if r.timeout <= 0 {
		r.timeout = 200 * time.Millisecond
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.rand == nil {
		r.rand = rand.IntN
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.black.duration = cfg.Blacklist
	r.metrics = newMetrics(deps.Metrics, &r.black)
	return r, nil
}

func parseServer(s string) (netip.AddrPort, error) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap, nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is neither an address nor address:port", s)
	}
	return netip.AddrPortFrom(addr, 53), nil
}

// Addrs looks up the addresses of a host (or takes a numeric one as it is) and adds the port. The order is shuffled,
// so that clients spread. Errors: ErrNotFound, ErrUnavailable, or that of ctx.
func (r *Resolver) Addrs(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	addrs, err := r.addresses(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", host, err)
	}
	out := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		out[i] = netip.AddrPortFrom(a, port)
	}
	return out, nil
}

// SetStateless replaces the names of stateless proxies (stateless_proxies), as URIs and Routes write them.
func (r *Resolver) SetStateless(names []string) {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[hostKey(name)] = true
	}
	r.stateless.Store(&set)
}

func hostKey(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Report tells how a request to a hop went: ok if the hop answered anything but 503 or an overload, not ok if it
// could not be reached or did not answer in time.
func (r *Resolver) Report(hop Hop, ok bool) {
	r.black.report(hop, ok, r.now())
}

// ParseHost reads a numeric host of a URI, with or without the brackets of an IPv6 reference.
func ParseHost(host string) (netip.Addr, bool) {
	if host == "" || (host[0] != '[' && (host[0] < '0' || host[0] > '9') && strings.IndexByte(host, ':') < 0) {
		return netip.Addr{}, false
	}
	if host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err == nil
}
