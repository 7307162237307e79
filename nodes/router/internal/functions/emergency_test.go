package functions_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// emergencyCall is an INVITE as the edge sends it to the I-CSCF.
func emergencyCall(service, callID string) string {
	return `
INVITE urn:service:` + service + ` SIP/2.0
Route: <sip:icscf.router.ims.test;transport=TCP;lr>
Record-Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:nobody@ims.test>;tag=a
To: <urn:service:` + service + `>
Call-ID: ` + callID + `
CSeq: 1 INVITE
Resource-Priority: esnet.0
Contact: <sip:alice@1.2.3.4>

v=0
`
}

// points are answering points: gateway.test, one.test and two.test.
func (w *world) points() (gateway, one, two *proxytest.Peer) {
	n := w.edge.Network()
	return proxytest.NewPeer(w.t, n, "10.1.0.9:5060"), proxytest.NewPeer(w.t, n, "10.1.0.11:5054"), proxytest.NewPeer(w.t, n, "10.1.0.12:5054")
}

func TestEmergencyCall(t *testing.T) {
	in(t, "emergency_routes=sos=sip:one.test,sos.fire=sip:gateway.test;transport=tcp", func(w *world) {
		gateway, one, _ := w.points()
		w.edge.Send(icscf, emergencyCall("SOS.fire", "c1"))
		m := gateway.Expect("INVITE")
		if m.URI != "urn:service:SOS.fire" || m.Get(sip.Route) != "<sip:gateway.test;transport=tcp;lr>" || m.Get(sip.ResourcePriority) != "esnet.0" || m.Body != "v=0\n" {
			t.Errorf("the answering point gets\n%s", m)
		}
		if rr := m.All(sip.RecordRoute); len(rr) != 2 || !strings.Contains(rr[0], "scscf.router.ims.test") {
			t.Errorf("Record-Route %q", rr)
		}
		gateway.Reply(m, 200, "Contact: <sip:10.1.0.9;transport=tcp>")
		ok := w.edge.Expect("200")
		within := strings.NewReplacer("INVITE urn:service:sos", "BYE sip:10.1.0.9;transport=tcp", "1 INVITE", "2 BYE", "To: <urn:service:sos>", "To: "+ok.Get(sip.To), "icscf.router", "scscf.router").Replace(emergencyCall("sos", "c1"))
		w.edge.Send(scscf, within)
		gateway.Reply(gateway.Expect("BYE"), 200)
		w.edge.Expect("200")
		one.Quiet(time.Second)
		if n := len(w.hss.Assignments()) + w.hss.Calls("locate") + w.hss.Calls("authorize"); n != 0 {
			t.Errorf("%d questions about an emergency call", n)
		}
	})
}

// The most specific service first, then what it is a kind of, then any; whatever keeps a point from taking the call.
func TestEmergencyCallFailsOver(t *testing.T) {
	in(t, "emergency_routes=*=sip:two.test,sos=sip:away.test,sos.police=sip:110@one.test,sos.police.traffic=sip:gateway.test", func(w *world) {
		gateway, one, two := w.points()
		w.edge.Send(scscf, emergencyCall("sos.police.traffic", "c1"))
		started := time.Now()
		gateway.Reply(gateway.Expect("INVITE"), 100) // and no more
		m := one.Expect("INVITE")
		if d := time.Since(started); d != 6*time.Second || m.URI != "sip:110@one.test" || m.Has(sip.Route) {
			t.Errorf("after %v the second gets\n%s", d, m)
		}
		one.Reply(m, 180)
		w.edge.Expect("180")
		one.Reply(m, 603) // and nobody is at away.test
		m = two.Expect("INVITE")
		two.Reply(m, 200, "Contact: <sip:two.test>")
		w.edge.Expect("200")
		gateway.Reply(gateway.Expect("CANCEL"), 200)
		if err := testutil.GatherAndCompare(w.counts, strings.NewReader(`
# HELP ims_ecscf_failovers_total Answering points that did not take an emergency call, so that another one was tried.
# TYPE ims_ecscf_failovers_total counter
ims_ecscf_failovers_total 3
`), "ims_ecscf_failovers_total"); err != nil {
			t.Error(err)
		}
		// The next caller does not wait for those who were silent.
		w.edge.Send(scscf, emergencyCall("sos.police.traffic", "c2"))
		one.Expect("ACK")
		m = one.Expect("INVITE")
		one.Reply(m, 200, "Contact: <sip:one.test>")
		w.edge.Expect("200")
		time.Sleep(40 * time.Second)
		w.edge.Send(scscf, emergencyCall("sos.police.traffic", "c3"))
		gateway.Reply(gateway.Expect("INVITE"), 200, "Contact: <sip:gateway.test>")
		w.edge.Expect("200")
	})
}

