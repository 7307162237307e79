package functions

import (
	"context"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/regevent"
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
		Send: r.send, Services: r.services.value.Load, Names: r.names, ForceBody: func() bool { return r.follows.Load().ForceThirdPartyBody }, Log: deps.Log, Metrics: deps.Metrics,
	})
}

// watchers takes subscriptions to registration state and tells subscribers.
func (r *Router) watchers(deps Deps) *regevent.Events {
	return regevent.New(regevent.Deps{
		Send: r.send, Store: deps.Store, Settle: func(record *registrations.Record) { r.Registrar.Settle(record) }, Names: r.names,
		Longest: func() time.Duration { return r.follows.Load().SubMaxExpires }, Partial: func() bool { return r.follows.Load().RegEventPartial }, Now: deps.Now, Log: deps.Log, Metrics: deps.Metrics,
	})
}
