package scscf

import (
	"context"
	"sync/atomic"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// chain is the application servers of one user for one request. What it holds is fixed when it begins: a profile that
// changes meanwhile counts for the next request. Which criterion selects the request is decided link by link, because
// servers change requests.
type chain struct {
	user       user
	criteria   []ifc.Criterion
	session    ifc.SessionCase
	registered bool
	asked      string // canonical Request-URI of a terminating chain
}

// orig tells the chains that serve somebody as the originator.
func (c *chain) orig() bool {
	return c.session != ifc.Terminating && c.session != ifc.TerminatingUnregistered
}

// servedUser is the P-Served-User of the chain (RFC 5502, RFC 8498 for orig-cdiv).
func (c *chain) servedUser() string {
	value := "<" + c.user.self.URI + ">"
	switch {
	case c.session == ifc.OriginatingCDIV:
		return value + ";orig-cdiv"
	case c.orig():
		value += ";sescase=orig"
	default:
		value += ";sescase=term"
	}
	if c.registered {
		return value + ";regstate=reg"
	}
	return value + ";regstate=unreg"
}

// link is a place in a chain: the server at next-1 has the request, the criterion at next comes after it.
type link struct {
	chain *chain
	next  int
	msg   *sip.Message // the request as it was before the server got it
	state atomic.Uint32
}

// States of a link: the first that leaves waiting decides, so that a request never goes on both with its server and without.
const (
	waiting uint32 = iota
	returned
	givenUp
)

// alive tells whether the server has returned the request; else it is given up.
func (l *link) alive() bool {
	return !l.state.CompareAndSwap(waiting, givenUp) && l.state.Load() == returned
}

func (l *link) server() *ifc.Server { return &l.chain.criteria[l.next-1].Server }

// begin freezes a chain. It returns false when the request is to be refused because no criterion selects it.
func (h *handler) begin(m *sip.Message, c *chain) bool {
	services, own := h.deps.Services(), c.user.profile.Criteria(c.user.self)
	var unknown []int
	c.criteria, unknown = own.Resolve(services.Sets)
	for _, err := range own.Broken {
		h.deps.Log.Warn("a filter criterion is left out", "impu", c.user.self.URI, "error", err)
	}
	for _, id := range unknown {
		h.deps.Metrics.unknownSets.Inc()
		h.deps.Log.Warn("a shared set of filter criteria is not known", "impu", c.user.self.URI, "set", id)
	}
	q := &ifc.Query{Msg: m, Case: c.session, Registered: c.registered}
	if ifc.Next(c.criteria, 0, q) >= 0 {
		return true
	}
	if services.ApplyFallback {
		if c.criteria = services.Fallback; ifc.Next(c.criteria, 0, q) >= 0 {
			h.deps.Metrics.fallbacks.Inc()
			return true
		}
	}
	return !services.RejectUnmatched || c.session == ifc.OriginatingCDIV // the call had its services when it came
}

// advance takes a request to the next server that wants it, else to the end of the chain.
func (h *handler) advance(ctx context.Context, r *proxy.Request, m *sip.Message, c *chain, from int) proxy.Decision {
	q := &ifc.Query{Msg: m, Case: c.session, Registered: c.registered}
	for i := ifc.Next(c.criteria, from, q); i >= 0; i = ifc.Next(c.criteria, i+1, q) {
		if s := &c.criteria[i].Server; s.Name != h.deps.Services().Dummy {
			return h.invoke(ctx, r, m, &link{chain: c, next: i + 1, msg: m})
		}
	}
	m.Del(sip.PServedUser)
	if c.orig() {
		return h.leave(ctx, r, m, c)
	}
	return h.toBindings(ctx, r, m, c)
}

// invoke sends the request to an application server over ISC (TS 24.229 5.4.3.2 step 5, 5.4.3.3 step 6).
func (h *handler) invoke(ctx context.Context, r *proxy.Request, m *sip.Message, l *link) proxy.Decision {
	c, server := l.chain, l.server()
	u, err := sip.ParseURI(server.Name)
	if err != nil || u.Scheme != "sip" && u.Scheme != "sips" {
		h.deps.Metrics.servers.WithLabelValues("bad_uri").Inc()
		return proxy.AnswerReason(r, 502, "scscf", server.Name+" is no address of an application server")
	}
	transport, _ := u.Param("transport")
	out := m.Clone()
	out.Push(sip.Route, h.names.Return(h.deps.links.add(ctx, l), transport, c.orig()))
	out.Push(sip.Route, "<"+u.WithParam("lr", "").String()+">")
	out.Set(sip.PServedUser, c.servedUser())
	if !c.orig() {
		h.stampNetwork(out, "term-ioi", c.user.self.URI)
	}
	h.deps.Metrics.servers.WithLabelValues("invoked").Inc()
	patience := h.deps.Services().Continued
	if server.Terminate {
		patience = h.deps.Services().Terminated
	}
	return proxy.Forward(proxy.Target{Msg: out, Liveness: patience, Alive: l.alive, Tag: l})
}

// answered applies the default handling when an application server fails before it showed that it works on the
// request: by a provisional response, or by returning it (TS 24.229 5.4.3.2, 5.4.3.3).
func (h *handler) answered(r *proxy.Reply, l *link) proxy.Verdict {
	status := r.Msg.Status
	failed := status == 408 || status/100 == 5 || r.Made != proxy.Received && status != 487
	switch {
	case !failed:
		return proxy.Verdict{}
	case r.Rang || l.alive():
		upwards(r, l.msg.Method)
		return proxy.Verdict{}
	case l.server().Terminate:
		h.deps.Metrics.servers.WithLabelValues("terminated").Inc()
		h.deps.Log.Info("an application server fails, the session ends", "call_id", l.msg.CallID(), "server", l.server().Name, "status", status)
		upwards(r, l.msg.Method)
		return proxy.Verdict{}
	}
	h.deps.Metrics.servers.WithLabelValues("continued").Inc()
	h.deps.Log.Debug("an application server fails, the session continues without it", "call_id", l.msg.CallID(), "server", l.server().Name, "status", status)
	return proxy.Later(func(ctx context.Context) proxy.Decision {
		again := l.msg.Clone()
		return h.advance(ctx, &proxy.Request{Msg: l.msg}, again, l.chain, l.next)
	})
}

// upwards turns the failure of a server into what others may be told: 408 not to requests other than INVITE (RFC 4320
// 4.2), 503 not at all, because it would say that this node is not to be asked (RFC 3261 16.7 step 6).
func upwards(r *proxy.Reply, method string) {
	switch {
	case r.Made == proxy.Unreachable, r.Msg.Status == 408 && method != sip.INVITE:
		r.Msg.Status = 504
	case r.Msg.Status == 503:
		r.Msg.Status = 500
	default:
		return
	}
	r.Msg.Reason = sip.StatusText(r.Msg.Status)
}

// returned goes on with a chain when a server gives the request back, the first time or, by a server that forks, again.
func (h *handler) returned(ctx context.Context, r *proxy.Request, l *link) proxy.Decision {
	if !l.state.CompareAndSwap(waiting, returned) && l.state.Load() == givenUp {
		return proxy.AnswerReason(r, 487, "scscf", "the server took too long, the session has gone on without it")
	}
	m, c := r.Msg, l.chain
	m.Del(sip.PServedUser)
	if startsDialog(m.Method) && h.names.RecordRoutesServers() {
		h.recordRoute(m, "charge-none")
	}
	if c.orig() {
		return h.advance(ctx, r, m, c, l.next)
	}
	u, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
	}
	key := u.Canonical()
	if key == c.asked || key == c.user.self.Key {
		return h.advance(ctx, r, m, c, l.next)
	}
	if id, ok := c.user.profile.Find(key); ok && !id.Barred && c.user.profile.Aliases(c.user.self, id) {
		alias := *c
		alias.user.self, alias.asked = id, key
		return h.advance(ctx, r, m, &alias, l.next)
	}
	return h.divert(ctx, r, m, c)
}

