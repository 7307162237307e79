package pcscf

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// The edge watches the registration state of its users (TS 24.229 5.2.3): when the network ends a registration, the flow
// stands for nobody any more. There is one subscription for an implicit registration set, however many flows and
// identities it has here. They are in memory only: after a restart the S-CSCF gets 481 for a NOTIFY and forgets the
// subscription.

// When users are watched (edge_reg_event).
const (
	watchNever    = "N"
	watchRequests = "requests"      // from a user's first request on: only then something is asserted
	watchAlways   = "registrations" // from the registration on, as TS 24.229 has it
)

const (
	watchExpires = 600000 // seconds, TS 24.229 5.2.3; the S-CSCF grants less
	watchTime    = 8 * time.Second
	watchWorkers = 8
	watchQueue   = 4096
	retryFirst   = 30 * time.Second
	retryMost    = 10 * time.Minute
)

// watch is one subscription, seen from the subscriber.
type watch struct {
	key     string // of the user
	aor     string
	flows   map[transport.ID]bool
	callID  string
	tag     string // ours
	remote  string // To of the dialog; "" until there is one
	target  string
	routes  []string
	cseq    uint32
	version int64     // of the last document
	until   time.Time // its end; zero while there is none
	due     time.Time // when to send the next SUBSCRIBE
	wait    time.Duration
	used    bool // a request has come since the last SUBSCRIBE
	busy    bool
}

// watches are the subscriptions of this node.
type watches struct {
	mu     sync.Mutex
	byKey  map[string]*watch
	byCall map[string]*watch
	queue  chan *watch
}

func (ws *watches) init() {
	ws.byKey, ws.byCall, ws.queue = map[string]*watch{}, map[string]*watch{}, make(chan *watch, watchQueue)
}

func (ws *watches) held() int64 {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return int64(len(ws.byKey))
}

// follow has a user of a flow watched. A refresh, or a new attempt after a failure, waits for its time.
func (ws *watches) follow(id transport.ID, u *user, now time.Time) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.byKey[u.key()]
	if w == nil {
		w = &watch{key: u.key(), aor: u.identities[0], flows: map[transport.ID]bool{}}
		ws.byKey[w.key] = w
	}
	w.flows[id], w.used = true, true
	ws.start(w, now)
}

// start queues a watch whose time has come. When the queue is full the next sweep does it. The lock is held.
func (ws *watches) start(w *watch, now time.Time) {
	if w.busy || now.Before(w.due) {
		return
	}
	select {
	case ws.queue <- w:
		w.busy = true
	default:
	}
}

// sweep refreshes what is used and forgets what is not. wanted tells whether a user is watched without any request.
func (ws *watches) sweep(now time.Time, wanted func(*watch) bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, w := range ws.byKey {
		switch {
		case w.busy || now.Before(w.due):
		case w.used || wanted(w):
			ws.start(w, now)
		case !now.Before(w.until):
			ws.forget(w)
		}
	}
}

// forget ends a watch. The lock is held.
func (ws *watches) forget(w *watch) {
	if ws.byKey[w.key] == w {
		delete(ws.byKey, w.key)
	}
	if ws.byCall[w.callID] == w {
		delete(ws.byCall, w.callID)
	}
}

// request makes the next SUBSCRIBE: a refresh while the dialog lasts, else a new one. The lock is held.
func (ws *watches) request(w *watch, set *settings, now time.Time) *sip.Message {
	if w.remote != "" && !now.Before(w.until) {
		w.remote = ""
	}
	m := &sip.Message{Method: sip.SUBSCRIBE, URI: w.aor}
	if w.remote == "" {
		delete(ws.byCall, w.callID)
		w.callID, w.tag, w.cseq, w.version = rand.Text()+"@"+set.publicHost, transaction.NewTag(), 0, -1
		ws.byCall[w.callID] = w
		m.Add(sip.Route, set.upstream)
		m.Add(sip.To, "<"+w.aor+">")
	} else {
		m.URI = w.target
		for _, r := range w.routes {
			m.Add(sip.Route, r)
		}
		m.Add(sip.To, w.remote)
	}
	w.cseq++
	w.used = false
	own := "<sip:" + set.coreAddr + ">"
	m.Add(sip.MaxForwards, "70")
	m.Add(sip.From, own+";tag="+w.tag)
	m.Add(sip.CallID, w.callID)
	m.Add(sip.CSeq, strconv.FormatUint(uint64(w.cseq), 10)+" "+sip.SUBSCRIBE)
	m.Add(sip.Contact, "<sip:"+set.coreAddr+";transport=TCP>")
	m.Add(sip.PAssertedIdentity, own) // the host of the Path: by it the S-CSCF knows who may watch
	m.Add(sip.Event, "reg")
	m.Add(sip.Accept, "application/reginfo+xml")
	m.Add(sip.Expires, strconv.Itoa(watchExpires))
	m.Add(sip.PChargingVector, `icid-value="`+w.callID[:26]+`";icid-generated-at=`+set.publicHost+`;orig-ioi=`+set.home)
	return m
}

// watchUsers sends what is queued, until ctx ends.
func (e *Edge) watchUsers(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-e.watches.queue:
			e.subscribe(ctx, w)
		}
	}
}

