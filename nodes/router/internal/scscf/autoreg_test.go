package scscf_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func fromPBX(seq int, who, route string, headers ...string) string {
	return strings.ReplaceAll(fmt.Sprintf(`
MESSAGE sip:bob@ims.test SIP/2.0
Route: <sip:scscf.router.ims.test:5054;transport=TCP;lr;orig%[3]s>
From: <%[2]s>;tag=a
To: <sip:bob@ims.test>
Call-ID: pbx%[1]d
CSeq: 1 MESSAGE
P-Asserted-Identity: <%[2]s>
%[4]s
`, seq, who, route, strings.Join(headers, "\n")), "\n\n", "\n")
}

// E15: with auto-reg the HSS is told that the user is served unregistered, under the private identity that derives from
// the public one or that the request names; application servers learn that he is not registered. A private identity that
// is not his is refused.
func TestAutoRegistration(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.Add("line@ims.test", "secret", "sip:line@ims.test")
		w.hss.SetFilterCriteria("sip:line@ims.test", `<InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF><SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><SessionCase>3</SessionCase></SPT></TriggerPoint><ApplicationServer><ServerName>sip:10.1.0.21:5060;transport=tcp</ServerName></ApplicationServer></InitialFilterCriteria>`)
		for i, c := range []struct{ route, proof, impi string }{
			{";auto-reg", "", "line@ims.test"},
			{";auto-reg", `Proxy-Authorization: Digest username="line@ims.test", realm="ims.test", nonce="", uri="", response=""`, "line@ims.test"},
			{"", "", ""},
		} {
			before := len(w.hss.Assignments())
			w.caller.Send(router, fromPBX(i, "sip:line@ims.test", c.route, c.proof))
			m := w.one.Expect("MESSAGE")
			if got := m.Get(sip.PServedUser); got != "<sip:line@ims.test>;sescase=orig;regstate=unreg" {
				t.Errorf("P-Served-User %q", got)
			}
			w.one.Reply(m, 200)
			w.caller.Expect("200")
			asked := w.hss.Assignments()[before:]
			if len(asked) != 1 || asked[0].GetReqtype() != hss.Call || asked[0].GetImpi() != c.impi || asked[0].GetImpu() != "sip:line@ims.test" {
				t.Errorf("%q %q: the HSS was told %v", c.route, c.proof, asked)
			}
		}
		w.caller.Send(router, fromPBX(10, "sip:line@ims.test", ";auto-reg", `Proxy-Authorization: Digest username="alice@ims.test", realm="ims.test", nonce="", uri="", response=""`))
		w.caller.Expect("403")
		w.hss.Fail(hss.Result_RESULT_TIMEOUT)
		w.caller.Send(router, fromPBX(11, "sip:line@ims.test", ";auto-reg"))
		w.caller.Expect("504")
	})
}
