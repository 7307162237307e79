package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// PoolConfig describes the connections to one destination.
type PoolConfig struct {
	Listener string        // whose address the connections come from; "" is the first
	Size     int           // upstream_connections; 1 if 0
	Recycle  time.Duration // upstream_recycle_connections: mean life of a connection; 0 keeps them
	Refresh  time.Duration // how often the destination is looked up; 2 s
	Retire   time.Duration // how long a connection that gets no new requests stays for answers; 32 s
}

// Destination tells where the pool's connections lead.
type Destination interface {
	// Preferred returns equally good hops; see resolve.Resolver.
	Preferred(ctx context.Context) ([]resolve.Hop, error)
	// Report tells how connecting to one went.
	Report(hop resolve.Hop, ok bool)
}

// Pool keeps several connections to a destination and spreads them evenly over its hops. Hops that appear get their
// share of connections within moments, hops that vanish get no new requests.
type Pool struct {
	layer *Layer
	cfg   PoolConfig
	dest  Destination
	log   *slog.Logger
	wake  chan struct{}
	mu    sync.RWMutex
	slots []*slot
	byHop map[resolve.Hop][]*slot
	turn  atomic.Uint64
}

type slot struct {
	conn     *conn
	hop      resolve.Hop
	until    time.Time // zero: no end
	reported bool
}

// ErrNoConnection means that no connection of the pool is usable.
var ErrNoConnection = errors.New("no connection to the destination")

// NewPool makes a pool; Run fills it.
func (l *Layer) NewPool(cfg PoolConfig, dest Destination) *Pool {
	orInt(&cfg.Size, 1)
	orDuration(&cfg.Refresh, 2*time.Second)
	orDuration(&cfg.Retire, 32*time.Second)
	return &Pool{layer: l, cfg: cfg, dest: dest, log: l.log, wake: make(chan struct{}, 1)}
}

// Flow returns the next open connection to a hop, or one that is being opened when none is. It is false when the
// pool has none to this hop.
func (p *Pool) Flow(hop resolve.Hop) (*Flow, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	slots := p.byHop[hop]
	turn := p.turn.Add(1)
	var opening *Flow
	for i := range slots {
		c := slots[(turn+uint64(i))%uint64(len(slots))].conn
		switch c.state() {
		case stateOpen:
			return c.flow, true
		case stateOpening:
			opening = c.flow
		}
	}
	return opening, opening != nil
}

// Ready is nil while at least one connection is open.
func (p *Pool) Ready() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, s := range p.slots {
		if s.conn.state() == stateOpen {
			return nil
		}
	}
	return ErrNoConnection
}

// Run keeps the pool filled until ctx ends. It must run while the Layer does.
func (p *Pool) Run(ctx context.Context) error {
	tick := time.NewTicker(p.cfg.Refresh)
	defer tick.Stop()
	known := true
	for {
		hops, err := p.dest.Preferred(ctx)
		if (err == nil) != known && ctx.Err() == nil {
			known = err == nil
			p.log.Info("destination of the connection pool", "found", known, "error", err)
		}
		if err == nil {
			p.tend(hops, time.Now())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.wake:
		}
	}
}

// tend brings the connections in line with the hops.
func (p *Pool) tend(hops []resolve.Hop, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(hops) == 0 {
		return
	}
	share := (p.cfg.Size + len(hops) - 1) / len(hops)
	load := make(map[resolve.Hop]int, len(hops))
	for _, h := range hops {
		load[h] = 0
	}
	kept := make([]*slot, 0, p.cfg.Size)
	moves := max(1, p.cfg.Size/10) // rebalancing and recycling go gently
	for _, s := range p.slots {
		state := s.conn.state()
		p.report(s, state)
		n, wanted := load[s.hop]
		surplus := n >= share || (!s.until.IsZero() && now.After(s.until))
		switch {
		case state == stateClosed:
			continue
		case !wanted:
			p.retire(s)
		case surplus && moves > 0:
			moves--
			p.retire(s)
		default:
			load[s.hop]++
			kept = append(kept, s)
		}
	}
	for len(kept) < p.cfg.Size {
		s, err := p.open(least(hops, load), now)
		if err != nil {
			p.log.Warn("connection pool stays short", "error", err)
			break
		}
		load[s.hop]++
		kept = append(kept, s)
	}
	p.slots, p.byHop = kept, make(map[resolve.Hop][]*slot, len(hops))
	for _, s := range kept {
		p.byHop[s.hop] = append(p.byHop[s.hop], s)
	}
}

func (p *Pool) report(s *slot, state connState) {
	if s.reported || state == stateOpening {
		return
	}
	s.reported = true
	p.dest.Report(s.hop, state == stateOpen)
}

// least returns the hop with the fewest connections; among equals the one first in the list, which is shuffled.
func least(hops []resolve.Hop, load map[resolve.Hop]int) resolve.Hop {
	best := hops[0]
	for _, h := range hops[1:] {
		if load[h] < load[best] {
			best = h
		}
	}
	return best
}

func (p *Pool) open(hop resolve.Hop, now time.Time) (*slot, error) {
	if ln, ok := p.layer.origin(p.cfg.Listener, hop.Transport); ok {
		p.layer.mu.Lock()
		c, err := p.layer.open(ln, hop, false)
		p.layer.mu.Unlock()
		if err != nil {
			return nil, err
		}
		c.flow.OnClose(func() {
			if !c.opened.Load() {
				return // one that could not be opened waits for the next look, lest this spins
			}
			select {
			case p.wake <- struct{}{}:
			default:
			}
		})
		s := &slot{conn: c, hop: hop}
		if p.cfg.Recycle > 0 { // spread, so that connections made together do not end together
			s.until = now.Add(p.cfg.Recycle/2 + rand.N(p.cfg.Recycle))
		}
		return s, nil
	}
	return nil, fmt.Errorf("connecting to %s: %w", hop, ErrUnsupported)
}

// retire lets answers still come in for a while. A peer that answers later opens a connection of its own (RFC 3261
// 18.2.2).
func (p *Pool) retire(s *slot) {
	timer := time.AfterFunc(p.cfg.Retire, s.conn.Close)
	s.conn.flow.OnClose(func() { timer.Stop() })
}

type connState int

const (
	stateOpening connState = iota
	stateOpen
	stateClosed
)

func (c *conn) state() connState {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return stateClosed
	case c.sock == nil:
		return stateOpening
	}
	return stateOpen
}
