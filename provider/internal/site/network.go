// Package site holds the resources of a place: its network (range of addresses) and the site itself with its own
// certificate authority, DNS settings and etcd, and the data source that shows the cluster's state.
package site

import (
	"context"
	"errors"
	"net/netip"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// Network is clearwater_network.
type Network struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure   = (*Network)(nil)
	_ resource.ResourceWithImportState = (*Network)(nil)
)

// NewNetwork is the constructor that the provider lists.
func NewNetwork() resource.Resource { return &Network{} }

type networkModel struct {
	ID           types.String `tfsdk:"id"`
	DeploymentID types.String `tfsdk:"deployment_id"`
	Name         types.String `tfsdk:"name"`
	CIDR         types.String `tfsdk:"cidr"`
}

// Metadata implements resource.Resource.
func (r *Network) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_network"
}

// Schema implements resource.Resource.
func (r *Network) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A range of addresses that a site's nodes take theirs from. On the local platform it is a /24 of 127.0.0.0/8.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<deployment id>/<name>`."},
			"deployment_id": schema.StringAttribute{Required: true, PlanModifiers: replace, MarkdownDescription: "`id` of the `clearwater_deployment`."},
			"name": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Name()},
				MarkdownDescription: "Name, unique in the deployment."},
			"cidr": schema.StringAttribute{Optional: true, Computed: true, Validators: []validator.String{check.CIDR()},
				PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown(), stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "Range in CIDR form. Without it the platform takes a free one; on the local platform the first network of a deployment " +
					"is the block that also holds its name server."},
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *Network) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// Create implements resource.Resource.
func (r *Network) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan networkModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	want := platform.Network{Name: plan.Name.ValueString()}
	if !plan.CIDR.IsNull() && !plan.CIDR.IsUnknown() {
		cidr, err := netip.ParsePrefix(plan.CIDR.ValueString())
		if err != nil {
			resp.Diagnostics.AddAttributeError(path.Root("cidr"), "Invalid range", err.Error())
			return
		}
		want.CIDR = cidr
	}
	have, err := r.session.Platform.ApplyNetwork(ctx, plan.DeploymentID.ValueString(), want)
	if err != nil {
		resp.Diagnostics.AddError("Network "+want.Name+" was not created", err.Error())
		return
	}
	plan.ID = types.StringValue(session.ID(plan.DeploymentID.ValueString(), have.Name))
	plan.CIDR = types.StringValue(have.CIDR.String())
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource; every attribute replaces, so there is nothing to change.
func (r *Network) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan networkModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Read implements resource.Resource.
func (r *Network) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state networkModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 2)
	if errors.Is(err, platform.ErrNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Network "+state.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	have, ok := w.Network(parts[1])
	if !ok {
		resp.State.RemoveResource(ctx)
		return
	}
	state = networkModel{ID: types.StringValue(session.ID(parts...)), DeploymentID: types.StringValue(parts[0]),
		Name: types.StringValue(have.Name), CIDR: types.StringValue(have.CIDR.String())}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource.
func (r *Network) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state networkModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.session.Platform.DeleteNetwork(ctx, state.DeploymentID.ValueString(), state.Name.ValueString()); err != nil {
		resp.Diagnostics.AddError("Network "+state.Name.ValueString()+" was not deleted", err.Error())
	}
}

// ImportState takes `<deployment name or id>/<network name>`.
func (r *Network) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 2)
	if err != nil {
		resp.Diagnostics.AddError("Network "+req.ID+" cannot be imported", err.Error()+". The id is <deployment>/<network>.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
