package aws_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/aws"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// made is a deployment with a network that is destroyed at the end of the test.
func made(t *testing.T, a *aws.AWS, name string) (platform.Deployment, platform.Network) {
	t.Helper()
	d, err := a.ApplyDeployment(t.Context(), platform.Deployment{ID: "id-" + name, Name: name, HomeDomain: name + ".example.org", CACertificate: "CA"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := a.ApplyNetwork(t.Context(), d.ID, platform.Network{Name: "core"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.DestroyDeployment(context.WithoutCancel(t.Context()), d.ID); err != nil {
			t.Error(err)
		}
	})
	return d, n
}

func byTag(key, value string) []ec2types.Filter {
	return []ec2types.Filter{{Name: awssdk.String("tag:" + key), Values: []string{value}}}
}

// What is open is the port table, no more: anywhere, the operators' ranges, all nodes, or one role's.
func TestSecurityGroupsAreThePortTable(t *testing.T) {
	publicZone(t, "example.org.")
	a := open(t, nil)
	d, _ := made(t, a, "ports")
	machines, _ := clients(t, t.Context())
	check := func() {
		t.Helper()
		out, err := machines.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: byTag("clearwater:deployment", d.ID)})
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]string{"0.0.0.0/0": "anywhere", "192.0.2.0/24": "operator"}
		for _, g := range out.SecurityGroups {
			names[awssdk.ToString(g.GroupId)] = strings.TrimPrefix(awssdk.ToString(g.GroupName), "ports-core-")
		}
		if len(out.SecurityGroups) != 1+len(config.Roles()) {
			t.Fatalf("%d groups", len(out.SecurityGroups))
		}
		for _, g := range out.SecurityGroups {
			role := config.Role(names[awssdk.ToString(g.GroupId)])
			var got, want []string
			for _, p := range g.IpPermissions {
				line := func(from string) string {
					return fmt.Sprintf("%s %d-%d from %s", awssdk.ToString(p.IpProtocol), awssdk.ToInt32(p.FromPort), awssdk.ToInt32(p.ToPort), names[from])
				}
				for _, r := range p.IpRanges {
					got = append(got, line(awssdk.ToString(r.CidrIp)))
				}
				for _, r := range p.UserIdGroupPairs {
					got = append(got, line(awssdk.ToString(r.GroupId)))
				}
			}
			table, err := topology.Firewall(role)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range table {
				want = append(want, fmt.Sprintf("%s %d-%d from %s", r.Protocol, r.Port, max(r.Port, r.ToPort), r.From))
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, slices.Compact(want)) {
				t.Errorf("%s is open for\n%s\nwant\n%s", role, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	check()
	// Somebody opens a port by hand; the next apply closes it.
	groups, err := machines.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: byTag("clearwater:kind", "store")})
	if err != nil || len(groups.SecurityGroups) != 1 {
		t.Fatal(groups, err)
	}
	if _, err := machines.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: groups.SecurityGroups[0].GroupId, IpPermissions: []ec2types.IpPermission{
		{IpProtocol: awssdk.String("tcp"), FromPort: awssdk.Int32(9042), ToPort: awssdk.Int32(9042), IpRanges: []ec2types.IpRange{{CidrIp: awssdk.String("0.0.0.0/0")}}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ApplyNetwork(t.Context(), d.ID, platform.Network{Name: "core"}); err != nil {
		t.Fatal(err)
	}
	check()
}

func host(n platform.Network, last byte) netip.Addr {
	bytes := n.CIDR.Addr().As4()
	bytes[3] = last
	return netip.AddrFrom4(bytes)
}

// A new image makes a new instance; address, public address and data stay. Instances are hardened and tagged.
func TestWhatOutlivesAnInstance(t *testing.T) {
	publicZone(t, "example.org.")
	images := [2]platform.Image{image(t, strings.Repeat("e", 64)), image(t, strings.Repeat("f", 64))}
	a := open(t, func(c *aws.Config) { c.FinalSnapshot = true })
	d, n := made(t, a, "outlive")
	machines, _ := clients(t, t.Context())
	seen := map[string]string{}
	for round, img := range images {
		for i, role := range []config.Role{config.Store, config.Edge, config.Router} {
			node := platform.Node{Name: string(role) + "-1.site1", Role: role, Site: "site1", Index: 1, Address: host(n, byte(10+i)),
				Incarnation: "i1", Image: img, Config: map[string]string{config.LocalFile: "x\n"}}
			var err error
			if node.Public, err = a.PublicAddress(t.Context(), d.ID, node); err != nil || node.Public.IsValid() != (role == config.Edge) {
				t.Fatalf("public address of %s: %v, %v", role, node.Public, err)
			}
			if err := a.ApplyNode(t.Context(), d.ID, node); err != nil {
				t.Fatal(err)
			}
			w, err := open(t, nil).Reflect(t.Context(), d.ID)
			if err != nil || w.Nodes[slices.IndexFunc(w.Nodes, func(n platform.Node) bool { return n.Name == node.Name })].Public != node.Public {
				t.Errorf("found again: %+v, %v", w, err)
			}
		}
		instances, err := machines.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{Filters: append(byTag("clearwater:deployment", d.ID),
			ec2types.Filter{Name: awssdk.String("instance-state-name"), Values: []string{"running"}})})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range instances.Reservations {
			i := r.Instances[0]
			tags := map[string]string{}
			for _, tag := range i.Tags {
				tags[awssdk.ToString(tag.Key)] = awssdk.ToString(tag.Value)
			}
			role := tags["clearwater:role"]
			if was := seen["instance "+role]; was == awssdk.ToString(i.InstanceId) {
				t.Errorf("%s: the instance with the old image is still there", role)
			}
			seen["instance "+role] = awssdk.ToString(i.InstanceId)
			if tags["Owner"] != "tests" || tags["clearwater:digest"] != img.SHA256 || tags["Name"] != "outlive-"+role+"-1.site1" {
				t.Errorf("tags %v", tags)
			}
			if i.MetadataOptions == nil || i.MetadataOptions.HttpTokens != "required" {
				t.Errorf("%s: metadata options %+v", role, i.MetadataOptions)
			}
			if groups := i.NetworkInterfaces[0].Groups; len(groups) != 2 {
				t.Errorf("%s has security groups %v", role, groups)
			}
		}
		addresses, err := machines.DescribeAddresses(t.Context(), &ec2.DescribeAddressesInput{Filters: byTag("clearwater:deployment", d.ID)})
		if err != nil || len(addresses.Addresses) != 1 || awssdk.ToString(addresses.Addresses[0].InstanceId) != seen["instance edge"] {
			t.Fatalf("round %d: elastic addresses %+v, %v", round, addresses, err)
		}
		volumes, err := machines.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{Filters: byTag("clearwater:kind", "data")})
		if err != nil || len(volumes.Volumes) != 1 || awssdk.ToString(volumes.Volumes[0].Attachments[0].InstanceId) != seen["instance store"] || !awssdk.ToBool(volumes.Volumes[0].Encrypted) {
			t.Fatalf("round %d: data volumes %+v, %v", round, volumes, err)
		}
		public, volume := awssdk.ToString(addresses.Addresses[0].PublicIp), awssdk.ToString(volumes.Volumes[0].VolumeId)
		if round == 1 && (seen["public"] != public || seen["volume"] != volume) {
			t.Errorf("public address %s became %s, volume %s became %s", seen["public"], public, seen["volume"], volume)
		}
		seen["public"], seen["volume"] = public, volume
	}
	if err := a.DeleteNode(t.Context(), d.ID, "store-1.site1"); err != nil {
		t.Fatal(err)
	}
	snapshots, err := machines.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{Filters: []ec2types.Filter{{Name: awssdk.String("volume-id"), Values: []string{seen["volume"]}}}})
	if err != nil || len(snapshots.Snapshots) != 1 {
		t.Errorf("final snapshots: %+v, %v", snapshots, err)
	}
}

