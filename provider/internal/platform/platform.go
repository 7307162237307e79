// Package platform is the seam between the provider and the place where nodes run: this machine, or a cloud. The
// interfaces are verbs of a lifecycle; every verb is idempotent, so that an interrupted apply is finished by calling
// it again, and Reflect rebuilds the whole description from the world, without any memory of what was asked for.
// This package holds the values and the interfaces; each platform has its own folder, and platformtest the suite
// that all of them pass. It knows nothing of SIP, of Terraform or of the management API.
package platform

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Sentinels that every platform returns, wrapped.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflicts with what exists")
)

// World is what a platform finds of one deployment.
type World struct {
	Deployment Deployment
	Networks   []Network
	Sites      []Site
	Nodes      []Node
	Records    []RecordSet
}

// Deployment is the outermost thing that a platform holds.
type Deployment struct {
	ID            string    // uuid, given by the provider
	Name          string    // unique on the platform
	HomeDomain    string    // also the DNS zone
	CACertificate string    // PEM
	CreatedAt     time.Time // UTC
	Running       bool      // false when the machinery that keeps nodes alive is down; observed, never asked for
	DNSServer     string    // host:port at which nodes resolve the zone; observed
	Ports         Ports     // observed
	EventLog      string    // path of a file that progress lines go to; observed
}

// Ports are those that a platform may have to move from where the public interfaces place them.
type Ports struct{ DNS, PortalHTTP, PortalHTTPS int }

// Network is a range of addresses.
type Network struct {
	Name    string
	CIDR    netip.Prefix // zero when asked for: the platform chooses
	Adopted bool         // existed before, and outlives the deployment
	Zones   int          // availability zones: as many /24 from the start of CIDR, over which nodes are shared out; 0 counts as 1
}

// Site is one place of a deployment, with its own etcd.
type Site struct {
	Name      string
	Region    string
	Network   string
	ClusterID string // of its etcd, once a store node was bootstrapped
	TTL       int    // seconds, of its DNS records
	// ClearwaterNames also publishes the manual's cluster names (sprout, homer, vellum, ellis).
	ClearwaterNames bool
}

// Node is one machine.
type Node struct {
	Name        string // router-1.site1
	Role        config.Role
	Site        string
	Index       int // from 1
	Address     netip.Addr
	Public      netip.Addr        // where phones and peers reach it, if that is another; see PublicAddresses
	Incarnation string            // changes when the machine is made anew
	Image       Image             // what it runs
	Config      map[string]string // file name -> text, in the node's configuration folder
	Running     bool              // observed
}

// Image is a binary by content.
type Image struct {
	Path   string // where to take it from
	SHA256 string // hex; what it must be, and what is observed
}

// Record is one DNS resource record in master-file form, such as an SRV record of value "1 1 5060 edge-1.site1.example.".
type Record struct {
	Name  string `json:"name"` // absolute, with the final dot
	Type  string `json:"type"`
	TTL   int    `json:"ttl"` // seconds
	Value string `json:"value"`
}

// RecordSet is what one owner contributes to the zone. Names may be shared with other owners; a platform publishes the union.
type RecordSet struct {
	Owner   string   `json:"owner"` // <site>.<role>.<part>
	Records []Record `json:"records"`
}

// Platform is everything that a place must be able to do.
type Platform interface {
	Reflector
	Deployments
	Places
	Machines
	Zones
	Secrets
}

// Reflector describes what exists. The deployment is named by its name or its uuid; ErrNotFound when there is none.
type Reflector interface {
	Reflect(ctx context.Context, deployment string) (*World, error)
}

// Deployments makes and ends deployments. ApplyDeployment adopts one of the same name and home domain (ErrConflict if the
// home domain differs), and starts again whatever should run and does not. It returns what is there, which for an adopted
// deployment has the older ID. DestroyDeployment leaves nothing; one that is not there counts as destroyed.
type Deployments interface {
	ApplyDeployment(ctx context.Context, want Deployment) (Deployment, error)
	DestroyDeployment(ctx context.Context, deployment string) error
}

// Places are the networks and sites of a deployment. Apply replaces all that can change; Delete of a missing one is no error.
type Places interface {
	ApplyNetwork(ctx context.Context, deployment string, want Network) (Network, error)
	DeleteNetwork(ctx context.Context, deployment, name string) error
	ApplySite(ctx context.Context, deployment string, want Site) error
	DeleteSite(ctx context.Context, deployment, name string) error
}

// Machines are nodes. ApplyNode creates the node, or brings the existing one of that name to the given image and
// configuration (restarting it if either differs), and starts it if it stands still. It does not wait for readiness.
// DeleteNode ends it and removes its data; a missing one is no error.
type Machines interface {
	ApplyNode(ctx context.Context, deployment string, want Node) error
	DeleteNode(ctx context.Context, deployment, name string) error
}

// Zones are DNS records. Publish replaces all records of an owner; with none it forgets the owner. It returns when the
// name servers answer so.
type Zones interface {
	Publish(ctx context.Context, deployment string, set RecordSet) error
}

// Secrets is the platform's store of keys, readable only by those who run it. GetSecret returns ErrNotFound.
// SecretReference says where people find one.
type Secrets interface {
	GetSecret(ctx context.Context, deployment, name string) (string, error)
	PutSecret(ctx context.Context, deployment, name, value string) error
	DeleteSecret(ctx context.Context, deployment, name string) error
	SecretReference(deployment, name string) (string, error)
}

// Limits is an optional ability: a platform that cannot hold any number of nodes says how many of one role fit a site.
type Limits interface {
	MaxNodesPerTier() int
}

// PublicAddresses is an optional ability: a platform on which nodes stand behind addresses that are not the Internet's
// reserves a public one for a node, before the node is made, and keeps it for as long as the node's name is in use. The
// zero address says that this node needs none.
type PublicAddresses interface {
	PublicAddress(ctx context.Context, deployment string, n Node) (netip.Addr, error)
}

// Reacher is an optional ability: at which address whoever runs Terraform reaches a node's management API, where that is
// not the node's own.
type Reacher interface {
	Reach(ctx context.Context, deployment string, n Node) (netip.Addr, error)
}

// Images is an optional ability: a platform whose images are not files finds the one that is meant by a name or by a
// manifest.
type Images interface {
	ResolveImage(ctx context.Context, image string, role config.Role) (Image, error)
}

// NodesOf returns the nodes of one site and role, in the order of their indexes as Reflect gives them.
func (w *World) NodesOf(site string, role config.Role) []Node {
	var out []Node
	for _, n := range w.Nodes {
		if n.Site == site && n.Role == role {
			out = append(out, n)
		}
	}
	return out
}

// Site finds a site by name.
func (w *World) Site(name string) (Site, bool) {
	for _, s := range w.Sites {
		if s.Name == name {
			return s, true
		}
	}
	return Site{}, false
}

// Network finds a network by name.
func (w *World) Network(name string) (Network, bool) {
	for _, n := range w.Networks {
		if n.Name == name {
			return n, true
		}
	}
	return Network{}, false
}

// Consoles is an optional ability: the last lines that a node wrote, to explain why it does not become ready.
type Consoles interface {
	Console(ctx context.Context, deployment, node string) (string, error)
}

// Watchers is an optional ability: how often a node's process ended by itself since it was applied, and why it last did.
type Watchers interface {
	Restarts(ctx context.Context, deployment, node string) (times int, reason string, err error)
}
