package provider

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unwrapped joins what terraform breaks into lines of a box.
func unwrapped(out string) string {
	out = strings.NewReplacer("│", " ", "╷", " ", "╵", " ").Replace(out)
	return strings.Join(strings.Fields(out), " ")
}

const whole = `
resource "clearwater_deployment" "d" {
  name        = "acc-refuse"
  home_domain = "refuse.example.com"
}
resource "clearwater_network" "n" {
  deployment_id = clearwater_deployment.d.id
  name          = "core"
}
resource "clearwater_site" "s" {
  deployment_id = clearwater_deployment.d.id
  network_id    = clearwater_network.n.id
}
`

// Every refusal comes at plan, names the attribute and the value, and says what is allowed.
func TestWhatIsWrongIsRefusedAtPlan(t *testing.T) {
	r := newRoot(t, false)
	tier := func(body string) string {
		return whole + "resource \"clearwater_tier\" \"t\" {\n  site_id = clearwater_site.s.id\n  image = \"" + filepath.Join(r.tree, "bin") + "\"\n" + body + "\n}\n"
	}
	for name, tc := range map[string]struct {
		config string
		want   []string
	}{
		"name":            {`resource "clearwater_deployment" "d" { ` + "\n name = \"My Lab\"\n home_domain = \"x.example.com\"\n}", []string{`name = "My Lab"`, "DNS label"}},
		"home domain":     {`resource "clearwater_deployment" "d" { ` + "\n name = \"lab\"\n home_domain = \"localhost\"\n}", []string{`home_domain = "localhost"`, "at least two labels"}},
		"role":            {tier("role = \"sprout\"\n node_count = 1"), []string{`role = "sprout"`, "store, diameter, xdms, router, edge, portal"}},
		"two stores":      {tier("role = \"store\"\n node_count = 2"), []string{"node_count = 2", "Allowed is 1"}},
		"three embedded":  {tier("role = \"store\"\n node_count = 3"), []string{"node_count = 3", "Allowed is 1"}},
		"one cassandra":   {tier("role = \"store\"\n node_count = 1\n engine = \"cassandra\""), []string{"node_count = 1", "three replicas"}},
		"no store":        {tier("role = \"store\"\n node_count = 0"), []string{"node_count = 0", "Allowed is 1"}},
		"negative":        {tier("role = \"edge\"\n node_count = -1"), []string{"node_count", "at least 0", "-1"}},
		"too many":        {tier("role = \"edge\"\n node_count = 31"), []string{"node_count = 31", "at most 30"}},
		"engine":          {tier("role = \"edge\"\n node_count = 1\n engine = \"embedded\""), []string{"engine", "leave it out"}},
		"setting":         {tier("role = \"edge\"\n node_count = 1\n user_settings = { log_level = \"9\" }"), []string{"log_level", `"9"`, "from 1 to 5"}},
		"unknown setting": {tier("role = \"edge\"\n node_count = 1\n user_settings = { log_levl = \"3\" }"), []string{"log_levl", "nearest known one is log_level"}},
		"drain timeout":   {tier("role = \"edge\"\n node_count = 1\n drain_timeout = \"soon\""), []string{`drain_timeout = "soon"`, "90s"}},
		"image":           {strings.ReplaceAll(tier("role = \"edge\"\n node_count = 1"), filepath.Join(r.tree, "bin"), "/nowhere"), []string{"/nowhere", "make build"}},
		"cidr":            {whole + "resource \"clearwater_network\" \"m\" {\n deployment_id = clearwater_deployment.d.id\n name = \"m\"\n cidr = \"127.70.1.5/24\"\n}", []string{`cidr = "127.70.1.5/24"`, "without host bits"}},
		"ttl":             {whole + "resource \"clearwater_site\" \"m\" {\n deployment_id = clearwater_deployment.d.id\n network_id = clearwater_network.n.id\n dns_ttl = 0\n}", []string{"dns_ttl", "between 1 and 3600"}},
		"option":          {whole + "resource \"clearwater_shared_config\" \"c\" {\n site_id = clearwater_site.s.id\n settings = { reg_max_expires = \"0\" }\n}", []string{"reg_max_expires", `"0"`, "from 1 to"}},
		"own option":      {whole + "resource \"clearwater_shared_config\" \"c\" {\n site_id = clearwater_site.s.id\n settings = { home_domain = \"x.y\" }\n}", []string{"home_domain", "leave it out"}},
		"number":          {whole + "resource \"clearwater_number_block\" \"b\" {\n site_id = clearwater_site.s.id\n start = \"+1650\"\n number_count = 10\n}", []string{`start = "+1650"`, "digits, without +"}},
		"identity":        {whole + "resource \"clearwater_subscriber\" \"s\" {\n site_id = clearwater_site.s.id\n public_id = \"bob\"\n password_wo = \"x\"\n password_wo_version = 1\n}", []string{`public_id = "bob"`, "SIP URI"}},
	} {
		t.Run(name, func(t *testing.T) {
			r.write(t, tc.config)
			out, err := r.run(t, "plan", "-input=false")
			text := unwrapped(out)
			if err == nil {
				t.Fatalf("the plan was accepted:\n%s", out)
			}
			for _, part := range tc.want {
				if !strings.Contains(text, part) {
					t.Errorf("the error does not say %q:\n%s", part, text)
				}
			}
		})
	}
}

