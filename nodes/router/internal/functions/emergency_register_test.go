package functions_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const sosContact = `Contact: <sip:alice@1.2.3.4:5060;sos>;+sip.instance="<urn:uuid:1>";expires=100`

func TestEmergencyRegistration(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("alice", "c1", `Contact: <sip:alice@1.2.3.4:5060>;+sip.instance="<urn:uuid:1>"`)
		ok := w.register("alice", "c2", sosContact)
		if got := ok.All(sip.Contact); len(got) != 1 || got[0] != `<sip:alice@1.2.3.4:5060;sos>;+sip.instance="<urn:uuid:1>";expires=100` {
			t.Errorf("the emergency registration shows %q", got)
		}
		normal, _ := w.store.Get(t.Context(), "sip:alice@ims.test")
		own, _ := w.store.Get(t.Context(), "sos:sip:alice@ims.test")
		if len(normal.GetBindings()) != 1 || len(own.GetBindings()) != 1 || own.GetBindings()[0].GetId() != "sos<urn:uuid:1>" || !own.GetBindings()[0].GetEmergency() {
			t.Errorf("stored are %v and %v", normal.GetBindings(), own.GetBindings())
		}
		// The phone cannot end it.
		w.edge.Send(icscf, w.registerText("alice", "c2", sosContact, "Contact: <sip:alice@9.9.9.9>"))
		a := answer(w.edge.Expect("401"), "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c2", sosContact, "Contact: <sip:alice@9.9.9.9>", a))
		w.edge.Expect("400")
		w.edge.Send(icscf, w.registerText("alice", "c2", "Contact: <sip:alice@1.2.3.4:5060;sos>;expires=0"))
		a = answer(w.edge.Expect("401"), "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c2", "Contact: <sip:alice@1.2.3.4:5060;sos>;expires=0", a))
		w.edge.Expect("501")
		w.edge.Send(icscf, w.registerText("alice", "c3", "Contact: *", "Expires: 0"))
		a = answer(w.edge.Expect("401"), "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c3", "Contact: *", "Expires: 0", a))
		w.edge.Expect("200")
		synctest.Wait()
		told := len(w.hss.Assignments()) // of the end of the ordinary registration
		if own, _ = w.store.Get(t.Context(), "sos:sip:alice@ims.test"); len(own.GetBindings()) != 1 || told != 1 {
			t.Errorf("after a deregistration %d emergency bindings are left, the HSS was told %d times", len(own.GetBindings()), told)
		}
		// Nobody is called there.
		w.edge.Send(scscf, invite("sip:alice@ims.test"))
		w.edge.Expect("480")
		told = len(w.hss.Assignments())
		// It lapses by itself, and the HSS hears nothing.
		time.Sleep(101 * time.Second)
		if err := w.router.Registrar.Expire(t.Context(), "sos:sip:alice@ims.test"); err != nil {
			t.Error(err)
		}
		own, _ = w.store.Get(t.Context(), "sos:sip:alice@ims.test")
		if len(own.GetBindings()) != 0 || len(own.GetOwed()) != 0 || len(w.hss.Assignments()) != told {
			t.Errorf("after its time it is %v, the HSS was told %d times", own, len(w.hss.Assignments()))
		}
	})
}

// A challenge serves one registration, ordinary or emergency.
func TestEmergencyRegistrationUsesUpItsNonce(t *testing.T) {
	in(t, "", func(w *world) {
		w.edge.Send(icscf, w.registerText("alice", "c1", sosContact))
		a := answer(w.edge.Expect("401"), "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c1", sosContact, a))
		w.edge.Expect("200")
		for _, contact := range []string{sosContact, "Contact: <sip:alice@6.6.6.6>"} {
			w.edge.Send(icscf, w.registerText("alice", "c2", contact, a))
			w.edge.Expect("401")
		}
	})
}

// Who is barred cannot register but for emergency calls.
func TestBarredUsersRegisterForEmergencyCallsOnly(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.SetBarred("sip:bob@ims.test", true)
		w.edge.Send(icscf, w.registerText("bob", "b1", "Contact: <sip:bob@9.9.9.9>"))
		w.edge.Expect("403")
		ok := w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9;sos>")
		if ok.Has(sip.PAssociatedURI) || ok.Count(sip.Contact) != 1 {
			t.Errorf("a barred user's emergency registration is answered\n%s", ok)
		}
		if own, _ := w.store.Get(t.Context(), "sos:sip:bob@ims.test"); len(own.GetBindings()) != 1 {
			t.Errorf("stored is %v", own)
		}
	})
}
