package aws

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// dataDevice is where a store node's data volume is attached; its image mounts it.
const dataDevice = "/dev/sdf"

// ApplyNode implements platform.Machines. An instance whose image or configuration differs is replaced by one with the
// same address, public address and data volume: an instance is what it booted from.
func (a *AWS) ApplyNode(ctx context.Context, deployment string, want platform.Node) error {
	id, err := a.id(ctx, deployment)
	if err != nil {
		return err
	}
	d, err := a.recorded(ctx, id)
	if err != nil {
		return err
	}
	if err := a.checkImage(ctx, want); err != nil {
		return err
	}
	data, digest, err := userData(want.Name+"."+d.HomeDomain, "clearwater-"+string(want.Role)+".service", want.Config)
	if err != nil {
		return err
	}
	instances, err := a.instances(ctx, map[string]string{tagDeployment: id, tagNode: want.Name})
	if err != nil {
		return err
	}
	var instance string
	for _, i := range instances {
		same := tag(i.Tags, tagDigest) == want.Image.SHA256 && tag(i.Tags, tagUserData) == digest && tag(i.Tags, tagIncarnation) == want.Incarnation &&
			awssdk.ToString(i.PrivateIpAddress) == want.Address.String()
		if same && instance == "" {
			instance = awssdk.ToString(i.InstanceId)
		} else if err := a.terminate(ctx, i); err != nil {
			return err
		}
	}
	if instance == "" {
		if instance, err = a.launch(ctx, d, want, data, digest); err != nil {
			return err
		}
	}
	return a.complete(ctx, id, want, instance)
}

// instances are those with the tags that are not on their way out.
func (a *AWS) instances(ctx context.Context, own map[string]string) ([]types.Instance, error) {
	where := append(filters(own), types.Filter{Name: awssdk.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}})
	var out []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(a.ec2, &ec2.DescribeInstancesInput{Filters: where})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, explain("listing instances", err)
		}
		for _, r := range page.Reservations {
			out = append(out, r.Instances...)
		}
	}
	return out, nil
}

func nodeTags(id string, n platform.Node) map[string]string {
	return map[string]string{tagDeployment: id, tagNode: n.Name, tagSite: n.Site, tagRole: string(n.Role), tagIndex: strconv.Itoa(n.Index)}
}

// launch runs a new instance at the node's address. That address is also the fence: EC2 gives it to one instance only.
func (a *AWS) launch(ctx context.Context, d recorded, want platform.Node, data, digest string) (string, error) {
	n, group, err := a.place(ctx, d, want)
	if err != nil {
		return "", err
	}
	subnet, err := n.subnetOf(ctx, want.Address)
	if err != nil {
		return "", err
	}
	own := nodeTags(d.ID, want)
	own[tagDigest], own[tagUserData], own[tagIncarnation] = want.Image.SHA256, digest, want.Incarnation
	title := d.Name + "-" + want.Name
	in := &ec2.RunInstancesInput{
		ImageId: &want.Image.Path, InstanceType: types.InstanceType(a.cfg.InstanceType), MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
		UserData: awssdk.String(base64.StdEncoding.EncodeToString([]byte(data))),
		NetworkInterfaces: []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: awssdk.Int32(0), SubnetId: subnet.SubnetId,
			PrivateIpAddress: awssdk.String(want.Address.String()), Groups: group, AssociatePublicIpAddress: awssdk.Bool(true), DeleteOnTermination: awssdk.Bool(true)}},
		// Version 2 alone: a request that a node is tricked into cannot read its credentials.
		MetadataOptions:   &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: awssdk.Int32(1)},
		TagSpecifications: slices.Concat(a.tagged(types.ResourceTypeInstance, title, own), a.tagged(types.ResourceTypeVolume, title, own)),
	}
	if a.cfg.KeyPair != "" {
		in.KeyName = &a.cfg.KeyPair
	}
	var id string
	err = a.until(ctx, want.Address.String()+" is free", func() (bool, error) {
		out, err := a.ec2.RunInstances(ctx, in)
		if coded(err, "InvalidIPAddress.InUse") {
			return false, nil // of the instance that has just ended
		}
		if err != nil {
			return false, explain("starting "+want.Name, err)
		}
		id = awssdk.ToString(out.Instances[0].InstanceId)
		return true, nil
	})
	return id, err
}

// place finds the network that the node's site stands in, and the groups of its role there.
func (a *AWS) place(ctx context.Context, d recorded, want platform.Node) (network, []string, error) {
	w, err := a.Reflect(ctx, d.ID)
	if err != nil {
		return network{}, nil, err
	}
	for _, have := range w.Networks {
		if !have.CIDR.Contains(want.Address) {
			continue
		}
		n := network{a: a, deployment: d, name: have.Name}
		groups, err := n.groups(ctx)
		if err != nil {
			return n, nil, err
		}
		var ids []string
		for _, name := range []string{coreGroup, string(want.Role)} {
			g, ok := groups[name]
			if !ok {
				return n, nil, fmt.Errorf("network %s has no security group for %s: apply the network again", have.Name, name)
			}
			ids = append(ids, awssdk.ToString(g.GroupId))
		}
		return n, ids, nil
	}
	return network{}, nil, fmt.Errorf("no network of the deployment holds %s: %w", want.Address, platform.ErrNotFound)
}

