// Package bootdata renders what a node boots with: its local_config, user_settings and the deployment's CA certificate.
// The same content boots a node on every platform: a file here, user data there. It is pure, and it renders the very
// structs that nodes parse, so the two cannot drift.
package bootdata

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// CAFile is the name of the CA certificate in the configuration folder, as nodes expect it by default.
const CAFile = "ca.pem"

// Node is what differs between nodes.
type Node struct {
	Name        string
	Role        config.Role
	Index       int
	Address     netip.Addr
	Public      netip.Addr // zero: Address
	Incarnation string
	JoinToken   string
}

// Site is what the nodes of a site share.
type Site struct {
	Deployment   platform.Deployment
	Name         string
	Engine       string
	Cassandra    string            // folder of Cassandra, where the nodes are on this machine; empty: where the image has it
	UserSettings map[string]string // of the tier
}

// Files of a node's configuration folder by name. The rendered configuration is parsed again before it is given out,
// so a node is never started with one that it would refuse.
func Files(n Node, s Site) (map[string]string, error) {
	local := localOptions(n, s).Render("local")
	user := UserSettings(s.UserSettings)
	_, warnings, err := config.Parse(
		config.File{Name: config.LocalFile, Path: config.LocalFile, Text: local},
		config.File{Name: config.UserFile, Path: config.UserFile, Text: user})
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", n.Name, err)
	}
	for _, w := range warnings {
		if w.File == config.LocalFile {
			return nil, fmt.Errorf("configuration of %s: %s", n.Name, w)
		}
	}
	return map[string]string{config.LocalFile: local, config.UserFile: user, CAFile: s.Deployment.CACertificate}, nil
}

func localOptions(n Node, s Site) *config.Options {
	zone := s.Deployment.HomeDomain
	host := topology.Hostname(n.Name, zone)
	o := config.Defaults()
	o.LocalIP, o.PublicIP, o.PublicHostname = n.Address.String(), n.Address.String(), host
	if n.Public.IsValid() {
		o.PublicIP = n.Public.String()
	}
	o.ManagementLocalIP = n.Address.String()
	o.NodeIndex, o.Role = n.Index, n.Role
	o.DeploymentID, o.Site, o.Zone = s.Deployment.ID, s.Name, zone
	o.Incarnation, o.JoinToken = n.Incarnation, n.JoinToken
	if s.Engine != "" {
		o.StoreEngine = s.Engine
	}
	o.CassandraDirectory = s.Cassandra
	if n.Role == config.Router {
		o.SCSCFNodeURI = fmt.Sprintf("sip:%s:%d", host, config.PortSCSCF)
	}
	if s.Deployment.DNSServer != "" {
		o.SignalingDNS = []string{s.Deployment.DNSServer}
	}
	if p := s.Deployment.Ports; p.PortalHTTP != 0 {
		o.PortalHTTP, o.PortalHTTPS = p.PortalHTTP, p.PortalHTTPS
	}
	return o
}

// UserSettings renders a tier's own settings, sorted.
func UserSettings(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s=%s\n", name, settings[name])
	}
	return b.String()
}
