package aws

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Networks are VPCs of 10.<n>.0.0/16 unless a range is asked for. Each has one public subnet of /24 in each of up to three
// availability zones, from the start of the range; nodes share out by index.
const (
	networkBits = 16
	subnetBits  = 24
	mostZones   = 3
)

// recordedNetwork is what the parameter store keeps of a network.
type recordedNetwork struct {
	Name  string       `json:"name"`
	CIDR  netip.Prefix `json:"cidr"`
	Zones []string     `json:"zones"` // availability zones, each with a subnet, in this order for ever
}

// ApplyNetwork implements platform.Places.
func (a *AWS) ApplyNetwork(ctx context.Context, deployment string, want platform.Network) (platform.Network, error) {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return platform.Network{}, err
	}
	if !parameterName.MatchString(want.Name) {
		return platform.Network{}, fmt.Errorf("network name %q: allowed are letters, digits, - _ and .", want.Name)
	}
	d, err := a.recorded(ctx, id)
	if err != nil {
		return platform.Network{}, err
	}
	n := network{a: a, deployment: d, name: want.Name}
	have, err := n.chosen(ctx, want.CIDR)
	if err != nil {
		return platform.Network{}, err
	}
	if err := a.putJSON(ctx, worldParameter(id, "networks", want.Name), have); err != nil {
		return platform.Network{}, err
	}
	if err := n.create(ctx, have.CIDR, have.Zones); err != nil {
		return platform.Network{}, fmt.Errorf("network %s: %w", want.Name, err)
	}
	return platform.Network{Name: have.Name, CIDR: have.CIDR, Zones: len(have.Zones)}, nil
}

// network is one VPC of a deployment and what stands in it.
type network struct {
	a          *AWS
	deployment recorded
	name       string
}

func (n network) own(more ...string) map[string]string {
	out := map[string]string{tagDeployment: n.deployment.ID, tagNetwork: n.name}
	for i := 0; i+1 < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func (n network) title(what string) string {
	if what == "" {
		return n.deployment.Name + "-" + n.name
	}
	return n.deployment.Name + "-" + n.name + "-" + what
}

// chosen is what the network was made with, or shall be: the range that was asked for, else the first that no VPC of the
// region has, and the availability zones of now.
func (n network) chosen(ctx context.Context, asked netip.Prefix) (recordedNetwork, error) {
	text, err := n.a.get(ctx, worldParameter(n.deployment.ID, "networks", n.name))
	if err == nil {
		have, err := decode[recordedNetwork](text)
		if err == nil && asked.IsValid() && asked != have.CIDR {
			err = fmt.Errorf("network %s has the range %s, which cannot become %s: %w", n.name, have.CIDR, asked, platform.ErrConflict)
		}
		return have, err
	}
	if !errors.Is(err, platform.ErrNotFound) {
		return recordedNetwork{}, err
	}
	out := recordedNetwork{Name: n.name}
	if out.CIDR, err = n.freeRange(ctx, asked); err == nil {
		out.Zones, err = n.a.zoneNames(ctx)
	}
	return out, err
}

func (n network) freeRange(ctx context.Context, asked netip.Prefix) (netip.Prefix, error) {
	taken, err := n.a.ranges(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	overlaps := func(p netip.Prefix) int { return slices.IndexFunc(taken, p.Overlaps) }
	if asked.IsValid() {
		if asked.Bits() > subnetBits-2 || asked.Bits() < networkBits {
			return netip.Prefix{}, fmt.Errorf("range %s: allowed is /%d to /%d, so that each availability zone has a subnet", asked, networkBits, subnetBits-2)
		}
		if i := overlaps(asked); i >= 0 {
			return netip.Prefix{}, fmt.Errorf("range %s overlaps %s, which another VPC of the region has: choose another, or none: %w", asked, taken[i], platform.ErrConflict)
		}
		return asked, nil
	}
	for i := range 256 {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), networkBits); overlaps(p) < 0 {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("no range 10.n.0.0/16 is free in the region: give the network a range")
}

// ranges are those of every VPC of the region, and of networks that are recorded but not made yet.
func (a *AWS) ranges(ctx context.Context) ([]netip.Prefix, error) {
	var out []netip.Prefix
	pages := ec2.NewDescribeVpcsPaginator(a.ec2, &ec2.DescribeVpcsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, explain("listing VPCs", err)
		}
		for _, v := range page.Vpcs {
			if p, err := netip.ParsePrefix(awssdk.ToString(v.CidrBlock)); err == nil {
				out = append(out, p)
			}
		}
	}
	return out, nil
}

// create makes what is missing of VPC, gateway, route, subnets and security groups.
func (n network) create(ctx context.Context, cidr netip.Prefix, zones []string) error {
	vpcs, err := n.vpcs(ctx)
	if err != nil {
		return err
	}
	var vpc string
	if len(vpcs) > 0 {
		vpc = vpcs[0]
	} else {
		out, err := n.a.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: awssdk.String(cidr.String()), TagSpecifications: n.a.tagged(types.ResourceTypeVpc, n.title(""), n.own())})
		if err != nil {
			return explain("creating the VPC", err)
		}
		vpc = awssdk.ToString(out.Vpc.VpcId)
	}
	if err := n.a.until(ctx, "VPC "+vpc+" is available", func() (bool, error) {
		out, err := n.a.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{vpc}})
		if missing(err) {
			return false, nil // Amazon tells of it a little later than it makes it
		}
		if err != nil {
			return false, explain("looking at VPC "+vpc, err)
		}
		return len(out.Vpcs) > 0 && out.Vpcs[0].State == types.VpcStateAvailable, nil
	}); err != nil {
		return err
	}
	for _, in := range []*ec2.ModifyVpcAttributeInput{
		{VpcId: &vpc, EnableDnsSupport: &types.AttributeBooleanValue{Value: awssdk.Bool(true)}},
		{VpcId: &vpc, EnableDnsHostnames: &types.AttributeBooleanValue{Value: awssdk.Bool(true)}},
	} {
		if _, err := n.a.ec2.ModifyVpcAttribute(ctx, in); err != nil {
			return explain("switching DNS of VPC "+vpc+" on", err)
		}
	}
	if err := n.outside(ctx, vpc); err != nil {
		return err
	}
	if err := n.subnets(ctx, vpc, cidr, zones); err != nil {
		return err
	}
	if err := n.firewall(ctx, vpc); err != nil {
		return err
	}
	if n.a.cfg.PrivateZone {
		return n.a.ensurePrivateZone(ctx, n.deployment, vpc)
	}
	return nil
}

