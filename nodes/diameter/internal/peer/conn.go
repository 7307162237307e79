package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

const (
	mostUnsent   = 4 << 20 // bytes that may wait for a peer that does not read
	mostServing  = 256     // requests of one peer in work
	writeTimeout = 10 * time.Second
	leaveTimeout = time.Second     // for DPA, and for the peer to close
	busyPenalty  = 2 * time.Second // during which a peer that was too busy is the last choice
	jitter       = 2 * time.Second // of Tw (RFC 3539 3.4.1)
)

// conn is an open connection to a peer.
type conn struct {
	node         *Node
	net          net.Conn
	reader       *bufio.Reader
	log          *slog.Logger
	identity     string // Origin-Host
	realm        string
	applications map[uint32]bool
	dialled      bool // by us
	since        time.Time

	mu      sync.Mutex
	dog     watchdog
	pending map[uint32]*exchange // by hop-by-hop id; nil once closed
	next    uint32               // hop-by-hop id
	why     error                // of the end
	left    bool                 // DPR was sent or received: no more requests

	state     atomic.Int32 // of dog, for choosing
	leaving   atomic.Bool
	busyUntil atomic.Int64 // Unix nanoseconds
	heardAt   atomic.Int64
	cause     atomic.Int32 // Disconnect-Cause of the peer's DPR + 1

	out     outbox
	serving chan struct{}
	done    chan struct{} // closed by close
	dpa     chan struct{} // closed when the peer has answered our DPR
	dpaOnce sync.Once
}

// exchange is a request that waits for its answer.
type exchange struct {
	endToEnd, command uint32
	answer            chan wire.Message // has room for one; closed when the connection is lost or suspect
}

func (n *Node) newConn(nc net.Conn, reader *bufio.Reader, who capabilities, dialled bool, dog watchdog) *conn {
	c := &conn{
		node: n, net: nc, reader: reader, identity: who.host, realm: who.realm, applications: who.applications, dialled: dialled, since: time.Now(),
		log: n.deps.Log.With("peer", who.host, "address", nc.RemoteAddr().String()), dog: dog, pending: map[uint32]*exchange{}, next: rand.Uint32(),
		serving: make(chan struct{}, mostServing), done: make(chan struct{}), dpa: make(chan struct{}),
	}
	c.out.wake = make(chan struct{}, 1)
	return c
}

// serve runs an open connection until it ends, and returns why.
func (c *conn) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.heardAt.Store(time.Now().UnixNano())
	c.mu.Lock()
	first := c.dog.up()
	c.state.Store(int32(c.dog.state)) //nolint:gosec // five states
	c.mu.Unlock()
	if err := c.node.register(c); err != nil {
		c.close(err)
		return err
	}
	defer c.node.unregister(c)
	c.log.Info("Diameter peer connected", "realm", c.realm, "dialled", c.dialled)
	c.do(first)
	var work sync.WaitGroup
	work.Go(func() { c.close(c.write()) })
	work.Go(c.watch)
	c.close(c.read(ctx))
	c.node.unregister(c)
	work.Wait()
	c.mu.Lock()
	err := c.why
	c.mu.Unlock()
	c.log.Info("Diameter peer gone", "reason", err)
	return err
}

// close ends the connection; the first reason counts.
func (c *conn) close(why error) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	if why == nil {
		why = errLost
	}
	c.why = why
	c.dog.lost()
	c.state.Store(int32(down))
	lost := c.pending
	c.pending = nil
	c.mu.Unlock()
	close(c.done)
	_ = c.net.Close()
	for _, e := range lost {
		close(e.answer)
	}
}

// rank is how good the connection is for a request; 0: it cannot carry it.
func (c *conn) rank(application uint32, host string) int {
	if !c.applications[application] && !c.applications[wire.Relay] || c.leaving.Load() {
		return 0
	}
	rank := 0
	switch health(c.state.Load()) {
	case okay:
		rank = 10
	case reopen:
		rank = 2
	default:
		return 0
	}
	if host != "" && strings.EqualFold(host, c.identity) {
		rank += 5
	}
	if until := c.busyUntil.Load(); until != 0 && time.Now().UnixNano() < until {
		rank -= 9
	}
	return max(rank, 1)
}

func (c *conn) usable() bool {
	s := health(c.state.Load())
	return (s == okay || s == reopen) && !c.leaving.Load()
}

// penalise makes the connection the last choice for a while.
func (c *conn) penalise() { c.busyUntil.Store(time.Now().Add(busyPenalty).UnixNano()) }

// exchange sends a request and waits for its answer. Errors: errLost, or that of ctx.
func (c *conn) exchange(ctx context.Context, m wire.Message) (wire.Message, error) {
	e := &exchange{endToEnd: m.EndToEnd(), command: m.Command(), answer: make(chan wire.Message, 1)}
	c.mu.Lock()
	if c.pending == nil || c.left {
		c.mu.Unlock()
		return nil, errLost
	}
	c.next++
	id := c.next
	c.pending[id] = e
	c.mu.Unlock()
	m.SetHopByHop(id)
	if !c.out.put(m) {
		c.close(errors.New("the peer does not read"))
		return nil, errLost
	}
	select {
	case answer, ok := <-e.answer:
		if !ok {
			return nil, errLost
		}
		return answer, nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
		return nil, ctx.Err() //nolint:wrapcheck // Do says what it was
	}
}

