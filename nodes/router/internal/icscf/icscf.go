// Package icscf is the I-CSCF (TS 24.229 5.3): it asks the HSS which S-CSCF serves a user and sends the request
// there; for who is not a subscriber it turns to the BGCF. It challenges nobody and stays out of dialogs.
package icscf

import (
	"context"
	"log/slog"

	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

// Deps of the function.
type Deps struct {
	HSS      hss.Server
	Names    func() *network.Names
	Question func(m *sip.Message) (*hss.AuthorizeRequest, error) // about a REGISTER
	Pool     func() *Pool                                        // s-cscf.json
	Numbers  Numbers
	Log      *slog.Logger
}

// Numbers translates the numbers of this deployment; false when nothing is known of one.
type Numbers interface {
	Translate(ctx context.Context, u sip.URI) (translation sip.URI, ok bool, err error)
}

// Function implements proxy.Function.
type Function struct{ deps Deps }

// New makes the function.
func New(deps Deps) *Function { return &Function{deps} }

// Name implements proxy.Function.
func (*Function) Name() string { return string(network.ICSCF) }

// Serve implements proxy.Function.
func (f *Function) Serve() proxy.Handler { return &handler{deps: f.deps, names: f.deps.Names()} }

type handler struct {
	proxy.Forwarding
	deps         Deps
	names        *network.Names
	register     *hss.AuthorizeRequest // the question, for a second choice
	locate       *hss.LocateRequest
	tried        map[string]bool // S-CSCFs that have failed
	failure      *sip.Message    // what the last of them answered, if it did
	original     *sip.Message
	translations int // of the Request-URI
}

// Initial chooses the S-CSCF.
func (h *handler) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	h.tried = map[string]bool{}
	if r.Msg.Method == sip.REGISTER {
		return h.registration(ctx, r)
	}
	if r.Msg.Has(sip.Route) {
		return proxy.Forward(proxy.Target{Msg: r.Msg}) // somebody has chosen already
	}
	return h.session(ctx, r)
}

// InDialog passes on what strays here.
func (h *handler) InDialog(_ context.Context, r *proxy.Request) proxy.Decision {
	if !r.Msg.Has(sip.Route) {
		if u, err := sip.ParseURI(r.Msg.URI); err == nil && (h.names.Home(u.Host) || h.names.Here(u.Host)) {
			if r.Msg.Method == sip.ACK {
				return proxy.Silence()
			}
			return proxy.Answer(r, 481)
		}
	}
	return proxy.Forward(proxy.Target{Msg: r.Msg})
}

func (h *handler) registration(ctx context.Context, r *proxy.Request) proxy.Decision {
	q, err := h.deps.Question(r.Msg)
	if err != nil {
		return proxy.AnswerReason(r, 400, "icscf", err.Error())
	}
	h.register, h.original = q, r.Msg.Clone()
	return h.toRegistrar(ctx, r)
}

