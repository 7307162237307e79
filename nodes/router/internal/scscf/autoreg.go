package scscf

import (
	"context"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// autoRegister tells the HSS that a calling user who cannot register is served from now on (Server-Assignment for
// unregistered service, TS 29.228 6.1.2), where the Route says auto-reg, as pbx_service_route does. The private identity,
// which a registration would have told, is the one of the request's proof, else the public one without its scheme. Without
// auto-reg there is nothing to do. It returns the profile, or the status to refuse with.
func (h *handler) autoRegister(ctx context.Context, r *proxy.Request, served sip.URI) (data *hss.RegData, status int, why string) {
	if _, auto := r.Own.Param("auto-reg"); !auto {
		return nil, 0, ""
	}
	answer, err := h.deps.HSS.Assign(ctx, &hss.AssignRequest{
		Impi: privateIdentity(r.Msg, served, h.names.HomeDomain()), Impu: served.Canonical(), Reqtype: hss.Call, ServerName: h.names.ServerName(),
	})
	if err != nil {
		return nil, 504, err.Error()
	}
	switch answer.GetResult() {
	case hss.Result_RESULT_OK:
		return answer.GetRegData(), 0, ""
	case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
		return nil, 504, answer.GetDetail()
	}
	return nil, 403, answer.GetDetail()
}

// privateIdentity is that of Proxy-Authorization, else it derives from the public identity (TS 23.003 13.3 has it the other
// way round).
func privateIdentity(m *sip.Message, served sip.URI, home string) string {
	if _, after, ok := strings.Cut(m.Get(sip.ProxyAuthorization), `username="`); ok {
		if name, _, ok := strings.Cut(after, `"`); ok && name != "" {
			return name
		}
	}
	if served.Scheme == "tel" {
		return served.Number() + "@" + home
	}
	_, impi, _ := strings.Cut(served.Canonical(), ":")
	return impi
}
