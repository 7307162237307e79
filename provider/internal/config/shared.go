// Package config is the resource of shared configuration: the keys that a user lists, and only those, in the document
// shared_config of a site. Keys that follow from the deployment's shape belong to the provider.
package config

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	nodeconfig "github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
	"github.com/clearwater-ims/clearwater/provider/internal/steer"
)

// Shared is clearwater_shared_config.
type Shared struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure      = (*Shared)(nil)
	_ resource.ResourceWithImportState    = (*Shared)(nil)
	_ resource.ResourceWithValidateConfig = (*Shared)(nil)
)

// NewShared is the constructor that the provider lists.
func NewShared() resource.Resource { return &Shared{} }

type sharedModel struct {
	ID       types.String `tfsdk:"id"`
	SiteID   types.String `tfsdk:"site_id"`
	Settings types.Map    `tfsdk:"settings"`
}

// owned lists the keys that the provider keeps for itself.
func owned() []string {
	keys := []string{"home_domain", "sprout_hostname", "hs_hostname", "hs_provisioning_hostname", "xdms_hostname", "ellis_hostname",
		"cassandra_hostname", "sprout_chronos_callback_uri", "signaling_dns_server", "upstream_hostname"}
	return append(keys, slices.DeleteFunc(steer.GeneratedKeys(), func(k string) bool { return k == "signup_key" })...)
}

// Metadata implements resource.Resource.
func (r *Shared) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_shared_config"
}

// Schema implements resource.Resource.
func (r *Shared) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Options of `shared_config`. Only the listed keys are set, compared and (when they leave the list) removed; all others are left alone, so people may " +
			"set them with `cw config`. The tier `store` must be complete (say so with `depends_on`). Nodes take a change up by themselves, live or by restarting one after the other; the apply ends when all have.",
		Attributes: map[string]schema.Attribute{
			"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()},
				MarkdownDescription: "`<deployment id>/<site>`."},
			"site_id": schema.StringAttribute{Required: true, PlanModifiers: []planmodifier.String{stringplanmodifier.RequiresReplace()},
				Validators: []validator.String{check.Prefixed(2, "clearwater_site")}, MarkdownDescription: "`id` of the `clearwater_site`."},
			"settings": schema.MapAttribute{Required: true, ElementType: types.StringType, Validators: []validator.Map{mapvalidator.SizeAtLeast(1)},
				MarkdownDescription: "Options by name, values as the file holds them (`Y`/`N`, numbers, lists with commas). Options that follow from the deployment's shape, and generated keys, are refused."},
		},
	}
}

// Configure implements resource.ResourceWithConfigure.
func (r *Shared) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// ValidateConfig checks every option as a node would.
func (r *Shared) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var m sharedModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	for name, value := range m.Settings.Elements() {
		at := path.Root("settings").AtMapKey(name)
		if slices.Contains(owned(), name) {
			resp.Diagnostics.AddAttributeError(at, "The provider sets this option", name+" follows from the deployment; leave it out.")
			continue
		}
		text, ok := value.(types.String)
		if !ok || text.IsUnknown() {
			continue
		}
		if note, err := check.Option(nodeconfig.SharedFile, name, text.ValueString()); err != nil {
			resp.Diagnostics.AddAttributeError(at, "Invalid option", err.Error()+".")
		} else if note != "" {
			resp.Diagnostics.AddAttributeWarning(at, "Option without effect", name+": "+note+".")
		}
	}
}

// Create implements resource.Resource.
func (r *Shared) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan sharedModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.change(ctx, plan.SiteID.ValueString(), settings(plan), nil); err != nil {
		resp.Diagnostics.AddError("Shared configuration was not written", err.Error())
		return
	}
	plan.ID = plan.SiteID
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource.
func (r *Shared) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, state sharedModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.change(ctx, plan.SiteID.ValueString(), settings(plan), settings(state)); err != nil {
		resp.Diagnostics.AddError("Shared configuration was not written", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// change sets wanted keys and drops those that were set before and are wanted no more. Somebody else's change in between
// is read and kept.
func (r *Shared) change(ctx context.Context, siteID string, wanted, before map[string]string) error {
	w, parts, err := r.session.Locate(ctx, siteID, 2)
	if err != nil {
		return err
	}
	revision := int64(0)
	err = r.session.Nodes.AnyStore(ctx, w, parts[1], "", func(c *management.Client) error {
		for {
			doc, err := c.Config(ctx, nodeconfig.SharedFile)
			if err != nil {
				return err
			}
			text := edit(doc.Text, wanted, before)
			if text == doc.Text {
				return nil
			}
			doc.Text, doc.Author = text, "terraform"
			written, err := c.PutConfig(ctx, *doc)
			if err == nil {
				r.session.Say(ctx, w, nodeconfig.SharedFile)("written, revision %d", written.Revision)
				revision = written.Revision
				return nil
			}
			if management.StatusOf(err) != http.StatusConflict || ctx.Err() != nil {
				return err
			}
		}
	})
	if err != nil || revision == 0 {
		return err
	}
	return Await(ctx, Waiting{
		Poll: waitPoll, Stuck: waitStuck, Say: r.session.Say(ctx, w, nodeconfig.SharedFile),
		Ask: func(ctx context.Context) (cluster management.Cluster, queue management.Restarts, err error) {
			err = r.session.Nodes.AnyStore(ctx, w, parts[1], "", func(c *management.Client) error {
				nodes, err := c.Cluster(ctx)
				if err != nil {
					return err
				}
				restarts, err := c.Restarts(ctx)
				if err == nil {
					cluster, queue = *nodes, *restarts
				}
				return err
			})
			return cluster, queue, err
		},
	}, revision)
}

// Read implements resource.Resource.
func (r *Shared) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state sharedModel
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
		resp.Diagnostics.AddError("Shared configuration cannot be read", err.Error())
		return
	}
	state.ID, state.SiteID = types.StringValue(session.ID(parts...)), types.StringValue(session.ID(parts...))
	var doc *management.Document
	err = r.session.Nodes.AnyStore(ctx, w, parts[1], "", func(c *management.Client) error {
		var err error
		doc, err = c.Config(ctx, nodeconfig.SharedFile)
		return err
	})
	switch {
	case errors.Is(err, steer.ErrNoStore):
		resp.Diagnostics.AddWarning("Shared configuration cannot be asked for now", "State stays as it is. "+err.Error())
	case err != nil:
		resp.Diagnostics.AddError("Shared configuration cannot be read", err.Error())
		return
	default:
		found := current(doc.Text, state.Settings.IsNull(), settings(state))
		value, diags := types.MapValueFrom(ctx, types.StringType, found)
		resp.Diagnostics.Append(diags...)
		state.Settings = value
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource: the listed keys go back to their defaults.
func (r *Shared) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state sharedModel
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	err := r.change(ctx, state.SiteID.ValueString(), nil, settings(state))
	if err == nil || errors.Is(err, platform.ErrNotFound) {
		return
	}
	if w, parts, lookErr := r.session.Locate(ctx, state.ID.ValueString(), 2); lookErr == nil && session.Dead(w, parts[1]) {
		resp.Diagnostics.AddWarning("Shared configuration was not changed back", "No store node of the site runs. "+err.Error())
		return
	}
	resp.Diagnostics.AddError("Shared configuration was not changed back", err.Error())
}

// ImportState takes `<deployment name or id>/<site>`; it takes every key over that the provider does not own.
func (r *Shared) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 2)
	if err != nil {
		resp.Diagnostics.AddError("Shared configuration of "+req.ID+" cannot be imported", fmt.Sprintf("%s. The id is <deployment>/<site>.", err))
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
