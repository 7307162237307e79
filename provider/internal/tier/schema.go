package tier

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
)

type model struct {
	ID             types.String   `tfsdk:"id"`
	SiteID         types.String   `tfsdk:"site_id"`
	Role           types.String   `tfsdk:"role"`
	NodeCount      types.Int64    `tfsdk:"node_count"`
	Image          types.String   `tfsdk:"image"`
	ImageDigest    types.String   `tfsdk:"image_digest"`
	Engine         types.String   `tfsdk:"engine"`
	UserSettings   types.Map      `tfsdk:"user_settings"`
	After          types.List     `tfsdk:"after"`
	DrainTimeout   types.String   `tfsdk:"drain_timeout"`
	DrainOnDestroy types.Bool     `tfsdk:"drain_on_destroy"`
	ForceDestroy   types.Bool     `tfsdk:"force_destroy"`
	AcceptDataLoss types.Bool     `tfsdk:"accept_data_loss"`
	Status         types.String   `tfsdk:"status"`
	DNSName        types.String   `tfsdk:"dns_name"`
	Nodes          types.Map      `tfsdk:"nodes"`
	Endpoints      types.List     `tfsdk:"endpoints"`
	Timeouts       timeouts.Value `tfsdk:"timeouts"`
}

// Schema implements resource.Resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	attributes := observed()
	for name, a := range asked() {
		attributes[name] = a
	}
	attributes["timeouts"] = timeouts.Attributes(ctx, timeouts.Opts{Create: true, Update: true, Delete: true,
		CreateDescription: "Default: nodes x (90 s + DNS TTL + drain).", UpdateDescription: "Default: nodes x (90 s + DNS TTL + drain).",
		DeleteDescription: "Default: nodes x (90 s + DNS TTL + drain)."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "All nodes of one role in one site, and their DNS records. A change of `node_count` resizes without losing calls: new nodes are in DNS only once " +
			"they are ready; nodes that leave are first taken out of DNS and drained. A new image, or new `user_settings`, roll over the nodes one at a time. " +
			"An interrupted or failed apply is finished by the next one.",
		Attributes: attributes,
	}
}

func asked() map[string]schema.Attribute {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	no := booldefault.StaticBool(false)
	return map[string]schema.Attribute{
		"site_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Prefixed(2, "clearwater_site")},
			MarkdownDescription: "`id` of the `clearwater_site`."},
		"role": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Role()},
			MarkdownDescription: "`store`, `diameter`, `xdms`, `router`, `edge` or `portal`."},
		"node_count": schema.Int64Attribute{Required: true, Validators: []validator.Int64{int64validator.AtLeast(0)},
			MarkdownDescription: "Number of nodes. A store has one node with the `embedded` engine and three or more with `cassandra`; two are refused, since two survive nothing that one does not."},
		"image": schema.StringAttribute{Required: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
			MarkdownDescription: "What the nodes run. On the local platform the path of an image manifest (`images.json`), of a folder that holds a binary named after the role, or of a " +
				"binary. A changed content rolls the tier, also at the same path."},
		"engine": schema.StringAttribute{Optional: true, Validators: []validator.String{stringvalidator.OneOf(embedded, cassandra)},
			MarkdownDescription: "Database engine of a store; other roles have none. `embedded` (the default) keeps data on the one node's own disk; `cassandra` keeps it on three or more nodes, " +
				"of which one may be lost, and is needed for more than one site. It cannot be changed while the store has data."},
		"user_settings": schema.MapAttribute{Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Settings of this tier's nodes by option name, as in the file `user_settings`: verbosity and tuning."},
		"after": schema.ListAttribute{Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Ids of tiers that must be complete before this one changes, and that are destroyed after it. The order for a whole site is store, diameter, xdms, router, edge, portal."},
		"drain_timeout": schema.StringAttribute{Optional: true, Validators: []validator.String{check.Duration()},
			MarkdownDescription: "How long a leaving node may take to finish what it holds, such as `90s`; after that the apply fails and says what is held. `0s` ends nodes without draining. " +
				"Default `600s` for the edge (twice the default `reg_max_expires`), `1800s` for a store, `120s` for the others."},
		"drain_on_destroy": schema.BoolAttribute{Optional: true, Computed: true, Default: no,
			MarkdownDescription: "Drain the nodes when the tier is destroyed, too. Default false."},
		"force_destroy": schema.BoolAttribute{Optional: true, Computed: true, Default: no,
			MarkdownDescription: "End nodes also if they do not drain in time or do not answer. Default false."},
		"accept_data_loss": schema.BoolAttribute{Optional: true, Computed: true, Default: no,
			MarkdownDescription: "Only for a store: if its last node is lost with its data, start a new, empty one. Default false: the apply fails instead."},
	}
}

func observed() map[string]schema.Attribute {
	stable := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	return map[string]schema.Attribute{
		"id":           schema.StringAttribute{Computed: true, PlanModifiers: stable, MarkdownDescription: "`<deployment id>/<site>/<role>`."},
		"image_digest": schema.StringAttribute{Computed: true, MarkdownDescription: "SHA-256 of the binary that the nodes run, in hex."},
		"status": schema.StringAttribute{Computed: true,
			MarkdownDescription: "`complete`, or `incomplete` when an apply was interrupted before all nodes were in DNS. It says nothing of health."},
		"dns_name": schema.StringAttribute{Computed: true, PlanModifiers: stable, MarkdownDescription: "DNS name of the site's nodes of this role."},
		"nodes":    schema.MapAttribute{Computed: true, ElementType: types.StringType, MarkdownDescription: "Addresses of the nodes by name."},
		"endpoints": schema.ListAttribute{Computed: true, ElementType: types.StringType,
			MarkdownDescription: "Where users reach the tier: `host:port` of SIP for the edge, URLs for the portal; empty for the other roles."},
	}
}