// vpcs are the ids of the network's VPC, and of those that Amazon made without our hearing of it: the first is in use.
func (n network) vpcs(ctx context.Context) ([]string, error) {
	out, err := n.a.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filters(n.own())})
	if err != nil {
		return nil, explain("looking for the VPC", err)
	}
	var ids []string
	for _, v := range out.Vpcs {
		ids = append(ids, awssdk.ToString(v.VpcId))
	}
	slices.Sort(ids)
	return ids, nil
}

// outside gives the VPC an internet gateway and a default route to it.
func (n network) outside(ctx context.Context, vpc string) error {
	gateways, err := n.a.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: filters(n.own())})
	if err != nil {
		return explain("looking for the internet gateway", err)
	}
	var gateway types.InternetGateway
	if i := slices.IndexFunc(gateways.InternetGateways, func(g types.InternetGateway) bool { return len(g.Attachments) > 0 }); i >= 0 {
		gateway = gateways.InternetGateways[i]
	} else if len(gateways.InternetGateways) > 0 {
		gateway = gateways.InternetGateways[0]
	} else {
		out, err := n.a.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{TagSpecifications: n.a.tagged(types.ResourceTypeInternetGateway, n.title(""), n.own())})
		if err != nil {
			return explain("creating the internet gateway", err)
		}
		gateway = *out.InternetGateway
	}
	if len(gateway.Attachments) == 0 {
		_, err := n.a.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGatewayId, VpcId: &vpc})
		if err != nil && !coded(err, "Resource.AlreadyAssociated") {
			return explain("attaching the internet gateway", err)
		}
	}
	table, err := n.mainTable(ctx, vpc)
	if err != nil {
		return err
	}
	_, err = n.a.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: awssdk.String("0.0.0.0/0"), GatewayId: gateway.InternetGatewayId})
	if coded(err, "RouteAlreadyExists") {
		return nil
	}
	return explain("routing to the internet gateway", err)
}

// mainTable is the VPC's main route table, which all subnets use.
func (n network) mainTable(ctx context.Context, vpc string) (*string, error) {
	out, err := n.a.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{
		{Name: awssdk.String("vpc-id"), Values: []string{vpc}}, {Name: awssdk.String("association.main"), Values: []string{"true"}}}})
	if err != nil {
		return nil, explain("looking for the route table", err)
	}
	if len(out.RouteTables) == 0 {
		return nil, fmt.Errorf("VPC %s has no main route table", vpc)
	}
	return out.RouteTables[0].RouteTableId, nil
}

// subnets makes one subnet in each of the first availability zones.
func (n network) subnets(ctx context.Context, vpc string, cidr netip.Prefix, zones []string) error {
	have, err := n.listSubnets(ctx)
	if err != nil {
		return err
	}
	for i, zone := range zones {
		block := subnet(cidr, i)
		if slices.ContainsFunc(have, func(s types.Subnet) bool { return awssdk.ToString(s.CidrBlock) == block.String() }) {
			continue
		}
		if _, err := n.a.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: &vpc, AvailabilityZone: &zone, CidrBlock: awssdk.String(block.String()),
			TagSpecifications: n.a.tagged(types.ResourceTypeSubnet, n.title(zone), n.own())}); err != nil && !coded(err, "InvalidSubnet.Conflict") {
			return explain("creating subnet "+block.String()+" in "+zone, err)
		}
	}
	return nil
}

