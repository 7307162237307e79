// Package peer is this node among Diameter peers (RFC 6733): connections that are dialled and accepted, capabilities
// exchange, watchdog (RFC 3539), requests with time-out, fail-over and duplicate detection. It carries messages of any
// application of the dictionary and knows none.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// Why a request has no answer.
var (
	// ErrNoPeer says that no connection could carry it.
	ErrNoPeer = errors.New("no Diameter peer")
	// ErrTimeout says that a peer had it and did not answer in time.
	ErrTimeout = errors.New("the Diameter peer did not answer in time")

	errLost = errors.New("the connection was lost")
)

// Target is where to connect to.
type Target struct {
	Addr netip.AddrPort
	TLS  bool
	Name string // that the certificate must be for; "": not checked against a name
}

// Config says who this node is and whom it talks to.
type Config struct {
	Host, Realm  string // Origin-Host and Origin-Realm
	Addresses    []netip.Addr
	Applications []uint32      // of 3GPP, with authorization
	Watchdog     time.Duration // Tw of RFC 3539: silence after which a peer is probed, in seconds at least 6
	Connect      time.Duration // for connecting and exchanging capabilities
	Blacklist    time.Duration // how long a target that failed is the last choice
	MaxPeers     int           // connections that are dialled at the same time; 0: all
	CheckHost    bool          // requests must be for Host if they name one
	// Find lists peers to connect to, the best first. It is asked now and then, and when a connection fails.
	Find func(ctx context.Context) ([]Target, error)
	TLS  *tls.Config // of what is dialled with TLS
}

// Handler answers requests of one application; they have been validated. It must return an answer.
type Handler func(ctx context.Context, req wire.Message) wire.Message

// Deps is what a Node works with.
type Deps struct {
	Dictionary *dictionary.Dictionary
	Handlers   map[uint32]Handler // by application; of those without one every request is refused
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	Dial       func(ctx context.Context, t Target) (net.Conn, error) // nil: TCP, or TLS over it
}

// Node is this node. It is safe for concurrent use.
type Node struct {
	cfg        Config
	deps       Deps
	metrics    *metrics
	duplicates duplicates
	stateID    uint32 // Origin-State-Id
	endToEnd   atomic.Uint32
	sessions   atomic.Uint64
	turn       atomic.Uint32
	stopping   atomic.Bool

	mu    sync.Mutex
	peers map[string]*conn        // open ones, by Origin-Host in lower case
	list  atomic.Pointer[[]*conn] // the same, for choosing
	wg    sync.WaitGroup          // connections
}

// New checks the configuration.
func New(cfg Config, deps Deps) (*Node, error) {
	if !dictionary.Identity(cfg.Host) || !dictionary.Identity(cfg.Realm) {
		return nil, fmt.Errorf("%q of realm %q cannot be a Diameter identity", cfg.Host, cfg.Realm)
	}
	n := &Node{cfg: cfg, deps: deps, metrics: newMetrics(deps.Metrics), peers: map[string]*conn{}}
	n.duplicates.life, n.duplicates.most = 4*time.Minute, 4096
	now := time.Now()
	n.stateID = uint32(now.Unix())                                            //nolint:gosec // wraps in 2106
	n.endToEnd.Store(uint32(now.Unix())<<20 | rand.Uint32()&0xfffff)          //nolint:gosec // RFC 6733 3
	n.sessions.Store(uint64(now.Unix())<<32 | uint64(rand.Uint32()&0xffffff)) //nolint:gosec // RFC 6733 8.8
	n.list.Store(&[]*conn{})
	n.metrics.connections(n.open)
	return n, nil
}

// SessionID makes a Session-Id (RFC 6733 8.8).
func (n *Node) SessionID() string {
	id := n.sessions.Add(1)
	return fmt.Sprintf("%s;%d;%d", n.cfg.Host, uint32(id>>32), uint32(id)) //nolint:gosec // the halves are meant
}

// Host returns the Origin-Host.
func (n *Node) Host() string { return n.cfg.Host }

// Realm returns the Origin-Realm.
func (n *Node) Realm() string { return n.cfg.Realm }

