package service

import (
	"context"
	"errors"
	"net/netip"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// newCluster prepares the connection to the site's etcd, found by the store's name; a store node also looks for a
// member of its own, since its address is not published before it serves.
func newCluster(n *Node, o *config.Options) (*cluster.Client, error) {
	host := "store." + o.Site + "." + o.Zone
	var own []netip.AddrPort
	if addr, err := netip.ParseAddr(o.LocalIP); err == nil && o.Role == config.Store {
		own = append(own, netip.AddrPortFrom(addr, config.PortEtcdClient))
	}
	return cluster.New(cluster.Config{
		Site: o.Site, TLS: n.Identity.Client(config.Store), Log: n.Log,
		Resolve: func(ctx context.Context) ([]netip.AddrPort, error) {
			addrs, err := n.resolver.Addrs(ctx, host, config.PortEtcdClient)
			if err != nil && own == nil {
				return nil, err
			}
			return append(addrs, own...), nil
		},
		Admit: func(ctx context.Context) error { return askAccess(ctx, n, host) },
	})
}

// askAccess asks the store nodes, until one does it, for this node's rights in etcd.
func askAccess(ctx context.Context, n *Node, host string) error {
	addrs, err := n.resolver.Addrs(ctx, host, uint16(config.ManagementPort(config.Store))) //nolint:gosec // a port
	if err != nil {
		return err
	}
	var problems []error
	for _, a := range addrs {
		c := management.NewClient(a.String(), n.Identity.Client(config.Store))
		err := c.Access(ctx)
		c.Close()
		if err == nil {
			return nil
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// connectCluster is the connection of a real node; tests have others.
func connectCluster(n *Node) (Cluster, error) { return n.Cluster, nil }
