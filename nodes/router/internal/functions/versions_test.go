package functions_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// newer is something that this version knows nothing of: field 1000 with the value 7.
var newer = []byte{0xc0, 0x3e, 0x07}

// During an upgrade records come from newer routers: users are reached by what this one understands of them, what it does
// not understand outlives its changes, and what it cannot do it leaves to those who can.
func TestRecordsOfANewerVersion(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", `Contact: <sip:bob@1.1.1.1>;+sip.instance="<urn:uuid:1>"`)
		record, err := w.store.Get(t.Context(), "sip:bob@ims.test")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []proto.Message{record, record.GetBindings()[0]} {
			m.ProtoReflect().SetUnknown(newer)
		}
		record.Owed = append(record.Owed, &registrations.Effect{Id: "later", Kind: 99})
		w.store.Put(record)
		w.register("bob", "b2", "Contact: <sip:bob@2.2.2.2>")
		w.edge.Send(scscf, preferring())
		for _, m := range w.rung(2) {
			w.refuse(m, 486)
		}
		w.edge.Expect("486")
		if err := w.router.Registrar.Expire(t.Context(), "sip:bob@ims.test"); err != nil {
			t.Errorf("work for a newer router is an error: %v", err)
		}
		after, err := w.store.Get(t.Context(), "sip:bob@ims.test")
		if err != nil {
			t.Fatal(err)
		}
		if string(after.ProtoReflect().GetUnknown()) != string(newer) || string(after.GetBindings()[0].ProtoReflect().GetUnknown()) != string(newer) {
			t.Errorf("what a newer router has written is lost: %v", after)
		}
		if len(after.GetOwed()) != 1 || after.GetOwed()[0].GetId() != "later" {
			t.Errorf("owed is %v", after.GetOwed())
		}
	})
}

// unheardOf is a refusal of a newer diameter node.
const unheardOf = hss.Result(77)

// What a newer diameter node says is no reason to tell a phone that it or its peer is not registered.
func TestAnswersOfANewerVersion(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.Fail(unheardOf)
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.1.1.1>"))
		w.edge.Expect("500")
		w.edge.Send(icscf, strings.Replace(invite("sip:bob@ims.test"), "scscf.router.ims.test;transport=TCP;lr;orig", "icscf.router.ims.test;transport=TCP;lr", 1))
		if m := w.edge.Expect("500"); m.Get(sip.Warning) == "" {
			t.Error("refused without a reason")
		}
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "Call-ID: call", "Call-ID: other", 1))
		w.edge.Expect("500")
	})
}