// subnet is the i-th /24 of a network.
func subnet(cidr netip.Prefix, i int) netip.Prefix {
	bytes := cidr.Masked().Addr().As4()
	bytes[2] += byte(i) //nolint:gosec // at most 3
	return netip.PrefixFrom(netip.AddrFrom4(bytes), subnetBits)
}

// zoneNames are the availability zones that networks use, in the order of their names.
func (a *AWS) zoneNames(ctx context.Context) ([]string, error) {
	out, err := a.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{Filters: []types.Filter{
		{Name: awssdk.String("state"), Values: []string{"available"}}, {Name: awssdk.String("zone-type"), Values: []string{"availability-zone"}}}})
	if err != nil {
		return nil, explain("listing availability zones", err)
	}
	var names []string
	for _, z := range out.AvailabilityZones {
		names = append(names, awssdk.ToString(z.ZoneName))
	}
	slices.Sort(names)
	return names[:min(mostZones, len(names))], nil
}

func (n network) listSubnets(ctx context.Context) ([]types.Subnet, error) {
	out, err := n.a.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filters(n.own())})
	if err != nil {
		return nil, explain("listing subnets", err)
	}
	return out.Subnets, nil
}

// subnetOf finds the subnet that an address lies in.
func (n network) subnetOf(ctx context.Context, address netip.Addr) (types.Subnet, error) {
	all, err := n.listSubnets(ctx)
	if err != nil {
		return types.Subnet{}, err
	}
	for _, s := range all {
		if p, err := netip.ParsePrefix(awssdk.ToString(s.CidrBlock)); err == nil && p.Contains(address) {
			return s, nil
		}
	}
	return types.Subnet{}, fmt.Errorf("no subnet of network %s holds the address %s", n.name, address)
}

// DeleteNetwork implements platform.Places. Each part waits for the one before: EC2 refuses to delete what is in use.
func (a *AWS) DeleteNetwork(ctx context.Context, deployment, name string) error {
	id, err := a.id(ctx, deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	d, err := a.recorded(ctx, id)
	if err != nil {
		return err
	}
	n := network{a: a, deployment: d, name: name}
	if err := n.delete(ctx); err != nil {
		return fmt.Errorf("network %s: %w", name, err)
	}
	return a.remove(ctx, worldParameter(id, "networks", name))
}

func (n network) delete(ctx context.Context) error {
	vpcs, err := n.vpcs(ctx)
	if err != nil {
		return err
	}
	for _, vpc := range vpcs {
		if !n.a.cfg.PrivateZone {
			break
		}
		if err := n.a.leavePrivateZone(ctx, n.deployment.ID, vpc); err != nil {
			return err
		}
	}
	if err := n.closeFirewall(ctx); err != nil {
		return err
	}
	subnets, err := n.listSubnets(ctx)
	if err != nil {
		return err
	}
	for _, s := range subnets {
		if err := n.a.gone(ctx, "deleting subnet "+awssdk.ToString(s.SubnetId), func() error {
			_, err := n.a.ec2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: s.SubnetId})
			return err
		}); err != nil {
			return err
		}
	}
	if err := n.closeGateways(ctx); err != nil {
		return err
	}
	for _, vpc := range vpcs {
		if err := n.a.gone(ctx, "deleting VPC "+vpc, func() error {
			_, err := n.a.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &vpc})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (n network) closeGateways(ctx context.Context) error {
	gateways, err := n.a.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: filters(n.own())})
	if err != nil {
		return explain("looking for the internet gateway", err)
	}
	for _, g := range gateways.InternetGateways {
		for _, to := range g.Attachments {
			if err := n.a.gone(ctx, "detaching internet gateway "+awssdk.ToString(g.InternetGatewayId), func() error {
				_, err := n.a.ec2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: g.InternetGatewayId, VpcId: to.VpcId})
				return err
			}); err != nil {
				return err
			}
		}
		if err := n.a.gone(ctx, "deleting internet gateway "+awssdk.ToString(g.InternetGatewayId), func() error {
			_, err := n.a.ec2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: g.InternetGatewayId})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// gone repeats a deletion while something still depends on what is deleted: the parts of an instance leave a little
// after it.
func (a *AWS) gone(ctx context.Context, doing string, remove func() error) error {
	return a.until(ctx, doing, func() (bool, error) {
		err := remove()
		switch {
		case err == nil, missing(err):
			return true, nil
		case coded(err, "DependencyViolation", "InvalidVolume.InUse", "VolumeInUse", "IncorrectState", "InvalidIPAddress.InUse"):
			return false, nil
		}
		return false, explain(doing, err)
	})
}

// ApplySite implements platform.Places.
func (a *AWS) ApplySite(ctx context.Context, deployment string, want platform.Site) error {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return err
	}
	if !parameterName.MatchString(want.Name) {
		return fmt.Errorf("site name %q: allowed are letters, digits, - _ and .", want.Name)
	}
	return a.putJSON(ctx, worldParameter(id, "sites", want.Name), want)
}

// DeleteSite implements platform.Places.
func (a *AWS) DeleteSite(ctx context.Context, deployment, name string) error {
	id, err := a.id(ctx, deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.remove(ctx, worldParameter(id, "sites", name))
}