func TestEmergencyCallThatNobodyTakes(t *testing.T) {
	in(t, "emergency_routes=sos=sip:one.test,sos=sip:two.test", func(w *world) {
		_, one, two := w.points()
		w.edge.Send(scscf, emergencyCall("sos.fire", "c1"))
		one.Reply(one.Expect("INVITE"), 486)
		one.Expect("ACK")
		two.Reply(two.Expect("INVITE"), 480)
		w.edge.Expect("480")
	})
	in(t, "emergency_routes=sos.fire=sip:one.test", func(w *world) {
		w.edge.Send(scscf, emergencyCall("sos.police", "c1"))
		if m := w.edge.Expect("404"); !strings.Contains(m.Get(sip.Warning), "sos.police") {
			t.Errorf("without a word why:\n%s", m)
		}
	})
}

// A caller who hangs up is not called for at the next point.
func TestEmergencyCallThatIsCancelled(t *testing.T) {
	in(t, "emergency_routes=sos=sip:one.test,sos=sip:two.test", func(w *world) {
		_, one, two := w.points()
		sent := w.edge.Send(scscf, emergencyCall("sos", "c1"))
		m := one.Expect("INVITE")
		one.Reply(m, 180)
		w.edge.Expect("180")
		w.edge.Send(scscf, strings.NewReplacer("INVITE urn", "CANCEL urn", "1 INVITE", "1 CANCEL").Replace(sent.String()))
		w.edge.Expect("200")
		one.Reply(one.Expect("CANCEL"), 200)
		one.Reply(m, 487)
		w.edge.Expect("487")
		two.Quiet(40 * time.Second)
	})
}

// The caller's identity is barred, and the edge has sent the call along its Service-Route.
func TestEmergencyCallIsNeverBarred(t *testing.T) {
	in(t, "emergency_routes=sos=tel:112,sos=sip:bob@ims.test", func(w *world) {
		if err := w.router.SetRoutes(`{"routes":[{"name":"e","number":"112","route":["sip:gateway.test;lr"]}]}`); err != nil {
			t.Fatal(err)
		}
		w.hss.SetBarred("sip:alice@ims.test", true)
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
		gateway, _, _ := w.points()
		text := strings.NewReplacer("<sip:icscf.router.ims.test;transport=TCP;lr>", "<sip:scscf.router.ims.test;transport=TCP;lr;orig>", "<sip:nobody@", "<sip:alice@").Replace(emergencyCall("sos", "c1"))
		w.edge.Send(scscf, text)
		m := gateway.Expect("INVITE")
		if m.URI != "tel:112" {
			t.Errorf("the gateway is asked for %s", m.URI)
		}
		gateway.Reply(m, 503)
		m = w.edge.Expect("INVITE") // an answering point that is a user of ours
		if m.URI != "sip:bob@9.9.9.9:1234" {
			t.Errorf("the user is called at %s", m.URI)
		}
		w.edge.Reply(m, 200, "Contact: <sip:bob@9.9.9.9>")
		w.edge.Expect("200")
	})
}
