package aws

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// public tells whether nodes of a role have an elastic address of their own.
func (a *AWS) public(role config.Role) bool {
	return !a.cfg.PrivateAddresses && (role == config.Edge || role == config.Portal)
}

// PublicAddress implements platform.PublicAddresses: an elastic address for each edge and portal, found again by the
// node's tags.
func (a *AWS) PublicAddress(ctx context.Context, deployment string, n platform.Node) (netip.Addr, error) {
	if !a.public(n.Role) {
		return netip.Addr{}, nil
	}
	id, err := a.id(ctx, deployment)
	if err != nil {
		return netip.Addr{}, err
	}
	have, err := a.addresses(ctx, id, n)
	if err != nil {
		return netip.Addr{}, err
	}
	var text string
	if len(have) > 0 {
		text = awssdk.ToString(have[0].PublicIp)
	} else {
		made, err := a.ec2.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc, TagSpecifications: a.tagged(types.ResourceTypeElasticIp, n.Name, nodeTags(id, n))})
		if err != nil {
			return netip.Addr{}, explain("allocating a public address for "+n.Name, err)
		}
		text = awssdk.ToString(made.PublicIp)
	}
	public, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("public address of %s: %w", n.Name, err)
	}
	return public, nil
}

// addresses are a node's elastic ones: the one in use first, then by allocation, so that every call sees the same first.
func (a *AWS) addresses(ctx context.Context, id string, n platform.Node) ([]types.Address, error) {
	out, err := a.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters(nodeTags(id, n))})
	if err != nil {
		return nil, explain("looking for the public address of "+n.Name, err)
	}
	slices.SortFunc(out.Addresses, func(a, b types.Address) int {
		rank := func(x types.Address) string {
			used := "1"
			if x.AssociationId != nil {
				used = "0"
			}
			return used + awssdk.ToString(x.AllocationId)
		}
		return slices.Compare([]string{rank(a)}, []string{rank(b)})
	})
	return out.Addresses, nil
}

// associate gives the instance the public address that was reserved for its node.
func (a *AWS) associate(ctx context.Context, id string, want platform.Node, instance string) error {
	have, err := a.addresses(ctx, id, want)
	if err != nil {
		return err
	}
	for _, address := range have {
		if awssdk.ToString(address.PublicIp) != want.Public.String() {
			continue
		}
		if awssdk.ToString(address.InstanceId) == instance {
			return nil
		}
		_, err := a.ec2.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: address.AllocationId, InstanceId: &instance, AllowReassociation: awssdk.Bool(true)})
		return explain("giving "+want.Name+" its public address", err)
	}
	return fmt.Errorf("public address %s of %s: %w", want.Public, want.Name, platform.ErrNotFound)
}

// Reach implements platform.Reacher: the private address, or the instance's public one if Terraform runs outside.
func (a *AWS) Reach(ctx context.Context, deployment string, n platform.Node) (netip.Addr, error) {
	if !a.cfg.ReachPublic {
		return n.Address, nil
	}
	id, err := a.id(ctx, deployment)
	if err != nil {
		return netip.Addr{}, err
	}
	instances, err := a.instances(ctx, map[string]string{tagDeployment: id, tagNode: n.Name})
	if err != nil {
		return netip.Addr{}, err
	}
	for _, i := range instances {
		if public, err := netip.ParseAddr(awssdk.ToString(i.PublicIpAddress)); err == nil {
			return public, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%s has no public address: run Terraform inside the network, or let nodes have one: %w", n.Name, platform.ErrNotFound)
}