// complete starts the instance if it stands still, and gives it what outlives instances.
func (a *AWS) complete(ctx context.Context, id string, want platform.Node, instance string) error {
	if err := a.running(ctx, want.Name, instance); err != nil {
		return err
	}
	if want.Public.IsValid() {
		if err := a.associate(ctx, id, want, instance); err != nil {
			return err
		}
	}
	if want.Role == config.Store {
		return a.dataVolume(ctx, id, want, instance)
	}
	return nil
}

func (a *AWS) running(ctx context.Context, name, instance string) error {
	return a.until(ctx, name+" runs", func() (bool, error) {
		out, err := a.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}})
		if missing(err) {
			return false, nil // Amazon tells of it a little later than it makes it
		}
		if err != nil {
			return false, explain("looking at "+name, err)
		}
		if len(out.Reservations) == 0 || len(out.Reservations[0].Instances) == 0 {
			return false, nil
		}
		i := out.Reservations[0].Instances[0]
		switch i.State.Name {
		case types.InstanceStateNameRunning:
			return true, nil
		case types.InstanceStateNameStopped:
			_, err := a.ec2.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{instance}})
			return false, explain("starting "+name, err)
		case types.InstanceStateNameTerminated, types.InstanceStateNameShuttingDown:
			reason := "no reason was given"
			if i.StateReason != nil {
				reason = awssdk.ToString(i.StateReason.Message)
			}
			return false, fmt.Errorf("instance %s of %s ended while it was waited for: %s", instance, name, reason)
		}
		return false, nil
	})
}

// dataVolume attaches the volume that belongs to a store node's index; the first time it is made.
func (a *AWS) dataVolume(ctx context.Context, id string, want platform.Node, instance string) error {
	volume, err := a.ensureVolume(ctx, id, want, instance)
	if err != nil {
		return err
	}
	return a.until(ctx, "the data volume of "+want.Name+" is attached", func() (bool, error) {
		out, err := a.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{volume}})
		if missing(err) {
			return false, nil
		}
		if err != nil {
			return false, explain("looking at the data volume of "+want.Name, err)
		}
		switch v := out.Volumes[0]; {
		case v.State == types.VolumeStateInUse && len(v.Attachments) > 0 && awssdk.ToString(v.Attachments[0].InstanceId) == instance:
			return v.Attachments[0].State == types.VolumeAttachmentStateAttached, nil
		case v.State == types.VolumeStateAvailable:
			_, err := a.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: &instance, Device: awssdk.String(dataDevice)})
			return false, explain("attaching the data volume of "+want.Name, err)
		}
		return false, nil // it is being made, or leaves the instance before
	})
}

func (a *AWS) ensureVolume(ctx context.Context, id string, want platform.Node, instance string) (string, error) {
	own := nodeTags(id, want)
	own[tagKind] = "data"
	out, err := a.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: filters(own)})
	if err != nil {
		return "", explain("looking for the data volume of "+want.Name, err)
	}
	if len(out.Volumes) > 0 { // the oldest has the data: a further one comes from a call whose answer was lost
		oldest := slices.MinFunc(out.Volumes, func(a, b types.Volume) int { return awssdk.ToTime(a.CreateTime).Compare(awssdk.ToTime(b.CreateTime)) })
		return awssdk.ToString(oldest.VolumeId), nil
	}
	described, err := a.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}})
	if err != nil {
		return "", explain("looking at "+want.Name, err)
	}
	in := &ec2.CreateVolumeInput{AvailabilityZone: described.Reservations[0].Instances[0].Placement.AvailabilityZone, Size: &a.cfg.DataVolume, VolumeType: types.VolumeTypeGp3,
		Encrypted: awssdk.Bool(true), TagSpecifications: a.tagged(types.ResourceTypeVolume, want.Name+"-data", own)}
	if a.cfg.KMSKey != "" {
		in.KmsKeyId = &a.cfg.KMSKey
	}
	made, err := a.ec2.CreateVolume(ctx, in)
	if err != nil {
		return "", explain("making the data volume of "+want.Name, err)
	}
	return awssdk.ToString(made.VolumeId), nil
}

// terminate ends an instance and waits until its address and volume are free.
func (a *AWS) terminate(ctx context.Context, i types.Instance) error {
	id, name := awssdk.ToString(i.InstanceId), tag(i.Tags, tagNode)
	if _, err := a.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil && !missing(err) {
		return explain("ending "+name, err)
	}
	return a.until(ctx, name+" has ended", func() (bool, error) {
		out, err := a.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if missing(err) {
			return true, nil
		}
		if err != nil {
			return false, explain("looking at "+name, err)
		}
		for _, r := range out.Reservations {
			for _, i := range r.Instances {
				if i.State.Name != types.InstanceStateNameTerminated {
					return false, nil
				}
			}
		}
		return true, nil
	})
}

