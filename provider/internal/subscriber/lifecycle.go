package subscriber

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// Create implements resource.Resource. It completes a subscriber that an interrupted attempt left half made.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan model
	var password types.String
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("password_wo"), &password)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if err := r.create(ctx, &plan, password.ValueString()); err != nil {
		resp.Diagnostics.AddError("Subscriber "+plan.PublicID.ValueString()+" was not created", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (r *Resource) create(ctx context.Context, m *model, password string) error {
	w, parts, err := r.session.Locate(ctx, m.SiteID.ValueString(), 2)
	if err != nil {
		return err
	}
	s, err := m.wanted(ctx, password)
	if err != nil {
		return err
	}
	if err := r.session.Provisioning(w, parts[1]).CreateSubscriber(ctx, s); err != nil {
		return err
	}
	documents := r.session.Documents(w, parts[1])
	for _, id := range s.PublicIDs {
		_, err := documents.Simservs(ctx, id)
		if rest.IsNotFound(err) {
			err = documents.PutSimservs(ctx, id, xdms.DefaultSimservs)
		}
		if err != nil {
			return fmt.Errorf("telephony settings: %w", err)
		}
	}
	m.ID = types.StringValue(session.ID(parts[0], parts[1], m.PublicID.ValueString()))
	r.session.Say(ctx, w, "subscriber")("%s is there", m.PublicID.ValueString())
	return nil
}

// Update implements resource.Resource.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan, state model
	var password types.String
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Config.GetAttribute(ctx, path.Root("password_wo"), &password)...)
	if resp.Diagnostics.HasError() {
		return
	}
	secret := ""
	if !plan.PasswordVersion.Equal(state.PasswordVersion) {
		secret = password.ValueString()
	}
	if err := r.update(ctx, plan, secret); err != nil {
		resp.Diagnostics.AddError("Subscriber "+plan.PublicID.ValueString()+" was not changed", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

func (r *Resource) update(ctx context.Context, m model, password string) error {
	w, parts, err := r.session.Locate(ctx, m.SiteID.ValueString(), 2)
	if err != nil {
		return err
	}
	s, err := m.wanted(ctx, password)
	if err != nil {
		return err
	}
	if s.FilterCriteria == "" {
		s.FilterCriteria = provisioning.DefaultFilterCriteria(provisioning.DomainOf(s.PublicIDs[0]))
	}
	return r.session.Provisioning(w, parts[1]).UpdateSubscriber(ctx, s)
}

// Read implements resource.Resource.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 3)
	if errors.Is(err, platform.ErrNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Subscriber "+state.ID.ValueString()+" cannot be read", err.Error())
		return
	}
	state.ID, state.SiteID, state.PublicID = types.StringValue(session.ID(parts...)), types.StringValue(session.ID(parts[:2]...)), types.StringValue(parts[2])
	found, err := r.session.Provisioning(w, parts[1]).GetSubscriber(ctx, parts[2])
	switch {
	case rest.IsNotFound(err):
		resp.State.RemoveResource(ctx)
		return
	case rest.IsUnreachable(err):
		resp.Diagnostics.AddWarning("Subscriber "+parts[2]+" cannot be asked for now", "State stays as it is. "+err.Error())
	case err != nil:
		resp.Diagnostics.AddError("Subscriber "+parts[2]+" cannot be read", err.Error())
		return
	default:
		if err := state.observed(ctx, found); err != nil {
			resp.Diagnostics.AddError("Subscriber "+parts[2]+" cannot be read", err.Error())
			return
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource. With no store running, there is nothing left to delete from.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := r.session.Locate(ctx, state.ID.ValueString(), 3)
	if errors.Is(err, platform.ErrNotFound) {
		return
	}
	if err == nil {
		err = r.remove(ctx, w, parts[1], state)
	}
	if err != nil && w != nil && session.Dead(w, parts[1]) {
		resp.Diagnostics.AddWarning("Subscriber "+parts[2]+" was not asked to be deleted", "No store node of the site runs. "+err.Error())
		return
	}
	if err != nil {
		resp.Diagnostics.AddError("Subscriber "+state.PublicID.ValueString()+" was not deleted", err.Error())
	}
}

func (r *Resource) remove(ctx context.Context, w *platform.World, site string, m model) error {
	s, err := m.wanted(ctx, "")
	if err != nil {
		return err
	}
	for _, id := range s.PublicIDs {
		if err := r.session.Documents(w, site).DeleteSimservs(ctx, id); err != nil {
			return err
		}
	}
	return r.session.Provisioning(w, site).DeleteSubscriber(ctx, m.PublicID.ValueString(), m.PrivateID.ValueString())
}

// ImportState takes `<deployment name or id>/<site>/<public id>`.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	_, parts, err := r.session.Locate(ctx, req.ID, 3)
	if err != nil {
		resp.Diagnostics.AddError("Subscriber "+req.ID+" cannot be imported", err.Error()+". The id is <deployment>/<site>/<public id>.")
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), session.ID(parts...))...)
}