// subscribe sends one SUBSCRIBE and takes its answer.
func (e *Edge) subscribe(ctx context.Context, w *watch) {
	set := e.settings.Load()
	e.watches.mu.Lock()
	m := e.watches.request(w, set, e.deps.Now())
	e.watches.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, watchTime)
	reply, err := e.deps.Send(ctx, proxy.Target{Msg: m})
	cancel()
	now, status := e.deps.Now(), 0
	if err == nil {
		status = reply.Msg.Status
	}
	e.metrics.subscribes.WithLabelValues(strconv.Itoa(status)).Inc()
	if status/100 != 2 {
		e.deps.Log.Debug("watching a user", "aor", w.aor, "status", status, "error", err)
	}
	ended := status == 404 || status == 480 // whom the network does not know as registered
	if ended && reply.Made == proxy.Received {
		e.endUser(w)
	}
	e.watches.mu.Lock()
	defer e.watches.mu.Unlock()
	w.busy = false
	switch {
	case status/100 == 2:
		w.granted(reply.Msg, now)
	case ended && reply.Made == proxy.Received:
		e.watches.forget(w)
	case status == 481 && w.remote != "":
		w.remote, w.due = "", now // over, unbeknown to us
		e.watches.start(w, now)
	default:
		w.wait = min(max(retryFirst, 2*w.wait), retryMost)
		w.due = now.Add(w.wait)
	}
}

// granted takes a 2xx: the dialog, and how long it lasts. It is refreshed when half of that is over, or 600 s before its end
// (TS 24.229 5.2.3).
func (w *watch) granted(m *sip.Message, now time.Time) {
	lasts := time.Duration(m.Expires(watchExpires)) * time.Second
	w.until, w.wait = now.Add(lasts), 0
	w.due = now.Add(lasts / 2)
	if lasts > 1200*time.Second {
		w.due = w.until.Add(-600 * time.Second)
	}
	w.remote = m.Get(sip.To)
	if a, err := sip.ParseAddress(m.Get(sip.Contact)); err == nil {
		w.target = a.URI
	}
	w.routes = m.All(sip.RecordRoute)
	slices.Reverse(w.routes)
}

// endUser forgets a user on every flow on which it is watched.
func (e *Edge) endUser(w *watch) {
	for _, id := range e.watches.flowsOf(w) {
		if e.users.end(id, w.key) {
			e.metrics.ended.Inc()
		}
	}
}

func (ws *watches) flowsOf(w *watch) []transport.ID {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	out := make([]transport.ID, 0, len(w.flows))
	for id := range w.flows {
		out = append(out, id)
	}
	return out
}

// sweepWatches refreshes subscriptions.
func (e *Edge) sweepWatches(now time.Time) {
	mode := e.settings.Load().watch
	e.watches.sweep(now, func(w *watch) bool {
		if mode == watchNever {
			w.used = false
			return false
		}
		here := false
		for id := range w.flows {
			u, _ := e.users.with(id, now, w.key)
			if u == nil {
				delete(w.flows, id)
			}
			here = here || u != nil
		}
		return here && mode == watchAlways
	})
}

// watchable tells a NOTIFY of the core that is not meant for a phone.
func watchable(r *proxy.Request) bool {
	event, _, _ := strings.Cut(r.Msg.Get(sip.Event), ";")
	return r.Msg.Method == sip.NOTIFY && r.Own.Scheme == "" && strings.TrimSpace(event) == "reg"
}

// notified takes a NOTIFY: what it says ended, ends here.
func (h *handler) notified(r *proxy.Request) proxy.Decision {
	m, e := r.Msg, h.edge
	e.watches.mu.Lock()
	w := e.watches.byCall[m.CallID()]
	known := w != nil && m.ToTag() == w.tag
	e.watches.mu.Unlock()
	if !known {
		return proxy.Answer(r, 481)
	}
	state, params, _ := strings.Cut(m.Get(sip.SubscriptionState), ";")
	over := strings.EqualFold(strings.TrimSpace(state), "terminated")
	if m.Body != "" {
		d, err := parseReginfo(m.Body)
		if err != nil {
			return refuse(r, 400, err.Error())
		}
		if e.watches.newer(w, d.Version) {
			e.apply(w, d)
		}
	}
	if reason, _ := sip.Param(";"+params, "reason"); over {
		e.deps.Log.Debug("a user is not watched any more", "aor", w.aor, "reason", reason)
		e.watches.over(w, e.deps.Now())
	}
	return proxy.Answer(r, 200)
}

// newer tells whether a document is not older than one that has been read (RFC 3680 5).
func (ws *watches) newer(w *watch, version int64) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if version < w.version {
		return false
	}
	w.version = version
	return true
}

// over ends the dialog; who is registered here still, and uses it, is watched anew.
func (ws *watches) over(w *watch, now time.Time) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w.remote, w.until = "", now
	w.due = now.Add(retryFirst)
}

// apply ends or shortens the contacts that a document says have ended or are shorter.
func (e *Edge) apply(w *watch, d *reginfo) {
	now := e.deps.Now()
	changes := d.changes()
	for _, id := range e.watches.flowsOf(w) {
		for _, c := range changes {
			switch e.users.change(id, w.key, c, now) {
			case changedEnded:
				e.metrics.ended.Inc()
				e.deps.Log.Info("the network has ended a registration", "aor", w.aor, "event", c.event, "flow", id.Remote.String())
			case changedShorter, changedNothing:
			}
		}
		if d.terminated() && len(changes) == 0 && e.users.end(id, w.key) {
			e.metrics.ended.Inc()
		}
	}
}
