package pcscf_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// watching takes the edge's SUBSCRIBE as the S-CSCF does.
func (w *world) watching(expires int) *sip.Message {
	w.t.Helper()
	m := w.router.Expect("SUBSCRIBE")
	w.router.Reply(m, 200, fmt.Sprint("Expires: ", expires), "Contact: <sip:scscf.router.ims.test;transport=TCP>")
	synctest.Wait()
	return m
}

// request sends a MESSAGE of alice, which the router answers, and returns the status that she gets.
func (w *world) request(access string, answered bool) {
	w.t.Helper()
	w.seq++
	w.alice.Send(access, message("sip:alice@ims.test", "sip:bob@ims.test", w.seq))
	if !answered {
		w.alice.Expect("403")
		return
	}
	w.router.Reply(w.router.Expect("MESSAGE"), 200)
	w.alice.Expect("200")
}

type told struct {
	state, event, expires, callID string
	cseq                          int
	registration                  string // state of the registration; active if empty
}

// notify tells the edge the state of alice's contact, and returns the edge's answer.
func (w *world) notify(sub *sip.Message, version int, c told, state string) {
	w.t.Helper()
	if c.registration == "" {
		c.registration = "active"
	}
	body := fmt.Sprintf(`<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="%d" state="full"><registration aor="sip:alice@ims.test" id="a" state="%s"><contact id="c" state="%s" event="%s" expires="%s" callid="%s" cseq="%d"><uri>sip:alice@10.9.0.1:5060</uri></contact></registration></reginfo>`,
		version, c.registration, c.state, c.event, c.expires, c.callID, c.cseq)
	w.notifyText(sub, version, state, body, "200")
}

func (w *world) notifyText(sub *sip.Message, version int, state, body, want string) {
	w.t.Helper()
	w.seq++
	w.router.Send(coreTCP, fmt.Sprintf("NOTIFY sip:10.2.0.1:5058;transport=TCP SIP/2.0\nVia: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKn%d\nFrom: <sip:alice@ims.test>;tag=tag-10.1.0.1-5054\nTo: %s\nCall-ID: %s\nCSeq: %d NOTIFY\nEvent: reg\nSubscription-State: %s\nContent-Type: application/reginfo+xml\n\n%s",
		w.seq, sub.Get(sip.From), sub.CallID(), version+1, state, body))
	w.router.Expect(want)
}

// E37: with a user's first request the edge subscribes to the state of the user, once, as the P-CSCF of the Path; what the
// network ends then ends on the flow.
func TestNetworkEndsWhatTheEdgeAsserts(t *testing.T) {
	for name, c := range map[string]struct {
		told     told
		state    string
		asserted bool
		phone    string
	}{
		"deactivated":              {told{state: "terminated", event: "deactivated", callID: "reg-alice", cseq: 1, registration: "terminated"}, "terminated;reason=deactivated", false, ""},
		"rejected":                 {told{state: "terminated", event: "rejected", callID: "reg-alice", cseq: 1}, "active;expires=99", false, ""},
		"unregistered elsewhere":   {told{state: "terminated", event: "unregistered", callID: "reg-alice", cseq: 9}, "active;expires=99", false, ""},
		"without word of REGISTER": {told{state: "terminated", event: "deactivated"}, "active;expires=99", false, ""},
		"overtaken":                {told{state: "terminated", event: "unregistered", callID: "reg-alice", cseq: 0}, "active;expires=99", true, ""},
		"another REGISTER":         {told{state: "terminated", event: "expired", callID: "old", cseq: 7}, "active;expires=99", true, ""},
		"refreshed":                {told{state: "active", event: "refreshed", expires: "300", callID: "reg-alice", cseq: 1}, "active;expires=99", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "edge_reg_event=requests", func(w *world) {
				w.register(w.alice, accessUDP, "alice")
				w.router.Quiet(5 * time.Second) // a registration alone costs nothing
				w.seq++
				w.alice.Send(accessUDP, message("sip:alice@ims.test", "sip:bob@ims.test", w.seq))
				both := map[string]*sip.Message{}
				for range 2 {
					m := w.router.Maybe(time.Second)
					both[m.Method] = m
					w.router.Reply(m, 200, "Expires: 461", "Contact: <sip:scscf.router.ims.test;transport=TCP>")
				}
				w.alice.Expect("200")
				sub := both["SUBSCRIBE"]
				if sub == nil || both["MESSAGE"] == nil {
					t.Fatalf("router got %v", both)
				}
				w.has(sub, sip.Route, "<sip:icscf.router.ims.test:5052;transport=TCP;lr>")
				w.has(sub, sip.PAssertedIdentity, "<sip:10.2.0.1:5058>")
				w.has(sub, sip.Event, "reg")
				w.has(sub, sip.Expires, "600000")
				w.has(sub, sip.To, "<sip:alice@ims.test>")
				if sub.URI != "sip:alice@ims.test" {
					t.Errorf("SUBSCRIBE %s", sub.URI)
				}
				w.notify(sub, 0, c.told, c.state)
				w.request(accessUDP, c.asserted)
				if n := w.edge.Registrations(); (n == 1) != c.asserted {
					t.Errorf("%d registrations", n)
				}
				w.router.Quiet(time.Second)
			})
		})
	}
}