// Do sends a request and returns its answer, whatever its result. host is the Destination-Host, if there is one: a
// connection to it is preferred. The request is changed (ids, flags) and must not be used by others meanwhile. When a
// connection is lost or suspect the request goes to another peer with the T flag (RFC 6733 5.5.4); when a peer is too
// busy or cannot deliver it goes to another one. Errors: ErrNoPeer, ErrTimeout.
func (n *Node) Do(ctx context.Context, m wire.Message, host string) (wire.Message, error) {
	m.SetEndToEnd(n.endToEnd.Add(1))
	n.metrics.sent.WithLabelValues(n.name(m)).Inc()
	var tried []*conn
	var refused wire.Message
	why := ErrNoPeer
	for {
		c := n.choose(m.Application(), host, tried)
		switch {
		case c == nil && refused != nil:
			return refused, nil
		case c == nil:
			return nil, why
		}
		tried = append(tried, c)
		answer, err := c.exchange(ctx, m)
		switch {
		case errors.Is(err, errLost):
			n.metrics.failovers.Inc()
			m.SetFlags(m.Flags() | wire.FlagRetransmitted)
			why = fmt.Errorf("%w: %s: %w", ErrNoPeer, c.identity, err)
		case err != nil:
			return nil, fmt.Errorf("%w: %s", ErrTimeout, c.identity)
		case n.elsewhere(c, answer):
			refused = answer
		default:
			return answer, nil
		}
	}
}

// elsewhere tells an answer after which another peer is worth a try (RFC 6733 7.1.3).
func (n *Node) elsewhere(c *conn, answer wire.Message) bool {
	if answer.Flags()&wire.FlagError == 0 {
		return false
	}
	switch code, _ := answer.Uint32(wire.ResultCode); code {
	case wire.TooBusy:
		c.penalise()
		return true
	case wire.UnableToDeliver:
		return true
	}
	return false
}

// choose takes the best connection for a request: to the host that is meant, then one that is well, round robin among
// equals; one that has come back and must prove itself (RFC 3539 REOPEN) only if there is no other, and one that is
// suspect never.
func (n *Node) choose(application uint32, host string, tried []*conn) *conn {
	list := *n.list.Load()
	start := 0
	if len(list) > 1 {
		start = int(n.turn.Add(1)) % len(list)
	}
	var best *conn
	rank := 0
	for i := range list {
		c := list[(start+i)%len(list)]
		r := c.rank(application, host)
		for _, t := range tried {
			if t == c {
				r = 0
			}
		}
		if r > rank {
			best, rank = c, r
		}
	}
	return best
}

// Ready tells whether requests of an application can be sent.
func (n *Node) Ready(application uint32) error {
	if n.choose(application, "", nil) == nil {
		return ErrNoPeer
	}
	return nil
}

// Peers lists the identities of open connections that are not suspect.
func (n *Node) Peers() []string {
	var out []string
	for _, c := range *n.list.Load() {
		if c.usable() {
			out = append(out, c.identity)
		}
	}
	return out
}

func (n *Node) open() float64 { return float64(len(*n.list.Load())) }

// name is a message's command as it is counted.
func (n *Node) name(m wire.Message) string {
	if name, ok := n.deps.Dictionary.Command(m.Application(), m.Command()); ok {
		return name
	}
	return "unknown"
}

// register makes a connection one that is used. Of two to the same peer one stays: the older, or, if both were opened
// at the same moment, the one that the lower identity opened (RFC 6733 5.6.4).
func (n *Node) register(c *conn) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping.Load() {
		return errors.New("this node is stopping")
	}
	key := strings.ToLower(c.identity)
	if old := n.peers[key]; old != nil {
		simultaneous := old.dialled != c.dialled && time.Since(old.since) < n.cfg.Connect
		keepsNew := simultaneous && c.dialled == (strings.ToLower(n.cfg.Host) < key)
		if !keepsNew && old.usable() {
			return fmt.Errorf("there is a connection to %s already", c.identity)
		}
		old.close(fmt.Errorf("another connection to %s takes over", c.identity))
	}
	n.peers[key] = c
	n.publish()
	return nil
}

func (n *Node) unregister(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if key := strings.ToLower(c.identity); n.peers[key] == c {
		delete(n.peers, key)
		n.publish()
	}
}

func (n *Node) publish() {
	list := make([]*conn, 0, len(n.peers))
	for _, c := range n.peers {
		list = append(list, c)
	}
	n.list.Store(&list)
}

// Run connects and stays connected until the context is over, then takes leave of every peer.
func (n *Node) Run(ctx context.Context) error {
	if n.cfg.Find != nil {
		n.connect(ctx)
	} else {
		<-ctx.Done()
	}
	n.mu.Lock()
	n.stopping.Store(true)
	list := *n.list.Load()
	n.mu.Unlock()
	var leaving sync.WaitGroup
	for _, c := range list {
		leaving.Go(c.leave)
	}
	leaving.Wait()
	n.wg.Wait()
	return nil
}
