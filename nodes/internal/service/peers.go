package service

import (
	"context"
	"net"
	"net/netip"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Calls makes a client of the nodes of a role: those that host resolves to, on port. A port in host is not used: it
// is that of the role's public HTTP API. The caller owns the client's Run. Its calls must all be repeatable.
func (n *Node) Calls(role config.Role, host string, port int, methods map[rpc.Method]string) *rpc.Client {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return rpc.NewClient(rpc.ClientConfig{
		Name: string(role), TLS: n.Identity.Client(role), Log: n.Log, Metrics: n.Metrics, MethodNames: methods, RetryInterrupted: true,
		Blacklist: n.Options().HTTPBlacklist, Timeout: n.Options().HSSTimeout,
		Resolve: func(ctx context.Context) ([]netip.AddrPort, error) {
			return n.resolver.Addrs(ctx, host, uint16(port)) //nolint:gosec // a port number
		},
	})
}
