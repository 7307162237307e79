package provider

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/provider/internal/check"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/aws"
)

type awsModel struct {
	Region           types.String `tfsdk:"region"`
	HomeRegion       types.String `tfsdk:"home_region"`
	Profile          types.String `tfsdk:"profile"`
	AssumeRole       types.String `tfsdk:"assume_role_arn"`
	Endpoint         types.String `tfsdk:"endpoint"`
	KMSKey           types.String `tfsdk:"kms_key_id"`
	KeyPair          types.String `tfsdk:"key_pair"`
	Operators        types.List   `tfsdk:"operator_cidrs"`
	PrivateZone      types.Bool   `tfsdk:"private_zone"`
	PrivateAddresses types.Bool   `tfsdk:"private_addresses"`
	Reach            types.String `tfsdk:"reach"`
	Resolver         types.String `tfsdk:"resolver"`
	InstanceType     types.String `tfsdk:"instance_type"`
	DataVolume       types.Int32  `tfsdk:"data_volume_gib"`
	FinalSnapshot    types.Bool   `tfsdk:"final_snapshot"`
	Tags             types.Map    `tfsdk:"default_tags"`
}

func awsSchema() schema.Attribute {
	text := func(about string, v ...validator.String) schema.Attribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: about, Validators: v}
	}
	flag := func(about string) schema.Attribute {
		return schema.BoolAttribute{Optional: true, MarkdownDescription: about + " Default false."}
	}
	return schema.SingleNestedAttribute{Optional: true, MarkdownDescription: "Settings of the platform that runs nodes as EC2 instances, with Route 53 and the SSM parameter store. Credentials are found as by every AWS tool.",
		Attributes: map[string]schema.Attribute{
			"region":            text("Region of networks and nodes. Default: the environment's."),
			"home_region":       text("Region of the parameter store that holds keys and what is known of the deployment; the same for all sites of one. Default: `region`."),
			"profile":           text("Profile of the shared configuration files."),
			"assume_role_arn":   text("Role to assume."),
			"endpoint":          text("URL of all services, for emulators."),
			"kms_key_id":        text("Key that encrypts secrets and data volumes. Default: the account's own keys."),
			"key_pair":          text("Name of the SSH key pair of nodes. Default: none."),
			"private_zone":      flag("Make a hosted zone for the home domain that only the deployment's networks see. Without it the home domain, or a parent, must be a public hosted zone of the account."),
			"private_addresses": flag("Give edges and portals no elastic addresses, for phones within the network."),
			"reach": text("At which addresses nodes are steered: `private` (Terraform runs inside the network; the default) or `public`.",
				stringvalidator.OneOf("private", "public")),
			"resolver":        text("`address:port` of the name server that nodes use. Default: the one that every VPC has, `169.254.169.253:53`.", check.AddressPort()),
			"instance_type":   text("Instance type of nodes. Default `t3.medium`."),
			"data_volume_gib": schema.Int32Attribute{Optional: true, MarkdownDescription: "Size of a store node's data volume. Default 20."},
			"final_snapshot":  flag("Keep a snapshot of a store node's data volume when the node is deleted."),
			"operator_cidrs": schema.ListAttribute{Optional: true, ElementType: types.StringType, Validators: []validator.List{listvalidator.ValueStringsAre(check.Prefix())},
				MarkdownDescription: "Ranges from which management ports and SSH are open. Default: none."},
			"default_tags": schema.MapAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: "Tags of everything that is made."},
		}}
}

// identifyTimeout bounds the question whose the credentials are.
const identifyTimeout = 30 * time.Second

func openAWS(ctx context.Context, m *awsModel, diags *diag.Diagnostics) platform.Platform {
	cfg := aws.Config{
		Region: m.Region.ValueString(), HomeRegion: m.HomeRegion.ValueString(), Profile: m.Profile.ValueString(), AssumeRole: m.AssumeRole.ValueString(),
		Endpoint: m.Endpoint.ValueString(), KMSKey: m.KMSKey.ValueString(), KeyPair: m.KeyPair.ValueString(), PrivateZone: m.PrivateZone.ValueBool(),
		PrivateAddresses: m.PrivateAddresses.ValueBool(), ReachPublic: m.Reach.ValueString() == "public", Resolver: m.Resolver.ValueString(),
		InstanceType: m.InstanceType.ValueString(), DataVolume: m.DataVolume.ValueInt32(), FinalSnapshot: m.FinalSnapshot.ValueBool(),
	}
	var operators []string
	diags.Append(m.Operators.ElementsAs(ctx, &operators, false)...)
	diags.Append(m.Tags.ElementsAs(ctx, &cfg.Tags, false)...)
	for _, text := range operators {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			diags.AddAttributeError(path.Root("aws").AtName("operator_cidrs"), "Invalid range", err.Error())
			continue
		}
		cfg.Operators = append(cfg.Operators, prefix.Masked())
	}
	if diags.HasError() {
		return nil
	}
	cloud, err := aws.New(ctx, cfg)
	if err == nil {
		bounded, cancel := context.WithTimeout(ctx, identifyTimeout)
		defer cancel()
		_, err = cloud.Check(bounded)
	}
	if err != nil {
		diags.AddAttributeError(path.Root("aws"), "AWS cannot be used", err.Error())
		return nil
	}
	return cloud
}
