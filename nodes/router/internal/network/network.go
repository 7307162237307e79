// Package network knows the names of this deployment as its SIP functions use them: which URIs mean a function of
// this node, which hosts are home, and what goes into Record-Route and Service-Route. It is pure.
package network

import (
	"maps"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Function tells the router's functions apart.
type Function string

// The functions that have names and ports of their own.
const (
	ICSCF Function = "icscf"
	SCSCF Function = "scscf"
	BGCF  Function = "bgcf"
)

// Names is made from one version of the options and does not change.
type Names struct {
	hosts   map[string]bool     // this node and its clusters, functions aside
	named   map[string]Function // icscf.<cluster> and so on
	ports   map[int]Function
	homes   map[string]bool
	uris    map[Function]sip.URI // where any node of the cluster serves each, with lr
	outer   string               // Route of an I-CSCF that is not ours; "" without one
	scscf   string               // uris of the S-CSCF as text
	server  string
	home    string
	rrLevel int
	node    sip.URI // where application servers return requests to this very node
}

// New derives the names.
func New(o *config.Options) *Names {
	n := &Names{
		hosts: map[string]bool{}, named: map[string]Function{}, homes: map[string]bool{},
		ports: map[int]Function{o.ICSCFPort: ICSCF, o.SCSCFPort: SCSCF, o.BGCFPort: BGCF},
		uris:  map[Function]sip.URI{}, home: strings.ToLower(o.HomeDomain),
	}
	delete(n.ports, 0)
	site := "router." + o.Site + "." + o.Zone
	for _, host := range append([]string{o.LocalIP, o.PublicIP, o.RouterHostname, site, o.PublicHostname}, o.AliasList...) {
		n.hosts[strings.ToLower(host)] = true
	}
	for f, s := range map[Function]struct{ prefix, uri string }{
		ICSCF: {o.ICSCFPrefix, o.ICSCFURI}, SCSCF: {o.SCSCFPrefix, o.SCSCFURI}, BGCF: {o.BGCFPrefix, o.BGCFURI},
	} {
		n.name(f, s.prefix, s.uri, o.RouterHostname, site, o.PublicHostname)
	}
	for _, host := range append([]string{o.HomeDomain}, o.AdditionalHomeDomains...) {
		n.homes[strings.ToLower(host)] = true
	}
	if u, err := sip.ParseURI(o.ExternalICSCF); err == nil {
		n.outer = "<" + u.WithoutParam("lr").WithParam("lr", "").String() + ">"
	}
	n.scscf, n.server = n.uris[SCSCF].String(), o.SCSCFName()
	switch o.RecordRouteLevel {
	case "pcscf,icscf":
		n.rrLevel = 1
	case "pcscf,icscf,as":
		n.rrLevel = 2
	}
	n.node = nodeURI(o)
	n.hosts[strings.ToLower(n.node.Host)] = true
	return n
}

// name takes the names of one function: its prefix before those of the clusters, and its URI. The names of a function
// that is off here lead to the nodes where it is on.
func (n *Names) name(f Function, prefix, uri string, clusters ...string) {
	on := false
	for _, here := range n.ports {
		on = on || here == f
	}
	for _, cluster := range clusters {
		if on {
			n.named[strings.ToLower(prefix+"."+cluster)] = f
		}
	}
	u, err := sip.ParseURI(uri)
	if err != nil {
		u, _ = sip.ParseURI(config.FunctionURI(prefix, clusters[0])) // of checked options
	}
	u.Headers = ""
	n.uris[f] = u.WithoutParam("lr").WithParam("lr", "")
	switch host := strings.ToLower(u.Host); {
	case !on || n.hosts[host]:
	case u.Port != 0: // another function may have the name with another port
		n.hosts[host] = true
	default:
		n.named[host] = f
	}
}

// Overridden is n with the names that lead to one of its own (dns_json): a name that sites share means this site there.
func (n *Names) Overridden(targets map[string]string) *Names {
	c := *n
	c.hosts, c.named = maps.Clone(n.hosts), maps.Clone(n.named)
	for name, target := range targets {
		name, target = strings.TrimSuffix(name, "."), strings.TrimSuffix(target, ".")
		if f, ok := n.named[target]; ok {
			c.named[name] = f
		} else if n.hosts[target] {
			c.hosts[name] = true
		}
	}
	return &c
}

// Local tells which function of this node a URI names, "" for none.
func (n *Names) Local(u sip.URI) Function {
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return ""
	}
	host := strings.ToLower(u.Host)
	if f, ok := n.named[host]; ok {
		return f
	}
	if !n.hosts[host] {
		return ""
	}
	if service, ok := u.Param("service"); ok {
		for _, f := range n.ports {
			if string(f) == service {
				return f
			}
		}
	}
	if u.Port == 0 {
		return SCSCF
	}
	return n.ports[u.Port]
}

// ByPort is the function that listens on a port, "" for none.
func (n *Names) ByPort(port int) Function { return n.ports[port] }

// Home tells whether a host is one of the home domains.
func (n *Names) Home(host string) bool { return n.homes[strings.ToLower(host)] }

// HomeDomain is the main one.
func (n *Names) HomeDomain() string { return n.home }

// Here tells whether a host is this node or its cluster.
func (n *Names) Here(host string) bool {
	host = strings.ToLower(host)
	return n.hosts[host] || n.named[host] != ""
}

// URI is where any node of the cluster serves a function, with lr.
func (n *Names) URI(f Function) sip.URI {
	return n.uris[f]
}

// ServerName is the name under which the HSS knows the S-CSCF of this deployment.
func (n *Names) ServerName() string { return n.server }

// ServiceRoute is the value that phones put into Route (RFC 3608).
func (n *Names) ServiceRoute() string {
	return "<" + n.scscf + ";orig>"
}

// RecordRoute is the S-CSCF's value for a charging role: charge-orig, charge-term or charge-none.
func (n *Names) RecordRoute(role string) string {
	return "<" + n.scscf + ";billing-role=" + role + ">"
}

// ExternalICSCF is the Route to the I-CSCF of somebody else that takes the place of ours (external_icscf_uri), "" if none does.
func (n *Names) ExternalICSCF() string { return n.outer }

// Hosts are the names and addresses that mean this node or its clusters, sorted.
func (n *Names) Hosts() []string {
	return slices.Sorted(func(yield func(string) bool) {
		for host := range n.hosts {
			if !yield(host) {
				return
			}
		}
		for host := range n.named {
			if !yield(host) {
				return
			}
		}
	})
}

// RecordRoutesICSCF tells whether sprout_rr_level asks for Record-Routes between the originating and the terminating half.
func (n *Names) RecordRoutesICSCF() bool { return n.rrLevel >= 1 }
