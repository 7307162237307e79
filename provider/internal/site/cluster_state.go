package site

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/provider/internal/session"
)

// ClusterState is the data source clearwater_cluster_state.
type ClusterState struct{ session *session.Session }

var _ datasource.DataSourceWithConfigure = (*ClusterState)(nil)

// NewClusterState is the constructor that the provider lists.
func NewClusterState() datasource.DataSource { return &ClusterState{} }

type clusterModel struct {
	SiteID  types.String  `tfsdk:"site_id"`
	ID      types.String  `tfsdk:"id"`
	Healthy types.Bool    `tfsdk:"healthy"`
	Members []memberModel `tfsdk:"members"`
	Nodes   []nodeModel   `tfsdk:"nodes"`
}

type memberModel struct {
	ID      types.String `tfsdk:"id"`
	Name    types.String `tfsdk:"name"`
	Leader  types.Bool   `tfsdk:"leader"`
	Learner types.Bool   `tfsdk:"learner"`
	Healthy types.Bool   `tfsdk:"healthy"`
}

type nodeModel struct {
	Name     types.String `tfsdk:"name"`
	Role     types.String `tfsdk:"role"`
	Site     types.String `tfsdk:"site"`
	Address  types.String `tfsdk:"address"`
	State    types.String `tfsdk:"state"`
	LastSeen types.String `tfsdk:"last_seen"`
}

// Metadata implements datasource.DataSource.
func (d *ClusterState) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_cluster_state"
}

// Schema implements datasource.DataSource.
func (d *ClusterState) Schema(_ context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	text := func(what string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: what}
	}
	yes := func(what string) schema.BoolAttribute {
		return schema.BoolAttribute{Computed: true, MarkdownDescription: what}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "The state of a site's cluster as its store nodes see it: members of etcd and registered nodes. Reading it fails if no store node answers.",
		Attributes: map[string]schema.Attribute{
			"site_id": schema.StringAttribute{Required: true, MarkdownDescription: "`id` of the `clearwater_site`."},
			"id":      text("Id of the etcd cluster."),
			"healthy": yes("Whether etcd has a leader and a quorum of healthy members."),
			"members": schema.ListNestedAttribute{Computed: true, MarkdownDescription: "Members of etcd.", NestedObject: schema.NestedAttributeObject{
				Attributes: map[string]schema.Attribute{"id": text("Id of the member."), "name": text("Node that runs it."), "leader": yes("Whether it leads."),
					"learner": yes("Whether it still catches up and has no vote."), "healthy": yes("Whether it answers.")}}},
			"nodes": schema.ListNestedAttribute{Computed: true, MarkdownDescription: "Registered nodes of all roles.", NestedObject: schema.NestedAttributeObject{
				Attributes: map[string]schema.Attribute{"name": text("Name, such as `router-1.site1`."), "role": text("Role."), "site": text("Site."),
					"address": text("Signalling address."), "state": text("`joining`, `ready`, `draining`, `drained` or `failed`."),
					"last_seen": text("When it last renewed its registration, RFC 3339, UTC.")}}},
		},
	}
}

// Configure implements datasource.DataSourceWithConfigure.
func (d *ClusterState) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.session = session.From(req.ProviderData, &resp.Diagnostics)
}

// Read implements datasource.DataSource.
func (d *ClusterState) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	var m clusterModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	w, parts, err := d.session.Locate(ctx, m.SiteID.ValueString(), 2)
	if err == nil {
		var state *management.Cluster
		err = d.session.Nodes.AnyStore(ctx, w, parts[1], "", func(c *management.Client) error {
			var err error
			state, err = c.Cluster(ctx)
			return err
		})
		if err == nil {
			m.fill(state)
		}
	}
	if err != nil {
		resp.Diagnostics.AddError("The cluster's state cannot be read", fmt.Sprintf("Site %s: %s", m.SiteID.ValueString(), err))
		return
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, m)...)
}

func (m *clusterModel) fill(c *management.Cluster) {
	m.ID, m.Healthy = types.StringValue(c.ID), types.BoolValue(c.Healthy)
	m.Members, m.Nodes = []memberModel{}, []nodeModel{}
	for _, x := range c.Members {
		m.Members = append(m.Members, memberModel{types.StringValue(x.ID), types.StringValue(x.Name), types.BoolValue(x.Leader),
			types.BoolValue(x.Learner), types.BoolValue(x.Healthy)})
	}
	for _, x := range c.Nodes {
		m.Nodes = append(m.Nodes, nodeModel{types.StringValue(x.Name), types.StringValue(x.Role), types.StringValue(x.Site), types.StringValue(x.Address),
			types.StringValue(string(x.State)), types.StringValue(x.LastSeen.UTC().Format(time.RFC3339))})
	}
}
