package functions_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// The icid is one from end to end; responses name both networks, whatever the phone's side says.
func TestChargingVector(t *testing.T) {
	for name, c := range map[string]struct{ sent, answered, want string }{
		"no word of the callee":      {"icid-value=1;icid-generated-at=10.1.0.2", "", "icid-value=1;icid-generated-at=10.1.0.2;orig-ioi=ims.test;term-ioi=second.test"},
		"another word of the callee": {"icid-value=1", `icid-value=2;orig-ioi=evil.test;access-network-charging-info="x;y"`, `icid-value=1;orig-ioi=ims.test;term-ioi=second.test;access-network-charging-info="x;y"`},
		"none at all":                {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "additional_home_domains=second.test", func(w *world) {
				w.hss.Add("carol@second.test", "secret", "sip:carol@second.test")
				text := strings.NewReplacer("<sip:bob@ims.test>", "<sip:carol@second.test>").Replace(w.registerText("bob", "c1", "Contact: <sip:carol@9.9.9.9>", `Authorization: Digest username="carol@second.test",realm="ims.test",nonce="",uri="sip:ims.test",response="",integrity-protected="tls-yes"`))
				w.edge.Send(icscf, text)
				w.edge.Expect("200")
				call := strings.Replace(invite("sip:carol@second.test"), "P-Charging-Vector: icid-value=1\n", "", 1)
				if c.sent != "" {
					call = strings.Replace(call, "Call-ID", "P-Charging-Vector: "+c.sent+"\nCall-ID", 1)
				}
				w.edge.Send(scscf, call)
				m := w.edge.Expect("INVITE")
				if icid, _ := sip.Param(";"+m.Get(sip.PChargingVector), "icid-value"); (icid == "1") != (c.sent != "") {
					t.Errorf("the phone's side gets %q", m.Get(sip.PChargingVector))
				}
				var extra []string
				if c.answered != "" {
					extra = []string{"P-Charging-Vector: " + c.answered}
				}
				for _, status := range []int{183, 404} {
					w.edge.Reply(m, status, extra...)
					if status > 200 {
						w.edge.Expect("ACK")
					}
					answer := w.edge.Expect(map[int]string{183: "183", 404: "404"}[status])
					if got := answer.All(sip.PChargingVector); strings.Join(got, "|") != c.want {
						t.Errorf("%d: the caller's side gets %q, want %q", status, got, c.want)
					}
				}
			})
		})
	}
}
