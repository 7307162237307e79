package proxy

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// branch is one target of a stage: a function of this node, or a client transaction with its list of hops.
type branch struct {
	s        *stage
	target   Target
	child    *stage
	client   *transaction.Client
	out      *sip.Message // as sent
	stamped  bool         // out has our Via: it has gone to its last hop
	hops     []resolve.Hop
	hop      resolve.Hop
	rang     bool
	answered bool // any response, 100 among them
	final    bool
	aborted  bool
	shed     bool // a hop has refused it because of overload
	reason   string
	timerC   transaction.Alarm
	liveness *time.Timer
	ring     *time.Timer
}

// start sends the request on its way. No lock is held.
func (b *branch) start() {
	x, m := b.s.x, b.target.Msg
	if b.target.Liveness > 0 {
		x.mu.Lock()
		b.liveness = x.after(b.target.Liveness, b.notAlive)
		x.mu.Unlock()
	}
	if b.target.Ring > 0 {
		x.mu.Lock()
		b.ring = x.after(b.target.Ring, b.timeC)
		x.mu.Unlock()
	}
	if b.target.Flow != nil {
		b.toWire(m, nil)
		return
	}
	next, err := b.next(m)
	if err != nil {
		b.madeLocked(400, Unreachable)
		return
	}
	if fn := x.core.cfg.Local(next); fn != nil {
		b.toFunction(fn, m)
		return
	}
	target, ok := resolveTarget(next)
	if !ok {
		b.madeLocked(416, Unreachable)
		return
	}
	if _, numeric := resolve.ParseHost(target.Host); x.inline && !numeric {
		x.core.background(func() { b.resolve(m, target) }) // the reader does not wait for name servers
		return
	}
	b.resolve(m, target)
}

// resolve finds the hops of a name and sends the request.
func (b *branch) resolve(m *sip.Message, target resolve.Target) {
	x := b.s.x
	hops, err := x.core.deps.Resolver.SIP(&x.life, target)
	if err != nil {
		x.core.deps.Log.Debug("resolving next hop", "call_id", m.CallID(), "next", target.Host, "error", err)
		status := 503
		if errors.Is(err, resolve.ErrNotFound) {
			status = 404
		}
		b.madeLocked(status, Unreachable)
		return
	}
	b.toWire(m, hops)
}

// next is where the request goes: the target's hop, the top Route, or the Request-URI. A strict router as next hop
// gets its URI in the Request-URI (RFC 3261 16.6 step 6).
func (b *branch) next(m *sip.Message) (sip.URI, error) {
	if b.target.Hop.Scheme != "" {
		return b.target.Hop, nil
	}
	top := m.Get(sip.Route)
	if top == "" {
		return sip.ParseURI(m.URI)
	}
	u, err := sip.AddressURI(top)
	if err != nil {
		return u, err
	}
	if _, lr := u.Param("lr"); !lr {
		m.Pop(sip.Route)
		m.Add(sip.Route, "<"+m.URI+">")
		m.URI = u.String()
	}
	return u, nil
}

func resolveTarget(u sip.URI) (resolve.Target, bool) {
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return resolve.Target{}, false
	}
	host := u.Host
	if maddr, ok := u.Param("maddr"); ok && maddr != "" {
		host = maddr
	}
	name, _ := u.Param("transport")
	transport, known := resolve.ParseTransport(name)
	return resolve.Target{Host: host, Port: uint16(u.Port), Transport: transport, Scheme: u.Scheme}, known
}

// toFunction hands the request to a function of this node.
func (b *branch) toFunction(fn Function, m *sip.Message) {
	x := b.s.x
	if b.s.depth+1 > x.core.cfg.MaxDepth {
		b.madeLocked(482, Unreachable)
		return
	}
	x.mu.Lock()
	if b.aborted {
		b.made(487, Unreachable)
		x.mu.Unlock()
		return
	}
	outline := m.Outline()
	child := &stage{depth: b.s.depth + 1}
	child.init(x, b, fn, outline)
	b.child, b.target.Msg = child, outline // the function gets m
	x.mu.Unlock()
	if x.inline && !child.prompt(m) {
		x.core.background(func() { child.begin(m, true, b.target.Carry) })
		return
	}
	child.begin(m, true, b.target.Carry)
}