// rrsets reads a zone as "name type [identifier/weight]" -> values.
func rrsets(t *testing.T, zone string) map[string]string {
	t.Helper()
	_, zones := clients(t, t.Context())
	out, err := zones.ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, s := range out.ResourceRecordSets {
		if s.Type == "NS" || s.Type == "SOA" {
			continue
		}
		name := awssdk.ToString(s.Name) + " " + string(s.Type)
		if s.SetIdentifier != nil {
			name += fmt.Sprintf(" %s/%d", *s.SetIdentifier, awssdk.ToInt64(s.Weight))
		}
		var values []string
		for _, r := range s.ResourceRecords {
			values = append(values, awssdk.ToString(r.Value))
		}
		slices.Sort(values)
		all[name] = strings.Join(values, ", ")
	}
	return all
}

// Names that sites share have one weighted set for each site, also with one site; a site's own names are simple sets that
// other sites add their fallback to.
func TestRecordsOfSites(t *testing.T) {
	zone := publicZone(t, "example.org.")
	a := open(t, nil)
	d, _ := made(t, a, "rr")
	home := d.HomeDomain + "."
	publish := func(site, address string, priority string) {
		t.Helper()
		set := platform.RecordSet{Owner: site + ".router.cluster"}
		if address != "" {
			set.Records = []platform.Record{
				{Name: "router." + home, Type: "A", TTL: 5, Value: address},
				{Name: "_sip._tcp.scscf.router." + home, Type: "SRV", TTL: 5, Value: "1 1 5054 router-1." + site + "." + home},
				{Name: "_sip._tcp.scscf.router.site1." + home, Type: "SRV", TTL: 5, Value: priority + " 1 5054 router-1." + site + "." + home},
			}
		}
		if err := a.Publish(t.Context(), d.ID, set); err != nil {
			t.Fatal(err)
		}
	}
	want := func(step string, want map[string]string) {
		t.Helper()
		if got := rrsets(t, zone); !maps.Equal(got, want) {
			t.Errorf("%s: the zone holds\n%v\nwant\n%v", step, got, want)
		}
	}
	publish("site1", "10.0.0.1", "1")
	one := map[string]string{
		"router." + home + " A site1/1":                   "10.0.0.1",
		"_sip._tcp.scscf.router." + home + " SRV site1/1": "1 1 5054 router-1.site1." + home,
		"_sip._tcp.scscf.router.site1." + home + " SRV":   "1 1 5054 router-1.site1." + home,
	}
	want("one site", one)
	publish("site2", "10.1.0.1", "2")
	two := maps.Clone(one)
	two["router."+home+" A site2/1"] = "10.1.0.1"
	two["_sip._tcp.scscf.router."+home+" SRV site2/1"] = "1 1 5054 router-1.site2." + home
	two["_sip._tcp.scscf.router.site1."+home+" SRV"] = "1 1 5054 router-1.site1." + home + ", 2 1 5054 router-1.site2." + home
	want("two sites", two)
	publish("site1", "10.0.0.9", "1")
	two["router."+home+" A site1/1"] = "10.0.0.9"
	want("another address", two)
	publish("site2", "", "")
	one["router."+home+" A site1/1"] = "10.0.0.9"
	want("one site again", one)
	publish("site1", "", "")
	want("none", map[string]string{})
}

