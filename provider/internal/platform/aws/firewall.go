package aws

import (
	"context"
	"fmt"
	"maps"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// coreGroup is the security group that every node has besides its role's: rules from "core" name it as their source.
const coreGroup = "core"

// groupNames are the security groups of a network.
func groupNames() []string {
	out := []string{coreGroup}
	for _, role := range config.Roles() {
		out = append(out, string(role))
	}
	return out
}

// firewall makes the groups, and brings the rules of each to those of the port table: what the table does not name is
// revoked.
func (n network) firewall(ctx context.Context, vpc string) error {
	groups, err := n.groups(ctx)
	if err != nil {
		return err
	}
	for _, name := range groupNames() {
		if _, ok := groups[name]; ok {
			continue
		}
		title := n.title(name)
		out, err := n.a.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: &title, VpcId: &vpc,
			Description:       awssdk.String("Clearwater deployment " + n.deployment.Name + ", " + name),
			TagSpecifications: n.a.tagged(types.ResourceTypeSecurityGroup, title, n.own(tagKind, name))})
		if coded(err, "InvalidGroup.Duplicate") { // made by a call whose answer was lost
			if groups, err = n.groups(ctx); err == nil && groups[name].GroupId == nil {
				err = fmt.Errorf("security group %s belongs to somebody else: %w", title, platform.ErrConflict)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return explain("creating security group "+title, err)
		}
		groups[name] = types.SecurityGroup{GroupId: out.GroupId}
	}
	for _, role := range config.Roles() {
		if err := n.rules(ctx, role, groups); err != nil {
			return err
		}
	}
	return nil
}

// groups finds the network's security groups by what they are for.
func (n network) groups(ctx context.Context) (map[string]types.SecurityGroup, error) {
	out := map[string]types.SecurityGroup{}
	pages := ec2.NewDescribeSecurityGroupsPaginator(n.a.ec2, &ec2.DescribeSecurityGroupsInput{Filters: filters(n.own())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, explain("listing security groups", err)
		}
		for _, g := range page.SecurityGroups {
			out[tag(g.Tags, tagKind)] = g
		}
	}
	return out, nil
}

// permission is one opening, in a form that can be compared: what Amazon reports, it groups as it likes.
type permission struct {
	protocol string
	from, to int32
	source   string // a group's id or a range
}

func (p permission) ip(description string) types.IpPermission {
	out := types.IpPermission{IpProtocol: &p.protocol, FromPort: &p.from, ToPort: &p.to}
	var about *string
	if description != "" {
		about = &description
	}
	if isRange(p.source) {
		out.IpRanges = []types.IpRange{{CidrIp: &p.source, Description: about}}
	} else {
		out.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &p.source, Description: about}}
	}
	return out
}

func isRange(source string) bool { return !(len(source) > 3 && source[:3] == "sg-") }

// rules brings one role's group to the port table.
func (n network) rules(ctx context.Context, role config.Role, groups map[string]types.SecurityGroup) error {
	wanted, err := n.permissions(role, groups)
	if err != nil {
		return err
	}
	group := groups[string(role)]
	var open, shut []types.IpPermission
	have := flatten(group.IpPermissions)
	for _, p := range sorted(maps.Keys(wanted)) {
		if _, ok := have[p]; !ok {
			open = append(open, p.ip(wanted[p]))
		}
	}
	for _, p := range sorted(maps.Keys(have)) {
		if _, ok := wanted[p]; !ok {
			shut = append(shut, p.ip(""))
		}
	}
	if len(shut) > 0 {
		if _, err := n.a.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: shut}); err != nil && !missing(err) {
			return explain("closing ports of "+string(role), err)
		}
	}
	if len(open) > 0 {
		_, err := n.a.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: open})
		if err != nil && !coded(err, "InvalidPermission.Duplicate") {
			return explain("opening ports of "+string(role), err)
		}
	}
	return nil
}

// permissions are the port table's for a role, with what each is for.
func (n network) permissions(role config.Role, groups map[string]types.SecurityGroup) (map[permission]string, error) {
	table, err := topology.Firewall(role)
	if err != nil {
		return nil, err
	}
	out := map[permission]string{}
	for _, rule := range table {
		to := rule.ToPort
		if to == 0 {
			to = rule.Port
		}
		var sources []string
		switch rule.From {
		case "anywhere":
			sources = []string{"0.0.0.0/0"}
		case "operator":
			for _, p := range n.a.cfg.Operators {
				sources = append(sources, p.String())
			}
		default: // core, or a role
			group, ok := groups[rule.From]
			if !ok {
				return nil, fmt.Errorf("port table: %s %s %d: unknown source %q", rule.Role, rule.Protocol, rule.Port, rule.From)
			}
			sources = []string{awssdk.ToString(group.GroupId)}
		}
		for _, source := range sources {
			out[permission{rule.Protocol, int32(rule.Port), int32(to), source}] = rule.For //nolint:gosec // ports
		}
	}
	return out, nil
}

func flatten(reported []types.IpPermission) map[permission]string {
	out := map[permission]string{}
	for _, r := range reported {
		p := permission{protocol: awssdk.ToString(r.IpProtocol), from: awssdk.ToInt32(r.FromPort), to: awssdk.ToInt32(r.ToPort)}
		for _, source := range r.IpRanges {
			p.source = awssdk.ToString(source.CidrIp)
			out[p] = awssdk.ToString(source.Description)
		}
		for _, pair := range r.UserIdGroupPairs {
			p.source = awssdk.ToString(pair.GroupId)
			out[p] = awssdk.ToString(pair.Description)
		}
	}
	return out
}

func sorted(keys func(func(permission) bool)) []permission {
	return slices.SortedFunc(keys, func(a, b permission) int {
		return slices.Compare([]string{a.protocol, fmt.Sprintf("%05d", a.from), a.source}, []string{b.protocol, fmt.Sprintf("%05d", b.from), b.source})
	})
}

// closeFirewall deletes the groups. Their rules go first, because groups name each other.
func (n network) closeFirewall(ctx context.Context) error {
	groups, err := n.groups(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := groups[name]
		if len(g.IpPermissions) == 0 {
			continue
		}
		if _, err := n.a.ec2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: g.IpPermissions}); err != nil && !missing(err) {
			return explain("closing ports of "+n.title(name), err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if err := n.a.gone(ctx, "deleting security group "+n.title(name), func() error {
			_, err := n.a.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: groups[name].GroupId})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
