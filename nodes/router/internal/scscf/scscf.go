// Package scscf is the S-CSCF (TS 24.229 5.4): registrar for its users, and for their sessions the place where each half
// visits its application servers, and then the originating half ends in a route and the terminating half in the bindings
// of the called user.
package scscf

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/regevent"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

// Deps of the function.
type Deps struct {
	HSS       hss.Server
	Store     registrar.Store
	Registrar *registrar.Registrar
	Events    *regevent.Events // nil: registration state cannot be subscribed to
	Profiles  *subscriber.Cache
	Names     func() *network.Names
	Services  func() *Services
	Sessions  func() Sessions
	Numbers   Numbers
	Now       func() time.Time
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	// Background runs what need not be waited for, for at most limit.
	Background func(limit time.Duration, f func(ctx context.Context))
	Prompt     bool // the back ends are in this process: nothing is waited for
}

// Numbers translates the numbers of this deployment; false when nothing is known of one.
type Numbers interface {
	Translate(ctx context.Context, u sip.URI) (translation sip.URI, ok bool, err error)
}

// Function implements proxy.Function.
type Function struct{ inner inner }

// inner is what transactions share.
type inner struct {
	Deps
	Metrics *metrics
	links   *links
}

// New makes the function.
func New(deps Deps) *Function {
	t := &links{known: map[string]*link{}}
	return &Function{inner{Deps: deps, Metrics: newMetrics(deps.Metrics, t), links: t}}
}

// Name implements proxy.Function.
func (*Function) Name() string { return string(network.SCSCF) }

// Prompt implements proxy.Prompt.
func (f *Function) Prompt(*sip.Message) bool { return f.inner.Deps.Prompt }

// Serve implements proxy.Function.
func (f *Function) Serve() proxy.Handler { return &handler{deps: &f.inner, names: f.inner.Names()} }

// handler serves one transaction.
type handler struct {
	proxy.Forwarding
	deps     *inner
	names    *network.Names
	wildcard string                   // that covers the served user, by the word of the I-CSCF (P-Profile-Key)
	bindings []*registrations.Binding // of the called user, as they were when the request came
	aor      string                   // of the called user, for bindings whose flow is gone
	called   *subscriber.Profile      // of the called user, once the request goes to bindings
	fork     *fork
	timer    sessionTimer
	charged  string // P-Charging-Vector of responses; "" when the request has none
}

// Initial tells the session cases apart (TS 24.229 5.4.3.1): the Route of this S-CSCF carries orig for the originating case.
func (h *handler) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	if r.Msg.Method == sip.REGISTER {
		known, _ := r.Carry.(*hss.AuthorizeResponse)
		return h.deps.Registrar.Register(ctx, r, known)
	}
	if v := r.Msg.Get(sip.PProfileKey); v != "" {
		if a, err := sip.ParseAddress(v); err == nil {
			h.wildcard = a.URI
		}
	}
	if l := h.deps.links.find(r.Own.User); l != nil {
		return h.returned(ctx, r, l)
	}
	if strings.HasPrefix(r.Own.User, tokenPrefix) {
		h.deps.Metrics.strangers.Inc()
	}
	if _, originating := r.Own.Param("orig"); originating {
		return h.originate(ctx, r)
	}
	if r.Msg.Has(sip.Route) {
		return proxy.Forward(proxy.Target{Msg: r.Msg}) // routed through, not to, this S-CSCF
	}
	return h.terminate(ctx, r)
}

// InDialog follows the Route set; what it does not know here leads nowhere.
func (h *handler) InDialog(ctx context.Context, r *proxy.Request) proxy.Decision {
	h.deps.Registrar.DropProof(r.Msg)
	if refusal, ok := h.timeSession(r); !ok {
		return refusal
	}
	if !r.Msg.Has(sip.Route) {
		if u, err := sip.ParseURI(r.Msg.URI); err == nil && (h.names.Home(u.Host) || h.names.Here(u.Host)) {
			if r.Msg.Method == sip.ACK {
				return proxy.Silence()
			}
			if h.deps.Events != nil && regevent.Wants(r.Msg) {
				return h.resubscribe(ctx, r)
			}
			return proxy.Answer(r, 481)
		}
	}
	return proxy.Forward(proxy.Target{Msg: r.Msg})
}

// Response acts on a dead flow and on application servers that fail; everything else goes up.
func (h *handler) Response(r *proxy.Reply) proxy.Verdict {
	h.timed(r.Msg)
	h.charge(r.Msg)
	if l, ok := r.Target.Tag.(*link); ok {
		return h.answered(r, l)
	}
	if h.called != nil && r.Msg.Status > 100 && r.Msg.Status < 300 {
		h.assertBoth(r.Msg, h.called)
	}
	if b, ok := r.Target.Tag.(*registrations.Binding); ok {
		return h.answeredBy(r, b)
	}
	return proxy.Verdict{}
}

// user is a served user.
type user struct {
	profile *subscriber.Profile
	self    subscriber.Identity
	main    subscriber.Identity // the default identity; without one (a set of services) the user itself
	data    *hss.RegData
}

// find asks the HSS for the profile of a served user, unless the I-CSCF of this node has just been told it.
// It returns the status to refuse with when that is not 0.
func (h *handler) find(ctx context.Context, key string, known *hss.RegData) (u user, status int, why string) {
	if known.GetImsSubscription() == "" {
		answer, err := h.deps.HSS.Assign(ctx, &hss.AssignRequest{Impu: key, Reqtype: hss.Call, ServerName: h.names.ServerName(), Wildcard: h.wildcard})
		if err != nil {
			answer = &hss.AssignResponse{Result: hss.ResultOf(err), Detail: err.Error()}
		}
		switch answer.GetResult() {
		case hss.Result_RESULT_OK:
		case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
			return u, 504, answer.GetDetail()
		default:
			if _, known := hss.Result_name[int32(answer.GetResult())]; !known { // of a newer version
				return u, 500, "an answer of the HSS that this version does not know: " + answer.GetDetail()
			}
			return u, 404, answer.GetDetail()
		}
		known = answer.GetRegData()
	}
	profile, err := h.deps.Profiles.Parse(known.GetImsSubscription())
	if err != nil {
		h.deps.Log.Error("reading user profile", "impu", key, "error", err)
		return u, 500, err.Error()
	}
	u = user{profile: profile, data: known}
	self, ok := profile.Find(key)
	if !ok && h.wildcard != "" {
		self, ok = profile.Covered(h.wildcard, key)
	}
	if !ok {
		return u, 404, "the profile does not hold " + key
	}
	u.self = self
	if u.main, ok = profile.Default(); !ok {
		u.main = self
	}
	return u, 0, ""
}

// recordRoute stays in the dialog, once where two of our own would meet (sprout_rr_level).
func (h *handler) recordRoute(m *sip.Message, role string) {
	value := h.names.RecordRoute(role)
	if m.Get(sip.RecordRoute) != value {
		m.Push(sip.RecordRoute, value)
	}
}

// startsDialog tells the methods whose dialogs we stay in (RFC 3261, RFC 6665, RFC 3515).
func startsDialog(method string) bool {
	return method == sip.INVITE || method == sip.SUBSCRIBE || method == "REFER" || method == sip.NOTIFY
}
