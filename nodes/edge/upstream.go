package main

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/pcscf"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// servingShare is how many connections to the I-CSCFs there are for one to the S-CSCFs. Registrations and what is new come
// by the I-CSCF; most of what follows a Service-Route is short.
const servingShare = 5

// newPools makes the connections to the core. Both pools follow DNS: a router that appears gets its share at once.
func newPools(o *config.Options, wire *transport.Layer, p parts) (upstream, serving *transport.Pool) {
	cfg := transport.PoolConfig{Listener: pcscf.Core, Size: o.UpstreamConnections, Recycle: o.UpstreamRecycle}
	upstream = wire.NewPool(cfg, &destination{p, icscf})
	cfg.Size = (o.UpstreamConnections + servingShare - 1) / servingShare
	return upstream, wire.NewPool(cfg, &destination{p, scscf})
}

// icscf is where requests without a Service-Route go: upstream_hostname and upstream_port, where 0 leaves it to SRV.
func icscf(o *config.Options) resolve.Target {
	return resolve.Target{Host: o.UpstreamHostname, Port: uint16(o.UpstreamPort), Transport: resolve.TCP} //nolint:gosec // config bounds it
}

// scscf is what our S-CSCFs give as Service-Route.
func scscf(o *config.Options) resolve.Target {
	u, err := sip.ParseURI(o.SCSCFName())
	if err != nil {
		return resolve.Target{}
	}
	return resolve.Target{Host: u.Host, Port: uint16(u.Port), Transport: resolve.TCP} //nolint:gosec // a port
}

// destination is where a pool leads, as the options name it at the moment.
type destination struct {
	parts
	target func(o *config.Options) resolve.Target
}

// Preferred implements transport.Destination.
func (d *destination) Preferred(ctx context.Context) ([]resolve.Hop, error) {
	return d.resolver.Preferred(ctx, d.target(d.options()))
}

// Report implements transport.Destination.
func (d *destination) Report(hop resolve.Hop, ok bool) { d.resolver.Report(hop, ok) }

// coreSide reaches hops of the core: over a pool where one leads there, else from the trusted listener. Phones are
// reached by their flows only.
type coreSide struct {
	layer *transport.Layer
	pools []*transport.Pool
}

// Flow implements proxy.Wire.
func (c coreSide) Flow(hop resolve.Hop) (*transport.Flow, error) {
	for _, p := range c.pools {
		if f, ok := p.Flow(hop); ok {
			return f, nil
		}
	}
	return c.layer.FlowFrom(pcscf.Core, hop)
}