// DeleteNode implements platform.Machines.
func (a *AWS) DeleteNode(ctx context.Context, deployment, name string) error {
	id, err := a.id(ctx, deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.deleteMachines(ctx, id, map[string]string{tagNode: name})
}

// deleteMachines ends the instances of a deployment that have the tags, and what outlives an instance: elastic addresses
// and data volumes.
func (a *AWS) deleteMachines(ctx context.Context, id string, own map[string]string) error {
	where := map[string]string{tagDeployment: id}
	for key, value := range own {
		where[key] = value
	}
	instances, err := a.instances(ctx, where)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if err := a.terminate(ctx, i); err != nil {
			return err
		}
	}
	if err := a.releaseAddresses(ctx, where); err != nil {
		return err
	}
	where[tagKind] = "data"
	return a.deleteVolumes(ctx, where)
}

func (a *AWS) releaseAddresses(ctx context.Context, where map[string]string) error {
	addresses, err := a.ec2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters(where)})
	if err != nil {
		return explain("listing public addresses", err)
	}
	for _, address := range addresses.Addresses {
		if address.AssociationId != nil {
			if _, err := a.ec2.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: address.AssociationId}); err != nil && !missing(err) {
				return explain("taking back "+awssdk.ToString(address.PublicIp), err)
			}
		}
		if err := a.gone(ctx, "releasing "+awssdk.ToString(address.PublicIp), func() error {
			_, err := a.ec2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: address.AllocationId})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (a *AWS) deleteVolumes(ctx context.Context, where map[string]string) error {
	volumes, err := a.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: filters(where)})
	if err != nil {
		return explain("listing data volumes", err)
	}
	for _, v := range volumes.Volumes {
		if a.cfg.FinalSnapshot {
			if err := a.snapshot(ctx, v); err != nil {
				return err
			}
		}
		if err := a.gone(ctx, "deleting volume "+awssdk.ToString(v.VolumeId), func() error {
			_, err := a.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId})
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// snapshot keeps what a volume holds. One that a former, interrupted deletion took of it is enough.
func (a *AWS) snapshot(ctx context.Context, v types.Volume) error {
	volume, node := awssdk.ToString(v.VolumeId), tag(v.Tags, tagNode)
	have, err := a.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{{Name: awssdk.String("volume-id"), Values: []string{volume}}}})
	if err != nil {
		return explain("looking for snapshots of "+node, err)
	}
	var id string
	if len(have.Snapshots) > 0 {
		id = awssdk.ToString(have.Snapshots[0].SnapshotId)
	} else {
		made, err := a.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &volume, Description: awssdk.String("Clearwater: final data of " + node),
			TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSnapshot, Tags: v.Tags}}})
		if err != nil {
			return explain("taking a snapshot of "+node, err)
		}
		id = awssdk.ToString(made.SnapshotId)
	}
	return a.until(ctx, "the snapshot of "+node+" is complete", func() (bool, error) {
		out, err := a.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
		if err != nil {
			return false, explain("looking at snapshot "+id, err)
		}
		if out.Snapshots[0].State == types.SnapshotStateError {
			return false, fmt.Errorf("snapshot %s of %s failed: %s", id, node, awssdk.ToString(out.Snapshots[0].StateMessage))
		}
		return out.Snapshots[0].State == types.SnapshotStateCompleted, nil
	})
}

// nodeOf is what an instance and its user data say.
func (a *AWS) nodeOf(ctx context.Context, i types.Instance) (platform.Node, error) {
	name := tag(i.Tags, tagNode)
	index, err := strconv.Atoi(tag(i.Tags, tagIndex))
	if err != nil {
		return platform.Node{}, fmt.Errorf("instance %s: tag %s: %w", awssdk.ToString(i.InstanceId), tagIndex, err)
	}
	address, err := netip.ParseAddr(awssdk.ToString(i.PrivateIpAddress))
	if err != nil {
		return platform.Node{}, fmt.Errorf("instance %s: %w", awssdk.ToString(i.InstanceId), err)
	}
	out, err := a.ec2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{InstanceId: i.InstanceId, Attribute: types.InstanceAttributeNameUserData})
	if err != nil {
		return platform.Node{}, explain("reading the user data of "+name, err)
	}
	var files map[string]string
	if out.UserData != nil {
		if files, err = filesOf(awssdk.ToString(out.UserData.Value)); err != nil {
			return platform.Node{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	var public netip.Addr
	if a.public(config.Role(tag(i.Tags, tagRole))) {
		public, _ = netip.ParseAddr(awssdk.ToString(i.PublicIpAddress)) // zero while it has none
	}
	return platform.Node{Name: name, Role: config.Role(tag(i.Tags, tagRole)), Site: tag(i.Tags, tagSite), Index: index, Address: address, Public: public,
		Incarnation: tag(i.Tags, tagIncarnation), Image: platform.Image{Path: awssdk.ToString(i.ImageId), SHA256: tag(i.Tags, tagDigest)}, Config: files,
		Running: i.State.Name == types.InstanceStateNameRunning}, nil
}
