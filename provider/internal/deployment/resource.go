package deployment

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
	"github.com/clearwater-ims/clearwater/provider/internal/steer"
)

// Resource is clearwater_deployment.
type Resource struct{ session *session.Session }

var (
	_ resource.ResourceWithConfigure   = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan  = (*Resource)(nil)
	_ resource.ResourceWithImportState = (*Resource)(nil)
)

// New is the constructor that the provider lists.
func New() resource.Resource { return &Resource{} }

// Metadata implements resource.Resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_deployment"
}

// Configure implements resource.ResourceWithConfigure.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// ModifyPlan refuses what cannot change, and plans that a stopped deployment runs again.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if !req.State.Raw.IsNull() {
		var state model
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
		immutable(&resp.Diagnostics, path.Root("name"), state.Name, plan.Name)
		immutable(&resp.Diagnostics, path.Root("home_domain"), state.HomeDomain, plan.HomeDomain)
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("status"), statusRunning)...)
}

func immutable(diags *diag.Diagnostics, at path.Path, old, wanted types.String) {
	if wanted.IsUnknown() || old.Equal(wanted) {
		return
	}
	diags.AddAttributeError(at, at.String()+" cannot change", fmt.Sprintf("%s is %s and was to become %s. A deployment keeps its name and home domain for life: "+
		"subscribers, certificates and DNS hold them. Make a new deployment beside it, or destroy this one first.", at, old, wanted))
}

// Create implements resource.Resource. If it fails, it leaves no state: the next apply adopts what exists.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := plan.Timeouts.Create(ctx, 2*time.Minute)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := r.converge(ctx, &plan); err != nil {
		resp.Diagnostics.AddError("Deployment "+plan.Name.ValueString()+" was not created", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// Update implements resource.Resource: it starts a stopped deployment and waits for its nodes.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := plan.Timeouts.Update(ctx, 5*time.Minute)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := r.converge(ctx, &plan)
	if err == nil {
		err = r.waitForNodes(ctx, plan.ID.ValueString())
	}
	if err != nil {
		resp.Diagnostics.AddError("Deployment "+plan.Name.ValueString()+" was not brought up", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, plan)...)
}

// converge creates or adopts the deployment, its keys and its CA.
func (r *Resource) converge(ctx context.Context, m *model) error {
	p := r.session.Platform
	want := platform.Deployment{ID: uuid.NewString(), Name: m.Name.ValueString(), HomeDomain: m.HomeDomain.ValueString()}
	if w, err := p.Reflect(ctx, want.Name); err == nil {
		want.CACertificate = w.Deployment.CACertificate
	} else if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	have, err := p.ApplyDeployment(ctx, want)
	if err != nil {
		return err
	}
	for _, name := range steer.GeneratedKeys() {
		if err := ensureKey(ctx, p, have.ID, name); err != nil {
			return err
		}
	}
	want.CACertificate, err = r.ensureCA(ctx, have)
	if err != nil {
		return err
	}
	if have, err = p.ApplyDeployment(ctx, want); err != nil {
		return err
	}
	say := r.session.Progress.To(ctx, have.Name, have.EventLog)
	say("deployment %s is there; name server %s", have.HomeDomain, have.DNSServer)
	return r.fill(ctx, m, have)
}

func ensureKey(ctx context.Context, p platform.Platform, deployment, name string) error {
	_, err := p.GetSecret(ctx, deployment, name)
	if !errors.Is(err, platform.ErrNotFound) {
		return err
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("making %s: %w", name, err)
	}
	return p.PutSecret(ctx, deployment, name, hex.EncodeToString(key))
}

func (r *Resource) ensureCA(ctx context.Context, d platform.Deployment) (certificate string, err error) {
	authority, err := r.session.Nodes.Authority(ctx, d.ID, steer.DeploymentCA)
	if errors.Is(err, platform.ErrNotFound) {
		if authority, err = pki.NewDeploymentCA(d.Name); err != nil {
			return "", err
		}
		err = r.session.Nodes.PutAuthority(ctx, d.ID, steer.DeploymentCA, authority)
	}
	if err != nil {
		return "", err
	}
	return string(authority.CertificatePEM()), nil
}

// fill writes what is observed into the model.
func (r *Resource) fill(ctx context.Context, m *model, d platform.Deployment) error {
	m.ID, m.Name, m.HomeDomain = types.StringValue(d.ID), types.StringValue(d.Name), types.StringValue(d.HomeDomain)
	m.CACertificate, m.NameServer = types.StringValue(d.CACertificate), types.StringValue(d.DNSServer)
	m.Status = types.StringValue(statusStopped)
	if d.Running {
		m.Status = types.StringValue(statusRunning)
	}
	references := map[string]string{}
	for _, name := range steer.GeneratedKeys() {
		reference, err := r.session.Platform.SecretReference(d.ID, name)
		if err != nil {
			return err
		}
		references[name] = reference
	}
	secrets, diags := types.MapValueFrom(ctx, types.StringType, references)
	if diags.HasError() {
		return errors.New(diags[0].Detail())
	}
	m.Secrets = secrets
	return nil
}

// waitForNodes waits until every node of the deployment says that it is ready.
func (r *Resource) waitForNodes(ctx context.Context, id string) error {
	for {
		w, err := r.session.Platform.Reflect(ctx, id)
		if err != nil {
			return err
		}
		var waiting error
		for _, n := range w.Nodes {
			status, err := r.session.Nodes.Status(ctx, n)
			if err == nil && status.State != management.Ready {
				err = fmt.Errorf("it is %s: %v", status.State, status.Reasons)
			}
			if err != nil {
				waiting = fmt.Errorf("%s is not ready: %w", n.Name, err)
				break
			}
		}
		if waiting == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return waiting
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Read implements resource.Resource.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, err := r.session.Platform.Reflect(ctx, state.ID.ValueString())
	if errors.Is(err, platform.ErrNotFound) {
		resp.State.RemoveResource(ctx)
		return
	}
	if err == nil {
		err = r.fill(ctx, &state, w.Deployment)
	}
	if err != nil {
		resp.Diagnostics.AddError("Deployment "+state.Name.ValueString()+" cannot be read", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, state)...)
}

// Delete implements resource.Resource: nothing of the deployment stays.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := state.Timeouts.Delete(ctx, 5*time.Minute)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := r.session.Platform.DestroyDeployment(ctx, state.ID.ValueString()); err != nil {
		resp.Diagnostics.AddError("Deployment "+state.Name.ValueString()+" was not destroyed", err.Error())
	}
}

// ImportState takes the deployment's name or uuid.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	w, err := r.session.Platform.Reflect(ctx, req.ID)
	if err != nil {
		resp.Diagnostics.AddError("Deployment "+req.ID+" cannot be imported", err.Error())
		return
	}
	resp.Diagnostics.Append(resp.State.SetAttribute(ctx, path.Root("id"), w.Deployment.ID)...)
}
