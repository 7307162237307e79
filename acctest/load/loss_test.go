// Package load resizes and breaks a deployment while SIPp phones register and call, and counts what is lost.
package load

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/sipp"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

const (
	callers  = 400 // take turns at calling; each registers before it calls
	movers   = 60  // callers that register at the second edge while there is one
	called   = 300 // register again and again, and answer
	callRate = 20
	regRate  = 50

	ringingAtLeast = 50
	talkingAtLeast = 200
)

// fleet is the phones.
type fleet struct {
	t       *testing.T
	d       *deployment.Deployment
	calling *sipp.Process // the caller's side of every call by the first edge
	phones  *sipp.Process // the called side: registers, and answers out of call
	moving  *sipp.Process // callers at the second edge

}

func name(group string, i int) string {
	return map[string]string{"caller": "65056", "mover": "65057", "called": "65058"}[group] + fmt.Sprintf("%05d", i)
}

func user(d *deployment.Deployment, group string, i int, peer, other string) sipp.User {
	return sipp.User{
		Name: name(group, i), Password: "secret", Expires: 60, Peer: peer, Extra: other,
		Instance: fmt.Sprintf("00000000-0000-4000-8000-%012s", name(group, i)),
	}
}

func users(d *deployment.Deployment, group string, n int, other string) []sipp.User {
	out := make([]sipp.User, n)
	for i := range n {
		out[i] = user(d, group, i, name("called", i%called), other)
	}
	return out
}

func (f *fleet) provision() {
	f.t.Helper()
	group, ctx := errgroup.WithContext(f.t.Context())
	group.SetLimit(8)
	client := f.d.Provisioning()
	for kind, n := range map[string]int{"caller": callers, "mover": movers, "called": called} {
		for i := range n {
			group.Go(func() error {
				id := name(kind, i) + "@" + f.d.Domain
				return client.CreateSubscriber(ctx, provisioning.Subscriber{PublicIDs: []string{"sip:" + id}, PrivateID: id, Realm: f.d.Domain, Password: "secret"})
			})
		}
	}
	if err := group.Wait(); err != nil {
		f.t.Fatalf("provisioning: %v", err)
	}
}

func (f *fleet) at(host, port int) string { return fmt.Sprintf("%s.%d:%d", f.d.Network(), host, port) }

// start starts the two streams; they run until they are told to end.
func (f *fleet) start() {
	f.t.Helper()
	edge := f.d.Proxies[0]
	all := users(f.d, "called", called, "")
	answering := sipp.Run{
		Scenario: "register", OutOfCall: "loss-answer", Proxy: edge, Domain: f.d.Domain, Local: f.at(211, 5080), Transport: "u1",
		Users: all, Calls: 10_000_000, Rate: 100, Limit: 5000, Timeout: time.Hour,
	}
	f.phones = answering.Start(f.t)
	f.await(30*time.Second, "every called phone has registered", func() bool { return f.phones.Number("SuccessfulCall(C)") >= called })
	f.calling = sipp.Run{
		Scenario: "loss-caller", Proxy: edge, Domain: f.d.Domain, Local: f.at(210, 5070), Transport: "u1",
		Users: users(f.d, "caller", callers, strings.Split(edge, ":")[0]), Calls: 10_000_000, Rate: callRate, Limit: 10000, Timeout: time.Hour,
		Extra: []string{"-trace_counts"},
	}.Start(f.t)
}

func (f *fleet) await(d time.Duration, what string, check func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), d)
	defer cancel()
	if err := sipp.WaitFor(ctx, check); err != nil {
		f.t.Fatalf("%s: not within %v", what, d)
	}
}

// underLoad waits until enough calls ring and talk, and tells how many.
func (f *fleet) underLoad() (ringing, talking int) {
	f.t.Helper()
	f.await(90*time.Second, "the load is there", func() bool {
		ringing, talking = f.calling.CallStates()
		return ringing >= ringingAtLeast && talking >= talkingAtLeast
	})
	return ringing, talking
}

// lost counts calls and registrations that did not go by the script.
func (f *fleet) lost() int {
	n := f.calling.Number("FailedCall(C)") + f.phones.Number("FailedCall(C)")
	if f.moving != nil {
		n += f.moving.Number("FailedCall(C)")
	}
	return n
}

// step applies a change under load and prints what it cost.
func (f *fleet) step(what string, change map[string]any) {
	f.t.Helper()
	ringing, talking := f.underLoad()
	before, started := f.lost(), time.Now()
	if err := f.d.Apply(f.t.Context(), change); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	took := time.Since(started)
	f.settle()
	lost := f.lost() - before
	f.t.Logf("figures: %-24s %4d ringing, %4d talking, apply %6.1f s, lost %d", what, ringing, talking, took.Seconds(), lost)
	if lost != 0 {
		f.t.Errorf("%s lost %d", what, lost)
	}
}

// settle waits for two more lines of statistics, so that what a step broke is counted with it.
func (f *fleet) settle() {
	f.t.Helper()
	before := f.calling.Number("TotalCallCreated")
	f.await(30*time.Second, "new calls begin", func() bool { return f.calling.Number("TotalCallCreated") >= before+3*callRate })
}

