package functions_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// exchange provisions a PBX: one identity registers, a wildcard covers its lines, of which some are barred.
func (w *world) exchange() {
	w.hss.Add("pbx@ims.test", "secret", "sip:pbx@ims.test", "sip:pbx-13@ims.test")
	w.hss.SetBarred("sip:pbx-13@ims.test", true)
	w.hss.AddWildcard("sip:pbx@ims.test", "sip:pbx-", "@ims.test", false)
	w.hss.AddWildcard("sip:pbx@ims.test", "sip:pbx-9", "@ims.test", true)
}

// Lines of a PBX that a wildcard covers call and are called with its registration; the most specific identity says who is
// barred.
func TestWildcardedIdentities(t *testing.T) {
	in(t, "", func(w *world) {
		w.exchange()
		ok := w.register("pbx", "p1", "Contact: <sip:pbx@9.9.9.9>")
		if got := ok.All(sip.PAssociatedURI); strings.Join(got, " ") != "<sip:pbx@ims.test>" {
			t.Errorf("P-Associated-URI %q", got)
		}
		w.edge.Send(scscf, invite("sip:pbx-7@ims.test"))
		m := w.edge.Expect("INVITE")
		if m.URI != "sip:pbx@9.9.9.9" || m.Get(sip.PCalledPartyID) != "<sip:pbx-7@ims.test>" || m.Get(sip.PProfileKey) != "<sip:pbx-!.*!@ims.test>" {
			t.Errorf("sent as\n%s", m)
		}
		w.refuse(m, 486)
		w.edge.Expect("486")
		for i, line := range []string{"13", "99"} {
			w.edge.Send(scscf, strings.Replace(invite("sip:pbx-"+line+"@ims.test"), "Call-ID: call", "Call-ID: "+line, 1))
			if m := w.edge.Expect("404"); !strings.Contains(m.Get(sip.Warning), "barred") {
				t.Errorf("%d: refused with %q", i, m.Get(sip.Warning))
			}
			w.edge.Send(scscf, strings.NewReplacer("alice", "pbx-"+line, "Call-ID: call", "Call-ID: from-"+line).Replace(invite("sip:bob@ims.test")))
			w.edge.Expect("403")
		}
		w.register("bob", "b1", "Contact: <sip:bob@8.8.8.8>")
		w.edge.Send(scscf, strings.NewReplacer("alice", "pbx-7", "Call-ID: call", "Call-ID: from-7").Replace(invite("sip:bob@ims.test")))
		if m := w.through(); m.Get(sip.PAssertedIdentity) != "<sip:pbx-7@ims.test>" {
			t.Errorf("asserted is %q", m.All(sip.PAssertedIdentity))
		}
		w.edge.Send(scscf, strings.Replace(invite("sip:other-7@ims.test"), "Call-ID: call", "Call-ID: o", 1))
		w.edge.Expect("404")
	})
}

// The I-CSCF tells another S-CSCF which wildcard covers the called user, and an S-CSCF believes that.
func TestProfileKey(t *testing.T) {
	in(t, "", func(w *world) {
		w.exchange()
		w.hss.SetServer("sip:one.test;transport=TCP")
		one := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.11:5054")
		w.edge.Send(scscf, invite("sip:pbx-7@ims.test"))
		m := one.Expect("INVITE")
		if m.Get(sip.PProfileKey) != "<sip:pbx-!.*!@ims.test>" {
			t.Errorf("P-Profile-Key %q", m.All(sip.PProfileKey))
		}
		one.Reply(m, 486)
		one.Expect("ACK")
		w.edge.Expect("486")
	})
	in(t, "", func(w *world) {
		w.exchange()
		w.hss.AddProfile("sip:pbx@ims.test", "", hsstest.Identity{URI: "sip:room@ims.test"})
		w.register("pbx", "p1", "Contact: <sip:pbx@9.9.9.9>")
		w.edge.Send(scscf, strings.NewReplacer(";orig", "", "Call-ID", "P-Profile-Key: <sip:pbx-!.*!@ims.test>\nCall-ID").Replace(invite("sip:pbx-5@ims.test")))
		m := w.edge.Expect("INVITE")
		told := w.hss.Assignments()
		if a := told[len(told)-1]; a.GetWildcard() != "sip:pbx-!.*!@ims.test" || a.GetImpu() != "sip:pbx-5@ims.test" {
			t.Errorf("the HSS is asked %v", a)
		}
		w.refuse(m, 486)
		w.edge.Expect("486")
	})
}