func TestManyRecords(t *testing.T) {
	zone := publicZone(t, "example.org.")
	a := open(t, nil)
	d, _ := made(t, a, "many")
	set := platform.RecordSet{Owner: "site1.router.nodes"}
	for i := range 900 {
		set.Records = append(set.Records, platform.Record{Name: fmt.Sprintf("node-%d.site1.%s.", i, d.HomeDomain), Type: "A", TTL: 5, Value: fmt.Sprintf("10.1.%d.%d", i/250, i%250)})
	}
	if err := a.Publish(t.Context(), d.ID, set); err != nil {
		t.Fatal(err)
	}
	w, err := open(t, nil).Reflect(t.Context(), d.ID)
	if err != nil || len(w.Records) != 1 || !slices.Equal(w.Records[0].Records, set.Records) {
		t.Errorf("found again: %d sets, %v", len(w.Records), err)
	}
	if got := len(rrsets(t, zone)); got < 290 { // one page of the listing
		t.Errorf("%d sets in the zone", got)
	}
	set.Records = set.Records[:1]
	if err := a.Publish(t.Context(), d.ID, set); err != nil {
		t.Fatal(err)
	}
	if got := rrsets(t, zone); len(got) != 1 {
		t.Errorf("%d sets are left in the zone", len(got))
	}
}

