package scscf_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// A URN that is called (RFC 5031 and others) goes to the server that a criterion selects for it, which says who that is; no
// server, no route.
func TestURNToAServer(t *testing.T) {
	uri := func(expression string) string { return "<RequestURI>" + expression + "</RequestURI>" }
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, uriOther, uri("^service:sos")), criterion(2, 0, uriOne, uri("^service:counseling")))
		w.caller.Send(router, request("INVITE", "urn:service:counseling.children"))
		m := w.one.Expect("INVITE")
		if m.URI != "urn:service:counseling.children" {
			t.Errorf("the server gets %s", m.URI)
		}
		w.back(w.one, m, func(m *sip.Message) { m.URI = "sip:bob@ims.test" })
		last := w.phone.Expect("INVITE")
		w.header(last, sip.PCalledPartyID, "<sip:bob@ims.test>")
		w.phone.Reply(last, 200)
		w.one.Expect("200")
		w.one.Reply(m, 200)
		w.caller.Expect("200")
	})
	in(t, "", func(w *world) {
		w.caller.Send(router, request("INVITE", "urn:service:counseling"))
		if m := w.caller.Expect("416"); !strings.Contains(m.Get(sip.Warning), "urn") {
			t.Errorf("refused with %q", m.Get(sip.Warning))
		}
		w.caller.Send("tcp:10.1.0.1:5052", strings.NewReplacer("scscf.router", "icscf.router", ";orig", "", "call", "other").Replace(request("INVITE", "urn:service:counseling")))
		w.caller.Expect("416")
	})
}
