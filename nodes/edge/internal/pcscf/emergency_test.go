package pcscf_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/clearwater-ims/clearwater/nodes/edge/internal/pcscf"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

const upstream = "<sip:icscf.router.ims.test:5052;transport=TCP;lr>"

// emergencyText is alice's INVITE to an emergency service or number.
func emergencyText(uri string, headers ...string) string {
	return strings.Replace(inviteText(headers...), "INVITE sip:bob@ims.test", "INVITE "+uri, 1)
}

func TestEmergencyCallGoesToTheECSCF(t *testing.T) {
	in(t, "emergency_numbers=112,110:sos.police", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		for uri, want := range map[string]string{
			"urn:service:sos.fire": "urn:service:sos.fire", "tel:112": "urn:service:sos", "sip:110@ims.test;user=phone": "urn:service:sos.police",
		} {
			sent := w.alice.Send(accessUDP, emergencyText(uri, "Route: <sip:attacker.test;lr>", "P-Asserted-Identity: <sip:mallory@ims.test>", "Resource-Priority: ets.0"))
			m := w.router.Expect("INVITE")
			if m.URI != want {
				t.Errorf("%s goes as %s", uri, m.URI)
			}
			w.has(m, sip.Route, upstream)
			w.has(m, sip.ResourcePriority, "esnet.0")
			w.has(m, sip.PAssertedIdentity, "<sip:alice@ims.test>")
			if m.Count(sip.RecordRoute) != 2 || !m.Has(sip.PChargingVector) {
				t.Errorf("sent as\n%s", m)
			}
			w.router.Reply(m, 404)
			w.router.Expect("ACK")
			ack(w.alice, accessUDP, sent, w.alice.Expect("404"))
		}
		w.alice.Send(accessUDP, emergencyText("tel:112", "P-Preferred-Identity: <tel:+15555>"))
		m := w.router.Expect("INVITE")
		w.has(m, sip.PAssertedIdentity, "<tel:+15555>")
		w.router.Reply(m, 200, "Contact: <sip:psap.test>")
		ok := w.alice.Expect("200")
		routes := m.All(sip.RecordRoute)
		if len(routes) != 2 || !ok.Has(sip.RecordRoute) {
			t.Errorf("Record-Route %q", routes)
		}
		w.alice.Send(accessUDP, emergencyText("urn:service:sos", "P-Preferred-Identity: <sip:mallory@ims.test>")) // never refused for what it says
		m = w.router.Expect("INVITE")
		w.has(m, sip.PAssertedIdentity, "<sip:alice@ims.test>")
		w.router.Reply(m, 200, "Contact: <sip:psap.test>")
		w.alice.Expect("200")
	})
}

func TestEmergencyCallWithoutRegistration(t *testing.T) {
	in(t, "", func(w *world) {
		w.alice.Send(accessTCP, emergencyText("urn:service:sos"))
		w.alice.Expect("403")
		w.router.Quiet(0)
	})
	in(t, "allow_unregistered_emergency_calls=Y", func(w *world) {
		w.alice.Send(accessTCP, emergencyText("urn:service:sos", "P-Preferred-Identity: <sip:alice@ims.test>"))
		m := w.router.Expect("INVITE")
		w.has(m, sip.PAssertedIdentity)
		w.has(m, sip.PPreferredIdentity)
		w.has(m, sip.ResourcePriority, "esnet.0")
		w.router.Reply(m, 200, "Contact: <sip:psap.test>", "Record-Route: "+strings.Join(m.All(sip.RecordRoute), ", "))
		ok := w.alice.Expect("200")
		var routes []string
		rr := ok.All(sip.RecordRoute)
		for i := len(rr) - 1; i >= 0; i-- {
			routes = append(routes, "Route: "+rr[i])
		}
		w.alice.Send(accessTCP, strings.NewReplacer("INVITE urn:service:sos", "BYE sip:psap.test", "1 INVITE", "2 BYE", "To: <sip:bob@ims.test>", "To: "+ok.Get(sip.To)).Replace(emergencyText("urn:service:sos", routes...)))
		w.alice.Expect("404")                                                        // the answering point is not in this world's DNS; the edge has no objection
		w.alice.Send(accessTCP, strings.Replace(inviteText(), "call@", "other@", 1)) // and nothing else
		w.alice.Expect("403")
	})
}

// An emergency registration lets its user make emergency calls and no others, and a draining edge takes it.
func TestEmergencyRegistration(t *testing.T) {
	const sos = "Contact: <sip:alice@10.9.0.1:5060;sos>;expires=300"
	in(t, "", func(w *world) {
		w.alice.Send(accessTCP, registerText("alice", 1, sos))
		w.alice.Expect("503")
	})
	in(t, "allow_emergency_registration=Y", func(w *world) {
		w.edge.Quiesce(true)
		w.alice.Send(accessTCP, registerText("alice", 1, sos))
		up := w.router.Expect("REGISTER")
		w.router.Reply(up, 200, "Contact: <sip:alice@10.9.0.1:5060;sos>;expires=200", "P-Associated-URI: <sip:alice@ims.test>", "Service-Route: "+service)
		w.alice.Expect("200")
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("an emergency registration counts as %d", n)
		}
		w.alice.Send(accessTCP, inviteText())
		w.alice.Expect("403")
		w.alice.Send(accessTCP, strings.Replace(emergencyText("urn:service:sos"), "call@", "sos@", 1))
		m := w.router.Expect("INVITE")
		w.has(m, sip.PAssertedIdentity, "<sip:alice@ims.test>")
		w.router.Reply(m, 200, "Contact: <sip:psap.test>")
		w.alice.Expect("200")
		synctest.Wait()
	})
}

func TestWhatOverloadDoesNotTouch(t *testing.T) {
	in(t, "emergency_numbers=112", func(w *world) {
		flow := func(listener, remote string) proxy.Flow {
			return transport.NewFlow(transport.ID{Transport: resolve.UDP, Remote: netip.MustParseAddrPort(remote)}, listener, nil)
		}
		access, trunk, core := flow(pcscf.Access, "10.9.0.1:5060"), flow(pcscf.Access, "10.8.0.1:5060"), flow(pcscf.Core, "10.1.0.1:5054")
		for _, c := range []struct {
			text string
			flow proxy.Flow
			want overload.Class
		}{
			{inviteText(), access, overload.Ordinary},
			{inviteText("Resource-Priority: esnet.0"), access, overload.Ordinary}, // phones do not set priorities
			{emergencyText("urn:service:sos.fire"), access, overload.Exempt},
			{emergencyText("tel:112"), access, overload.Exempt},
			{emergencyText("tel:112"), trunk, overload.Ordinary},
			{emergencyText("tel:113"), access, overload.Ordinary},
			{registerText("alice", 1), access, overload.Ordinary},
			{registerText("alice", 1, "Contact: <sip:alice@10.9.0.1;sos>"), access, overload.Exempt},
			{inviteText(), core, overload.Committed},
			{inviteText("Resource-Priority: wps.1"), core, overload.Exempt},
		} {
			if got := w.edge.Class(w.alice.Parse(c.text), c.flow); got != c.want {
				t.Errorf("class %d, want %d, of\n%s", got, c.want, c.text)
			}
		}
	})
}