// A contact that loses time lasts as long as the network says; documents that are older than one that was read, or no
// documents, change nothing; a NOTIFY of no subscription is refused.
func TestShortenedAndStaleDocuments(t *testing.T) {
	in(t, "edge_reg_event=registrations", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		sub := w.watching(461)
		w.notifyText(sub, 3, "active", "<reginfo", "400")
		w.notify(sub, 5, told{state: "active", event: "shortened", expires: "60", callID: "reg-alice", cseq: 1}, "active")
		w.notify(sub, 4, told{state: "terminated", event: "deactivated", callID: "reg-alice", cseq: 1}, "active")
		w.request(accessUDP, true)
		time.Sleep(70 * time.Second)
		w.request(accessUDP, false)

		other := sub.Clone()
		other.Set(sip.CallID, "unknown")
		w.notifyText(other, 6, "active", "", "481")
		other = sub.Clone()
		other.Set(sip.From, "<sip:10.2.0.1:5058>;tag=other")
		w.notifyText(other, 6, "active", "", "481")
		w.alice.Send(accessUDP, "NOTIFY sip:10.2.0.1:5058 SIP/2.0\nFrom: <sip:alice@ims.test>;tag=x\nTo: "+sub.Get(sip.From)+"\nCall-ID: "+sub.CallID()+"\nCSeq: 9 NOTIFY\nEvent: reg\nSubscription-State: active\n")
		w.alice.Expect("403")
	})
}

// One subscription serves a user however many flows there are; all of them end together. It is refreshed in its dialog
// while users are there, and made anew when the S-CSCF does not know it any more.
func TestOneSubscriptionForAUser(t *testing.T) {
	in(t, "edge_reg_event=registrations", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		sub := w.watching(461)
		second := proxytest.NewPeer(w.t, w.net, "10.9.0.3:5060")
		w.seq++
		second.Send(accessTCP, strings.ReplaceAll(registerText("alice", w.seq), "10.9.0.1:5060", "10.9.0.3:5060"))
		up := w.router.Expect("REGISTER")
		w.router.Reply(up, 200, "Contact: "+up.Get(sip.Contact), "P-Associated-URI: <sip:alice@ims.test>")
		second.Expect("200")
		w.router.Quiet(3 * time.Second)
		for range 2 {
			w.seq++
			w.alice.Send(accessUDP, registerText("alice", w.seq))
			up := w.router.Expect("REGISTER")
			w.router.Reply(up, 200, "Contact: <sip:alice@10.9.0.1:5060>;expires=3000", "P-Associated-URI: <sip:alice@ims.test>")
			w.alice.Expect("200")
		}
		time.Sleep(225 * time.Second)
		again := w.router.Expect("SUBSCRIBE") // at half time
		if again.CallID() != sub.CallID() || again.ToTag() == "" || again.URI != "sip:scscf.router.ims.test;transport=TCP" || again.Get(sip.CSeq) != "2 SUBSCRIBE" || again.Has(sip.Route) {
			t.Errorf("refreshed with\n%s", again)
		}
		w.router.Reply(again, 481)
		anew := w.watching(461)
		if anew.CallID() == sub.CallID() || anew.ToTag() != "" {
			t.Errorf("made anew with\n%s", anew)
		}
		w.notifyText(sub, 9, "active", "", "481")
		w.notifyText(anew, 0, "terminated;reason=deactivated", `<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="0" state="full"><registration aor="sip:alice@ims.test" id="a" state="terminated"/></reginfo>`, "200")
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("%d registrations", n)
		}
		w.router.Quiet(500 * time.Second)
	})
}

// In the default mode a subscription that nobody uses lapses; a user whom the network does not know as registered is
// forgotten; a network that fails is asked again later, and calls go on.
func TestWatchingLapsesAndFails(t *testing.T) {
	in(t, "edge_reg_event=requests", func(w *world) {
		w.register(w.alice, accessUDP, "alice", "Contact: <sip:alice@10.9.0.1:5060>;expires=100000")
		w.seq++
		w.alice.Send(accessUDP, message("sip:alice@ims.test", "sip:bob@ims.test", w.seq))
		for range 2 {
			m := w.router.Maybe(time.Second)
			w.router.Reply(m, map[string]int{"SUBSCRIBE": 503, "MESSAGE": 200}[m.Method])
		}
		w.alice.Expect("200")
		w.request(accessUDP, true) // it is not asked at once
		time.Sleep(31 * time.Second)
		w.watching(400)
		w.router.Quiet(500 * time.Second) // unused
		synctest.Wait()
		if got := w.gauge("ims_edge_subscriptions"); got != 0 {
			t.Errorf("%v subscriptions are left", got)
		}
		w.seq++
		w.alice.Send(accessUDP, message("sip:alice@ims.test", "sip:bob@ims.test", w.seq))
		for range 2 {
			m := w.router.Maybe(time.Second)
			w.router.Reply(m, map[string]int{"SUBSCRIBE": 480, "MESSAGE": 200}[m.Method])
		}
		w.alice.Expect("200")
		synctest.Wait()
		w.request(accessUDP, false)
	})
}

func (w *world) gauge(name string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}
