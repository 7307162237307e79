package network

import (
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// nodeURI is scscf_node_uri, or the node's own address where application servers can reach that.
func nodeURI(o *config.Options) sip.URI {
	if u, err := sip.ParseURI(o.SCSCFNodeURI); err == nil {
		return sip.URI{Scheme: "sip", Host: u.Host, Port: u.Port}
	}
	return sip.URI{Scheme: "sip", Host: o.LocalIP, Port: o.SCSCFPort}
}

// Return is the Route value by which an application server gives a request back to this node: token names the place
// in the chain, transport is how the server is reached ("" leaves it to the server), orig marks originating services.
func (n *Names) Return(token, transport string, orig bool) string {
	u := n.node
	u.User = token
	if transport != "" {
		u = u.WithParam("transport", transport)
	}
	u = u.WithParam("lr", "")
	if orig {
		u = u.WithParam("orig", "")
	}
	return "<" + u.WithParam("service", string(SCSCF)).String() + ">"
}

// RecordRoutesServers tells whether sprout_rr_level asks for a Record-Route on each return from an application server.
func (n *Names) RecordRoutesServers() bool { return n.rrLevel >= 2 }
