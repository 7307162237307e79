// Package tier is the resource of one role's nodes in one site. Order matters inside it: nodes are ready before DNS names
// them, and are out of DNS and drained before they end. converge.go holds that order as one function that Create and
// Update share and that may be called any number of times, after any interruption; what exists is asked of the platform,
// never remembered.
package tier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/bootdata"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// Shape is what a tier should be.
type Shape struct {
	Deployment   string // uuid
	Site         string
	Role         config.Role
	Count        int
	Image        platform.Image
	Engine       string // of a store
	UserSettings map[string]string
	DrainTimeout time.Duration
	Force        bool // end nodes that do not drain in time
	Renew        bool // a store whose only node is lost may start anew, empty
}

// Steering is what is asked of nodes themselves.
type Steering interface {
	Status(ctx context.Context, n platform.Node) (management.Status, error)
	Drain(ctx context.Context, n platform.Node, deadline time.Duration) error
	Undrain(ctx context.Context, n platform.Node) error
	// Decommission drains a store node that does not come back: it hands over what it has.
	Decommission(ctx context.Context, n platform.Node, deadline time.Duration) error
	// Bootstrap makes an unjoined store node the first of a new cluster.
	Bootstrap(ctx context.Context, w *platform.World, n platform.Node, token string) (clusterID string, err error)
	// Admit lets a node join once with its token; Forget takes that and its registration back.
	Admit(ctx context.Context, w *platform.World, n platform.Node, token string) error
	Forget(ctx context.Context, w *platform.World, node string) error
}

// Converger brings a tier to its shape.
type Converger struct {
	Platform platform.Platform
	Nodes    Steering
	Progress func(format string, args ...any)
	Poll     time.Duration // how often a node is asked whether it is ready or drained
}

// run is one convergence.
type run struct {
	*Converger
	shape     Shape
	world     *platform.World
	site      platform.Site
	network   platform.Network
	published map[string]bool // nodes that cluster names point to
}

// Converge makes the tier so. If it fails, what was reached stays, and the next call goes on from there.
func (c *Converger) Converge(ctx context.Context, shape Shape) error {
	r, err := c.begin(ctx, shape)
	if err != nil {
		return err
	}
	if err := r.up(ctx); err != nil {
		return err
	}
	if err := r.roll(ctx); err != nil {
		return err
	}
	return r.down(ctx, shape.Count)
}

// Remove ends the tier's nodes, highest index first, and drains them before if asked to.
func (c *Converger) Remove(ctx context.Context, shape Shape, drain bool) error {
	r, err := c.begin(ctx, shape)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !drain || !r.world.Deployment.Running {
		r.shape.DrainTimeout, r.shape.Force = 0, true
	}
	if err := r.down(ctx, 0); err != nil {
		return err
	}
	if shape.Role != config.Store {
		return nil
	}
	r.site.ClusterID = "" // with no store machine left, the next one may start a new cluster
	return c.Platform.ApplySite(ctx, shape.Deployment, r.site)
}

func (c *Converger) begin(ctx context.Context, shape Shape) (*run, error) {
	r := &run{Converger: c, shape: shape}
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	var ok bool
	if r.site, ok = r.world.Site(shape.Site); !ok {
		return nil, fmt.Errorf("site %s: %w", shape.Site, platform.ErrNotFound)
	}
	if r.network, ok = r.world.Network(r.site.Network); !ok {
		return nil, fmt.Errorf("network %s of site %s: %w", r.site.Network, shape.Site, platform.ErrNotFound)
	}
	r.published = map[string]bool{}
	for _, set := range r.world.Records {
		if set.Owner != topology.ClusterOwner(shape.Site, shape.Role) {
			continue
		}
		for _, n := range r.nodes() {
			r.published[n.Name] = slices.ContainsFunc(set.Records, func(rec platform.Record) bool {
				return rec.Type == "A" && rec.Value == topology.Published(n).String()
			})
		}
	}
	return r, nil
}

// look asks the platform again.
func (r *run) look(ctx context.Context) error {
	w, err := r.Platform.Reflect(ctx, r.shape.Deployment)
	if err != nil {
		return err
	}
	r.world = w
	return nil
}

func (r *run) nodes() []platform.Node { return r.world.NodesOf(r.shape.Site, r.shape.Role) }

func (r *run) node(index int) (platform.Node, bool) {
	for _, n := range r.nodes() {
		if n.Index == index {
			return n, true
		}
	}
	return platform.Node{}, false
}

// want is a node as it should be, with the incarnation and token that it has or is given now.
func (r *run) want(ctx context.Context, index int) (platform.Node, string, error) {
	s := r.shape
	address, err := topology.Address(r.network, s.Role, index)
	if err != nil {
		return platform.Node{}, "", err
	}
	n := platform.Node{Name: topology.Name(s.Role, index, s.Site), Role: s.Role, Site: s.Site, Index: index, Address: address, Image: s.Image}
	existing, exists := r.node(index)
	n.Incarnation = existing.Incarnation
	if !exists {
		if n.Incarnation, err = randomText(8); err != nil {
			return platform.Node{}, "", err
		}
	}
	token, err := r.token(ctx, n.Name, exists)
	if err != nil {
		return platform.Node{}, "", err
	}
	if public, ok := r.Platform.(platform.PublicAddresses); ok {
		if n.Public, err = public.PublicAddress(ctx, s.Deployment, n); err != nil {
			return platform.Node{}, "", fmt.Errorf("public address of %s: %w", n.Name, err)
		}
	}
	n.Config, err = bootdata.Files(
		bootdata.Node{Name: n.Name, Role: n.Role, Index: index, Address: address, Public: n.Public, Incarnation: n.Incarnation, JoinToken: token},
		bootdata.Site{Deployment: r.world.Deployment, Name: s.Site, Engine: s.Engine, Cassandra: cassandraBeside(s.Engine, s.Image.Path), UserSettings: s.UserSettings})
	return n, token, err
}

// publish makes DNS say what is: the addresses of all machines, and cluster names for those in r.published.
func (r *run) publish(ctx context.Context, machines []platform.Node) error {
	zone := topology.Zone{Name: r.world.Deployment.HomeDomain, TTL: r.site.TTL, ClearwaterNames: r.site.ClearwaterNames}
	for _, s := range r.world.Sites {
		zone.Sites = append(zone.Sites, s.Name)
	}
	var ready []platform.Node
	for _, n := range machines {
		if r.published[n.Name] {
			ready = append(ready, n)
		}
	}
	if err := r.Platform.Publish(ctx, r.shape.Deployment, topology.NodeRecords(zone, r.shape.Site, r.shape.Role, machines)); err != nil {
		return fmt.Errorf("publishing addresses of %s nodes: %w", r.shape.Role, err)
	}
	if err := r.Platform.Publish(ctx, r.shape.Deployment, topology.ClusterRecords(zone, r.shape.Site, r.shape.Role, ready)); err != nil {
		return fmt.Errorf("publishing the names of the %s cluster: %w", r.shape.Role, err)
	}
	return nil
}

// sleep waits unless the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("interrupted: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}