// read takes messages until the stream ends or has no meaning any more.
func (c *conn) read(ctx context.Context) error {
	for {
		m, err := wire.ReadBuffered(c.reader)
		if err != nil {
			if errors.Is(err, wire.ErrLength) || errors.Is(err, wire.ErrVersion) {
				c.node.metrics.refused.WithLabelValues("framing").Inc()
			}
			return fmt.Errorf("reading from the peer: %w", err)
		}
		c.heardAt.Store(time.Now().UnixNano())
		switch {
		case !m.Request() && m.Application() == wire.Base && m.Command() == wire.DeviceWatchdog:
			c.event((*watchdog).answered)
			continue
		case health(c.state.Load()) == suspect:
			c.event((*watchdog).heard)
		}
		if m.Request() {
			c.request(ctx, m)
		} else {
			c.answered(m)
		}
	}
}

// answered gives an answer to who waits for it.
func (c *conn) answered(m wire.Message) {
	if m.Application() == wire.Base && m.Command() == wire.DisconnectPeer {
		c.dpaOnce.Do(func() { close(c.dpa) })
		return
	}
	c.mu.Lock()
	e := c.pending[m.HopByHop()]
	if e != nil && (e.endToEnd != m.EndToEnd() || e.command != m.Command()) {
		e = nil
	}
	if e != nil {
		delete(c.pending, m.HopByHop())
	}
	c.mu.Unlock()
	if e == nil {
		c.node.metrics.unmatched.Inc() // too late, or never asked for
		return
	}
	e.answer <- m
}

// event puts an event to the watchdog and does what it says.
func (c *conn) event(what func(*watchdog) action) {
	c.mu.Lock()
	if c.why != nil {
		c.mu.Unlock()
		return
	}
	before := c.dog.state
	a := what(&c.dog)
	after := c.dog.state
	c.state.Store(int32(after)) //nolint:gosec // five states
	var lost map[uint32]*exchange
	if a.failover && !a.close {
		lost = c.pending
		c.pending = map[uint32]*exchange{}
	}
	c.mu.Unlock()
	if before != after {
		c.log.Info("Diameter peer", "state", after.String(), "before", before.String())
	}
	for _, e := range lost {
		close(e.answer)
	}
	c.do(a)
}

func (c *conn) do(a action) {
	if a.probe {
		m, err := c.node.base(wire.DeviceWatchdog).Uint32(wire.OriginStateID, c.node.stateID).Finish()
		if err == nil {
			m.SetHopByHop(rand.Uint32())
			m.SetEndToEnd(c.node.endToEnd.Add(1))
			c.out.put(m)
		}
	}
	if a.close {
		c.close(errors.New("the peer is silent"))
	}
}

// watch is the timer of the watchdog: it expires after Tw, give or take two seconds, without a message. What has come back
// must answer probes, whatever else it sends.
func (c *conn) watch() {
	wait := c.silence()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-timer.C:
		}
		if quiet := time.Since(time.Unix(0, c.heardAt.Load())); quiet < wait && health(c.state.Load()) != reopen {
			timer.Reset(wait - quiet)
			continue
		}
		c.event((*watchdog).expired)
		c.heardAt.Store(time.Now().UnixNano()) // the timer begins anew
		wait = c.silence()
		timer.Reset(wait)
	}
}

func (c *conn) silence() time.Duration {
	tw := c.node.cfg.Watchdog
	j := min(jitter, tw/3)
	return tw - j + rand.N(2*j+1)
}

// leave tells the peer that we go (DPR), waits for its answer, and closes.
func (c *conn) leave() {
	c.leaving.Store(true)
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	m, err := c.node.base(wire.DisconnectPeer).Uint32(wire.DisconnectCause, 0).Finish() // REBOOTING
	if err == nil {
		m.SetHopByHop(rand.Uint32())
		m.SetEndToEnd(c.node.endToEnd.Add(1))
		c.out.put(m)
		timer := time.NewTimer(leaveTimeout)
		defer timer.Stop()
		select {
		case <-c.dpa:
		case <-c.done:
		case <-timer.C:
		}
	}
	c.close(errors.New("this node is stopping"))
}

// outbox collects what is to be written, so that messages of many callers go in few writes.
type outbox struct {
	mu   sync.Mutex
	buf  []byte
	wake chan struct{}
}

// put adds a message; false if too much waits.
func (o *outbox) put(m wire.Message) bool {
	o.mu.Lock()
	if len(o.buf)+len(m) > mostUnsent {
		o.mu.Unlock()
		return false
	}
	o.buf = append(o.buf, m...)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true
}

func (c *conn) write() error {
	var spare []byte
	for {
		select {
		case <-c.done:
			return nil
		case <-c.out.wake:
		}
		for {
			c.out.mu.Lock()
			buf := c.out.buf
			c.out.buf = spare[:0]
			c.out.mu.Unlock()
			if len(buf) == 0 {
				spare = buf
				break
			}
			_ = c.net.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.net.Write(buf); err != nil {
				return fmt.Errorf("writing to the peer: %w", err)
			}
			spare = buf
		}
	}
}
