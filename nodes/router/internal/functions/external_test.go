package functions_test

import (
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// TestExternalHSSIsToldBeforeTheAnswer: an external HSS gives the profile with the assignment. It is told once of a
// registration, before the 200; when it cannot be told there is no registration, and what does not come about after it has
// been told is taken back.
func TestExternalHSSIsToldBeforeTheAnswer(t *testing.T) {
	const contact = "Contact: <sip:alice@1.2.3.4>"
	in(t, "", func(w *world) {
		w.hss.WithholdProfiles()
		w.edge.Send(icscf, w.registerText("alice", "c", contact))
		proof := answer(w.edge.Expect("401"), "alice", "secret")
		w.hss.Fail(hss.Result_RESULT_TIMEOUT)
		w.edge.Send(icscf, w.registerText("alice", "c", contact, proof))
		w.edge.Expect("504")
		w.hss.Fail(hss.Result_RESULT_OK)
		w.edge.Send(icscf, w.registerText("alice", "c", contact, proof))
		w.edge.Expect("200")
		if got := w.assigned(); got != "reg alice@ims.test" {
			t.Errorf("the HSS heard %q", got)
		}
		w.register("alice", "c", contact)
		if got := w.assigned(); got != "reg alice@ims.test" {
			t.Errorf("after a re-registration the HSS has heard %q", got)
		}
		w.register("alice", "c", contact+";expires=0")
		time.Sleep(time.Second) // what is owed is worked off behind the answer
		w.edge.Send(icscf, w.registerText("alice", "c", contact, proof))
		w.edge.Expect("401") // a used proof
		if got := w.assigned(); !strings.HasSuffix(got, "dereg-user alice@ims.test, reg alice@ims.test, dereg-timeout alice@ims.test") {
			t.Errorf("the HSS believes in a registration that did not come about: %q", got)
		}
		w.edge.Send(icscf, w.registerText("bob", "f"))
		w.edge.Send(icscf, w.registerText("bob", "f", answer(w.edge.Expect("401"), "bob", "secret")))
		w.edge.Expect("200") // a fetch
		if got := w.assigned(); !strings.HasSuffix(got, ", call bob@ims.test") {
			t.Errorf("a fetch is told as %q", got)
		}
	})
}