func TestHomeDomainAndNameCannotChange(t *testing.T) {
	r := newRoot(t, false)
	r.write(t, whole)
	t.Cleanup(func() {
		r.write(t, whole)
		r.must(t, "destroy", "-auto-approve")
	})
	r.must(t, "apply", "-auto-approve")
	for attribute, change := range map[string][2]string{"home_domain": {"refuse.example.com", "other.example.com"}, "name": {`"acc-refuse"`, `"other"`}} {
		r.write(t, strings.ReplaceAll(whole, change[0], change[1]))
		out, err := r.run(t, "plan", "-input=false")
		if text := unwrapped(out); err == nil || !strings.Contains(text, attribute+" cannot change") {
			t.Errorf("%s: %v\n%s", attribute, err, text)
		}
	}
}

// As an ordinary user the ports below 1024 move, and everything else is the same.
func TestOrdinaryUser(t *testing.T) {
	r := newRoot(t, true)
	image := images
	config := whole
	after := ""
	for _, role := range []string{"store", "diameter", "xdms", "router", "edge", "portal"} {
		config += "resource \"clearwater_tier\" \"" + role + "\" {\n site_id = clearwater_site.s.id\n role = \"" + role + "\"\n node_count = 1\n image = \"" + image + "\"\n" + after + "}\n"
		after = " after = [clearwater_tier." + role + ".id]\n"
	}
	config += "resource \"clearwater_number_block\" \"b\" {\n site_id = clearwater_site.s.id\n start = \"6505550000\"\n number_count = 10\n depends_on = [clearwater_tier.portal]\n}\n" +
		"data \"clearwater_cluster_state\" \"c\" {\n site_id = clearwater_site.s.id\n depends_on = [clearwater_tier.store]\n}\n" +
		"output \"cluster\" {\n value = \"${data.clearwater_cluster_state.c.healthy} ${data.clearwater_cluster_state.c.members[0].name}\"\n}\n" +
		"output \"portal\" {\n value = clearwater_tier.portal.endpoints[0]\n}\noutput \"dns\" {\n value = clearwater_deployment.d.name_server\n}\n"
	r.write(t, config)
	t.Cleanup(func() {
		if out, err := r.run(t, "destroy", "-auto-approve"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		nothingLeft(t, filepath.Join(r.dir, ".state"), "127.0.0.0")
	})
	r.must(t, "apply", "-auto-approve")
	dns, portal := strings.TrimSpace(r.must(t, "output", "-raw", "dns")), strings.TrimSpace(r.must(t, "output", "-raw", "portal"))
	if cluster := strings.TrimSpace(r.must(t, "output", "-raw", "cluster")); cluster != "true store-1.site1" {
		t.Errorf("the cluster is %q", cluster)
	}
	if privileged := os.Getuid() == 0 && r.credential == nil; !privileged && canOpenLowPorts(t, r) {
		t.Logf("this system lets ordinary users open every port: %s, %s", dns, portal)
	} else if !strings.HasSuffix(dns, ":10053") || !strings.HasSuffix(portal, ":8080") {
		t.Errorf("name server %s, portal %s: wanted ports 10053 and 8080", dns, portal)
	}
	if out, err := r.run(t, "plan", "-detailed-exitcode"); err != nil {
		t.Errorf("the plan is not empty: %v\n%s", err, out)
	}
}

// canOpenLowPorts tells whether the kernel has lifted the limit.
func canOpenLowPorts(t *testing.T, _ *root) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start").Output()
	return err == nil && strings.TrimSpace(string(out)) == "0"
}

// A port that another program holds ends the apply soon, with the node's own words; the next apply goes on.
func TestOccupiedPortIsNamed(t *testing.T) {
	r := newRoot(t, false)
	const block, port = "127.22.251", "7888"
	taken, err := net.Listen("tcp", net.JoinHostPort(block+".70", port)) // where the first xdms node will stand
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	config := "provider \"clearwater\" {\n local = { addresses = \"" + block + ".0/24\" }\n}\n" + strings.ReplaceAll(whole, "refuse", "occupied")
	for _, role := range []string{"store", "xdms"} {
		config += "resource \"clearwater_tier\" \"" + role + "\" {\n site_id = clearwater_site.s.id\n role = \"" + role + "\"\n node_count = 1\n image = \"" + images + "\"\n" +
			map[string]string{"xdms": " after = [clearwater_tier.store.id]\n"}[role] + "}\n"
	}
	r.write(t, config)
	t.Cleanup(func() { r.must(t, "destroy", "-auto-approve") })
	out, err := r.run(t, "apply", "-auto-approve")
	if text := unwrapped(out); err == nil || !strings.Contains(text, "xdms-1.site1 does not stay up") || !strings.Contains(text, "address already in use") || !strings.Contains(text, block+".70:"+port) {
		t.Errorf("the apply says %v\n%s", err, text)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	r.must(t, "apply", "-auto-approve")
	if out, err := r.run(t, "plan", "-detailed-exitcode"); err != nil {
		t.Errorf("the plan is not empty: %v\n%s", err, out)
	}
}
