package transport

import (
	"net"
	"net/netip"
	"sync"
)

// sources bounds the connections that one address may open to the limited listeners, so that a single host, however
// patient, leaves room for others.
type sources struct {
	most   int // 0: no limit
	exempt func(netip.Addr) bool
	mu     sync.Mutex
	by     map[netip.Addr]int
}

// enter counts a connection of an address; false when it has too many.
func (s *sources) enter(a netip.Addr) bool {
	if s.most == 0 || s.exempt != nil && s.exempt(a) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[a] >= s.most {
		return false
	}
	s.by[a]++
	return true
}

// leave takes one away again. An address that was exempt when it came counts for nothing.
func (s *sources) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch n := s.by[a]; {
	case n > 1:
		s.by[a] = n - 1
	case n == 1:
		delete(s.by, a)
	}
}

// limits tells whether connections to a listener are counted.
func (l *Layer) limits(ln Listener) bool {
	return l.cfg.LimitedListener == "" || l.cfg.LimitedListener == ln.Name
}

// counted is a socket that leaves when it is closed.
type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close() //nolint:wrapcheck // as net.Conn
}
