package subscriber

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/boolplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// NumberBlock is clearwater_number_block.
type NumberBlock struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure   = (*NumberBlock)(nil)
	_ resource.ResourceWithImportState = (*NumberBlock)(nil)
)

// NewNumberBlock is the constructor that the provider lists.
func NewNumberBlock() resource.Resource { return &NumberBlock{} }

type blockModel struct {
	ID     types.String `tfsdk:"id"`
	SiteID types.String `tfsdk:"site_id"`
	Start  types.String `tfsdk:"start"`
	Count  types.Int64  `tfsdk:"number_count"`
	PSTN   types.Bool   `tfsdk:"pstn"`
}

// Metadata implements resource.Resource.
func (r *NumberBlock) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_number_block"
}

// Schema implements resource.Resource.
func (r *NumberBlock) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A run of numbers that the portal gives to its accounts. The tiers `store` and `portal` must be complete (say so with `depends_on`). " +
			"Deleting it takes the free numbers out of the pool; lines in use stay until they are released.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<deployment id>/<site>/<start>`."},
			"site_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Prefixed(2, "clearwater_site")},
				MarkdownDescription: "`id` of the `clearwater_site` whose portal is used."},
			"start": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Number()},
				MarkdownDescription: "First number, digits without `+`, such as `6505550000`."},
			"number_count": schema.Int64Attribute{Required: true, Validators: []validator.Int64{int64validator.Between(1, 1000000)},
				MarkdownDescription: "How many numbers, 1 to 1000000."},
			"pstn": schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(false), PlanModifiers: []planmodifier.Bool{boolplanmodifier.RequiresReplace()},
				MarkdownDescription: "The numbers can be reached from the telephone network and are written `+1...`. Default false."},
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *NumberBlock) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// Create implements resource.Resource.
func (r *NumberBlock) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan blockModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.put(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Number block "+plan.Start.ValueString()+" was not created", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource.
func (r *NumberBlock) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan blockModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.put(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Number block "+plan.Start.ValueString()+" was not changed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (r *NumberBlock) put(ctx context.Context, m *blockModel) error {
	w, parts, err := r.session.Locate(ctx, m.SiteID.ValueString(), 2)
	if err != nil {
		return err
	}
	client, err := r.session.Portal(ctx, w, parts[1])
	if err != nil {
		return err
	}
	b, err := client.PutNumberBlock(ctx, portal.NumberBlock{Start: m.Start.ValueString(), Count: int(m.Count.ValueInt64()), PSTN: m.PSTN.ValueBool()})
	if err != nil {
		return err
	}
	m.ID = types.StringValue(session.ID(parts[0], parts[1], m.Start.ValueString()))
	r.session.Say(ctx, w, "numbers")("%s", b.Message)
	return nil
}

// Read implements resource.Resource.
func (r *NumberBlock) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state blockModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 3)
	if errors.Is(err, platform.ErrNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	var client *portal.Client
	if err == nil {
		client, err = r.session.Portal(ctx, w, parts[1])
	}
	if err != nil {
		resp.Diagnostics.AddError("Number block "+state.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	state.ID, state.SiteID, state.Start = types.StringValue(session.ID(parts...)), types.StringValue(session.ID(parts[:2]...)), types.StringValue(parts[2])
	b, err := client.NumberBlock(ctx, parts[2])
	switch {
	case rest.IsNotFound(err):
		resp.State.RemoveResource(ctx)
		return
	case rest.IsUnreachable(err):
		resp.Diagnostics.AddWarning("Number block "+parts[2]+" cannot be asked for now", "State stays as it is. "+err.Error())
	case err != nil:
		resp.Diagnostics.AddError("Number block "+parts[2]+" cannot be read", err.Error())
		return
	default:
		state.Count, state.PSTN = types.Int64Value(int64(b.Count)), types.BoolValue(b.PSTN)
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource.
func (r *NumberBlock) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state blockModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 3)
	if errors.Is(err, platform.ErrNotFound) {
		return
	}
	if err == nil {
		var client *portal.Client
		if client, err = r.session.Portal(ctx, w, parts[1]); err == nil {
			err = client.DeleteNumberBlock(ctx, state.Start.ValueString())
		}
	}
	if err != nil && w != nil && session.Dead(w, parts[1]) {
		resp.Diagnostics.AddWarning("Number block "+parts[2]+" was not asked to be deleted", "No store node of the site runs. "+err.Error())
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Number block "+state.Start.ValueString()+" was not deleted", err.Error())
	}
}

// ImportState takes `<deployment name or id>/<site>/<start>`.
func (r *NumberBlock) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 3)
	if err != nil {
		resp.Diagnostics.AddError("Number block "+req.ID+" cannot be imported", err.Error()+". The id is <deployment>/<site>/<first number>.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
