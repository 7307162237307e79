package proxy

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// Resolver finds the hops of a name and learns how they did.
type Resolver interface {
	SIP(ctx context.Context, t resolve.Target) ([]resolve.Hop, error)
	Report(hop resolve.Hop, ok bool)
}

// Wire reaches a hop: an existing connection or socket, or a new one.
type Wire interface {
	Flow(hop resolve.Hop) (Flow, error)
}

// Config is what a node tells its core.
type Config struct {
	// Accept chooses the function for a request from the wire; nil answers 404 (403 is a function's business).
	Accept func(m *sip.Message, f Flow) Function
	// Local finds the function of this node that a next hop names, nil when it is elsewhere.
	Local func(next sip.URI) Function
	// Here tells the hosts that mean this node or its cluster: an OPTIONS to one of them is a poll and is answered 200
	// without asking any back end. nil: none.
	Here func(host string) bool
	// Userless says that no user lives at those hosts: an OPTIONS to sip:anybody@here is a poll as well.
	Userless bool
	// SentBy is the host:port that Via shows on a flow.
	SentBy func(f Flow) string
	// Timers of the transaction layer; TimerC defaults to 180 s and is the longest wait for a final response after a provisional one.
	Timers transaction.Config
	TimerC time.Duration
	// StayUDP keeps requests over 1300 bytes on UDP (disable_tcp_switch).
	StayUDP bool
	// Reconnect sends responses whose connection has ended on a new one to the address in the Via. It is for peers that
	// listen, not for phones behind NATs.
	Reconnect bool
	// Overload refuses what is too much; nil: nothing is.
	Overload Overload
	// MaxDepth bounds hops between functions of this node, to end loops. Default 50.
	MaxDepth int
}

// Deps is what a core works with.
type Deps struct {
	Resolver Resolver
	Wire     Wire
	Log      *slog.Logger
	Observe  Observer // may be nil
}

// Observer counts what functions do; its methods must be quick and safe for concurrent use.
type Observer interface {
	Request(function, method string, local bool)
	Final(function, method string, status int)
}

// CallObserver is an Observer that also counts forks and cancelled calls.
type CallObserver interface {
	Forked(function, method string, extra int)        // a function sent a request to 1+extra targets
	Cancelled(function string, afterProvisional bool) // the caller gave up, before or after a 1xx other than 100
}

// Core runs functions on the transaction layer.
type Core struct {
	cfg    Config
	deps   Deps
	layer  *transaction.Layer
	ctx    context.Context //nolint:containedctx // the life of Run, from which each transaction's context derives
	cancel context.CancelFunc
	work   workers
	drain  atomic.Bool
}

// New makes a core. Messages are refused until Run.
func New(cfg Config, deps Deps) *Core {
	if cfg.TimerC == 0 {
		cfg.TimerC = 180 * time.Second
	}
	if cfg.MaxDepth == 0 {
		cfg.MaxDepth = 50
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	c := &Core{cfg: cfg, deps: deps}
	c.layer = transaction.New(cfg.Timers, user{c})
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Run drives timers until ctx ends, then waits for functions to return.
func (c *Core) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { c.work.trim(ctx) })
	err := c.layer.Run(ctx)
	c.cancel()
	group.Wait()
	c.work.end()
	return err
}

// background runs f on a goroutine that Run waits for. Once Run is ending nothing new begins.
func (c *Core) background(f func()) { c.work.do(f) }

// Refuse answers requests outside dialogs with 503 from now on, so that others take them; what is under way goes on.
func (c *Core) Refuse(on bool) { c.drain.Store(on) }

