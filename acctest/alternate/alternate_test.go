// Package alternate tests that two routers share nothing but the store: steps of a registration, a call and a subscription
// go now to the one and now to the other.
package alternate

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/phone"
)

var shared *deployment.Deployment //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	return deployment.Main(m, "alternate", map[string]any{"counts": map[string]int{"router": 2}}, func(d *deployment.Deployment) { shared = d })
}

// turns notes which of the two routers took a phone's request, and whether the one before it in the same registration, call
// or subscription was taken by the other.
type turns struct {
	t       *testing.T
	crosses map[string]int // "INVITE>ACK 1>2": how often
}

// router sends a request and tells which router got it: the one whose count of requests from the wire went up.
func (x *turns) router(method string, send func()) int {
	x.t.Helper()
	before := [2]int{x.count(0, method), x.count(1, method)}
	send()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-time.After(2 * time.Millisecond) {
		for i := range before {
			if x.count(i, method) > before[i] {
				return i + 1
			}
		}
	}
	x.t.Fatalf("no router has got the %s", method)
	return 0
}

func (x *turns) count(router int, method string) (n int) {
	x.t.Helper()
	for _, function := range []string{"icscf", "scscf"} {
		n += shared.Gauge(x.t.Context(), fmt.Sprintf("router-%d.site1", router+1), `ims_proxy_requests_total{function="`+function+`",local="false",method="`+method+`"}`)
	}
	return n
}

func (x *turns) cross(first string, a int, second string, b int) {
	x.crosses[fmt.Sprintf("%s>%s %d>%d", first, second, a, b)]++
}

// missing tells which hand-overs between the routers have not been seen.
func (x *turns) missing() (out []string) {
	for _, pair := range []string{"REGISTER>answer", "INVITE>ACK", "INVITE>re-INVITE", "INVITE>BYE", "SUBSCRIBE>again"} {
		for _, way := range []string{"1>2", "2>1"} {
			if x.crosses[pair+" "+way] == 0 {
				out = append(out, pair+" "+way)
			}
		}
	}
	return out
}

// TestRoutersAlternate registers, calls, calls again in the call, hangs up, subscribes and subscribes again until each step
// has been taken by either router with the step before it at the other. The routers hold nothing of each other, so
// whatever a step needs has to be in the message or the store.
func TestRoutersAlternate(t *testing.T) {
	x := &turns{t: t, crosses: map[string]int{}}
	a, b := phone.Subscriber(t, shared, "").PickUp(), phone.Subscriber(t, shared, "").PickUp()
	registered(t, b)
	rounds := 0
	for ; len(x.missing()) > 0 && rounds < 80; rounds++ {
		x.registration(a)
		x.call(a, b)
		x.subscription(a)
	}
	if missing := x.missing(); len(missing) > 0 {
		t.Fatalf("in %d rounds the routers did not take turns at %s", rounds, strings.Join(missing, ", "))
	}
	t.Logf("figures: %d rounds until every step had followed its predecessor at the other router", rounds)
}

func registered(t *testing.T, phones ...*phone.Phone) {
	t.Helper()
	for _, p := range phones {
		if m := p.Register(300); m.Status() != 200 {
			t.Fatalf("REGISTER is answered by\n%s", m.Raw)
		}
	}
}

func (x *turns) registration(a *phone.Phone) {
	x.t.Helper()
	var routers []int
	a.EachRegister = func(send func()) { routers = append(routers, x.router("REGISTER", send)) }
	registered(x.t, a)
	if len(routers) != 2 {
		x.t.Fatalf("a registration took %d requests", len(routers))
	}
	x.cross("REGISTER", routers[0], "answer", routers[1])
}

func (x *turns) call(a, b *phone.Phone) {
	x.t.Helper()
	var call *phone.Call
	begin := x.router("INVITE", func() { call = a.Invite(b.URI()) })
	final := x.success(call, "INVITE", 1)
	x.cross("INVITE", begin, "ACK", x.router("ACK", func() { call.Ack(final) }))
	seq := 0
	x.cross("INVITE", begin, "re-INVITE", x.router("INVITE", func() {
		seq = call.Within(final, "INVITE", a.Contact(), "Content-Type: application/sdp", "\n"+phone.SDP)
	}))
	call.AckOf(x.success(call, "INVITE", seq), seq)
	x.cross("INVITE", begin, "BYE", x.router("BYE", func() { seq = call.Within(final, "BYE") }))
	x.success(call, "BYE", seq)
	b.Expect(time.Second, "BYE", phone.Is("BYE"))
}

