package tier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// Resource is clearwater_tier.
type Resource struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure      = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan     = (*Resource)(nil)
	_ resource.ResourceWithValidateConfig = (*Resource)(nil)
	_ resource.ResourceWithImportState    = (*Resource)(nil)
)

// New is the constructor that the provider lists.
func New() resource.Resource { return &Resource{} }

// Metadata implements resource.Resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_tier"
}

// Configure implements resource.ResourceWithConfigure.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// Create implements resource.Resource. If it fails, it leaves no state, and the next apply adopts what exists: with
// state, Terraform would call it tainted and destroy nodes that live.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := plan.Timeouts.Create(ctx, r.deadline(ctx, plan, plan.NodeCount.ValueInt64()))
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := r.converge(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Tier "+plan.Role.ValueString()+" is not complete", err.Error()+"\n\nWhat was reached stays; apply again to go on.")
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource. If it fails, the state holds what is observed.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := plan.Timeouts.Update(ctx, r.deadline(ctx, plan, max(plan.NodeCount.ValueInt64(), state.NodeCount.ValueInt64())))
	resp.Diagnostics.Append(diags...)
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := r.converge(bounded, &plan); err != nil {
		resp.Diagnostics.AddError("Tier "+plan.Role.ValueString()+" is not complete", err.Error()+"\n\nWhat was reached stays; apply again to go on.")
		after := context.WithoutCancel(ctx)
		if err := r.observe(after, &state); err == nil {
			resp.Diagnostics.Append(resp.State.Set(after, state)...)
		}
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (r *Resource) converge(ctx context.Context, m *model) error {
	w, parts, err := r.session.Locate(ctx, m.SiteID.ValueString(), 2)
	if err != nil {
		return err
	}
	shape, err := r.shapeOf(ctx, *m, parts)
	if err != nil {
		return err
	}
	m.ID = types.StringValue(session.ID(parts[0], parts[1], string(shape.Role)))
	if err := r.converger(ctx, w, shape).Converge(ctx, shape); err != nil {
		return err
	}
	return r.observe(ctx, m)
}

func (r *Resource) converger(ctx context.Context, w *platform.World, shape Shape) *Converger {
	return &Converger{Platform: r.session.Platform, Nodes: r.session.Nodes, Progress: r.session.Say(ctx, w, string(shape.Role)), Poll: r.session.Poll}
}

func (r *Resource) shapeOf(ctx context.Context, m model, parts []string) (Shape, error) {
	role := config.Role(m.Role.ValueString())
	s := Shape{Deployment: parts[0], Site: parts[1], Role: role, Count: int(m.NodeCount.ValueInt64()), DrainTimeout: drainTimeout(m),
		Force: m.ForceDestroy.ValueBool(), Renew: m.AcceptDataLoss.ValueBool(), UserSettings: map[string]string{}}
	if role == config.Store {
		s.Engine = engineOf(m)
	}
	if diags := m.UserSettings.ElementsAs(ctx, &s.UserSettings, false); diags.HasError() {
		return s, errors.New(diags[0].Detail())
	}
	image, err := r.image(ctx, m.Image.ValueString(), role)
	if err != nil {
		return s, err
	}
	if planned := m.ImageDigest.ValueString(); !m.ImageDigest.IsUnknown() && planned != image.SHA256 {
		return s, fmt.Errorf("%w: %s changed since the plan (from %s to %s)", errImage, image.Path, planned, image.SHA256)
	}
	s.Image = image
	return s, nil
}

func (r *Resource) deadline(ctx context.Context, m model, nodes int64) time.Duration {
	ttl := 5
	if w, parts, err := r.session.Locate(ctx, m.SiteID.ValueString(), 2); err == nil {
		if s, ok := w.Site(parts[1]); ok {
			ttl = s.TTL
		}
	}
	return deadline(m, nodes, ttl)
}

// observe fills the model from the world; platform.ErrNotFound when deployment or site are gone.
func (r *Resource) observe(ctx context.Context, m *model) error {
	w, parts, err := r.session.Locate(ctx, m.ID.ValueString(), 3)
	if err != nil {
		return err
	}
	if _, ok := w.Site(parts[1]); !ok {
		return fmt.Errorf("site %s: %w", parts[1], platform.ErrNotFound)
	}
	m.ID, m.SiteID, m.Role = types.StringValue(session.ID(parts...)), types.StringValue(session.ID(parts[:2]...)), types.StringValue(parts[2])
	if diags := fill(ctx, m, w, parts[1], config.Role(parts[2])); diags.HasError() {
		return errors.New(diags[0].Detail())
	}
	return nil
}

// Read implements resource.Resource. It counts machines that the platform lists, whatever their health.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	err := r.observe(ctx, &state)
	if errors.Is(err, platform.ErrNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Tier "+state.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	for _, missing := range []*types.Bool{&state.DrainOnDestroy, &state.ForceDestroy, &state.AcceptDataLoss} {
		if missing.IsNull() {
			*missing = types.BoolValue(false) // after an import
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := state.Timeouts.Delete(ctx, r.deadline(ctx, state, state.NodeCount.ValueInt64()))
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 3)
	if err == nil {
		shape := Shape{Deployment: parts[0], Site: parts[1], Role: config.Role(parts[2]), DrainTimeout: drainTimeout(state), Force: state.ForceDestroy.ValueBool()}
		err = r.converger(ctx, w, shape).Remove(ctx, shape, state.DrainOnDestroy.ValueBool())
	}
	if err != nil && !errors.Is(err, platform.ErrNotFound) {
		resp.Diagnostics.AddError("Tier "+state.Role.ValueString()+" was not destroyed", err.Error())
	}
}

// ImportState takes `<deployment name or id>/<site>/<role>`.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 3)
	if err == nil && !config.Role(parts[2]).Known() {
		err = fmt.Errorf("%s is not a role", parts[2])
	}
	if err != nil {
		resp.Diagnostics.AddError("Tier "+req.ID+" cannot be imported", err.Error()+". The id is <deployment>/<site>/<role>.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
