package scscf

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// resubscribe serves a SUBSCRIBE within a dialog of registration state: To names the user.
func (h *handler) resubscribe(ctx context.Context, r *proxy.Request) proxy.Decision {
	watched, err := sip.AddressURI(r.Msg.Get(sip.To))
	if err != nil {
		return proxy.AnswerReason(r, 400, "scscf", err.Error())
	}
	u, status, why := h.find(ctx, watched.Canonical(), nil)
	switch {
	case status == 404 || status == 0 && u.self.Barred:
		return proxy.AnswerReason(r, 481, "scscf", "no such subscription: "+why)
	case status != 0:
		return proxy.AnswerReason(r, status, "scscf", why)
	}
	return h.deps.Events.Subscribe(ctx, r, u.main.Key, u.profile)
}