func (h *handler) toRegistrar(ctx context.Context, r *proxy.Request) proxy.Decision {
	answer, err := h.deps.HSS.Authorize(ctx, h.register)
	if err != nil {
		answer = &hss.AuthorizeResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	if status := registrar.RefusalOf(answer.GetResult()); status != 0 {
		return proxy.AnswerReason(r, status, "hss", answer.GetDetail())
	}
	server, ok := h.choose(answer.GetServerName(), answer.GetCapabilities())
	if !ok {
		return h.noServer(r, 600)
	}
	h.tried[server.String()] = true
	m := h.original.Clone()
	if h.names.Local(server) == network.SCSCF {
		return proxy.Forward(proxy.Target{Msg: m, Hop: server, Carry: answer, Tag: server.String()})
	}
	m.URI = server.String()
	return proxy.Forward(proxy.Target{Msg: m, Tag: server.String()})
}

// noServer answers when no S-CSCF is left: with the status for a subscriber that none can serve, or with how the last one
// failed.
func (h *handler) noServer(r *proxy.Request, status int) proxy.Decision {
	switch {
	case len(h.tried) == 0:
		return proxy.AnswerReason(r, status, "icscf", "no S-CSCF has the capabilities that the subscriber needs")
	case h.failure != nil:
		return proxy.AnswerWith(h.failure)
	default:
		return proxy.AnswerReason(r, 504, "icscf", "every S-CSCF of the subscriber has failed")
	}
}

// choose takes the HSS's S-CSCF, else one by capabilities, else, when none are configured, this deployment's; never one
// that has failed for this request.
func (h *handler) choose(name string, wanted *hss.Capabilities) (sip.URI, bool) {
	if name != "" {
		u, err := sip.ParseURI(name)
		if err == nil && !h.tried[u.String()] {
			return u, true
		}
		if err != nil {
			h.deps.Log.Error("the HSS names an S-CSCF that is no SIP URI", "server_name", name)
		}
	}
	pool := h.deps.Pool()
	if len(pool.Servers) > 0 {
		return pool.Select(wanted, h.tried)
	}
	u, err := sip.ParseURI(h.names.ServerName())
	return u, err == nil && len(wanted.GetMandatory()) == 0 && !h.tried[u.String()]
}

// session finds the S-CSCF of the called user, or of the calling one when the Route asked for that (";orig").
func (h *handler) session(ctx context.Context, r *proxy.Request) proxy.Decision {
	_, originating := r.Own.Param("orig")
	identity, err := h.servedUser(r.Msg, originating)
	if err != nil {
		return proxy.AnswerReason(r, 400, "icscf", err.Error())
	}
	if identity.Scheme != "sip" && identity.Scheme != "sips" && identity.Scheme != "tel" {
		return proxy.AnswerReason(r, 416, "icscf", "no route for scheme "+identity.Scheme)
	}
	h.locate = &hss.LocateRequest{Impu: identity.Canonical(), Originating: originating, WantProfile: true}
	h.original = r.Msg.Clone()
	answer, err := h.deps.HSS.Locate(ctx, h.locate)
	if err != nil {
		answer = &hss.LocateResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	// A telephone number in a sip: URI may be provisioned as tel: (TS 24.229 5.3.2.1).
	if answer.GetResult() == hss.Result_RESULT_UNKNOWN && identity.Scheme != "tel" && identity.IsNumber(false) {
		h.locate.Impu = "tel:" + identity.Number()
		if second, err := h.deps.HSS.Locate(ctx, h.locate); err == nil && second.GetResult() == hss.Result_RESULT_OK {
			answer = second
		}
	}
	return h.located(ctx, r, identity, answer)
}

func (h *handler) servedUser(m *sip.Message, originating bool) (sip.URI, error) {
	if !originating {
		return sip.ParseURI(m.URI)
	}
	for _, id := range []sip.ID{sip.PServedUser, sip.PAssertedIdentity, sip.From} {
		if v := m.Get(id); v != "" {
			return sip.AddressURI(v)
		}
	}
	return sip.URI{}, sip.ErrSyntax
}

func (h *handler) located(ctx context.Context, r *proxy.Request, identity sip.URI, answer *hss.LocateResponse) proxy.Decision {
	switch answer.GetResult() {
	case hss.Result_RESULT_OK:
	case hss.Result_RESULT_NOT_REGISTERED:
		return proxy.AnswerReason(r, 480, "hss", answer.GetDetail())
	case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
		return proxy.AnswerReason(r, 504, "hss", answer.GetDetail())
	default:
		if _, known := hss.Result_name[int32(answer.GetResult())]; !known { // of a newer version: it says nothing of the user
			return proxy.AnswerReason(r, 500, "hss", "an answer that this version does not know: "+answer.GetDetail())
		}
		if answer.GetResult() == hss.Result_RESULT_UNKNOWN && identity.IsNumber(false) && !h.locate.GetOriginating() {
			return h.unknownNumber(ctx, r, identity)
		}
		return proxy.AnswerReason(r, 404, "hss", answer.GetDetail())
	}
	server, ok := h.choose(answer.GetServerName(), answer.GetCapabilities())
	if !ok {
		return h.noServer(r, 480)
	}
	h.tried[server.String()] = true
	m := h.original.Clone()
	route := server.WithParam("lr", "")
	if h.locate.GetOriginating() {
		route = route.WithParam("orig", "")
	}
	if answer.GetWildcard() != "" {
		m.Set(sip.PProfileKey, "<"+answer.GetWildcard()+">") // RFC 5002
	}
	m.Push(sip.Route, "<"+route.String()+">")
	return proxy.Forward(proxy.Target{Msg: m, Carry: answer, Tag: server.String()})
}

// unknownNumber translates a number that the HSS does not know. What it becomes is served like any other called user, and
// translated once more if it is a number again that the HSS does not know. The BGCF has what is of another network: other
// domains, and numbers that were ported there.
func (h *handler) unknownNumber(ctx context.Context, r *proxy.Request, identity sip.URI) proxy.Decision {
	if h.translations < 2 {
		u, ok, err := h.deps.Numbers.Translate(ctx, identity)
		if err != nil {
			h.deps.Log.Warn("a number could not be looked up and is routed as it is", "function", "icscf", "error", err)
		}
		if ok {
			h.translations++
			r.Msg.URI = u.String()
			if rn, _ := enum.Portability(u); rn == "" && (u.Scheme == "tel" || h.names.Home(u.Host)) {
				return h.session(ctx, r)
			}
		}
	}
	return proxy.Forward(proxy.Target{Msg: r.Msg, Hop: h.names.URI(network.BGCF)})
}

// Response tries another S-CSCF when the chosen one fails (TS 24.229 5.3.1.3, 5.3.2.1): once each.
func (h *handler) Response(r *proxy.Reply) proxy.Verdict {
	if h.original == nil || r.Target.Tag == nil || !h.failed(r) {
		return proxy.Verdict{}
	}
	if h.failure = nil; r.Made == proxy.Received {
		h.failure = r.Msg
	}
	again := &proxy.Request{Msg: h.original.Clone()}
	if h.register != nil {
		h.register.AuthType = "CAPAB"
		return proxy.Later(func(ctx context.Context) proxy.Decision { return h.toRegistrar(ctx, again) })
	}
	h.locate.AuthType = "CAPAB"
	return proxy.Later(func(ctx context.Context) proxy.Decision {
		answer, err := h.deps.HSS.Locate(ctx, h.locate)
		if err != nil {
			answer = &hss.LocateResponse{Result: hss.ResultOf(err), Detail: err.Error()}
		}
		identity, _ := sip.ParseURI(h.locate.GetImpu())
		return h.located(ctx, again, identity, answer)
	})
}

// failed tells a response that says that the S-CSCF cannot serve, rather than what it or somebody behind it decided. An
// S-CSCF of this node has decided whatever it answers.
func (h *handler) failed(r *proxy.Reply) bool {
	switch {
	case r.Made != proxy.Received:
		return !r.Rang
	case r.Flow == nil || r.Rang:
		return false
	case r.Msg.Status >= 500 && r.Msg.Status < 600:
		return true
	default:
		return h.register != nil && (r.Msg.Status == 480 || r.Msg.Status >= 300 && r.Msg.Status < 400)
	}
}
