// Package bgcf is the BGCF (TS 24.229 5.6): it sends requests that leave the deployment by bgcf.json, by number or by
// domain.
package bgcf

import (
	"context"
	"log/slog"

	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// Deps of the function.
type Deps struct {
	Routes  func() *Routes
	Names   func() *network.Names
	Numbers Numbers
	Log     *slog.Logger
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
func (*Function) Name() string { return string(network.BGCF) }

// Serve implements proxy.Function.
func (f *Function) Serve() proxy.Handler { return &handler{deps: f.deps} }

type handler struct {
	proxy.Forwarding
	deps Deps
}

// Initial translates a number, whether or not it has portability data, and adds the route that the document has for the
// number or domain that this comes to.
func (h *handler) Initial(ctx context.Context, r *proxy.Request) proxy.Decision {
	m := r.Msg
	u, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "bgcf", err.Error())
	}
	translation, translated, failure := h.deps.Numbers.Translate(ctx, u)
	if failure != nil {
		h.deps.Log.Warn("a number could not be looked up and is routed as it is", "function", "bgcf", "error", failure)
	}
	if translated {
		u, m.URI = translation, translation.String()
	}
	names, routes := h.deps.Names(), h.deps.Routes()
	local := u.Scheme == "tel" || names.Home(u.Host) || names.Here(u.Host)
	var via []string
	var found bool
	if local && u.IsNumber(false) {
		if via, found = routes.Number(RoutingNumber(u)); !found && failure != nil {
			return proxy.AnswerReason(r, 504, "enum", failure.Error())
		} else if !found {
			return proxy.AnswerReason(r, 404, "bgcf", "no route for number "+u.Number())
		}
	} else if local {
		return proxy.AnswerReason(r, 404, "bgcf", "no subscriber and no number: "+u.Canonical())
	} else {
		via, found = routes.Domain(u.Host)
	}
	if found {
		m.Del(sip.Route)
		for i := len(via) - 1; i >= 0; i-- {
			m.Push(sip.Route, "<"+via[i]+">")
		}
	}
	return proxy.Forward(proxy.Target{Msg: m})
}

// RoutingNumber is the rn parameter of number portability (RFC 4694) when there is one, else the number.
func RoutingNumber(u sip.URI) string {
	if rn, _ := enum.Portability(u); rn != "" {
		return sip.URI{Scheme: "tel", User: rn}.Number()
	}
	return u.Number()
}