// toWire sends the request to the first hop that takes it.
func (b *branch) toWire(m *sip.Message, hops []resolve.Hop) {
	hopsLeft, _ := maxForwards(m)
	m.Set(sip.MaxForwards, strconv.Itoa(hopsLeft-1))
	x := b.s.x
	x.mu.Lock()
	b.out, b.hops = m, b.transports(m, hops)
	x.mu.Unlock()
	if b.target.Flow != nil {
		if b.send(b.target.Flow) != nil {
			b.madeLocked(430, Unreachable) // RFC 5626 5.3: the flow that the request names is gone
		}
		return
	}
	b.nextHop(503)
}

// nextHop tries the remaining hops; when none is left it makes the given status. No lock is held.
func (b *branch) nextHop(status int) {
	x, core := b.s.x, b.s.x.core
	for {
		x.mu.Lock()
		if len(b.hops) == 0 {
			b.made(status, Unreachable)
			x.mu.Unlock()
			return
		}
		b.hop = b.hops[0]
		b.hops = b.hops[1:]
		hop := b.hop
		x.mu.Unlock()
		flow, err := core.deps.Wire.Flow(hop)
		if err == nil {
			if err = b.send(flow); err == nil {
				return
			}
		}
		core.deps.Resolver.Report(hop, false)
		core.deps.Log.Info("sending to hop", "call_id", b.out.CallID(), "hop", hop.String(), "error", err)
	}
}

// transports puts TCP before UDP for requests that are too long for a datagram; where TCP is refused UDP must do
// (RFC 3261 18.1.1).
func (b *branch) transports(m *sip.Message, hops []resolve.Hop) []resolve.Hop {
	const overhead, limit = 120, 1300 // our Via
	datagrams := slices.ContainsFunc(hops, func(h resolve.Hop) bool { return h.Transport == resolve.UDP })
	if !datagrams || b.s.x.core.cfg.StayUDP || m.Size()+overhead <= limit {
		return hops
	}
	out := make([]resolve.Hop, 0, 2*len(hops))
	for _, h := range hops {
		if h.Transport == resolve.UDP {
			out = append(out, resolve.Hop{Addr: h.Addr, Transport: resolve.TCP})
		}
		out = append(out, h)
	}
	return out
}

// leaveHost drops hops to the server that has just been tried over another transport: it had the request.
func (b *branch) leaveHost() {
	for len(b.hops) > 0 && b.hops[0].Addr == b.hop.Addr {
		b.hops = b.hops[1:]
	}
}

// send starts a client transaction on a flow, or just sends an ACK.
func (b *branch) send(f Flow) error {
	x := b.s.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if b.aborted {
		b.made(487, Unreachable)
		return nil
	}
	m, sentBy := b.out, x.core.cfg.SentBy(f)
	if len(b.hops) > 0 { // another may need it without our Via
		m = m.Clone()
	}
	if x.method == sip.ACK {
		x.core.layer.StampVia(m, f, sentBy)
		return b.sendAck(m, f)
	}
	client, err := x.core.layer.Send(m, f, sentBy, x.mark, b)
	if err != nil {
		return err
	}
	b.client, b.answered, b.stamped = client, false, m == b.out
	if x.method == sip.INVITE {
		b.timerC.Set(x.core.layer, b, x.core.cfg.TimerC)
	}
	return nil
}

// sendAck sends the ACK of a 2xx, which has no transaction; a connection that turns out to be refused makes way for the
// next hop. The lock is held.
func (b *branch) sendAck(m *sip.Message, f Flow) error {
	x := b.s.x
	var failed func(error)
	if f.Reliable() {
		failed = func(error) {
			x.mu.Lock()
			left := len(b.hops)
			x.mu.Unlock()
			if left > 0 {
				x.core.background(func() { b.nextHop(503) })
			}
		}
	}
	err := transaction.SendMessage(m, f, failed)
	if err == nil && b.finish() {
		b.s.pending--
		x.life.end() // nothing can come back, on whatever level of the tree this is
	}
	return err
}

