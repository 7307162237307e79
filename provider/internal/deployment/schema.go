// Package deployment is the resource of a whole deployment: its name and home domain, its certificate authority and
// generated keys, and whether the platform keeps it running. It makes no nodes.
package deployment

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
)

type model struct {
	ID            types.String   `tfsdk:"id"`
	Name          types.String   `tfsdk:"name"`
	HomeDomain    types.String   `tfsdk:"home_domain"`
	CACertificate types.String   `tfsdk:"ca_certificate"`
	NameServer    types.String   `tfsdk:"name_server"`
	Secrets       types.Map      `tfsdk:"secrets"`
	Status        types.String   `tfsdk:"status"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

// Values of status.
const (
	statusRunning = "running"
	statusStopped = "stopped"
)

// Schema implements resource.Resource.
func (r *Resource) Schema(ctx context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	stable := []planmodifier.String{stringplanmodifier.UseStateForUnknown()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A deployment: what several sites share. It owns the deployment's certificate authority and the keys that are " +
			"generated for it, which lie in the platform's secret store and never in Terraform state.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: stable, MarkdownDescription: "UUID of the deployment."},
			"name": schema.StringAttribute{Required: true, Validators: []validator.String{check.Name()},
				MarkdownDescription: "Name of the deployment, unique on the platform. It cannot change; a change is refused at plan."},
			"home_domain": schema.StringAttribute{Required: true, Validators: []validator.String{check.Domain()},
				MarkdownDescription: "Home domain of the subscribers, and the DNS zone of the deployment. It cannot change; a change is refused at plan."},
			"ca_certificate": schema.StringAttribute{Computed: true, PlanModifiers: stable,
				MarkdownDescription: "Certificate of the deployment CA in PEM form, under which all nodes' certificates are."},
			"name_server": schema.StringAttribute{Computed: true, PlanModifiers: stable,
				MarkdownDescription: "`host:port` of a name server that answers for the zone."},
			"secrets": schema.MapAttribute{Computed: true, ElementType: types.StringType, PlanModifiers: []planmodifier.Map{mapplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "Where the generated keys are found (not the keys themselves), by option name: on the local platform the path of a file that only its owner can read."},
			"status": schema.StringAttribute{Computed: true,
				MarkdownDescription: "`running`, or `stopped` when the machinery that keeps the nodes alive is down (the local platform's supervisor ended, or the machine " +
					"was started again). A stopped deployment shows as a change to `running`; applying it starts the same nodes on the same data."},
			"timeouts": timeouts.Attributes(ctx, timeouts.Opts{Create: true, Update: true, Delete: true,
				CreateDescription: "Default 2m.", UpdateDescription: "Default 5m; an update waits until all nodes are ready.", DeleteDescription: "Default 5m."}),
		},
	}
}
