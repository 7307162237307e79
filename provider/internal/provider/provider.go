// Package provider is the Terraform provider: its static configuration, and the list of what it offers.
package provider

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	tffunction "github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/config"
	"github.com/clearwater-ims/clearwater/provider/internal/deployment"
	"github.com/clearwater-ims/clearwater/provider/internal/function"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local"
	"github.com/clearwater-ims/clearwater/provider/internal/progress"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
	"github.com/clearwater-ims/clearwater/provider/internal/site"
	"github.com/clearwater-ims/clearwater/provider/internal/steer"
	"github.com/clearwater-ims/clearwater/provider/internal/subscriber"
	"github.com/clearwater-ims/clearwater/provider/internal/tier"
)

// Name is the provider's type name, the prefix of its resources.
const Name = "clearwater"

// SuperviseCommand is the word by which the provider's binary becomes a supervisor.
const SuperviseCommand = "supervise"

// Provider implements provider.Provider.
type Provider struct{ version string }

var _ provider.ProviderWithFunctions = (*Provider)(nil)

// New returns a constructor.
func New(version string) func() provider.Provider {
	return func() provider.Provider { return &Provider{version: version} }
}

type model struct {
	Local *localModel `tfsdk:"local"`
	AWS   *awsModel   `tfsdk:"aws"`
}

type localModel struct {
	Root      types.String `tfsdk:"root"`
	Addresses types.String `tfsdk:"addresses"`
}

// Metadata implements provider.Provider.
func (p *Provider) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName, resp.Version = Name, p.version
}

// Schema implements provider.Provider.
func (p *Provider) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Deploys an IMS core. The block is static: nothing in it may come from a resource. Without any setting, deployments run on this machine; with `aws`, on Amazon's.",
		Attributes: map[string]schema.Attribute{
			"local": schema.SingleNestedAttribute{Optional: true, MarkdownDescription: "Settings of the platform that runs nodes as processes on this machine.",
				Attributes: map[string]schema.Attribute{
					"root": schema.StringAttribute{Optional: true, MarkdownDescription: "Folder that holds one state folder per deployment: nodes' data, logs, keys. Relative to the working folder of Terraform. Default `.state`."},
					"addresses": schema.StringAttribute{Optional: true, Validators: []validator.String{check.CIDR()},
						MarkdownDescription: "Range within 127.0.0.0/8 from which each deployment takes a free /24. Default `127.64.0.0/10`."},
				}},
			"aws": awsSchema(),
		},
	}
}

// Configure implements provider.Provider.
func (p *Provider) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	s := &session.Session{Progress: progress.New(), Poll: 100 * time.Millisecond}
	switch {
	case m.AWS != nil && m.Local != nil:
		resp.Diagnostics.AddAttributeError(path.Root("aws"), "Two platforms", "Both local and aws are set; a provider block has one platform. Use an alias for the other.")
	case m.AWS != nil:
		s.Platform, s.Poll = openAWS(ctx, m.AWS, &resp.Diagnostics), 2*time.Second
	default:
		s.Platform = openLocal(m.Local, &resp.Diagnostics)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	s.Nodes = steer.New(s.Platform)
	resp.ResourceData, resp.DataSourceData = s, s
}

func openLocal(m *localModel, diags *diag.Diagnostics) platform.Platform {
	cfg, err := localConfig(m)
	if err != nil {
		diags.AddAttributeError(path.Root("local"), "The local platform cannot be used", err.Error())
		return nil
	}
	here, err := local.New(cfg)
	if err != nil {
		diags.AddAttributeError(path.Root("local"), "The local platform cannot be used", err.Error())
		return nil
	}
	return here
}

func localConfig(m *localModel) (local.Config, error) {
	executable, err := os.Executable()
	if err != nil {
		return local.Config{}, fmt.Errorf("finding the provider's binary: %w", err)
	}
	cfg := local.Config{Root: ".state", Supervisor: []string{executable, SuperviseCommand}}
	if m == nil {
		return cfg, nil
	}
	if root := m.Root.ValueString(); root != "" {
		cfg.Root = root
	}
	if text := m.Addresses.ValueString(); text != "" {
		if cfg.Addresses, err = netip.ParsePrefix(text); err != nil {
			return local.Config{}, fmt.Errorf("addresses: %w", err)
		}
	}
	return cfg, nil
}

// Resources implements provider.Provider.
func (p *Provider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{
		deployment.New, site.NewNetwork, site.NewSite, tier.New,
		config.NewShared, subscriber.NewNumberBlock, subscriber.New,
	}
}

// DataSources implements provider.Provider.
func (p *Provider) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{site.NewClusterState}
}

// Functions implements provider.ProviderWithFunctions.
func (p *Provider) Functions(context.Context) []func() tffunction.Function { return function.All() }
