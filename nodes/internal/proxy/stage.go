package proxy

import (
	"cmp"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// exchange is one server transaction (or one ACK) with the tree of functions that serve it. Its lock guards the
// whole tree.
type exchange struct {
	core   *Core
	tx     *transaction.Server // nil for the ACK of a 2xx
	flow   Flow
	method string
	mark   string // of the request as it came, for loop detection
	life   life
	inline bool // the function runs on the transport's reader
	mu     sync.Mutex
	root   *stage
	first  stage // the root of a request that came from the wire

	cancelled bool   // by a CANCEL, perhaps before there was a root
	reason    string // of the CANCEL
}

// stage is one function at work in the tree: a proxy with its own forks and its own response context.
type stage struct {
	x         *exchange
	up        *branch // nil: the wire
	fn        string
	h         Handler
	swift     Prompt       // the function, if it says when it waits
	req       *sip.Message // outline of the request as it came in; nil once all is over
	branches  []*branch
	few       [1]*branch // room for most
	pending   int        // branches, and decisions being made, without a final response
	depth     int
	best      *sip.Message
	done      bool // a final response went up
	cancelled bool
	rang      bool   // a 1xx other than 100 has come
	counted   bool   // the final response; 2xx are repeated
	reason    string // of the CANCEL
}

// init makes a stage of a function for a request.
func (s *stage) init(x *exchange, up *branch, fn Function, outline *sip.Message) {
	s.x, s.up, s.fn, s.h, s.req = x, up, fn.Name(), fn.Serve(), outline
	s.swift, _ = fn.(Prompt)
}

// prompt tells whether the function decides on a request without waiting for anything.
func (s *stage) prompt(m *sip.Message) bool { return s.swift != nil && s.swift.Prompt(m) }

// begin calls the request hook with m and acts on its decision.
func (s *stage) begin(m *sip.Message, local bool, carry any) {
	x := s.x
	if o := x.core.deps.Observe; o != nil {
		o.Request(s.fn, x.method, local)
	}
	r := &Request{Msg: m, Flow: x.flow, Local: local, Carry: carry}
	s.takeOwnRoute(r)
	x.mu.Lock()
	s.pending = 1 // the decision itself
	x.mu.Unlock()
	s.apply(s.ask(r))
}

// ask calls the hook for a request. One that panics costs this transaction only.
func (s *stage) ask(r *Request) (d Decision) {
	defer func() {
		if p := recover(); p != nil {
			d = s.failed(p)
		}
	}()
	if s.x.method != sip.REGISTER && r.Msg.ToTag() != "" {
		return s.h.InDialog(&s.x.life, r)
	}
	return s.h.Initial(&s.x.life, r)
}

// decide calls a hook. One that panics costs this transaction only.
func (s *stage) decide(hook func() Decision) (d Decision) {
	defer func() {
		if p := recover(); p != nil {
			d = s.failed(p)
		}
	}()
	return hook()
}

func (s *stage) failed(p any) Decision {
	s.x.panicked(s.fn, s.req, p)
	if s.req == nil {
		return Silence() // it has been answered
	}
	return AnswerWith(s.req.NewResponse(500, "", transaction.NewTag()))
}

// judge calls the response hook, under the lock of the exchange.
func (s *stage) judge(r *Reply) (v Verdict) {
	defer func() {
		if p := recover(); p != nil {
			s.x.panicked(s.fn, s.req, p)
			v = Verdict{}
		}
	}()
	return s.h.Response(r)
}

func (x *exchange) panicked(fn string, m *sip.Message, p any) {
	id := ""
	if m != nil {
		id = m.CallID()
	}
	x.core.deps.Log.Error("panic in a function", "function", fn, "call_id", id, "method", x.method, "panic", p, "stack", string(debug.Stack()))
}

// takeOwnRoute removes the Route that led here (RFC 3261 16.4). A strict router upstream has put our URI into the
// Request-URI and the target at the end of the Route; that is undone.
func (s *stage) takeOwnRoute(r *Request) {
	m := r.Msg
	if u, err := sip.ParseURI(m.URI); err == nil && m.Has(sip.Route) {
		if _, lr := u.Param("lr"); lr && s.x.core.cfg.Local(u) != nil {
			routes := m.All(sip.Route)
			last, err := sip.ParseAddress(routes[len(routes)-1])
			if err == nil {
				m.Del(sip.Route)
				for _, v := range routes[:len(routes)-1] {
					m.Add(sip.Route, v)
				}
				m.URI, r.Own = last.URI, u
				return
			}
		}
	}
	top := m.Get(sip.Route)
	if top == "" {
		return
	}
	if u, err := sip.AddressURI(top); err == nil {
		if s.x.core.cfg.Local(u) != nil {
			m.Pop(sip.Route)
			r.Own = u
		}
	}
}

// apply carries out a decision, which counted as one pending branch until now. No lock is held.
func (s *stage) apply(d Decision) {
	x := s.x
	x.mu.Lock()
	s.pending--
	if s.done {
		s.end()
		x.mu.Unlock()
		return
	}
	switch {
	case s.cancelled && x.method == sip.INVITE:
		s.settle(s.req.NewResponse(487, "", transaction.NewTag()))
	case d.reply != nil:
		if d.once && s.up == nil && x.tx != nil {
			x.tx.Forget()
		}
		s.settle(d.reply)
	case d.silent && x.tx == nil:
		x.life.end()
	case len(d.targets) == 0:
		s.settle(s.req.NewResponse(500, "", transaction.NewTag()))
	default:
		if !breadth(s.req, d.targets) {
			s.settle(s.req.NewResponse(440, "", transaction.NewTag()))
			break
		}
		started := s.fork(d.targets)
		if o, ok := x.core.deps.Observe.(CallObserver); ok && len(started) > 1 {
			o.Forked(s.fn, x.method, len(started)-1)
		}
		x.mu.Unlock()
		last := len(started) - 1
		for _, b := range started[:last] {
			x.core.background(b.start)
		}
		started[last].start()
		return
	}
	x.mu.Unlock()
}

// fork adds branches. The lock is held.
func (s *stage) fork(targets []Target) []*branch {
	s.pending += len(targets)
	if len(targets) == 1 && s.branches == nil {
		s.few[0] = &branch{s: s, target: targets[0]}
		s.branches = s.few[:]
		return s.branches
	}
	started := make([]*branch, 0, len(targets))
	for _, t := range targets {
		b := &branch{s: s, target: t}
		started = append(started, b)
	}
	s.branches = append(s.branches, started...)
	return started
}

// response takes a response of a branch. The lock is held.
func (s *stage) response(b *branch, r *Reply) {
	if b.final && !(r.Msg.Status < 300 && r.Msg.Status >= 200 && s.x.method == sip.INVITE) {
		return
	}
	r.Target, r.Rang = &b.target, b.rang
	final := r.Msg.Status >= 200
	verdict := s.judge(r)
	if verdict.drop && !final {
		return
	}
	if r.Msg.Status > 100 && !final {
		b.rang, s.rang = true, true
		b.stopLiveness()
	}
	if verdict.instead != nil || verdict.later != nil {
		s.replace(b, verdict)
		return
	}
	if !final {
		if !s.done {
			s.passUp(r.Msg)
		}
		return
	}
	if r.Msg.Status == 503 && r.Flow != nil && (b.target.Flow != nil || !r.Msg.Has(sip.RetryAfter)) {
		// Upstream would take it for ours and turn to another node (RFC 3261 16.7 step 6, 21.5.4).
		r.Msg.Status, r.Msg.Reason = 500, sip.StatusText(500)
	}
	first := b.finish()
	if first {
		s.pending--
	}
	s.settle(r.Msg)
}

// replace ends a branch and puts a new decision in its place. The lock is held.
func (s *stage) replace(b *branch, v Verdict) {
	if b.finish() {
		b.abort("")
	} else {
		s.pending++ // a late 2xx of a branch that had ended
	}
	s.x.core.background(func() {
		if v.instead != nil {
			s.apply(*v.instead)
			return
		}
		s.apply(s.decide(func() Decision { return v.later(&s.x.life) }))
	})
}

// settle takes a final response that is not pending any more (RFC 3261 16.7). The lock is held.
func (s *stage) settle(m *sip.Message) {
	switch {
	case m.Status < 300:
		if !s.done || s.x.method == sip.INVITE { // every 2xx to INVITE goes up
			s.done = true
			s.passUp(m)
		}
		s.cancelOthers("SIP;cause=200;text=\"Call completed elsewhere\"")
		s.end()
		return
	case m.Status >= 600:
		s.cancelOthers("")
	}
	s.best = better(s.best, m)
	if s.pending == 0 && !s.done {
		s.done = true
		s.passUp(s.best)
	}
	s.end()
}

// end frees the context once the whole tree is through. What stays for 64*T1 is what a late 2xx needs, which does not
// include the request. The lock is held.
func (s *stage) end() {
	if s.pending > 0 {
		return
	}
	if s.done {
		s.req = nil
		for _, b := range s.branches {
			b.target.Msg, b.out, b.hops = nil, nil, nil
		}
	}
	if s.up == nil {
		s.x.life.end()
	}
}

func (s *stage) passUp(m *sip.Message) {
	x := s.x
	if o := x.core.deps.Observe; o != nil && m.Status >= 200 && !s.counted {
		s.counted = true
		o.Final(s.fn, x.method, m.Status)
	}
	if s.up != nil {
		s.up.s.response(s.up, &Reply{Msg: m})
		return
	}
	if x.tx == nil {
		return
	}
	if m.Status == 408 && x.method != sip.INVITE { // RFC 4320 4.1: too late to help anybody
		x.tx.Abandon()
		return
	}
	err := x.tx.Respond(m)
	if err != nil && x.core.cfg.Reconnect {
		err = x.answerAnew(m)
	}
	if err != nil {
		x.core.deps.Log.Debug("sending response", "call_id", m.CallID(), "status", m.Status, "error", err)
	}
}

// answerAnew sends a response whose connection has ended on one to where the Via says that the sender listens (RFC 3261
// 18.2.2).
func (x *exchange) answerAnew(m *sip.Message) error {
	via, err := sip.ParseVia(m.Get(sip.Via))
	if err != nil {
		return err
	}
	host := via.Host
	if received, ok := sip.Param(via.Params, "received"); ok {
		host = received
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return err
	}
	flow, err := x.core.deps.Wire.Flow(resolve.Hop{
		Addr: netip.AddrPortFrom(addr, uint16(cmp.Or(via.Port, 5060))), Transport: x.flow.Transport(), //nolint:gosec // ParseVia bounds the port
	})
	if err != nil {
		return err
	}
	return flow.Send(m.AppendTo(make([]byte, 0, 1024)), nil)
}

// cancelAll cancels a stage from above. The lock is held.
func (s *stage) cancelAll(reason string) {
	if s.done || s.cancelled {
		return
	}
	s.cancelled, s.reason = true, reason
	if o, ok := s.x.core.deps.Observe.(CallObserver); ok && s.x.cancelled {
		o.Cancelled(s.fn, s.rang)
	}
	s.cancelOthers(reason)
}

// cancelOthers cancels every branch that has no final response. The lock is held.
func (s *stage) cancelOthers(reason string) {
	if s.x.method != sip.INVITE {
		return
	}
	for _, b := range s.branches {
		if !b.final {
			b.abort(reason)
		}
	}
}

// Better chooses between two final responses as the core does; a may be nil. It is for functions that try targets one
// after the other.
func Better(a, b *sip.Message) *sip.Message { return better(a, b) }

// better chooses between two final responses (RFC 3261 16.7 step 6): 6xx, then the lowest class; within 4xx those that
// tell the caller how to go on; the first of equals.
func better(a, b *sip.Message) *sip.Message {
	if a == nil || rank(b.Status) < rank(a.Status) {
		return b
	}
	return a
}

func rank(status int) int {
	switch {
	case status >= 600:
		return 0
	case status == 401 || status == 407 || status == 415 || status == 420 || status == 484:
		return 350
	case status == 503:
		return 599
	default:
		return status / 100 * 100
	}
}

// after runs f under the lock of the exchange when d has passed, unless stopped.
func (x *exchange) after(d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		f()
	})
}