// Idle returns when no transaction is without a final response, or with the context's error.
func (c *Core) Idle(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for c.Held() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Held counts transactions without a final response.
func (c *Core) Held() int64 { return c.layer.Live() }

// Message takes a message from the transport, in order for each flow.
func (c *Core) Message(m *sip.Message, f Flow) { c.layer.Receive(m, f) }

// Malformed answers a request that could be read but is wrong; others are dropped.
func (c *Core) Malformed(m *sip.Message, f Flow, why error) {
	if m == nil || !m.IsRequest() || m.Method == sip.ACK || !m.Has(sip.Via) || !m.Has(sip.CallID) {
		return
	}
	answer := m.NewResponse(400, "", transaction.NewTag())
	answer.Add(sip.Warning, `399 clearwater "`+escapeQuoted(why.Error())+`"`)
	_ = f.Send(answer.AppendTo(nil), nil) // best effort towards a peer that sends rubbish
}

// user is the core as the transaction layer sees it.
type user struct{ c *Core }

func (u user) Request(tx *transaction.Server) {
	c, m := u.c, tx.Request
	m.SetFirst(sip.Via, sip.Stamp(m.Get(sip.Via), tx.Flow().Remote()))
	if m.Method == sip.OPTIONS && c.polls(m) {
		_ = tx.Respond(m.NewResponse(200, "", transaction.NewTag())) // the poller repeats
		return
	}
	if c.drain.Load() && m.ToTag() == "" {
		away := m.NewResponse(503, "", transaction.NewTag())
		away.Add(sip.RetryAfter, "5")
		_ = tx.Respond(away) // the peer repeats
		return
	}
	admitted := time.Now()
	if shed, metered := c.shed(tx); shed {
		return
	} else if !metered {
		admitted = time.Time{}
	}
	tx.Request = m.Outline() // the function gets m
	x := &exchange{core: c, tx: tx, flow: tx.Flow(), method: tx.Method(), life: life{parent: c.ctx}}
	tx.SetOwner(x)
	if m.Method == sip.INVITE {
		_ = tx.Respond(m.NewResponse(100, "", "")) // the caller repeats the INVITE if it is lost
	}
	x.run(m, tx.Request, admitted)
}

// polls tells an OPTIONS that asks whether this node lives: for the node itself, with at most its own Route.
func (c *Core) polls(m *sip.Message) bool {
	u, err := sip.ParseURI(m.URI)
	if c.cfg.Here == nil || err != nil || (u.User != "" && !c.cfg.Userless) || !c.cfg.Here(u.Host) {
		return false
	}
	switch m.Count(sip.Route) {
	case 0:
		return true
	case 1:
		route, err := sip.AddressURI(m.Get(sip.Route))
		return err == nil && c.cfg.Here(route.Host)
	default:
		return false
	}
}

func (u user) Ack(m *sip.Message, f Flow) {
	if isShed(m) {
		return
	}
	x := &exchange{core: u.c, flow: f, method: sip.ACK, life: life{parent: u.c.ctx, limit: 64 * 500 * time.Millisecond}}
	x.run(m, m, time.Time{})
}

func (u user) Cancel(tx *transaction.Server, why *sip.Message) {
	x, ok := tx.Owner().(*exchange)
	if !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cancelled, x.reason = true, why.Get(sip.Reason)
	if x.root != nil {
		x.root.cancelAll(x.reason)
	}
	x.life.end()
}

// run starts the function that the node chose: here, on the transport's reader, if it does not wait for anything, else on
// another goroutine. admitted is when the request was let in, zero if it needed no leave; what was let in always waits for
// its turn, for that is how the load shows. The function may change m; outline is what answers of the core are made from.
func (x *exchange) run(m, outline *sip.Message, admitted time.Time) {
	if !admitted.IsZero() {
		x.core.background(func() {
			x.core.begun(admitted)
			if s := x.choose(m, outline); s != nil {
				s.begin(m, false, nil)
			}
		})
		return
	}
	s := x.choose(m, outline)
	switch {
	case s == nil:
	case s.prompt(m):
		x.inline = true
		s.begin(m, false, nil)
	default:
		x.core.background(func() { s.begin(m, false, nil) })
	}
}

// choose finds the function and makes the root of the tree; nil when the request has been answered.
func (x *exchange) choose(m, outline *sip.Message) *stage {
	fn, err := x.accept(m)
	if err != nil {
		x.refuse(m, 500)
		return nil
	}
	if fn == nil {
		x.refuse(m, 404)
		return nil
	}
	if hops, ok := maxForwards(m); !ok || hops == 0 {
		x.refuse(m, 483)
		return nil
	}
	if x.mark = markOf(m); loops(m, x.mark) {
		x.refuse(m, 482)
		return nil
	}
	s := &x.first
	s.init(x, nil, fn, outline)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.root = s
	if x.cancelled { // the CANCEL was faster
		s.cancelAll(x.reason)
	}
	return s
}

func (x *exchange) accept(m *sip.Message) (fn Function, err error) {
	defer func() {
		if p := recover(); p != nil {
			x.panicked("accept", m, p)
			err = errPanic
		}
	}()
	return x.core.cfg.Accept(m, x.flow), nil
}

var errPanic = errors.New("panic while choosing a function")

func (x *exchange) refuse(m *sip.Message, status int) {
	defer x.life.end()
	if x.tx != nil {
		_ = x.tx.Respond(m.NewResponse(status, "", transaction.NewTag()))
	}
}

// maxForwards reads Max-Forwards; absent counts as 70, rubbish is not ok.
func maxForwards(m *sip.Message) (int, bool) {
	v := m.Get(sip.MaxForwards)
	if v == "" {
		return 70, true
	}
	n, err := strconv.ParseUint(v, 10, 8)
	return int(n), err == nil
}