func TestPrivateZone(t *testing.T) {
	a := open(t, func(c *aws.Config) { c.PrivateZone = true })
	d, err := a.ApplyDeployment(t.Context(), platform.Deployment{ID: "id-private", Name: "private", HomeDomain: "ims.internal.test", CACertificate: "CA"})
	if err != nil {
		t.Fatal(err)
	}
	record := platform.RecordSet{Owner: "site1.edge.nodes", Records: []platform.Record{{Name: "edge-1.site1.ims.internal.test.", Type: "A", TTL: 5, Value: "10.0.0.1"}}}
	if err := a.Publish(t.Context(), d.ID, record); !errors.Is(err, platform.ErrNotFound) {
		t.Errorf("before there is a network: %v", err)
	}
	for _, name := range []string{"core", "core", "second"} {
		if _, err := a.ApplyNetwork(t.Context(), d.ID, platform.Network{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	_, zones := clients(t, t.Context())
	listed, err := zones.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{DNSName: awssdk.String("ims.internal.test.")})
	if err != nil || len(listed.HostedZones) != 1 || !listed.HostedZones[0].Config.PrivateZone {
		t.Fatalf("zones %+v, %v", listed, err)
	}
	zone, err := zones.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: listed.HostedZones[0].Id})
	if err != nil || len(zone.VPCs) != 2 {
		t.Errorf("the zone is seen by %+v, %v", zone, err)
	}
	if err := a.Publish(t.Context(), d.ID, record); err != nil {
		t.Fatal(err)
	}
	if err := a.DestroyDeployment(t.Context(), "private"); err != nil {
		t.Fatal(err)
	}
	listed, err = zones.ListHostedZonesByName(t.Context(), &route53.ListHostedZonesByNameInput{DNSName: awssdk.String("ims.internal.test.")})
	if err != nil || (len(listed.HostedZones) > 0 && awssdk.ToString(listed.HostedZones[0].Name) == "ims.internal.test.") {
		t.Errorf("after destroying: %+v, %v", listed, err)
	}
}

func TestWhatPeopleAreTold(t *testing.T) {
	publicZone(t, "example.org.")
	a := open(t, nil)
	_, n := made(t, a, "told")
	told := func(what string, err error, words ...string) {
		t.Helper()
		if err == nil {
			t.Errorf("%s: no error", what)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", what, err, w)
			}
		}
	}
	_, err := a.ApplyDeployment(t.Context(), platform.Deployment{ID: "x", Name: "nozone", HomeDomain: "ims.example.net"})
	told("a zone that is not there", err, "ims.example.net", "Route 53", "private_zone")
	_, err = a.ApplyDeployment(t.Context(), platform.Deployment{ID: "x", Name: "a/b", HomeDomain: "ims.example.org"})
	told("a bad name", err, `"a/b"`, "allowed")
	_, err = a.ApplyNetwork(t.Context(), "told", platform.Network{Name: "two", CIDR: n.CIDR})
	told("a range that overlaps", err, n.CIDR.String(), "overlaps")
	_, err = a.ApplyNetwork(t.Context(), "told", platform.Network{Name: "two", CIDR: netip.MustParsePrefix("10.200.0.0/28")})
	told("a range that is too small", err, "10.200.0.0/28", "/22")
	_, err = a.ApplyNetwork(t.Context(), "told", platform.Network{Name: "core", CIDR: netip.MustParsePrefix("10.201.0.0/16")})
	told("another range", err, "10.201.0.0/16", "cannot become")
	err = a.ApplyNode(t.Context(), "told", platform.Node{Name: "edge-1.site1", Role: config.Edge, Image: platform.Image{Path: "ami-00000000", SHA256: "0"}})
	told("a missing image", err, "ami-00000000", "edge-1.site1")
	err = a.ApplyNode(t.Context(), "told", platform.Node{Name: "edge-1.site1", Role: config.Edge, Address: netip.MustParseAddr("192.0.2.1"), Image: image(t, strings.Repeat("9", 64))})
	told("an address outside", err, "192.0.2.1")
	_, err = aws.New(t.Context(), aws.Config{Profile: "nobody"})
	told("a profile that is not there", err, "nobody")
	t.Setenv("AWS_REGION", "")
	_, err = aws.New(t.Context(), aws.Config{})
	told("no region", err, "aws.region")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	_, err = open(t, nil).Check(t.Context())
	told("no credentials", err, "AWS_ACCESS_KEY_ID")
}
