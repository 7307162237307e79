package config

// Role is what a node does; it names the binary, the node's index sequence and its DNS names.
type Role string

// The six roles.
const (
	Edge     Role = "edge"
	Router   Role = "router"
	Diameter Role = "diameter"
	XDMS     Role = "xdms"
	Store    Role = "store"
	Portal   Role = "portal"
)

// Roles lists every role in upgrade order (the manual's order: state first, the portal last).
func Roles() []Role { return []Role{Store, Diameter, XDMS, Router, Edge, Portal} }

// Ports that are fixed by the public interfaces (the manual's port table), and our own additions.
const (
	PortEdgeSIP          = 5060 // untrusted, UDP and TCP
	PortEdgeTrusted      = 5058 // core side
	PortEdgeTLS          = 5061 // untrusted, SIP over TLS; edge_tls_port
	PortEdgeWS           = 5062 // untrusted, SIP over WebSocket; edge_ws_port
	PortEdgeWSS          = 5063 // untrusted, SIP over secure WebSocket; edge_wss_port
	PortEdgeTURN         = 3478 // STUN and TURN, UDP and TCP; turn_port
	PortEdgeTURNS        = 5349 // TURN over TLS; turn_tls_port
	PortICSCF            = 5052
	PortBGCF             = 5053
	PortSCSCF            = 5054
	PortRouterHTTP       = 9888
	PortRouterManagement = 9886
	PortHSS              = 8888
	PortHSSManagement    = 8886
	PortHSSRPC           = 8887 // ours: the router's questions over one multiplexed connection
	PortProvisioning     = 8889
	PortXDMS             = 7888
	PortTimers           = 7253
	PortStoreRPC         = 11311 // the manual's state-store port
	PortEtcdClient       = 4000
	PortEtcdPeer         = 2380
)

// ManagementPort is the mutual-TLS management API of a role. Each role has its own, so that several share an address.
func ManagementPort(r Role) int { return 9440 + r.index() }

// HealthPort answers /livez /readyz /metrics in plain HTTP on the management address.
func HealthPort(r Role) int { return 9980 + r.index() }

func (r Role) index() int {
	for i, known := range Roles() {
		if known == r {
			return i
		}
	}
	return len(Roles())
}

// Known tells whether r is one of Roles.
func (r Role) Known() bool { return r.index() < len(Roles()) }
