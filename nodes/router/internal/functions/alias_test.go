package functions_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// A Route with a name of alias_list leads to this node like its own.
func TestAliasInRoute(t *testing.T) {
	in(t, "alias_list=alias.test", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "<sip:scscf.router.ims.test;transport=TCP;lr;orig>", "<sip:alias.test:5054;lr;orig>", 1))
		m := w.edge.Expect("INVITE")
		if m.Count(sip.Route) != 1 || strings.Contains(m.Get(sip.Route), "alias.test") {
			t.Errorf("the alias stays in Route: %q", m.All(sip.Route))
		}
		w.edge.Reply(m, 486)
		w.edge.Expect("ACK")
		w.edge.Expect("486")
	})
}

// Users of an additional home domain are ours: asked at the HSS, not sent out by the BGCF.
func TestAdditionalHomeDomain(t *testing.T) {
	in(t, "additional_home_domains=second.test", func(w *world) {
		w.hss.Add("carol@second.test", "secret", "sip:carol@second.test")
		w.edge.Send(scscf, invite("sip:carol@second.test"))
		w.edge.Expect("480")
		w.edge.Send(scscf, strings.Replace(invite("sip:nobody@second.test"), "Call-ID: call", "Call-ID: other", 1))
		w.edge.Expect("404")
	})
	in(t, "", func(w *world) {
		w.edge.Send(scscf, invite("sip:carol@second.test")) // not ours: by DNS, where it is not found
		if m := w.edge.Expect("404"); w.hss.Calls("locate") != 0 {
			t.Errorf("the HSS was asked about a stranger's domain: %s", m)
		}
	})
}
