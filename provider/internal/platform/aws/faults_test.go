package aws_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/aws"
)

// every is the distance between the calls at which a fault is tried; 1 tries each.
var every = flag.Int("every", 60, "try a fault at every so many API calls")

// trouble is a proxy before the emulator that does something wrong with one call.
type trouble struct {
	mu    sync.Mutex
	calls []string
	at    int // index of the call
	kind  string
}

var kinds = []string{"refused", "throttled", "answer lost"}

func (p *trouble) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.mu.Lock()
	index := len(p.calls)
	p.calls = append(p.calls, operation(r, body))
	faulty := p.kind != "" && index == p.at
	p.mu.Unlock()
	if faulty && p.kind != "answer lost" {
		refuse(w, r, p.kind)
		return
	}
	req, err := http.NewRequestWithContext(r.Context(), r.Method, emulator+r.URL.RequestURI(), strings.NewReader(string(body)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	req.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if faulty {
		panic(http.ErrAbortHandler) // what was asked for is done, and nobody hears of it
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// operation names a call.
func operation(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target
	}
	for pair := range strings.SplitSeq(string(body), "&") {
		if action, ok := strings.CutPrefix(pair, "Action="); ok {
			return "EC2." + action
		}
	}
	return "Route53." + r.Method + " " + r.URL.Path
}

// refuse answers in the form of the service that was asked.
func refuse(w http.ResponseWriter, r *http.Request, kind string) {
	code, status := "InvalidRequest", http.StatusBadRequest
	if kind == "throttled" {
		code = "Throttling"
	}
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("X-Amzn-Errortype", code)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"__type":%q,"message":"no"}`, code)
	case strings.HasPrefix(r.URL.Path, "/2013-04-01"):
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>`, code)
	default:
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `<Response><Errors><Error><Code>%s</Code><Message>no</Message></Error></Errors><RequestID>r</RequestID></Response>`, code)
	}
}

// life takes a deployment through creation, a change of image and deletion. Each step is what one apply or destroy does;
// one that fails is done once more, as people do.
type life struct {
	t      *testing.T
	name   string
	images [2]platform.Image
}

func (l life) step(a *aws.AWS, mayFail bool, what string, do func(ctx context.Context) error) {
	l.t.Helper()
	err := do(l.t.Context())
	if err != nil && mayFail {
		err = do(l.t.Context())
	}
	if err != nil {
		l.t.Fatalf("%s: %v", what, err)
	}
}

func (l life) live(a *aws.AWS, mayFail bool) {
	l.t.Helper()
	apply := func(image platform.Image) func(ctx context.Context) error {
		return func(ctx context.Context) error { return l.apply(ctx, a, image) }
	}
	l.step(a, mayFail, "create", apply(l.images[0]))
	l.complete(l.images[0])
	l.step(a, mayFail, "update", apply(l.images[1]))
	l.complete(l.images[1])
	l.step(a, mayFail, "destroy", func(ctx context.Context) error { return a.DestroyDeployment(ctx, l.name) })
}

func (l life) apply(ctx context.Context, a *aws.AWS, image platform.Image) error {
	d, err := a.ApplyDeployment(ctx, platform.Deployment{ID: "id-" + l.name, Name: l.name, HomeDomain: l.name + ".example.com", CACertificate: "CA"})
	if err != nil {
		return err
	}
	n, err := a.ApplyNetwork(ctx, d.ID, platform.Network{Name: "core"})
	if err != nil {
		return err
	}
	if err := a.ApplySite(ctx, d.ID, platform.Site{Name: "site1", Network: "core", TTL: 5}); err != nil {
		return err
	}
	if err := a.PutSecret(ctx, d.ID, "key", "secret"); err != nil {
		return err
	}
	for i, role := range []config.Role{config.Store, config.Edge} {
		bytes := n.CIDR.Addr().As4()
		bytes[3] = byte(10 + i)
		name := string(role) + "-1.site1"
		node := platform.Node{Name: name, Role: role, Site: "site1", Index: 1, Address: netip.AddrFrom4(bytes), Incarnation: "i1",
			Image: image, Config: map[string]string{config.LocalFile: "local_ip=" + netip.AddrFrom4(bytes).String() + "\n"}}
		if node.Public, err = a.PublicAddress(ctx, d.ID, node); err != nil {
			return err
		}
		if err := a.ApplyNode(ctx, d.ID, node); err != nil {
			return err
		}
		record := platform.Record{Name: name + "." + d.HomeDomain + ".", Type: "A", TTL: 5, Value: netip.AddrFrom4(bytes).String()}
		if err := a.Publish(ctx, d.ID, platform.RecordSet{Owner: "site1." + string(role) + ".nodes", Records: []platform.Record{record}}); err != nil {
			return err
		}
	}
	return nil
}

