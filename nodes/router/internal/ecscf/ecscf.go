// Package ecscf is the E-CSCF (TS 24.229 5.11): it sends emergency calls to answering points. It asks nobody who the
// caller is or what he may do: an emergency call is never challenged and never barred. Which answering points serve a
// service is configuration; they are tried in order until one takes the call.
package ecscf

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// Name of the function.
const Name = "ecscf"

// patience is how long an answering point may say nothing but 100 while there is another one to try.
const patience = 6 * time.Second

// shunned is how long an answering point that did not answer at all is asked only after the others.
const shunned = 30 * time.Second

// Deps of the function.
type Deps struct {
	Names   func() *network.Names
	Routes  func() Routes
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Function implements proxy.Function.
type Function struct {
	deps    Deps
	metrics *metrics
	silent  silent
}

// New makes the function.
func New(deps Deps) *Function {
	return &Function{deps: deps, metrics: newMetrics(deps.Metrics), silent: silent{since: map[string]time.Time{}}}
}

// Name implements proxy.Function.
func (*Function) Name() string { return Name }

// Serve implements proxy.Function.
func (f *Function) Serve() proxy.Handler { return &handler{Function: f, names: f.deps.Names()} }

type handler struct {
	proxy.Forwarding
	*Function

	names    *network.Names
	original *sip.Message
	left     []string // answering points that have not been tried
	settled  bool     // the call has been counted
}

// Initial finds the answering points of the service and calls the first.
func (h *handler) Initial(_ context.Context, r *proxy.Request) proxy.Decision {
	m := r.Msg
	service, ok := emergency.Service(m.URI)
	if !ok {
		return proxy.AnswerReason(r, 404, Name, "no emergency service: "+m.URI)
	}
	h.left = h.silent.last(h.deps.Routes().Find(service), h.deps.Now())
	if len(h.left) == 0 {
		h.metrics.calls.WithLabelValues("unrouted").Inc()
		h.deps.Log.Error("an emergency call has nowhere to go: emergency_routes has no entry for its service", "service", service, "call_id", m.CallID())
		return proxy.AnswerReason(r, 404, Name, "no answering point for "+service)
	}
	m.Del(sip.Route, sip.PServedUser)
	if !m.Has(sip.ResourcePriority) {
		m.Set(sip.ResourcePriority, emergency.Priority)
	}
	m.Push(sip.RecordRoute, h.names.RecordRoute("charge-none"))
	h.original = m
	return h.next()
}

// next calls the next answering point.
func (h *handler) next() proxy.Decision {
	uri := h.left[0]
	h.left = h.left[1:]
	t := h.target(uri)
	t.Tag = uri
	if len(h.left) > 0 {
		t.Liveness = patience
	}
	return proxy.Forward(t)
}

// target addresses a copy of the call. A URI without a user is a server that understands service URNs: the Request-URI
// stays and the URI becomes the Route (RFC 6881 section 9.2). One with a user, or a number, becomes the Request-URI; numbers
// leave by the BGCF, and our own users are called as such.
func (h *handler) target(uri string) proxy.Target {
	m := h.original.Clone()
	u, err := sip.ParseURI(uri)
	switch {
	case err == nil && u.Scheme != "tel" && u.User == "":
		m.Push(sip.Route, "<"+u.WithParam("lr", "").String()+">")
		return proxy.Target{Msg: m}
	case err == nil && u.Scheme == "tel":
		m.URI = uri
		return proxy.Target{Msg: m, Hop: h.names.URI(network.BGCF)}
	case err == nil && h.names.Home(u.Host):
		m.URI = uri
		return proxy.Target{Msg: m, Hop: h.names.URI(network.ICSCF)}
	default: // what is no URI fails there, and the next one is tried
		m.URI = uri
		return proxy.Target{Msg: m}
	}
}

// Response turns to the next answering point when one does not take the call, whatever its reason. A caller who gave up
// is not called for.
func (h *handler) Response(r *proxy.Reply) proxy.Verdict {
	if r.Msg.Status < 200 || h.original == nil {
		return proxy.Verdict{}
	}
	if uri, ok := r.Target.Tag.(string); ok {
		h.silent.note(uri, r.Made == proxy.NotAlive || r.Made == proxy.TimedOut || r.Made == proxy.Unreachable, h.deps.Now())
	}
	switch {
	case r.Msg.Status >= 300 && r.Msg.Status != 487 && len(h.left) > 0:
		h.metrics.failovers.Inc()
		h.deps.Log.Error("an answering point did not take an emergency call, the next one is tried", "answering_point", r.Target.Tag, "status", r.Msg.Status, "call_id", r.Msg.CallID())
		return proxy.Instead(h.next())
	}
	h.count(r.Msg.Status)
	return proxy.Verdict{}
}

func (h *handler) count(status int) {
	if h.settled {
		return // a 2xx that is repeated
	}
	h.settled = true
	switch {
	case status < 300:
		h.metrics.calls.WithLabelValues("answered").Inc()
	case status == 487:
		h.metrics.calls.WithLabelValues("cancelled").Inc()
	default:
		h.metrics.calls.WithLabelValues("failed").Inc()
	}
}

// silent knows the answering points that did not answer of late, so that not every caller waits for them.
type silent struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (s *silent) note(uri string, silent bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !silent {
		delete(s.since, uri)
		return
	}
	s.since[uri] = now
}

// last puts those of a list that were silent of late behind the others.
func (s *silent) last(list []string, now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	isSilent := func(uri string) bool {
		since, known := s.since[uri]
		return known && now.Sub(since) < shunned
	}
	slices.SortStableFunc(list, func(a, b string) int {
		switch x, y := isSilent(a), isSilent(b); {
		case x == y:
			return 0
		case x:
			return 1
		default:
			return -1
		}
	})
	return list
}

// Routes are the answering points of each service, in order of preference.
type Routes map[string][]string

// ParseRoutes reads emergency_routes: items service=uri, which config has checked.
func ParseRoutes(list []string) Routes {
	out := Routes{}
	for _, item := range list {
		service, uri, _ := strings.Cut(item, "=")
		service = strings.ToLower(service)
		out[service] = append(out[service], uri)
	}
	return out
}

// Find returns the answering points of a service and behind them those of what it is a kind of: for sos.police.traffic
// those of sos.police, then sos, then * (any).
func (r Routes) Find(service string) []string {
	var out []string
	for s := service; s != ""; s = emergency.Parent(s) {
		out = append(out, r[s]...)
	}
	return append(out, r["*"]...)
}
