package functions_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Two routers take every new transaction, and the ACK of each 2xx, in turn: registrations with their challenges, calls from
// end to end, subscriptions with their refreshes, deregistrations. CANCEL goes to the owner of its INVITE.
func TestTwoRoutersAlternate(t *testing.T) {
	for _, first := range []int{0, 1} {
		t.Run(fmt.Sprint("beginning with ", first), func(t *testing.T) {
			in(t, "non_register_authentication=initial_req_from_reg_digest_endpoint", func(w *world) {
				turn := first
				next := func(port int) string {
					turn++
					return fmt.Sprintf("tcp:10.1.0.%d:%d", 1+2*(turn%2), port)
				}
				s := w.watcher("s")
				s.at = func() string { return next(5054) }
				register := func(user, callID string, headers ...string) *sip.Message {
					t.Helper()
					expect := func(status int) *sip.Message {
						t.Helper()
						got := w.settle(s)
						if len(got) != 1 || got[0].Status != status {
							t.Fatalf("%s: answers %v, want %d", user, got, status)
						}
						return got[0]
					}
					w.edge.Send(next(5052), w.registerText(user, callID, headers...))
					challenge := expect(401)
					w.edge.Send(next(5052), w.registerText(user, callID, append(headers, answer(challenge, user, "secret"))...))
					return expect(200)
				}
				route := register("alice", "a1", "Contact: <sip:alice@1.2.3.4>").Get(sip.ServiceRoute)
				if got := s.subscribe(); got.Status != 200 {
					t.Fatalf("SUBSCRIBE: %d", got.Status)
				}
				for i := range 3 {
					register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
					w.alternatingCall(next, route, i)
					register("alice", "a1", "Contact: <sip:alice@1.2.3.4>;expires="+fmt.Sprint(100+i))
					if s.subscribe(); s.version != 2*i+2 {
						t.Errorf("round %d: version %d of the registration state", i, s.version)
					}
				}
				sent := next(5054)
				m := w.edge.Send(sent, w.proven(sent, route, "x"))
				phone := w.edge.Expect("INVITE")
				w.edge.Reply(phone, 180)
				w.edge.Expect("180")
				w.edge.Send(sent, as("CANCEL", m))
				w.edge.Expect("200")
				w.edge.Reply(w.edge.Expect("CANCEL"), 200)
				w.refuse(phone, 487)
				w.edge.Expect("487")
				register("alice", "a1", "Contact: <sip:alice@1.2.3.4>;expires=0")
				s.expect(alice+" sip:alice@1.2.3.4 unregistered", "tel:+15551 sip:alice@1.2.3.4 unregistered")
			})
		})
	}
}

// proven is alice's INVITE with the answer to a challenge of a router.
func (w *world) proven(router, route, callID string) string {
	w.t.Helper()
	text := func(headers ...string) string {
		w.cseq++
		return strings.NewReplacer("<sip:scscf.router.ims.test;transport=TCP;lr;orig>", route, "CSeq: 1 INVITE", fmt.Sprintf("CSeq: %d INVITE", w.cseq),
			"Call-ID: call", strings.Join(append(headers, "Call-ID: "+callID), "\n")).Replace(invite("sip:bob@ims.test"))
	}
	w.edge.Send(router, text())
	challenge := w.edge.Expect("407")
	return strings.Replace(text(proof(challenge, "INVITE", "sip:bob@ims.test", "secret", "00000001")), fmt.Sprintf("CSeq: %d INVITE", w.cseq), "CSeq: 1 INVITE", 1)
}

// alternatingCall is a call whose every request meets the other router.
func (w *world) alternatingCall(next func(port int) string, route string, n int) {
	w.t.Helper()
	callID := fmt.Sprint("call-", n)
	challenger := next(5054)
	w.edge.Send(next(5054), w.proven(challenger, route, callID))
	m := w.edge.Expect("INVITE")
	w.edge.Reply(m, 180)
	w.edge.Expect("180")
	ok := w.edge.Reply(m, 200, "Contact: <sip:bob@9.9.9.9:1234>")
	w.edge.Expect("200")
	var routes []string
	rr := m.All(sip.RecordRoute)
	for i := len(rr) - 2; i >= 0; i-- {
		routes = append(routes, "Route: "+rr[i])
	}
	routes = append(routes, "Route: <sip:10.1.0.2:5058;transport=TCP;lr>")
	for _, step := range []string{"1 ACK", "2 INVITE", "2 ACK", "3 UPDATE", "4 BYE"} {
		_, method, _ := strings.Cut(step, " ")
		w.edge.Send(next(5054), fmt.Sprintf("\n%s sip:bob@9.9.9.9:1234 SIP/2.0\n%s\nFrom: <sip:alice@ims.test>;tag=a\nTo: %s\nCall-ID: %s\nCSeq: %s\n",
			method, strings.Join(routes, "\n"), ok.Get(sip.To), callID, step))
		got := w.edge.Expect(method)
		if got.Count(sip.Route) != 1 || got.URI != "sip:bob@9.9.9.9:1234" {
			w.t.Errorf("%s sent as\n%s", step, got)
		}
		if method != "ACK" {
			w.edge.Reply(got, 200)
			w.edge.Expect("200")
		}
	}
}
