// Package calls tests a deployment from outside: phones that are SIPp, over UDP and TCP, and the HTTP interfaces that the
// manual documents. One deployment, brought up by terraform, serves every test of the package.
package calls

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/sipp"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

var shared *deployment.Deployment //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	d, err := deployment.New("calls", map[string]any{"counts": map[string]int{"router": 2, "edge": 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	code := 1
	if err := d.Apply(ctx, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		shared = d
		code = m.Run()
	}
	if code != 0 {
		d.KeepLogs()
	}
	if err := d.Destroy(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var serial atomic.Int64 //nolint:gochecknoglobals // gives every phone of the package a number of its own

// phone is a subscriber with a device.
type phone struct {
	sipp.User
	t         *testing.T
	local     string
	transport string
}

// newPhone provisions a subscriber.
func newPhone(t *testing.T, transport string) *phone {
	t.Helper()
	n := serial.Add(1)
	p := &phone{t: t, transport: transport, User: sipp.User{Name: fmt.Sprintf("65055%05d", 10000+n), Password: fmt.Sprintf("secret-%d", n), Expires: 300}}
	p.device()
	err := shared.Provisioning().CreateSubscriber(t.Context(), provisioning.Subscriber{
		PublicIDs: []string{p.uri()}, PrivateID: p.Name + "@" + shared.Domain, Realm: shared.Domain, Password: p.Password,
	})
	if err != nil {
		t.Fatalf("provisioning %s: %v", p.uri(), err)
	}
	return p
}

// device gives the phone a new address and instance.
func (p *phone) device() {
	n := serial.Add(1)
	p.local = fmt.Sprintf("%s.%d:%d", shared.Network(), 200+n%40, 6000+2*n)
	p.Instance = fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
}

// another is the same subscriber with another device.
func (p *phone) another() *phone {
	second := *p
	second.device()
	return &second
}

func (p *phone) uri() string { return "sip:" + p.Name + "@" + shared.Domain }

// script prepares SIPp for the phone.
func (p *phone) script(scenario string) sipp.Run {
	return sipp.Run{Scenario: scenario, Proxy: shared.Address("edge-1") + ":5060", Domain: shared.Domain, Local: p.local, Transport: p.transport, Users: []sipp.User{p.User}}
}

func (p *phone) register() {
	p.t.Helper()
	p.script("register").Must(p.t)
}

// calls is a script that calls another phone.
func (p *phone) calls(other *phone, scenario string) sipp.Run {
	p.Peer = other.Name
	return p.script(scenario)
}

// get reads a document of a node's HTTP interface.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// counter sums a metric with the given labels text over the nodes of a role.
func counter(t *testing.T, port int, nodes []string, pattern string) float64 {
	t.Helper()
	line := regexp.MustCompile(`(?m)^` + pattern + ` ([0-9.e+]+)$`)
	sum := 0.0
	for _, node := range nodes {
		_, text := get(t, fmt.Sprintf("http://%s:%d/metrics", shared.Address(node), port))
		for _, m := range line.FindAllStringSubmatch(text, -1) {
			v, err := strconv.ParseFloat(m[len(m)-1], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}

// within waits for check, at most d.
func within(t *testing.T, d time.Duration, what string, check func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := sipp.WaitFor(ctx, check); err != nil {
		t.Fatalf("%s: not within %v", what, d)
	}
}
