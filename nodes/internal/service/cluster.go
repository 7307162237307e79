package service

import (
	"context"
	"net/netip"

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
	})
}

// connectCluster is the connection of a real node; tests have others.
func connectCluster(n *Node) (Cluster, error) { return n.Cluster, nil }