func (x *turns) success(call *phone.Call, method string, seq int) *phone.Message {
	x.t.Helper()
	m := call.Phone.Expect(5*time.Second, "answer to "+method, func(m *phone.Message) bool {
		return call.Answers(method, 200, 699)(m) && int(m.CSeq().SeqNo) == seq
	})
	if m.Status() != 200 {
		x.t.Fatalf("%s is answered by\n%s", method, m.Raw)
	}
	return m
}

// subscription subscribes to the phone's own registration, again in the same dialog, and ends that.
func (x *turns) subscription(a *phone.Phone) {
	x.t.Helper()
	headers := []string{"Event: reg", "Accept: application/reginfo+xml"}
	var s *phone.Call
	begin := x.router("SUBSCRIBE", func() { s = a.StartRequest("SUBSCRIBE", a.URI(), append(headers, "Expires: 60")...) })
	final := x.success(s, "SUBSCRIBE", 1)
	x.notified(a, s, 1, "active")
	seq := 0
	x.cross("SUBSCRIBE", begin, "again", x.router("SUBSCRIBE", func() { seq = s.Within(final, "SUBSCRIBE", append(headers, "Expires: 60", a.Contact())...) }))
	x.success(s, "SUBSCRIBE", seq)
	x.notified(a, s, 2, "active")
	seq = s.Within(final, "SUBSCRIBE", append(headers, "Expires: 0", a.Contact())...)
	x.success(s, "SUBSCRIBE", seq)
	x.notified(a, s, 3, "terminated")
}

// notified waits for the NOTIFY with the given number; it has to come from the phone's own edge, whatever router sends it.
func (x *turns) notified(a *phone.Phone, s *phone.Call, number int, state string) {
	x.t.Helper()
	m := a.Expect(5*time.Second, "NOTIFY", func(m *phone.Message) bool {
		return phone.Is("NOTIFY")(m) && m.CallID().Value() == s.ID && int(m.CSeq().SeqNo) == number
	})
	if got := m.Lines("Subscription-State"); len(got) != 1 || !strings.HasPrefix(got[0], state) || !strings.Contains(m.Raw, "sip:"+a.Name+"@"+a.Local()) {
		x.t.Errorf("the NOTIFY says\n%s", m.Raw)
	}
	if m.From != a.Proxy {
		x.t.Errorf("NOTIFY %d comes from %s, not from the edge\n%s", number, m.From, m.Raw)
	}
}

// TestOwnerIsCancelled rings and cancels until both routers have owned calls: a CANCEL, and the ACK of the 487, goes where
// its INVITE went, or the phone would ring on.
func TestOwnerIsCancelled(t *testing.T) {
	x := &turns{t: t}
	a, b := phone.Subscriber(t, shared, ""), phone.Subscriber(t, shared, "")
	a.Start()
	b.Ring()
	registered(t, a, b)
	owned := [3]int{}
	for round := 0; (owned[1] < 4 || owned[2] < 4) && round < 40; round++ {
		var call *phone.Call
		owned[x.router("INVITE", func() { call = a.Invite(b.URI()) })]++
		a.Expect(5*time.Second, "180", call.Answers("INVITE", 180, 180))
		call.Cancel()
		a.Expect(5*time.Second, "answer to CANCEL", call.Answers("CANCEL", 200, 200))
		b.Expect(5*time.Second, "CANCEL", phone.Is("CANCEL"))
		if final := call.Final(5 * time.Second); final.Status() != 487 {
			t.Fatalf("the caller gets %d", final.Status())
		}
		b.Expect(5*time.Second, "ACK", phone.Is("ACK"))
	}
	if owned[1] < 4 || owned[2] < 4 {
		t.Errorf("the routers owned %d and %d calls", owned[1], owned[2])
	}
}
