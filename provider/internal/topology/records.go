package topology

import (
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Zone is what all records of a deployment share.
type Zone struct {
	Name            string   // home domain, without a final dot
	TTL             int      // seconds
	Sites           []string // every site of the deployment
	ClearwaterNames bool     // also publish the manual's cluster names (sprout, homer, vellum, ellis)
}

// cluster is a name under which a role's nodes are found.
type cluster struct {
	prefix string // before [<site>.]<zone>; empty for the edge
	sip    int    // port of SIP over UDP and TCP; 0: no SRV and NAPTR records
	stream bool   // NAPTR prefers TCP
	access bool   // phones find it here, over every transport, and STUN and TURN
}

// service is one SRV name and its port; naptr is the NAPTR service that leads there, if one does.
type service struct {
	prefix, naptr string
	port          int
}

// services lists what a cluster serves, as NAPTR prefers it to phones: the unprotected transports first, for all have them.
// Browsers look up no NAPTR and SRV records (RFC 7118 5.5); the WebSocket services are for other clients.
func (c cluster) services() []service {
	out := []service{{"_sip._udp.", "SIP+D2U", c.sip}, {"_sip._tcp.", "SIP+D2T", c.sip}}
	if !c.access {
		return out
	}
	return append(out,
		service{"_sips._tcp.", "SIPS+D2T", config.PortEdgeTLS},
		service{"_sips._ws.", "SIPS+D2W", config.PortEdgeWSS}, service{"_sip._ws.", "SIP+D2W", config.PortEdgeWS},
		service{"_stun._udp.", "", config.PortEdgeTURN}, service{"_stun._tcp.", "", config.PortEdgeTURN}, service{"_stuns._tcp.", "", config.PortEdgeTURNS},
		service{"_turn._udp.", "", config.PortEdgeTURN}, service{"_turn._tcp.", "", config.PortEdgeTURN}, service{"_turns._tcp.", "", config.PortEdgeTURNS}, // RFC 8489 8.1, RFC 5928 3
	)
}

// clusters lists a role's cluster names; the first is the role's own.
func clusters(role config.Role, manual bool) []cluster {
	router := func(name string) []cluster {
		return []cluster{{prefix: name},
			{prefix: "scscf." + name, sip: config.PortSCSCF, stream: true},
			{prefix: "icscf." + name, sip: config.PortICSCF, stream: true},
			{prefix: "bgcf." + name, sip: config.PortBGCF, stream: true}}
	}
	own := map[config.Role][]cluster{
		config.Edge:     {{sip: config.PortEdgeSIP, access: true}},
		config.Router:   router("router"),
		config.Diameter: {{prefix: "hs"}, {prefix: "ralf"}},
		config.XDMS:     {{prefix: "xdms"}},
		config.Store:    {{prefix: "store"}},
		config.Portal:   {{prefix: "portal"}},
	}[role]
	if !manual {
		return own
	}
	return append(own, map[config.Role][]cluster{
		config.Router: router("sprout"),
		config.XDMS:   {{prefix: "homer"}},
		config.Store:  {{prefix: "vellum"}},
		config.Portal: {{prefix: "ellis"}},
	}[role]...)
}

// NodeOwner and ClusterOwner name the two record sets of a tier: nodes' own addresses stand as long as the node does,
// cluster records only while it is ready.
func NodeOwner(site string, role config.Role) string { return fmt.Sprintf("%s.%s.nodes", site, role) }
func ClusterOwner(site string, role config.Role) string {
	return fmt.Sprintf("%s.%s.cluster", site, role)
}

// NodeRecords are the addresses of a tier's nodes.
func NodeRecords(z Zone, site string, role config.Role, nodes []platform.Node) platform.RecordSet {
	set := platform.RecordSet{Owner: NodeOwner(site, role)}
	for _, n := range nodes {
		set.Records = append(set.Records, z.record(Hostname(n.Name, z.Name), "A", Published(n).String()))
	}
	return set
}

// ClusterRecords are what a tier contributes to cluster names: to the deployment's, to its own site's with priority 1,
// and as a fallback with priority 2 to the SRV sets of the other sites' names (RFC 2782).
func ClusterRecords(z Zone, site string, role config.Role, nodes []platform.Node) platform.RecordSet {
	set := platform.RecordSet{Owner: ClusterOwner(site, role)}
	if len(nodes) == 0 {
		return set
	}
	for _, c := range clusters(role, z.ClearwaterNames) {
		for _, at := range []string{"", site} {
			host := join(c.prefix, at, z.Name)
			for _, n := range nodes {
				set.Records = append(set.Records, z.record(host, "A", Published(n).String()))
			}
			set.Records = append(set.Records, z.sip(host, c, 1, nodes)...)
		}
		for _, other := range z.Sites {
			if other != site {
				set.Records = append(set.Records, z.servers(join(c.prefix, other, z.Name), c, 2, nodes)...)
			}
		}
	}
	return set
}

// sip are NAPTR (RFC 3263 section 4.1) and SRV records of a host.
func (z Zone) sip(host string, c cluster, priority int, nodes []platform.Node) []platform.Record {
	if c.sip == 0 {
		return nil
	}
	services := c.services()
	if c.stream {
		services[0], services[1] = services[1], services[0]
	}
	var out []platform.Record
	for i, service := range services {
		if service.naptr != "" {
			out = append(out, z.record(host, "NAPTR", fmt.Sprintf(`%d 1 "S" "%s" "" %s%s.`, i+1, service.naptr, service.prefix, host)))
		}
	}
	return append(out, z.servers(host, c, priority, nodes)...)
}

func (z Zone) servers(host string, c cluster, priority int, nodes []platform.Node) (out []platform.Record) {
	if c.sip == 0 {
		return nil
	}
	for _, service := range c.services() {
		for _, n := range nodes {
			out = append(out, z.record(service.prefix+host, "SRV", fmt.Sprintf("%d 1 %d %s.", priority, service.port, Hostname(n.Name, z.Name))))
		}
	}
	return out
}

func (z Zone) record(host, kind, value string) platform.Record {
	return platform.Record{Name: host + ".", Type: kind, TTL: z.TTL, Value: value}
}
