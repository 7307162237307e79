// Package turn is the edge's STUN and TURN server (RFC 8489, RFC 8656, over UDP, TCP and TLS): phones behind NATs learn
// their address from it and send media through it. Who may relay is decided here: subscribers with the password that
// they register with (long-term credentials, whose key is the HA1 of SIP digest), holders of the workaround password,
// and holders of short-lived credentials made with a shared secret. The protocol is pion/turn's; this package stands
// before it (gate.go, stream.go), so that a wrong password is a 401, that a question to the subscriber data never holds
// up media, and that no frame reaches it which it does not take; and behind it (relay.go), so that relays stay in
// their port range, within their bandwidth, and away from the core.
package turn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	pion "github.com/pion/turn/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Config is what the server binds and gives. What may change while it runs is in Limits.
type Config struct {
	Listen  []netip.Addr // of the untrusted side; UDP and TCP on Port, TLS on TLSPort
	Port    int          // turn_port; 0 takes a free one
	TLSPort int          // turn_tls_port; negative: none
	TLS     *tls.Config
	Relay   netip.Addr   // where relays are bound (IPv4)
	Public  netip.Addr   // what clients are told of it
	Own     []netip.Addr // this node's addresses: nothing but relays is reached there
	MinPort int          // of relays
	MaxPort int
	Realm   string // the home domain
}

// Limits may change while the server runs.
type Limits struct {
	Workaround      string         // turn_workaround: a password for any user name; "" none
	Secret          string         // turn_rest_secret: makes short-lived credentials; "" none
	Denied, Allowed []netip.Prefix // peers; Allowed goes first
	PerUser, Total  int            // relays
	Bandwidth       int            // bytes per second of one relay, each way; 0 no limit
}

// Deps is what the server works with.
type Deps struct {
	Subscribers Subscribers
	Limits      func() Limits
	Now         func() time.Time
	Log         *slog.Logger
	Metrics     prometheus.Registerer // may be nil
}

// Server is one node's.
type Server struct {
	cfg         Config
	deps        Deps
	metrics     *metrics
	credentials *credentials
	quota       *quota
	relays      *relays
	packets     []*gate
	streams     []*streams
	proven      sync.Map // name of a source -> proof
	refusing    atomic.Bool
}

// New binds the sockets, so that an occupied port is an error here.
func New(ctx context.Context, cfg Config, deps Deps) (*Server, error) {
	s := &Server{cfg: cfg, deps: deps}
	s.metrics = newMetrics(deps.Metrics, s)
	s.credentials = newCredentials(cfg.Realm, deps)
	s.quota = newQuota(deps.Limits)
	s.relays = &relays{cfg: cfg, limits: deps.Limits, now: deps.Now, metrics: s.metrics, ports: map[int]*relay{}}
	for _, addr := range cfg.Listen {
		if err := s.listen(ctx, addr); err != nil {
			s.close()
			return nil, fmt.Errorf("listening for TURN on %s: %w", addr, err)
		}
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, addr netip.Addr) error {
	var lc net.ListenConfig
	sock, err := lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(addr, uint16(s.cfg.Port)).String()) //nolint:gosec // config bounds it
	if err != nil {
		return err
	}
	s.packets = append(s.packets, newGate(s, sock))
	ln, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, uint16(s.cfg.Port)).String()) //nolint:gosec // config bounds it
	if err != nil {
		return err
	}
	s.streams = append(s.streams, newStreams(s, ln, nil))
	if s.cfg.TLSPort < 0 || s.cfg.TLS == nil {
		return nil
	}
	ln, err = lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, uint16(s.cfg.TLSPort)).String()) //nolint:gosec // config bounds it
	if err != nil {
		return err
	}
	s.streams = append(s.streams, newStreams(s, ln, s.cfg.TLS))
	return nil
}

// Run serves until ctx ends, then closes every relay.
func (s *Server) Run(ctx context.Context) error {
	defer s.relays.end()
	defer s.close()
	cfg := pion.ServerConfig{
		Realm: s.cfg.Realm, AuthHandler: s.key, LoggerFactory: logs{s.deps.Log},
		QuotaHandler: func(_, _ string, from net.Addr) bool {
			return !s.refusing.Load() && s.quota.admits(s.proof(from).holder)
		},
		EventHandler: pion.EventHandler{
			OnAllocationCreated: func(from, to net.Addr, _, _, _ string, _ net.Addr, _ int) {
				s.quota.take(tuple{name(from), to.String()}, s.proof(from).holder)
			},
			OnAllocationDeleted: func(from, to net.Addr, _, _, _ string) { s.quota.give(tuple{name(from), to.String()}) },
		},
	}
	for _, g := range s.packets {
		g.ctx = ctx
		cfg.PacketConnConfigs = append(cfg.PacketConnConfigs, pion.PacketConnConfig{PacketConn: g, RelayAddressGenerator: s.relays, PermissionHandler: s.relays.permits})
	}
	for _, l := range s.streams {
		l.ctx = ctx
		cfg.ListenerConfigs = append(cfg.ListenerConfigs, pion.ListenerConfig{Listener: l, RelayAddressGenerator: s.relays, PermissionHandler: s.relays.permits})
	}
	server, err := pion.NewServer(cfg)
	if err != nil {
		return fmt.Errorf("starting TURN: %w", err)
	}
	<-ctx.Done()
	if err := server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing TURN: %w", err)
	}
	return nil
}

// close ends every socket but the relays, which end with what made them.
func (s *Server) close() {
	for _, g := range s.packets {
		_ = g.Close()
	}
	for _, l := range s.streams {
		_ = l.Close()
	}
}

// Refuse answers new allocations with 486 (on), or takes them again; relays that exist go on.
func (s *Server) Refuse(on bool) { s.refusing.Store(on) }

// Allocations counts the relays that exist.
func (s *Server) Allocations() int64 { return s.quota.held() }

// Idle returns when no relay is left, or with the context's error.
func (s *Server) Idle(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for s.Allocations() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Addresses returns the bound addresses by kind: udp, tcp, tls.
func (s *Server) Addresses() map[string]net.Addr {
	out := map[string]net.Addr{}
	for _, g := range s.packets {
		out["udp"] = g.LocalAddr()
	}
	for _, l := range s.streams {
		kind := "tcp"
		if l.tls != nil {
			kind = "tls"
		}
		out[kind] = l.Addr()
	}
	return out
}

// proof is what the gate knows of a request that it lets through.
type proof struct {
	key    string
	holder string // whom relays are counted for: the user, or where everybody may call himself anything, the address
}

// proof returns that of the request which is being served. pion asks on the goroutine on which the gate let it through.
func (s *Server) proof(from net.Addr) proof {
	v, _ := s.proven.Load(name(from))
	p, _ := v.(proof)
	return p
}

func (s *Server) key(_, _ string, from net.Addr) ([]byte, bool) {
	p := s.proof(from)
	return []byte(p.key), p.key != ""
}

// prove notes what is known of a request that is let through, forget takes the last one away again.
func (s *Server) prove(passed *string, from net.Addr, p proof) {
	*passed = name(from)
	s.proven.Store(*passed, p)
}

func (s *Server) forget(passed *string) {
	if *passed != "" {
		s.proven.Delete(*passed)
		*passed = ""
	}
}

// name tells sources apart by protocol, address and port.
func name(from net.Addr) string { return from.Network() + from.String() }
