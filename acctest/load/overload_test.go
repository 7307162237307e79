package load

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/sipp"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

var overloadFor = flag.Duration("overload", 20*time.Second, "how long TestOverload offers too much") //nolint:gochecknoglobals // a flag

const (
	serverShare   = 0.3 // of one core, for all servers together
	times         = 5   // so many times the peak is offered
	emergencyRate = 4
	lines         = 50 // of the callers, and of the called
	controlPort   = 8899
)

// crowd is the phones around a deployment whose servers are slow.
type crowd struct {
	t         *testing.T
	d         *deployment.Deployment
	calling   *sipp.Process
	called    *sipp.Process
	answering *sipp.Process // the answering point of emergency calls
	servers   []int
	roles     map[int]string // of the servers
}

// used is the processor time of each role so far.
func (c *crowd) used() map[string]time.Duration {
	out := map[string]time.Duration{}
	for _, pid := range c.servers {
		out[c.roles[pid]] += cpuTime([]int{pid})
	}
	return out
}

// shares prints which share of a core each role has used since then.
func (c *crowd) shares(before map[string]time.Duration, since time.Time) string {
	var parts []string
	sum := 0.0
	for _, role := range slices.Sorted(maps.Keys(before)) {
		share := (c.used()[role] - before[role]).Seconds() / time.Since(since).Seconds()
		parts, sum = append(parts, fmt.Sprintf("%s %.3f", role, share)), sum+share
	}
	return fmt.Sprintf("%.2f of a core (%s)", sum, strings.Join(parts, ", "))
}

func (c *crowd) at(host, port int) string { return fmt.Sprintf("%s.%d:%d", c.d.Network(), host, port) }

func line(group string, i int) string {
	return map[string]string{"caller": "65061", "called": "65062", "emergency": "65063"}[group] + fmt.Sprintf("%05d", i)
}

// script prepares SIPp with a scenario of this folder.
func (c *crowd) script(scenario, local string, users []sipp.User) sipp.Run {
	c.t.Helper()
	path, err := filepath.Abs(filepath.Join("scenarios", scenario+".xml"))
	if err != nil {
		c.t.Fatal(err)
	}
	return sipp.Run{Scenario: path, Proxy: c.d.Proxies[0], Domain: c.d.Domain, Local: local, Transport: "u1", Users: users, Rate: 1, Limit: 15000, Timeout: time.Hour}
}

// enrol provisions phones of a group and registers them at one address.
func (c *crowd) enrol(group, local string, n int, peer func(i int) string) []sipp.User {
	c.t.Helper()
	users := make([]sipp.User, n)
	work, ctx := errgroup.WithContext(c.t.Context())
	work.SetLimit(8)
	for i := range users {
		name := line(group, i)
		users[i] = sipp.User{Name: name, Password: "secret", Expires: 3600, Peer: peer(i), Instance: fmt.Sprintf("00000000-0000-4000-8000-%012s", name)}
		work.Go(func() error {
			id := name + "@" + c.d.Domain
			return c.d.Provisioning().CreateSubscriber(ctx, provisioning.Subscriber{PublicIDs: []string{"sip:" + id}, PrivateID: id, Realm: c.d.Domain, Password: "secret"})
		})
	}
	if err := work.Wait(); err != nil {
		c.t.Fatalf("provisioning: %v", err)
	}
	sipp.Run{Scenario: "register", Proxy: c.d.Proxies[0], Domain: c.d.Domain, Local: local, Transport: "u1", Users: users, Rate: 50, Limit: 50}.Must(c.t)
	return users
}

// gather brings up the deployment with its answering points, given as hosts of its network, and the phones.
func gather(t *testing.T, env string, points ...int) (c *crowd, callers, emergencies []sipp.User) {
	t.Helper()
	settings := map[string]string{"reg_max_expires": "3600", "emergency_numbers": "112"}
	d := deployment.Up(t, env, map[string]any{"settings": settings})
	c = &crowd{t: t, d: d, roles: map[int]string{}}
	settings = maps.Clone(settings)
	var routes []string
	for _, host := range points {
		routes = append(routes, "sos=sip:"+c.at(host, 5060))
	}
	settings["emergency_routes"] = strings.Join(routes, ",")
	if err := d.Apply(t.Context(), map[string]any{"settings": settings}); err != nil {
		t.Fatal(err)
	}
	nobody := func(int) string { return "" }
	c.enrol("called", c.at(211, 5080), lines, nobody)
	callers = c.enrol("caller", c.at(210, 5070), lines, func(i int) string { return line("called", i) })
	emergencies = c.enrol("emergency", c.at(214, 5070), 5, func(int) string { return "urn:service:sos.police" })
	c.called = c.forever("answer", c.at(211, 5080))
	c.answering = c.forever("answering-point", c.at(213, 5060))
	return c, callers, emergencies
}

