package site

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
	"github.com/clearwater-ims/clearwater/provider/internal/steer"
)

// Site is clearwater_site.
type Site struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure   = (*Site)(nil)
	_ resource.ResourceWithImportState = (*Site)(nil)
)

// NewSite is the constructor that the provider lists.
func NewSite() resource.Resource { return &Site{} }

type siteModel struct {
	ID              types.String `tfsdk:"id"`
	DeploymentID    types.String `tfsdk:"deployment_id"`
	Name            types.String `tfsdk:"name"`
	NetworkID       types.String `tfsdk:"network_id"`
	Region          types.String `tfsdk:"region"`
	DNSTTL          types.Int64  `tfsdk:"dns_ttl"`
	ClearwaterNames types.Bool   `tfsdk:"clearwater_names"`
}

// Metadata implements resource.Resource.
func (r *Site) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_site"
}

// Schema implements resource.Resource.
func (r *Site) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A site: one place of the deployment, with its own etcd cluster and its own certificate authority under the deployment's. " +
			"Deleting it also ends nodes that an interrupted apply left behind in it.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<deployment id>/<name>`."},
			"deployment_id": schema.StringAttribute{Required: true, PlanModifiers: replace, MarkdownDescription: "`id` of the `clearwater_deployment`."},
			"name": schema.StringAttribute{Optional: true, Computed: true, Default: stringdefault.StaticString("site1"), PlanModifiers: replace,
				Validators: []validator.String{check.Name()}, MarkdownDescription: "Name of the site; part of its nodes' DNS names. Default `site1`."},
			"network_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Prefixed(2, "clearwater_network")},
				MarkdownDescription: "`id` of the `clearwater_network` that the nodes stand in."},
			"region": schema.StringAttribute{Optional: true, PlanModifiers: replace, MarkdownDescription: "Region of the platform; the local platform has none."},
			"dns_ttl": schema.Int64Attribute{Optional: true, Computed: true, Default: int64default.StaticInt64(5), Validators: []validator.Int64{int64validator.Between(1, 3600)},
				MarkdownDescription: "Time to live of the site's DNS records, in seconds, 1 to 3600. A node that leaves waits as long before it drains. Default 5. " +
					"Records that exist take a changed value when their tier next changes."},
			"clearwater_names": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false),
				MarkdownDescription: "Also publish the cluster names of Project Clearwater (`sprout`, `homer`, `vellum`, `ellis`), for HSS records and scripts that hold them. Default false."},
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *Site) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// Create implements resource.Resource.
func (r *Site) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan siteModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.converge(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Site "+plan.Name.ValueString()+" was not created", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource.
func (r *Site) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan siteModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.converge(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Site "+plan.Name.ValueString()+" was not changed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (r *Site) converge(ctx context.Context, m *siteModel) error {
	deployment, name := m.DeploymentID.ValueString(), m.Name.ValueString()
	w, err := r.session.Platform.Reflect(ctx, deployment)
	if err != nil {
		return err
	}
	network, err := session.Parts(m.NetworkID.ValueString(), 2)
	if err != nil {
		return err
	}
	if network[0] != w.Deployment.ID {
		return fmt.Errorf("network_id %s is of another deployment", m.NetworkID)
	}
	if err := r.ensureCA(ctx, w.Deployment.ID, name); err != nil {
		return err
	}
	have, _ := w.Site(name) // keeps the cluster's id
	have.Name, have.Region, have.Network = name, m.Region.ValueString(), network[1]
	have.TTL, have.ClearwaterNames = int(m.DNSTTL.ValueInt64()), m.ClearwaterNames.ValueBool()
	if err := r.session.Platform.ApplySite(ctx, deployment, have); err != nil {
		return err
	}
	r.session.Say(ctx, w, name)("site is there")
	m.ID = types.StringValue(session.ID(w.Deployment.ID, name))
	return nil
}

func (r *Site) ensureCA(ctx context.Context, deployment, site string) error {
	_, err := r.session.Nodes.Authority(ctx, deployment, steer.SiteCA(site))
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	root, err := r.session.Nodes.Authority(ctx, deployment, steer.DeploymentCA)
	if err != nil {
		return err
	}
	authority, err := root.NewSiteCA(site)
	if err != nil {
		return err
	}
	return r.session.Nodes.PutAuthority(ctx, deployment, steer.SiteCA(site), authority)
}

// Read implements resource.Resource.
func (r *Site) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state siteModel
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
		resp.Diagnostics.AddError("Site "+state.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	have, ok := w.Site(parts[1])
	if !ok {
		resp.State.RemoveResource(ctx)
		return
	}
	state = siteModel{ID: types.StringValue(session.ID(parts...)), DeploymentID: types.StringValue(parts[0]), Name: types.StringValue(have.Name),
		NetworkID: types.StringValue(session.ID(parts[0], have.Network)), DNSTTL: types.Int64Value(int64(have.TTL)),
		ClearwaterNames: types.BoolValue(have.ClearwaterNames)}
	if have.Region != "" {
		state.Region = types.StringValue(have.Region)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource: it reaps what bears the site's name.
func (r *Site) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state siteModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.remove(ctx, state.DeploymentID.ValueString(), state.Name.ValueString()); err != nil && !errors.Is(err, platform.ErrNotFound) {
		resp.Diagnostics.AddError("Site "+state.Name.ValueString()+" was not deleted", err.Error())
	}
}

func (r *Site) remove(ctx context.Context, deployment, site string) error {
	p := r.session.Platform
	w, err := p.Reflect(ctx, deployment)
	if err != nil {
		return err
	}
	for _, n := range w.Nodes {
		if n.Site != site {
			continue
		}
		r.session.Say(ctx, w, site)("ending %s, which no tier owns", n.Name)
		if err := p.DeleteNode(ctx, deployment, n.Name); err != nil {
			return err
		}
	}
	for _, set := range w.Records {
		if len(set.Owner) > len(site) && set.Owner[:len(site)+1] == site+"." {
			if err := p.Publish(ctx, deployment, platform.RecordSet{Owner: set.Owner}); err != nil {
				return err
			}
		}
	}
	if err := p.DeleteSecret(ctx, deployment, steer.SiteCA(site)); err != nil {
		return err
	}
	return p.DeleteSite(ctx, deployment, site)
}

// ImportState takes `<deployment name or id>/<site>`.
func (r *Site) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 2)
	if err != nil {
		resp.Diagnostics.AddError("Site "+req.ID+" cannot be imported", err.Error()+". The id is <deployment>/<site>.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