// complete asks another client, without troubles, whether everything is there, once.
func (l life) complete(image platform.Image) {
	l.t.Helper()
	w, err := open(l.t, nil).Reflect(l.t.Context(), l.name)
	if err != nil {
		l.t.Fatal(err)
	}
	if len(w.Networks) != 1 || len(w.Sites) != 1 || len(w.Nodes) != 2 || len(w.Records) != 2 {
		l.t.Fatalf("the world is %+v", w)
	}
	for _, n := range w.Nodes {
		if n.Image.SHA256 != image.SHA256 || !n.Running || n.Config[config.LocalFile] == "" {
			l.t.Errorf("node %+v", n)
		}
	}
}

// inventory is everything in the emulator that costs money or stands in somebody's way.
func inventory(t *testing.T, zone string) []string {
	t.Helper()
	ctx := t.Context()
	machines, zones := clients(t, ctx)
	var out []string
	add := func(kind string, id *string) { out = append(out, kind+" "+awssdk.ToString(id)) }
	instances, err := machines.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	vpcs, err2 := machines.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	subnets, err3 := machines.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	groups, err4 := machines.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
	gateways, err5 := machines.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{})
	addresses, err6 := machines.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{})
	volumes, err7 := machines.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	records, err8 := zones.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone})
	if err := errors.Join(err, err2, err3, err4, err5, err6, err7, err8); err != nil {
		t.Fatal(err)
	}
	for _, r := range instances.Reservations {
		for _, i := range r.Instances {
			if i.State.Name != "terminated" {
				add("instance", i.InstanceId)
			}
		}
	}
	for _, v := range vpcs.Vpcs {
		add("vpc", v.VpcId)
	}
	for _, s := range subnets.Subnets {
		add("subnet", s.SubnetId)
	}
	for _, g := range groups.SecurityGroups {
		add("group", g.GroupId)
	}
	for _, g := range gateways.InternetGateways {
		add("gateway", g.InternetGatewayId)
	}
	for _, x := range addresses.Addresses {
		add("address", x.AllocationId)
	}
	for _, v := range volumes.Volumes {
		add("volume", v.VolumeId)
	}
	for _, r := range records.ResourceRecordSets {
		add("record", awssdk.String(awssdk.ToString(r.Name)+" "+string(r.Type)))
	}
	slices.Sort(out)
	return out
}

// A fault at any API call of create, update and delete ends in a state that the next apply or destroy completes, and
// nothing is left in the end.
func TestFaultAtAnyCall(t *testing.T) {
	zone := publicZone(t, "example.com.")
	images := [2]platform.Image{image(t, strings.Repeat("c", 64)), image(t, strings.Repeat("d", 64))}
	before := inventory(t, zone)
	run := func(name string, at int, kind string) []string {
		p := &trouble{at: at, kind: kind}
		server := httptest.NewUnstartedServer(p)
		server.Config.ErrorLog = nil
		l, err := net.Listen("tcp", address+":0")
		if err != nil {
			t.Fatal(err)
		}
		server.Listener = l
		server.Start()
		defer server.Close()
		a := open(t, func(c *aws.Config) { c.Endpoint, c.Backoff = server.URL, time.Millisecond })
		life{t, name, images}.live(a, kind == "refused")
		if after := inventory(t, zone); !slices.Equal(before, after) {
			t.Fatalf("%s at call %d (%s): before %v, after %v", kind, at, p.calls[at], before, after)
		}
		return p.calls
	}
	calls := run("clean", -1, "")
	t.Logf("%d calls in the life of a deployment with two nodes", len(calls))
	for i, kind := range kinds {
		for at := i * *every / len(kinds); at < len(calls); at += *every {
			run(fmt.Sprintf("f%d-%d", i, at), at, kind)
		}
	}
}