func (c *crowd) forever(scenario, local string) *sipp.Process {
	c.t.Helper()
	r := c.script(scenario, local, nil)
	r.Calls = 10_000_000
	return r.Start(c.t)
}

// A registered phone calls the police and dials 112; the first answering point does not answer, the second takes the calls.
func TestEmergencyCall(t *testing.T) {
	c, _, users := gather(t, "emergency", 215, 213) // nobody is at the first
	users[1].Peer = "tel:112"
	c.configured(users[0])
	before := c.answering.Number("SuccessfulCall(C)")
	r := c.script("emergency-caller", c.at(214, 5070), users[:2])
	r.Timeout = time.Minute
	r.Must(t)
	if n := c.await(before + 2); n != before+2 {
		t.Errorf("the answering point took %d calls of 2", n-before)
	}
	log := c.answering.Stop().Log
	for _, want := range []string{"INVITE urn:service:sos esnet.0", "<sip:" + users[1].Name + "@" + c.d.Domain + ">"} {
		if !strings.Contains(log, want) {
			t.Errorf("the answering point did not see %q:\n%s", want, log)
		}
	}
}

// configured makes emergency calls until the routers have taken emergency_routes.
func (c *crowd) configured(user sipp.User) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		r := c.script("emergency-caller", c.at(214, 5070), []sipp.User{user})
		r.Timeout = 30 * time.Second
		result := r.Do(c.t)
		if result.Err == nil {
			c.await(1)
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no emergency call succeeds: %v\n%s", result.Err, result.Errors)
		}
	}
}

// await waits until the answering point has finished so many calls, and returns how many they are.
func (c *crowd) await(n int) int {
	for deadline := time.Now().Add(10 * time.Second); c.answering.Number("SuccessfulCall(C)") < n && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	return c.answering.Number("SuccessfulCall(C)")
}

// counts are what SIPp's callers have counted by a moment of theirs.
type tally struct {
	at                          time.Duration
	offered, completed, refused int
}

// rates are counts a second between two moments.
type rates struct{ offered, completed, refused float64 }

func (c *crowd) counted() tally {
	s := c.calling.Stats()
	number := func(column string) int { n, _ := strconv.Atoi(s[column]); return n }
	var h, m int
	var sec float64
	_, _ = fmt.Sscanf(strings.Replace(s["ElapsedTime(C)"], ":", " ", 2), "%d %d %f", &h, &m, &sec)
	return tally{
		time.Duration((float64(h*3600+m*60) + sec) * float64(time.Second)),
		number("TotalCallCreated"), number("GenericCounter2(C)"), number("GenericCounter1(C)"),
	}
}

// during measures for some time.
func (c *crowd) during(d time.Duration) rates {
	from := c.counted()
	time.Sleep(d)
	to := c.counted()
	seconds := (to.at - from.at).Seconds()
	return rates{float64(to.offered-from.offered) / seconds, float64(to.completed-from.completed) / seconds, float64(to.refused-from.refused) / seconds}
}

// offer changes how many calls a second are begun.
func (c *crowd) offer(rate float64) {
	c.t.Helper()
	conn, err := net.Dial("udp", c.at(210, controlPort))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "cset rate %.0f\n", rate); err != nil {
		c.t.Fatal(err)
	}
}

// ramp raises the rate until the servers do not follow, and returns the most that they did.
func (c *crowd) ramp() float64 {
	c.t.Helper()
	peak := 0.0
	for rate := 60.0; rate < 3000; rate *= 1.35 {
		c.offer(rate)
		time.Sleep(3 * time.Second) // calls of the rate before end
		used, began := c.used(), time.Now()
		r := c.during(4 * time.Second)
		c.t.Logf("figures: offered %6.1f/s: completed %6.1f/s, refused %6.1f/s; servers used %s", r.offered, r.completed, r.refused, c.shares(used, began))
		peak = max(peak, r.completed)
		if r.completed < 0.85*r.offered {
			return peak
		}
	}
	c.t.Fatal("the servers follow whatever is offered: the quota does not bind")
	return 0
}