func counts(router, edge, diameter int) map[string]any {
	return map[string]any{"counts": map[string]int{"router": router, "edge": edge, "diameter": diameter}}
}

func TestNothingIsLostByResizing(t *testing.T) {
	d := deployment.Up(t, "loss", map[string]any{
		"settings": map[string]string{"reg_max_expires": "60"}, "dns_ttl": 2, "user_settings": map[string]string{"log_level": "2"},
	})
	f := &fleet{t: t, d: d}
	f.provision()
	f.start()
	f.step("router 1 -> 3", counts(3, 1, 1))
	f.step("router 3 -> 1", counts(1, 1, 1))
	f.step("diameter 1 -> 2", counts(1, 1, 2))
	f.step("diameter 2 -> 1", counts(1, 1, 1))
	f.step("edge 1 -> 2", counts(1, 2, 1))
	f.callThroughSecondEdge()
	f.step("edge 2 -> 1", counts(1, 1, 1))
	packets := startCapture(t, d.Network())
	f.step("router 1 -> 2", counts(2, 1, 1))
	f.killRouter(packets)
	f.everybodyIsCalled()
}

// callThroughSecondEdge starts callers that register and call at the new edge; when it drains they are sent to the first.
func (f *fleet) callThroughSecondEdge() {
	f.t.Helper()
	second := ""
	for _, p := range f.d.Proxies {
		if p != f.calling.Proxy {
			second = p
		}
	}
	if second == "" {
		f.t.Fatalf("two edges are wanted, the proxies are %v", f.d.Proxies)
	}
	f.moving = sipp.Run{
		Scenario: "loss-caller", Proxy: second, Domain: f.d.Domain, Local: f.at(212, 5090), Transport: "u1",
		Users: users(f.d, "mover", movers, strings.Split(f.calling.Proxy, ":")[0]), Calls: 100, Rate: 5, Limit: 1000, Timeout: time.Hour,
		Extra: []string{"-trace_counts"},
	}.Start(f.t)
	f.await(60*time.Second, "calls talk through the second edge", func() bool {
		_, talking := f.moving.CallStates()
		return talking >= 20
	})
}

// killRouter kills one of two routers. What it held may be lost: calls with a transaction without a final response, as the
// capture shows them.
func (f *fleet) killRouter(packets *capture) {
	f.t.Helper()
	ringing, talking := f.underLoad()
	before := f.lost()
	pid, held := f.victim("router-2.site1")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		f.t.Fatalf("killing router-2: %v", err)
	}
	killed := time.Now()
	f.settle()
	f.await(60*time.Second, "calls that rang when it was killed have ended", func() bool { return f.calling.Number("TotalCallCreated") > 0 && f.afterRinging(22*time.Second) })
	lost := f.lost() - before
	pending := held
	if packets != nil {
		pending = packets.pending(f.d.Address("router-2"), killed)
	}
	f.t.Logf("figures: %-24s %4d ringing, %4d talking, lost %d; by the capture %d calls were pending at it, by its own count %d transactions",
		"kill -9 of 1 of 2 routers", ringing, talking, lost, pending, held)
	if lost > pending {
		f.t.Errorf("the kill lost %d, the capture shows %d calls pending at the router", lost, pending)
	}
}

// victim finds a node's process and how many transactions it holds.
func (f *fleet) victim(node string) (pid, held int) {
	f.t.Helper()
	pid, err := f.d.Process(node)
	if err != nil {
		f.t.Fatal(err)
	}
	return pid, f.d.Gauge(f.t.Context(), node, "ims_proxy_transactions")
}

func (f *fleet) afterRinging(d time.Duration) bool {
	select {
	case <-f.t.Context().Done():
	case <-time.After(d): // the longest ringing of the scenario: real time is what is waited for
	}
	return true
}

// everybodyIsCalled ends the streams by their script and then calls every phone once.
func (f *fleet) everybodyIsCalled() {
	f.t.Helper()
	f.calling.Quit()
	if r := f.calling.Wait(); r.Failed > 0 {
		f.t.Logf("the callers' errors:\n%s", r.Errors)
	}
	if f.moving != nil {
		if r := f.moving.Wait(); r.Err != nil {
			f.t.Errorf("callers of the second edge: %v\n%s", r.Err, r.Errors)
		}
	}
	all := make([]sipp.User, called)
	for i := range called {
		all[i] = user(f.d, "caller", i, name("called", i), strings.Split(f.d.Proxies[0], ":")[0])
	}
	r := sipp.Run{
		Scenario: "loss-check", Proxy: f.d.Proxies[0], Domain: f.d.Domain, Local: f.at(210, 5070), Transport: "u1", Users: all, Rate: 30, Limit: 1000,
		Timeout: 3 * time.Minute,
	}.Do(f.t)
	f.t.Logf("figures: %d of %d phones answer afterwards; %d calls and %d registrations in all", r.Successful, called,
		f.calling.Number("TotalCallCreated"), f.phones.Number("TotalCallCreated"))
	if r.Err != nil || r.Successful != called {
		f.t.Errorf("%d phones cannot be called afterwards: %v\n%s", called-r.Successful, r.Err, r.Errors)
	}
}
