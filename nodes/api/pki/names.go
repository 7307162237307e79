package pki

import "github.com/clearwater-ims/clearwater/nodes/config"

// Names returns the DNS names that a node's certificate holds: its own (name is edge-1.site1) and those of the
// clusters it is in, for the deployment and for its site.
func Names(role config.Role, name, site, zone string) []string {
	out := []string{name + "." + zone}
	for _, cluster := range clusters(role) {
		if cluster == "" {
			out = append(out, zone, site+"."+zone)
			continue
		}
		out = append(out, cluster+"."+zone, cluster+"."+site+"."+zone)
	}
	return out
}

// clusters are the cluster names of a role, relative to the zone; "" is the zone itself.
func clusters(role config.Role) []string {
	switch role {
	case config.Edge:
		return []string{""}
	case config.Router:
		return []string{"router", "scscf.router", "icscf.router", "bgcf.router"}
	case config.Diameter:
		return []string{"hs", "ralf"}
	case config.XDMS:
		return []string{"xdms"}
	case config.Store:
		return []string{"store"}
	case config.Portal:
		return []string{"portal"}
	default:
		return nil
	}
}
