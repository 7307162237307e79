package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// An external HSS hears of a challenge that nobody has answered after 45 s, once, and only if the user is not registered.
func TestChallengeThatNobodyAnswers(t *testing.T) {
	contact := "Contact: <sip:alice@1.2.3.4>"
	hears := func(w *world, want string) {
		w.t.Helper()
		synctest.Wait()
		if got := w.assigned(); got != want {
			w.t.Errorf("the HSS heard %q, want %q", got, want)
		}
	}
	const timeout = "dereg-auth-timeout alice@ims.test"
	for name, c := range map[string]struct {
		do   func(w *world)
		want string
	}{
		"nobody": {func(w *world) {
			w.edge.Send(icscf, w.registerText("alice", "c", contact))
			w.edge.Expect("401")
			time.Sleep(44 * time.Second)
			hears(w, "")
		}, timeout},
		"a card": {func(w *world) {
			w.hss.AddCard("alice@ims.test", "sip:alice@ims.test")
			w.edge.Send(icscf, w.registerText("alice", "c", contact))
			w.edge.Expect("401")
		}, timeout},
		"the phone": {func(w *world) { w.register("alice", "c", contact) }, "reg alice@ims.test"},
		"the phone, wrongly": {func(w *world) {
			w.edge.Send(icscf, w.registerText("alice", "c", contact))
			w.edge.Send(icscf, w.registerText("alice", "c", contact, answer(w.edge.Expect("401"), "alice", "guess")))
			w.edge.Expect("403")
		}, "dereg-auth-failed alice@ims.test"},
		"the phone, elsewhere": {func(w *world) {
			w.edge.Send(icscf, w.registerText("alice", "c", contact))
			w.edge.Send(otherICSCF, w.registerText("alice", "c", contact, answer(w.edge.Expect("401"), "alice", "secret")))
			w.edge.Expect("200")
		}, "reg alice@ims.test"},
		"a later challenge": {func(w *world) {
			w.edge.Send(icscf, w.registerText("alice", "c", contact))
			w.edge.Expect("401")
			w.register("alice", "c", contact)
		}, "reg alice@ims.test"},
		"two": {func(w *world) {
			for _, user := range []string{"alice", "bob"} {
				w.edge.Send(icscf, w.registerText(user, "c", contact))
				w.edge.Expect("401")
				time.Sleep(10 * time.Second)
			}
		}, timeout + ", dereg-auth-timeout bob@ims.test"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.hss.WithholdProfiles()
				c.do(w)
				time.Sleep(50 * time.Second)
				hears(w, c.want)
				time.Sleep(time.Minute)
				hears(w, c.want)
			})
		})
	}
	in(t, "", func(w *world) { // our own subscriber master keeps nothing pending
		w.edge.Send(icscf, w.registerText("alice", "c", contact))
		w.edge.Expect("401")
		time.Sleep(time.Minute)
		hears(w, "")
	})
	in(t, "", func(w *world) { // an HSS that is away is left alone
		w.hss.WithholdProfiles()
		w.edge.Send(icscf, w.registerText("alice", "c", contact))
		w.edge.Expect("401")
		w.hss.Fail(hss.Result_RESULT_UNAVAILABLE)
		time.Sleep(time.Minute)
		hears(w, "")
	})
}

// The router of a call dies: requests of the dialog, of either side, go on by way of the other.
func TestDialogGoesOnAtAnotherRouter(t *testing.T) {
	in(t, "sprout_rr_level=pcscf,icscf", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		m := w.edge.Expect("INVITE")
		routes := m.All(sip.RecordRoute)
		ok := w.edge.Reply(m, 200, "Contact: <sip:bob@9.9.9.9:1234>")
		w.edge.Expect("200")
		within := func(method, from, to, target string, cseq int, routes []string) {
			text := fmt.Sprintf("\n%s %s SIP/2.0\nRoute: %s\nFrom: %s\nTo: %s\nCall-ID: call\nCSeq: %d %[1]s\n", method, target, strings.Join(routes, "\nRoute: "), from, to, cseq)
			w.edge.Send(second, text)
			m := w.edge.Expect(method)
			if m.URI != target || m.Count(sip.Route) != 1 || m.Get(sip.Route) != "<sip:10.1.0.2:5058;transport=TCP;lr>" {
				t.Errorf("%s sent as\n%s", method, m)
			}
			if method != "ACK" {
				w.edge.Reply(m, 200)
				w.edge.Expect("200")
			}
		}
		var forward []string
		for i := len(routes) - 2; i >= 0; i-- {
			forward = append(forward, routes[i])
		}
		forward = append(forward, routes[len(routes)-1])
		caller, callee := "<sip:alice@ims.test>;tag=a", ok.Get(sip.To)
		within("ACK", caller, callee, "sip:bob@9.9.9.9:1234", 1, forward)
		within("UPDATE", caller, callee, "sip:bob@9.9.9.9:1234", 2, forward)
		within("INFO", callee, caller, "sip:alice@1.2.3.4", 1, append(routes[:len(routes)-1:len(routes)-1], "<sip:10.1.0.2:5058;transport=TCP;lr>"))
		within("BYE", callee, caller, "sip:alice@1.2.3.4", 2, append(routes[:len(routes)-1:len(routes)-1], "<sip:10.1.0.2:5058;transport=TCP;lr>"))
	})
}
