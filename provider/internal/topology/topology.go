// Package topology turns the desired shape of a deployment into nodes (names, addresses), DNS records and firewall
// rules. It is pure: same input, same output, no clock, no network; golden files hold what it says.
package topology

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Name of a node: router-1.site1.
func Name(role config.Role, index int, site string) string {
	return fmt.Sprintf("%s-%d.%s", role, index, site)
}

// Addresses within a site's network: .1 is left free, .2 is the name server's where the platform runs one, and nodes
// stand from .10 to .189, each role in its own range, so that a node's replacement has its address; those above are for others.
const (
	firstHost     = 10
	hostsPerRole  = 30
	smallestBits  = 24
	addressStride = 1
)

// Address of a node in its site's network. Nodes of a role are shared out over the network's availability zones by index.
func Address(in platform.Network, role config.Role, index int) (netip.Addr, error) {
	network := in.CIDR
	if !network.Addr().Is4() || network.Bits() > smallestBits {
		return netip.Addr{}, fmt.Errorf("network %s: allowed is an IPv4 range of /%d or larger", network, smallestBits)
	}
	if index < 1 || index > hostsPerRole {
		return netip.Addr{}, fmt.Errorf("%s node %d: allowed are 1 to %d nodes of a role in a site", role, index, hostsPerRole)
	}
	host := firstHost + slices.Index(config.Roles(), role)*hostsPerRole + (index-1)*addressStride
	bytes := network.Masked().Addr().As4()
	bytes[2] += byte((index - 1) % max(1, in.Zones)) //nolint:gosec // at most as many as the network has /24
	bytes[3] += byte(host)                           //nolint:gosec // at most 189
	return netip.AddrFrom4(bytes), nil
}

// Published is the address that DNS gives for a node: the public one where it has one.
func Published(n platform.Node) netip.Addr {
	if n.Public.IsValid() {
		return n.Public
	}
	return n.Address
}

// Hostname is the node's full DNS name, without a final dot.
func Hostname(node, zone string) string { return node + "." + zone }

// ClusterHost is the name of a role's cluster in one site, without a final dot; with an empty site, of the deployment.
func ClusterHost(role config.Role, site, zone string) string {
	return join(clusters(role, false)[0].prefix, site, zone)
}

func join(labels ...string) string {
	out := ""
	for _, l := range labels {
		if l == "" {
			continue
		}
		if out != "" {
			out += "."
		}
		out += l
	}
	return out
}
