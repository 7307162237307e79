package turn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// relays makes the sockets that peers see (pion's RelayAddressGenerator), and says whom they reach.
type relays struct {
	cfg     Config
	limits  func() Limits
	now     func() time.Time
	metrics *metrics
	alive   sync.WaitGroup

	mu     sync.RWMutex
	ports  map[int]*relay
	closed bool
}

var (
	errNoPort   = errors.New("no relay port is free")
	errNoStream = errors.New("relays are for UDP")
)

// Validate implements pion's interface.
func (r *relays) Validate() error { return nil }

// AllocateConn implements pion's interface; TCP is not relayed.
func (r *relays) AllocateConn(string, int) (net.Conn, net.Addr, error) { return nil, nil, errNoStream }

// portTries is how many ports are tried before the range counts as full.
const portTries = 200

// AllocatePacketConn implements pion's interface: a socket on a random port of the range, or on the one that is wanted.
func (r *relays) AllocatePacketConn(_ string, wanted int) (net.PacketConn, net.Addr, error) {
	for range portTries {
		port := wanted
		if port == 0 {
			port = r.cfg.MinPort + rand.IntN(r.cfg.MaxPort-r.cfg.MinPort+1) //nolint:gosec // not a secret
		}
		sock, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.cfg.Relay, uint16(port)))) //nolint:gosec // config bounds it
		if err == nil {
			c := &relay{UDPConn: sock, owner: r, port: port}
			if !r.enter(c) {
				_ = sock.Close()
				return nil, nil, net.ErrClosed
			}
			return c, net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.cfg.Public, uint16(port))), nil //nolint:gosec // as above
		}
		if wanted != 0 {
			return nil, nil, fmt.Errorf("opening relay port %d: %w", wanted, err)
		}
	}
	return nil, nil, errNoPort
}

func (r *relays) enter(c *relay) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.ports[c.port] = c
	r.alive.Add(1)
	return true
}

// end closes every relay, whoever still has it; no more are made.
func (r *relays) end() {
	r.mu.Lock()
	r.closed = true
	left := make([]*relay, 0, len(r.ports))
	for _, c := range r.ports {
		left = append(left, c)
	}
	r.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
	r.alive.Wait()
}

// permits is asked before a client may reach an address (CreatePermission, ChannelBind).
func (r *relays) permits(_ net.Addr, peer net.IP) bool {
	addr, ok := netip.AddrFromSlice(peer)
	return ok && r.open(addr.Unmap())
}

// open tells whether an address may be a peer at all. This node may: a relay can be the peer of another.
func (r *relays) open(addr netip.Addr) bool {
	if r.own(addr) {
		return true
	}
	holds := func(p netip.Prefix) bool { return p.Contains(addr) }
	limits := r.limits()
	return slices.ContainsFunc(limits.Allowed, holds) || !slices.ContainsFunc(limits.Denied, holds)
}

func (r *relays) own(addr netip.Addr) bool {
	return addr == r.cfg.Relay || addr == r.cfg.Public || slices.Contains(r.cfg.Own, addr)
}

// reaches tells whether a datagram may go to a peer: on this node to relays alone.
func (r *relays) reaches(peer netip.AddrPort) bool {
	if !r.own(peer.Addr()) {
		return r.open(peer.Addr())
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.ports[int(peer.Port())] != nil
}

// relay is one socket.
type relay struct {
	*net.UDPConn
	owner *relays
	port  int
	out   meter
	in    meter // read by pion's one goroutine
	once  sync.Once
}

// WriteTo implements net.PacketConn. What may not go is dropped, as a network would.
func (c *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	peer, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, errNoStream
	}
	at := netip.AddrPortFrom(peer.AddrPort().Addr().Unmap(), peer.AddrPort().Port())
	if !c.owner.reaches(at) {
		c.owner.metrics.dropped.WithLabelValues("peer").Inc()
		return len(p), nil
	}
	if !c.fits(&c.out, len(p), c.owner.metrics.sent) {
		return len(p), nil
	}
	if at.Addr() == c.owner.cfg.Public { // from relay to relay it need not leave the node
		at = netip.AddrPortFrom(c.owner.cfg.Relay, at.Port())
	}
	return c.WriteToUDPAddrPort(p, at) //nolint:wrapcheck // the socket's own
}

// ReadFrom implements net.PacketConn.
func (c *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.ReadFromUDPAddrPort(p)
		if err != nil {
			return n, nil, err //nolint:wrapcheck // the socket's own
		}
		at := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if !c.owner.reaches(at) || !c.fits(&c.in, n, c.owner.metrics.received) {
			continue
		}
		if at.Addr() == c.owner.cfg.Relay {
			at = netip.AddrPortFrom(c.owner.cfg.Public, at.Port())
		}
		return n, net.UDPAddrFromAddrPort(at), nil
	}
}

func (c *relay) fits(m *meter, size int, relayed prometheus.Counter) bool {
	if !m.admits(size, c.owner.limits().Bandwidth, c.owner.now()) {
		c.owner.metrics.dropped.WithLabelValues("bandwidth").Inc()
		return false
	}
	relayed.Add(float64(size))
	return true
}

// Close implements net.PacketConn.
func (c *relay) Close() error {
	err := c.UDPConn.Close()
	c.once.Do(func() {
		c.owner.mu.Lock()
		delete(c.owner.ports, c.port)
		c.owner.mu.Unlock()
		c.owner.alive.Done()
	})
	return err //nolint:wrapcheck // the socket's own
}

// meter bounds bytes per second; it lets one second's worth through at once.
type meter struct {
	mu   sync.Mutex
	used float64
	at   time.Time
}

func (m *meter) admits(size, perSecond int, now time.Time) bool {
	if perSecond == 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = max(0, m.used-float64(perSecond)*now.Sub(m.at).Seconds())
	m.at = now
	if m.used+float64(size) > float64(perSecond) {
		return false
	}
	m.used += float64(size)
	return true
}
