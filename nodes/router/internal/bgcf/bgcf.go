// Package bgcf is the BGCF (TS 24.229 5.6): it sends requests that leave the deployment by bgcf.json, by number or by
// domain.
package bgcf

import (
	"context"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// Deps of the function.
type Deps struct {
	Routes func() *Routes
	Names  func() *network.Names
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

// Initial adds the route that the document has for the number or domain.
func (h *handler) Initial(_ context.Context, r *proxy.Request) proxy.Decision {
	m := r.Msg
	u, err := sip.ParseURI(m.URI)
	if err != nil {
		return proxy.AnswerReason(r, 400, "bgcf", err.Error())
	}
	names, routes := h.deps.Names(), h.deps.Routes()
	local := u.Scheme == "tel" || names.Home(u.Host) || names.Here(u.Host)
	var via []string
	var found bool
	if local && u.IsNumber(false) {
		if via, found = routes.Number(RoutingNumber(u)); !found {
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

// RoutingNumber is the rn parameter of number portability (RFC 4694) when there is one, else the number. In a sip: URI
// with user=phone the parameters stand in the user part.
func RoutingNumber(u sip.URI) string {
	params := u.Params
	if u.Scheme != "tel" {
		if i := strings.IndexByte(u.User, ';'); i >= 0 {
			params = u.User[i:]
		}
	}
	if rn, ok := sip.Param(params, "rn"); ok && rn != "" {
		return sip.URI{Scheme: "tel", User: rn}.Number()
	}
	return u.Number()
}
