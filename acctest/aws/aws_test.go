package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/moto"
	"github.com/clearwater-ims/clearwater/acctest/sipp"
)

const (
	network  = "127.40.0.0/20"
	services = "127.40.15.250"
	resolver = "127.40.15.253:10053"
	phones   = "127.40.15.20"
)

// cloud is the emulator with machines and a name server.
type cloud struct {
	url      string
	manifest string
	ec2      *ec2.Client
	route53  *route53.Client
}

func openCloud(t *testing.T) *cloud {
	t.Helper()
	for name, value := range moto.Environment() {
		t.Setenv(name, value)
	}
	root, err := deployment.Root()
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := moto.Start(t.Context(), root, services)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithBaseEndpoint(url))
	if err != nil {
		t.Fatal(err)
	}
	c := &cloud{url: url, ec2: ec2.NewFromConfig(cfg), route53: route53.NewFromConfig(cfg)}
	images := c.bake(t, filepath.Join(root, "bin"))
	ctx, cancel := context.WithCancel(context.Background())
	folder := t.TempDir()
	m := &machines{ec2: c.ec2, bin: filepath.Join(root, "bin"), folder: folder, images: images, running: map[string]*machine{},
		log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := (&names{route53: c.route53}).serve(ctx, resolver); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			keep(root, folder)
		}
	})
	return c
}

// keep copies the logs of machines to where those of the local platform are kept.
func keep(root, folder string) {
	logs, _ := filepath.Glob(filepath.Join(folder, "*.log"))
	target := filepath.Join(root, "build", "test", "logs", "aws")
	_ = os.MkdirAll(target, 0o755)
	for _, log := range logs {
		if text, err := os.ReadFile(log); err == nil {
			_ = os.WriteFile(filepath.Join(target, filepath.Base(log)), text, 0o644)
		}
	}
}

// bake registers an AMI for each entry of the manifest of what was built, and writes the manifest with them.
func (c *cloud) bake(t *testing.T, bin string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(bin, "images.json"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []map[string]any
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatal(err)
	}
	roles := map[string]string{}
	for _, e := range entries {
		role, digest := fmt.Sprint(e["role"]), fmt.Sprint(e["digest"])
		made, err := c.ec2.RegisterImage(t.Context(), &ec2.RegisterImageInput{Name: awssdk.String("clearwater-" + role)})
		if err != nil {
			t.Fatal(err)
		}
		id := awssdk.ToString(made.ImageId)
		if _, err := c.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: awssdk.String("clearwater:digest"), Value: &digest}}}); err != nil {
			t.Fatal(err)
		}
		e["amis"] = map[string]string{"eu-west-1": id}
		roles[id] = role
	}
	if text, err = json.Marshal(entries); err != nil {
		t.Fatal(err)
	}
	c.manifest = filepath.Join(t.TempDir(), "images.json")
	if err := os.WriteFile(c.manifest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return roles
}

func instances(t *testing.T, c *cloud) (running int) {
	t.Helper()
	out, err := c.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			if i.State.Name == types.InstanceStateNameRunning {
				running++
			}
		}
	}
	return running
}

// Terraform makes a deployment on the emulator; phones call through the machines that its user data boots; tiers change
// size while calls come in; destroy leaves nothing.
func TestCallThroughAWS(t *testing.T) {
	c := openCloud(t)
	before, err := c.ec2.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := deployment.New("acc-aws", map[string]any{
		"home_domain": "ims.example.com", "endpoint": c.url, "region": "eu-west-1", "image": c.manifest, "cidr": network, "resolver": resolver,
		"private_zone": true, "private_addresses": true, "dns_ttl": 1, "drain_timeout": "60s",
		"counts": map[string]int{"portal": 0}, "passwords": map[string]string{"6505550800": "secret-a", "6505550801": "secret-b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Scenario = "aws-small"
	destroyed := false
	t.Cleanup(func() {
		if !destroyed {
			if err := d.Destroy(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	if err := d.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := instances(t, c); n != 5 {
		t.Errorf("%d instances run, want 5", n)
	}
	emptyPlan(t, d)
	a, b := phone(d, 1, "6505550800", "secret-a"), phone(d, 2, "6505550801", "secret-b")
	register(t, a)
	register(t, b)
	calls := func(n int) {
		t.Helper()
		answering := b
		answering.Scenario, answering.Calls = "answer", n
		process := answering.Start(t)
		caller := a
		caller.Users[0].Peer = "6505550801"
		caller.Scenario, caller.Calls, caller.Rate, caller.Limit = "call", n, 2, 10
		caller.Must(t)
		if r := process.Wait(); r.Err != nil {
			t.Fatalf("the called phone: %v\n%s", r.Err, r.Errors)
		}
	}
	calls(1)
	resize := make(chan error, 1)
	go func() {
		err := d.Apply(t.Context(), map[string]any{"counts": map[string]int{"portal": 0, "router": 2, "edge": 2, "diameter": 2}})
		if err == nil {
			err = d.Apply(t.Context(), map[string]any{"counts": map[string]int{"portal": 0, "edge": 2}})
		}
		resize <- err
	}()
	for rounds := 0; ; rounds++ {
		calls(10)
		select {
		case err := <-resize:
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d calls while router and diameter went 1 -> 2 -> 1 and edge 1 -> 2: none failed", 10*(rounds+1))
		default:
			continue
		}
		break
	}
	if n := instances(t, c); n != 6 {
		t.Errorf("%d instances run, want 6", n)
	}
	emptyPlan(t, d)
	destroyed = true
	if err := d.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, c, len(before.Vpcs))
}

func nothingLeft(t *testing.T, c *cloud, vpcs int) {
	t.Helper()
	if n := instances(t, c); n != 0 {
		t.Errorf("%d instances are left", n)
	}
	networks, err := c.ec2.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	if err != nil || len(networks.Vpcs) != vpcs {
		t.Errorf("networks left: %+v, %v", networks, err)
	}
	volumes, err := c.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	if err != nil || len(volumes.Volumes) != 0 {
		t.Errorf("volumes left: %+v, %v", volumes, err)
	}
	zones, err := c.route53.ListHostedZones(t.Context(), &route53.ListHostedZonesInput{})
	if err != nil || len(zones.HostedZones) != 0 {
		t.Errorf("zones left: %+v, %v", zones, err)
	}
}

func emptyPlan(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	code, out, err := d.Plan(t.Context())
	if err != nil || code != 0 {
		t.Fatalf("plan: exit code %d, %v\n%s", code, err, out)
	}
}

func phone(d *deployment.Deployment, n int, user, password string) sipp.Run {
	return sipp.Run{Proxy: d.Address("edge-1") + ":5060", Domain: d.Domain, Local: fmt.Sprintf("%s%d:%d", phones, n, 6000+10*n), Transport: "u1",
		Users:   []sipp.User{{Name: user, Password: password, Expires: 300, Instance: "00000000-0000-4000-8000-" + strings.Repeat("0", 11) + fmt.Sprint(n)}},
		Timeout: 2 * time.Minute}
}

func register(t *testing.T, p sipp.Run) {
	t.Helper()
	p.Scenario = "register"
	p.Must(t)
}