// divert serves a user whose server has sent the request to somebody else (TS 24.229 5.4.3.3 step 3A): that is a
// request of the user, with services of its own, unless the server has also said which way it goes.
func (h *handler) divert(ctx context.Context, r *proxy.Request, m *sip.Message, c *chain) proxy.Decision {
	if m.Has(sip.Route) {
		h.deps.Metrics.preloaded.Inc()
		return proxy.Forward(proxy.Target{Msg: m})
	}
	next := &chain{user: c.user, session: ifc.OriginatingCDIV, registered: c.registered}
	h.begin(m, next) // never refuses this case
	return h.advance(ctx, r, m, next, 0)
}

// leave routes a request whose originating services are done.
func (h *handler) leave(ctx context.Context, r *proxy.Request, m *sip.Message, c *chain) proxy.Decision {
	if startsDialog(m.Method) && h.names.RecordRoutesICSCF() {
		h.recordRoute(m, "charge-none")
	}
	if m.Has(sip.Route) {
		h.deps.Metrics.preloaded.Inc()
		return proxy.Forward(proxy.Target{Msg: m}) // an application server has loaded a route
	}
	return h.routeOut(ctx, r, m)
}

// registered asks the store whether a user has bindings.
func (h *handler) registered(ctx context.Context, u user, m *sip.Message) (bool, error) {
	record, err := h.record(ctx, u, m)
	return len(callable(record, h.deps.Now())) > 0, err
}

func (h *handler) record(ctx context.Context, u user, m *sip.Message) (*registrations.Record, error) {
	record, err := h.deps.Store.Get(ctx, u.main.Key)
	if err != nil {
		h.deps.Log.Error("reading bindings", "aor", u.main.Key, "call_id", m.CallID(), "error", err)
	}
	return record, err
}
