package functions

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/thirdparty"
)

// send sends a request of the node's own.
func (r *Router) send(ctx context.Context, t proxy.Target) (*proxy.Reply, error) {
	return r.Core.Send(ctx, t)
}

// servers tells application servers of registrations.
func (r *Router) servers(deps Deps) registrar.Servers {
	return thirdparty.New(thirdparty.Deps{
		Send: r.send, Services: r.services.value.Load, Names: r.names, ForceBody: r.forceBody.Load, Log: deps.Log, Metrics: deps.Metrics,
	})
}