func TestOverload(t *testing.T) {
	c, callers, users := gather(t, "overload", 213)
	c.configured(users[0])
	for node := range c.d.Nodes {
		pid, err := c.d.Process(node)
		if err != nil {
			t.Fatal(err)
		}
		role, _, _ := strings.Cut(node, "-")
		for _, pid := range family(pid) {
			c.servers, c.roles[pid] = append(c.servers, pid), role
		}
	}
	slices.Sort(c.servers)
	how := limitCPU(t, c.servers, serverShare)
	t.Logf("figures: %d server processes share %.2f of a core by %s", len(c.servers), serverShare, how)
	host, _, _ := strings.Cut(c.at(210, 0), ":")
	r := c.script("caller", c.at(210, 5070), callers)
	r.Calls, r.Extra = 10_000_000, []string{"-ci", host, "-cp", strconv.Itoa(controlPort)}
	c.calling = r.Start(t)
	for deadline := time.Now().Add(10 * time.Second); c.counted().at == 0 && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	peak := c.ramp()

	e := c.script("emergency-caller", c.at(214, 5070), users)
	e.Rate, e.Calls = emergencyRate, emergencyRate*int(*overloadFor/time.Second)
	taken := c.answering.Number("SuccessfulCall(C)")
	c.offer(times * peak)
	emergency := e.Start(t)
	time.Sleep(2 * time.Second)
	used, began := c.used(), time.Now()
	over := c.during(*overloadFor - 2*time.Second)
	share := c.shares(used, began)
	c.offer(0.8 * peak)
	time.Sleep(5 * time.Second)
	after := c.during(8 * time.Second)

	t.Logf("figures: peak %.1f/s; for %v %.1f/s offered (%.1f times): completed %.1f/s (%.0f %% of peak), refused %.1f/s, servers used %s",
		peak, *overloadFor, over.offered, over.offered/peak, over.completed, 100*over.completed/peak, over.refused, share)
	t.Logf("figures: 5 s after: offered %.1f/s, completed %.1f/s, refused %.1f/s; mean time to answer %s", after.offered, after.completed, after.refused, c.calling.Stats()["ResponseTime1(C)"])
	for _, node := range []string{"edge-1.site1", "router-1.site1"} {
		role, _, _ := strings.Cut(node, "-")
		t.Logf("figures: %s refused %d, heard of %d refusals, permits %d/s", role, c.d.Gauge(t.Context(), node, "ims_"+role+"_overload_rejected_total"),
			c.d.Gauge(t.Context(), node, "ims_"+role+"_overload_penalties_total"), c.d.Gauge(t.Context(), node, "ims_"+role+"_overload_permitted_rate"))
	}
	result := emergency.Wait()
	done := c.await(taken+e.Calls) - taken
	t.Logf("figures: %d emergency calls, %d failed, %d taken to their end by the answering point, mean time to answer %s", e.Calls, result.Failed, done, result.Stats["ResponseTime1(C)"])

	switch {
	case over.offered < 0.95*times*peak:
		t.Errorf("the generator offered %.1f/s, %.1f/s was to be", over.offered, times*peak)
	case over.completed < 0.8*peak:
		t.Errorf("goodput under overload is %.1f/s, the peak was %.1f/s", over.completed, peak)
	}
	if result.Err != nil || done != e.Calls {
		t.Errorf("%d of %d emergency calls: %v\n%s\nthe answering point: %s", done, e.Calls, result.Err, result.Errors, c.answering.Stop().Errors)
	}
	if after.refused > 0.01*after.offered || after.completed < 0.95*after.offered {
		t.Errorf("5 s after the overload %.1f/s of %.1f/s are completed, %.1f/s refused", after.completed, after.offered, after.refused)
	}
	for _, pid := range c.servers {
		if cpuTime([]int{pid}) == 0 {
			t.Errorf("a server has died: process %d", pid)
		}
	}
}