// Response implements transaction.Receiver.
func (b *branch) Response(c *transaction.Client, m *sip.Message) {
	x := b.s.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if c != b.client {
		return
	}
	if !b.answered && b.hop.Transport != resolve.None {
		x.core.deps.Resolver.Report(b.hop, true)
	}
	b.answered = true
	if m.Status > 100 && m.Status < 200 && x.method == sip.INVITE && !b.final {
		b.timerC.Set(x.core.layer, b, x.core.cfg.TimerC) // RFC 3261 16.7 step 2
	}
	shed := m.Status == 503 && m.Has(sip.RetryAfter) && isShed(m)
	if m.Status == 503 {
		b.leaveHost()
	}
	if shed {
		b.busy(c.Flow())
	}
	switch {
	case m.Status == 100:
	case m.Status < 200 && x.method != sip.INVITE: // RFC 4320 4.1: only 100 may go up, and that is ours to send
		b.rang = true
		b.stopLiveness()
	case m.Status == 503 && len(b.hops) > 0 && !b.rang && !b.final:
		if !shed { // it lives, and for what it lets in it is the best there is
			x.core.deps.Resolver.Report(b.hop, false)
		}
		b.client = nil
		x.core.background(func() { b.nextHop(503) })
	default:
		b.s.response(b, &Reply{Msg: m, Flow: c.Flow()})
	}
}

// Failed implements transaction.Receiver.
func (b *branch) Failed(c *transaction.Client, err error) {
	x := b.s.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if c != b.client || b.final {
		return
	}
	b.client = nil
	timeout := errors.Is(err, transaction.ErrTimeout)
	if (!timeout || !b.answered && !b.hop.Stateless) && b.hop.Transport != resolve.None {
		x.core.deps.Resolver.Report(b.hop, false)
	}
	if timeout {
		b.leaveHost()
	}
	// Another hop may try when this one cannot have acted: nothing came back at all.
	if !b.answered && len(b.hops) > 0 && !b.aborted {
		x.core.background(func() { b.nextHop(503) })
		return
	}
	switch {
	case b.aborted:
		b.made(487, TimedOut)
	case timeout:
		b.made(408, TimedOut)
	case b.target.Flow != nil:
		b.made(430, Unreachable) // RFC 5626 5.3: it ended under the request
	default:
		b.made(503, Unreachable)
	}
}

// made gives the branch a response of the core's own. The lock is held.
func (b *branch) made(status int, why Made) {
	from := b.out
	if from == nil {
		from = b.target.Msg
	}
	answer := from.NewResponse(status, "", transaction.NewTag())
	if b.stamped && from == b.out {
		answer.Pop(sip.Via)
	}
	b.s.response(b, &Reply{Msg: answer, Made: why})
}

func (b *branch) madeLocked(status int, why Made) {
	b.s.x.mu.Lock()
	defer b.s.x.mu.Unlock()
	b.made(status, why)
}

// Alarm implements transaction.Alarmed: timer C has run out.
func (b *branch) Alarm(now time.Time) {
	b.s.x.mu.Lock()
	defer b.s.x.mu.Unlock()
	if b.timerC.Due(now) {
		b.timeC()
	}
}

// timeC ends an INVITE that rings for ever, or longer than its Target allows (RFC 3261 16.8): CANCEL, and the 487 or the transaction's end follows.
func (b *branch) timeC() {
	if b.final {
		return
	}
	b.abort("")
}

// notAlive ends a target that sent nothing but 100.
func (b *branch) notAlive() {
	if b.final || b.rang || b.target.Alive != nil && b.target.Alive() {
		return
	}
	b.abort("")
	b.made(408, NotAlive)
}

func (b *branch) stopLiveness() {
	if b.liveness != nil {
		b.liveness.Stop()
		b.liveness = nil
	}
}

// finish marks the final response; it returns false when there had been one. The lock is held.
func (b *branch) finish() bool {
	if b.final {
		return false
	}
	b.final = true
	b.stopLiveness()
	b.timerC.Stop(b.s.x.core.layer)
	if b.ring != nil {
		b.ring.Stop()
	}
	return true
}

// abort cancels what the branch has under way. The lock is held.
func (b *branch) abort(reason string) {
	b.aborted, b.reason = true, reason
	switch {
	case b.child != nil:
		b.child.cancelAll(reason)
	case b.client != nil:
		b.client.Cancel(reason)
	}
}
