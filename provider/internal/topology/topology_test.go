package topology

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s differs; run with -update and read the difference. Got:\n%s", path, got)
	}
}

func nodes(t *testing.T, network, site string, role config.Role, count int) (out []platform.Node) {
	t.Helper()
	for i := 1; i <= count; i++ {
		address, err := Address(platform.Network{CIDR: netip.MustParsePrefix(network)}, role, i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, platform.Node{Name: Name(role, i, site), Role: role, Site: site, Index: i, Address: address})
	}
	return out
}

func zoneFile(sets ...platform.RecordSet) string {
	var b strings.Builder
	for _, set := range sets {
		fmt.Fprintf(&b, "; %s\n", set.Owner)
		for _, r := range set.Records {
			fmt.Fprintf(&b, "%s %d IN %s %s\n", r.Name, r.TTL, r.Type, r.Value)
		}
	}
	return b.String()
}

func TestRecordsOfOneSite(t *testing.T) {
	z := Zone{Name: "ims.example.com", TTL: 5, Sites: []string{"site1"}}
	var sets []platform.RecordSet
	for _, role := range config.Roles() {
		n := nodes(t, "127.70.1.0/24", "site1", role, map[config.Role]int{config.Router: 2, config.Edge: 2}[role]+1)
		sets = append(sets, NodeRecords(z, "site1", role, n), ClusterRecords(z, "site1", role, n))
	}
	golden(t, "one_site.zone", zoneFile(sets...))
}

func TestRecordsOfTwoSitesPreferTheOwnOne(t *testing.T) {
	z := Zone{Name: "ims.example.com", TTL: 30, Sites: []string{"east", "west"}, ClearwaterNames: true}
	var sets []platform.RecordSet
	for i, site := range z.Sites {
		sets = append(sets, ClusterRecords(z, site, config.Router, nodes(t, fmt.Sprintf("127.70.%d.0/24", i+1), site, config.Router, 1)))
	}
	golden(t, "two_sites.zone", zoneFile(sets...))
}

func TestRecordsParse(t *testing.T) {
	for _, name := range []string{"one_site.zone", "two_sites.zone"} {
		file, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		parser, count := dns.NewZoneParser(file, "", name), 0
		for _, ok := parser.Next(); ok; _, ok = parser.Next() {
			count++
		}
		if err := parser.Err(); err != nil || count < 10 {
			t.Errorf("%s: %d records, %v", name, count, err)
		}
	}
}

func TestNoNodesPublishNothing(t *testing.T) {
	z := Zone{Name: "ims.example.com", TTL: 5, Sites: []string{"site1"}}
	if set := ClusterRecords(z, "site1", config.Edge, nil); len(set.Records) != 0 {
		t.Errorf("got %v", set)
	}
}

func TestAddressesAreStableAndDistinct(t *testing.T) {
	seen := map[netip.Addr]string{}
	for _, role := range config.Roles() {
		for i := 1; i <= hostsPerRole; i++ {
			address, err := Address(platform.Network{CIDR: netip.MustParsePrefix("127.70.1.0/24")}, role, i)
			if err != nil {
				t.Fatal(err)
			}
			if other, taken := seen[address]; taken {
				t.Fatalf("%s %d and %s share %s", role, i, other, address)
			}
			seen[address] = Name(role, i, "site1")
		}
	}
	for _, bad := range []struct {
		network string
		index   int
	}{{"127.70.1.0/24", 0}, {"127.70.1.0/24", 31}, {"127.70.1.0/25", 1}, {"2001:db8::/64", 1}} {
		if a, err := Address(platform.Network{CIDR: netip.MustParsePrefix(bad.network)}, config.Edge, bad.index); err == nil {
			t.Errorf("%v gives %s", bad, a)
		}
	}
}

// The port table must open what the nodes listen on, by the constants that they use.
func TestFirewallFollowsThePortTable(t *testing.T) {
	must := map[config.Role][]int{
		config.Edge:     {config.PortEdgeSIP, config.PortEdgeTrusted, config.PortEdgeTLS, config.PortEdgeWS, config.PortEdgeWSS, config.PortEdgeTURN, config.PortEdgeTURNS},
		config.Router:   {config.PortICSCF, config.PortBGCF, config.PortSCSCF, config.PortRouterHTTP, config.PortRouterManagement},
		config.Diameter: {config.PortHSS, config.PortHSSManagement, config.PortHSSRPC, config.PortProvisioning},
		config.XDMS:     {config.PortXDMS},
		config.Store:    {config.PortTimers, config.PortStoreRPC, config.PortEtcdClient, config.PortEtcdPeer},
		config.Portal:   {80, 443},
	}
	open := []string{}
	for _, role := range config.Roles() {
		rules, err := Firewall(role)
		if err != nil {
			t.Fatal(err)
		}
		has := map[int]bool{}
		for _, r := range rules {
			has[r.Port] = true
			if r.From == "anywhere" {
				open = append(open, fmt.Sprintf("%s %s %d-%d", role, r.Protocol, r.Port, max(r.Port, r.ToPort)))
			}
		}
		for _, port := range append(must[role], config.ManagementPort(role), config.HealthPort(role)) {
			if !has[port] {
				t.Errorf("%s: port %d is closed", role, port)
			}
		}
	}
	golden(t, "open_to_anywhere.txt", strings.Join(open, "\n")+"\n")
}

// Nodes of a role are shared out over availability zones, and no two nodes have one address.
func TestAddressesOverZones(t *testing.T) {
	network := platform.Network{CIDR: netip.MustParsePrefix("10.7.0.0/16"), Zones: 3}
	seen := map[netip.Addr]bool{}
	for _, role := range config.Roles() {
		for i := 1; i <= 30; i++ {
			address, err := Address(network, role, i)
			if err != nil || seen[address] || int(address.As4()[2]) != (i-1)%3 {
				t.Fatalf("%s %d: %s, %v", role, i, address, err)
			}
			seen[address] = true
		}
	}
}
