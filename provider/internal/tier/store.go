package tier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Engines of a store.
const (
	embedded  = "embedded"
	cassandra = "cassandra"

	fewestCassandra = 3 // nodes: a majority of three survives one
)

// engineOf is the engine that a store tier has; embedded unless it says otherwise.
func engineOf(m model) string {
	if m.Engine.IsNull() || m.Engine.IsUnknown() {
		return embedded
	}
	return m.Engine.ValueString()
}

// cassandraBeside is the folder of Cassandra beside the binaries of a store that runs on this machine
// (scripts/cassandra.sh puts it there); empty where there is none, as for images that bring their own.
func cassandraBeside(engine, binary string) string {
	if engine != cassandra || binary == "" {
		return ""
	}
	home, err := filepath.Abs(filepath.Join(filepath.Dir(binary), "cassandra"))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(home, "lib")); err != nil {
		return ""
	}
	return home
}

// storeCount refuses numbers of nodes that the engine cannot have.
func storeCount(m model, diags *diag.Diagnostics) {
	const allowed = `Allowed is 1 with engine = "embedded", and 3 or more with engine = "cassandra"`
	at, count := path.Root("node_count"), m.NodeCount.ValueInt64()
	switch {
	case count == 0:
		diags.AddAttributeError(at, "A site needs a store", "node_count = 0: all state of the site is in its store. "+allowed+"; to end the store, destroy the tier.")
	case count == 2:
		diags.AddAttributeError(at, "Two store nodes are refused", "node_count = 2: two store nodes survive no more failures than one, and cost twice. "+allowed+".")
	case m.Engine.IsUnknown():
	case engineOf(m) == embedded && count > 1:
		diags.AddAttributeError(at, "The embedded engine has one node", fmt.Sprintf("node_count = %d: the embedded engine keeps data on one node's disk. %s.", count, allowed))
	case engineOf(m) == cassandra && count < fewestCassandra:
		diags.AddAttributeError(at, "Cassandra needs three nodes", fmt.Sprintf("node_count = %d: with fewer than three replicas the loss of one node stops writes. %s.", count, allowed))
	}
}

// checkStore refuses what only the deployment as it is can tell: another engine for data that is there, and a second site
// beside an embedded store.
func (r *Resource) checkStore(ctx context.Context, plan, state model, diags *diag.Diagnostics) {
	if plan.Role.ValueString() != string(config.Store) || plan.Engine.IsUnknown() {
		return
	}
	at := path.Root("engine")
	if before := engineOf(state); !state.ID.IsNull() && before != engineOf(plan) {
		diags.AddAttributeError(at, "The engine of a store cannot be changed here", fmt.Sprintf("engine = %q: the tier's data is in the engine %q. "+
			"Take a backup (cw backup create), destroy the tier, create it with the new engine and restore the backup.", engineOf(plan), before))
	}
	if r.session == nil || engineOf(plan) != embedded || plan.SiteID.IsUnknown() {
		return
	}
	w, parts, err := r.session.Locate(ctx, plan.SiteID.ValueString(), 2)
	if err != nil {
		return // there is no such site yet
	}
	if other, found := otherStore(w, parts[1]); found {
		diags.AddAttributeError(at, "An embedded store cannot be geo-redundant", fmt.Sprintf("engine = %q: site %s of the deployment has a store, too (%s), and the embedded engine "+
			"keeps data on one node's disk: no other site sees it. Allowed for more than one site is \"cassandra\".", embedded, other.Site, other.Name))
	}
}

// otherStore is a store node of another site.
func otherStore(w *platform.World, site string) (platform.Node, bool) {
	for _, s := range w.Sites {
		if s.Name == site {
			continue
		}
		if nodes := w.NodesOf(s.Name, config.Store); len(nodes) > 0 {
			return nodes[0], true
		}
	}
	return platform.Node{}, false
}

// leaveStore takes store nodes out for good, one at a time: out of DNS, its data and part of the cluster handed over, ended.
func (r *run) leaveStore(ctx context.Context, surplus []platform.Node) error {
	for _, n := range surplus {
		if err := r.drain(ctx, []platform.Node{n}); err != nil {
			return err
		}
		if n.Running && r.shape.DrainTimeout > 0 {
			if err := r.drainOne(ctx, n); err != nil {
				return err
			}
		}
		if err := r.terminate(ctx, n); err != nil {
			return err
		}
		if err := r.look(ctx); err != nil {
			return err
		}
		if err := r.Nodes.Forget(ctx, r.world, n.Name); err != nil {
			return fmt.Errorf("%s has ended, and the others still count on it: %w", n.Name, err)
		}
		if err := r.settled(ctx); err != nil {
			return err
		}
	}
	return r.publish(ctx, r.nodes())
}

// settled waits until the store nodes that stay are all well, before the next one goes.
func (r *run) settled(ctx context.Context) error {
	for _, n := range r.nodes() {
		if n.Index > r.shape.Count || !n.Running {
			continue
		}
		if err := r.ready(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// lastStore tells whether nobody stays to hand anything over to.
func (r *run) lastStore(surplus []platform.Node) bool {
	return !slices.ContainsFunc(r.nodes(), func(n platform.Node) bool {
		return !slices.ContainsFunc(surplus, func(s platform.Node) bool { return s.Name == n.Name })
	})
}

// storeDrainTimeout is how long a store node may take to hand its data over, by default: Cassandra streams all of it.
const storeDrainTimeout = 30 * time.Minute
