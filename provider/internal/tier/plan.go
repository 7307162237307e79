package tier

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// Values of status.
const (
	complete   = "complete"
	incomplete = "incomplete"
)

// ValidateConfig checks what attributes mean together.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || m.Role.IsUnknown() {
		return
	}
	store := m.Role.ValueString() == string(config.Store)
	if !store && !m.Engine.IsNull() {
		resp.Diagnostics.AddAttributeError(path.Root("engine"), "engine is for stores", fmt.Sprintf("engine = %s: a tier of role %s has none; leave it out.", m.Engine, m.Role.ValueString()))
	}
	if store && !m.NodeCount.IsUnknown() {
		storeCount(m, &resp.Diagnostics)
	}
	for name, value := range m.UserSettings.Elements() {
		text, ok := value.(types.String)
		if !ok || text.IsUnknown() {
			continue
		}
		at := path.Root("user_settings").AtMapKey(name)
		if note, err := check.Option(config.UserFile, name, text.ValueString()); err != nil {
			resp.Diagnostics.AddAttributeError(at, "Invalid setting", err.Error()+".")
		} else if note != "" {
			resp.Diagnostics.AddAttributeWarning(at, "Setting without effect", name+": "+note+".")
		}
	}
}

// ModifyPlan looks at the image's content, and plans that the tier is complete.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if !req.State.Raw.IsNull() {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	r.checkCount(plan, &resp.Diagnostics)
	r.checkStore(ctx, plan, state, &resp.Diagnostics)
	plan.Status = types.StringValue(complete)
	r.planImage(ctx, &plan, state, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	if sameNodes(state, plan) {
		plan.Nodes, plan.Endpoints = state.Nodes, state.Endpoints
	} else {
		plan.Nodes, plan.Endpoints = types.MapUnknown(types.StringType), types.ListUnknown(types.StringType)
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, plan)...)
}

// planImage looks at the image's content. Where the tier exists and its image cannot be looked at now, nodes go on with
// what they run: Terraform plans so before it destroys, too, and a destroy must not fail for want of an image.
func (r *Resource) planImage(ctx context.Context, plan *model, state model, diags *diag.Diagnostics) {
	if plan.Image.IsUnknown() || plan.Role.IsUnknown() {
		return
	}
	image, err := r.image(ctx, plan.Image.ValueString(), config.Role(plan.Role.ValueString()))
	if err == nil {
		plan.ImageDigest = types.StringValue(image.SHA256)
		return
	}
	at, detail := path.Root("image"), fmt.Sprintf("image = %s: %s. Allowed is a manifest, and on the local platform a folder with a binary named %s, or a binary. `make build` writes bin/images.json.",
		plan.Image, err, plan.Role.ValueString())
	if plan.Image.Equal(state.Image) && !state.ImageDigest.IsNull() {
		plan.ImageDigest = state.ImageDigest
		diags.AddAttributeWarning(at, "The image cannot be looked at", detail+" Existing nodes go on with what they run.")
		return
	}
	diags.AddAttributeError(at, "The image cannot be used", detail)
}

func (r *Resource) checkCount(plan model, diags *diag.Diagnostics) {
	if r.session == nil || plan.NodeCount.IsUnknown() {
		return
	}
	limits, ok := r.session.Platform.(platform.Limits)
	if ok && plan.NodeCount.ValueInt64() > int64(limits.MaxNodesPerTier()) {
		diags.AddAttributeError(path.Root("node_count"), "Too many nodes for this platform",
			fmt.Sprintf("node_count = %d: allowed are at most %d nodes of a role in a site.", plan.NodeCount.ValueInt64(), limits.MaxNodesPerTier()))
	}
}

// sameNodes tells whether the nodes' names and addresses stay as they are.
func sameNodes(state, plan model) bool {
	if state.Nodes.IsNull() || !plan.NodeCount.Equal(state.NodeCount) || !plan.SiteID.Equal(state.SiteID) || !plan.Role.Equal(state.Role) {
		return false
	}
	return int64(len(state.Nodes.Elements())) == plan.NodeCount.ValueInt64() && state.Status.ValueString() == complete
}

// fill writes what is observed into the model: machines, what they run, and whether DNS names them all.
func fill(ctx context.Context, m *model, w *platform.World, site string, role config.Role) (diags diag.Diagnostics) {
	nodes := w.NodesOf(site, role)
	addresses := map[string]string{}
	published := publishedAddresses(w, site, role)
	state := complete
	for i, n := range nodes {
		addresses[n.Name] = n.Address.String()
		if n.Index != i+1 || !published[topology.Published(n).String()] {
			state = incomplete
		}
		if n.Image.SHA256 != m.ImageDigest.ValueString() {
			m.ImageDigest = types.StringValue(n.Image.SHA256) // a plan compares it with what is wanted
		}
	}
	if s, _ := w.Site(site); role == config.Store && s.ClusterID == "" {
		state = incomplete
	}
	m.Status, m.NodeCount = types.StringValue(state), types.Int64Value(int64(len(nodes)))
	m.DNSName = types.StringValue(topology.ClusterHost(role, site, w.Deployment.HomeDomain))
	var d diag.Diagnostics
	m.Nodes, d = types.MapValueFrom(ctx, types.StringType, addresses)
	diags.Append(d...)
	m.Endpoints, d = types.ListValueFrom(ctx, types.StringType, endpoints(w, role, nodes))
	diags.Append(d...)
	return diags
}

func publishedAddresses(w *platform.World, site string, role config.Role) map[string]bool {
	out := map[string]bool{}
	for _, set := range w.Records {
		if set.Owner != topology.ClusterOwner(site, role) {
			continue
		}
		for _, rec := range set.Records {
			if rec.Type == "A" {
				out[rec.Value] = true
			}
		}
	}
	return out
}

func endpoints(w *platform.World, role config.Role, nodes []platform.Node) []string {
	out := []string{}
	for _, n := range nodes {
		switch role {
		case config.Edge:
			out = append(out, net.JoinHostPort(topology.Published(n).String(), strconv.Itoa(config.PortEdgeSIP)))
		case config.Portal:
			host := n.Address.String()
			if port := w.Deployment.Ports.PortalHTTP; port != 80 {
				host = net.JoinHostPort(host, strconv.Itoa(port))
			}
			out = append(out, "http://"+host)
		default:
		}
	}
	slices.Sort(out)
	return out
}

const (
	bootAllowance     = 90 * time.Second
	edgeDrainTimeout  = 600 * time.Second // twice the default of reg_max_expires
	otherDrainTimeout = 120 * time.Second
)

func drainTimeout(m model) time.Duration {
	if d, err := time.ParseDuration(m.DrainTimeout.ValueString()); err == nil {
		return d
	}
	switch m.Role.ValueString() {
	case string(config.Edge):
		return edgeDrainTimeout
	case string(config.Store):
		return storeDrainTimeout
	default:
		return otherDrainTimeout
	}
}

// deadline is the default of all timeouts.
func deadline(m model, nodes int64, ttl int) time.Duration {
	return time.Duration(nodes+2) * (bootAllowance + time.Duration(ttl)*time.Second + drainTimeout(m))
}
