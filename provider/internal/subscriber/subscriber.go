// Package subscriber holds the resources of people and numbers: a subscriber with its identities and credentials, and
// a block of numbers that the portal gives out. Both speak the public HTTP APIs; neither knows how they are stored.
package subscriber

import (
	"context"
	"errors"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// Resource is clearwater_subscriber.
type Resource struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure   = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan  = (*Resource)(nil)
	_ resource.ResourceWithImportState = (*Resource)(nil)
)

// New is the constructor that the provider lists.
func New() resource.Resource { return &Resource{} }

type model struct {
	ID              types.String `tfsdk:"id"`
	SiteID          types.String `tfsdk:"site_id"`
	PublicID        types.String `tfsdk:"public_id"`
	PrivateID       types.String `tfsdk:"private_id"`
	FurtherIDs      types.List   `tfsdk:"further_public_ids"`
	FilterCriteria  types.String `tfsdk:"filter_criteria"`
	Password        types.String `tfsdk:"password_wo"`
	PasswordVersion types.Int64  `tfsdk:"password_wo_version"`
}

// Metadata implements resource.Resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_subscriber"
}

// Schema implements resource.Resource.
func (r *Resource) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	replace := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	resp.Schema = schema.Schema{
		MarkdownDescription: "A subscriber: a private identity with a password, and public identities that register together. Its tiers `store`, `diameter` and `xdms` must be complete " +
			"(say so with `depends_on`). While the deployment does not answer, state stays as it is and a warning says so.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<deployment id>/<site>/<public id>`."},
			"site_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.Prefixed(2, "clearwater_site")},
				MarkdownDescription: "`id` of the `clearwater_site` whose provisioning API is used."},
			"public_id": schema.StringAttribute{Required: true, PlanModifiers: replace, Validators: []validator.String{check.PublicIdentity()},
				MarkdownDescription: "Default public identity, such as `sip:6505550000@ims.example.com`."},
			"private_id": schema.StringAttribute{Optional: true, Computed: true, Validators: []validator.String{check.PrivateIdentity()},
				PlanModifiers:       []planmodifier.String{stringplanmodifier.UseStateForUnknown(), stringplanmodifier.RequiresReplace()},
				MarkdownDescription: "Private identity, the user name of the digest. Default: the public identity without its scheme."},
			"further_public_ids": schema.ListAttribute{Optional: true, ElementType: types.StringType,
				Validators:          []validator.List{listvalidator.UniqueValues(), listvalidator.SizeAtLeast(1), listvalidator.ValueStringsAre(check.PublicIdentity())},
				MarkdownDescription: "Public identities that register together with the default one (its implicit registration set)."},
			"filter_criteria": schema.StringAttribute{Optional: true, Validators: []validator.String{stringvalidator.LengthAtLeast(1)},
				MarkdownDescription: "`<ServiceProfile>` document with initial filter criteria (TS 29.228 annex B). Default: INVITEs visit the telephony server `sip:mmtel.<domain>`."},
			"password_wo": schema.StringAttribute{Required: true, Sensitive: true, WriteOnly: true, Validators: []validator.String{stringvalidator.LengthBetween(1, 255)},
				MarkdownDescription: "Password. It is write-only: neither plan nor state hold it, and the deployment keeps only its digest."},
			"password_wo_version": schema.Int64Attribute{Required: true, Validators: []validator.Int64{int64validator.AtLeast(1)},
				MarkdownDescription: "Number of the password; a new number sends `password_wo` again."},
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// ModifyPlan derives the private identity.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || !plan.PrivateID.IsUnknown() || plan.PublicID.IsUnknown() {
		return
	}
	plan.PrivateID = types.StringValue(provisioning.PrivateIDOf(plan.PublicID.ValueString()))
	resp.Diagnostics.Append(resp.Plan.Set(ctx, plan)...)
}

// wanted is the subscriber as configured.
func (m *model) wanted(ctx context.Context, password string) (provisioning.Subscriber, error) {
	s := provisioning.Subscriber{PublicIDs: []string{m.PublicID.ValueString()}, PrivateID: m.PrivateID.ValueString(), Password: password,
		FilterCriteria: m.FilterCriteria.ValueString()}
	var further []string
	if diags := m.FurtherIDs.ElementsAs(ctx, &further, false); diags.HasError() {
		return s, errors.New(diags[0].Detail())
	}
	s.PublicIDs = append(s.PublicIDs, further...)
	return s, nil
}

// observed writes what the subscriber master has into the model.
func (m *model) observed(ctx context.Context, s *provisioning.Subscriber) error {
	m.PrivateID = types.StringValue(s.PrivateID)
	further := slices.DeleteFunc(slices.Clone(s.PublicIDs), func(id string) bool { return id == m.PublicID.ValueString() })
	var known []string
	if diags := m.FurtherIDs.ElementsAs(ctx, &known, false); diags.HasError() {
		return errors.New(diags[0].Detail())
	}
	if sameSet(known, further) {
		return nil // the master has no order of its own
	}
	if len(further) == 0 {
		m.FurtherIDs = types.ListNull(types.StringType)
		return nil
	}
	list, diags := types.ListValueFrom(ctx, types.StringType, further)
	if diags.HasError() {
		return errors.New(diags[0].Detail())
	}
	m.FurtherIDs = list
	return nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
