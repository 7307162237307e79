package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// preferring is alice's INVITE to bob with more headers.
func preferring(headers ...string) string {
	return strings.Replace(invite("sip:bob@ims.test"), "Call-ID", strings.Join(append(headers, "Call-ID"), "\n"), 1)
}

// uris are where the next INVITEs go, sorted as they come; all are refused in the end.
func (w *world) rung(n int) map[string]*sip.Message {
	w.t.Helper()
	out := map[string]*sip.Message{}
	for range n {
		m := w.edge.Expect("INVITE")
		out[m.URI] = m
	}
	return out
}

func (w *world) refuse(m *sip.Message, status int) {
	w.t.Helper()
	w.edge.Reply(m, status)
	w.edge.Expect("ACK")
}

// What phones say of themselves when they register is kept, shown and used to choose among them.
func TestCapabilitiesChooseThePhone(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		want    string // of 1: audio and video, 2: text, 3: silent; "" for nobody
	}{
		"no preference":           {nil, "1 2 3"},
		"rejected":                {[]string{"Reject-Contact: *;text"}, "1 3"},
		"required":                {[]string{`Accept-Contact: *;text="FALSE";require`}, "1 3"},
		"required and stated":     {[]string{"Accept-Contact: *;video;require;explicit", "Reject-Contact: *;text"}, "1 3"},
		"the methods of a phone":  {[]string{"Event: presence"}, "1 2 3"},
		"icsi of a voice service": {[]string{`Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel";require;explicit`}, "1 3"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				ok := w.register("bob", "b1", `Contact: <sip:bob@1.1.1.1>;audio;video;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"`)
				if got := ok.Get(sip.Contact); !strings.Contains(got, ";audio;video;+g.3gpp.icsi-ref=") {
					t.Errorf("the registrar shows %s", got)
				}
				w.register("bob", "b2", "Contact: <sip:bob@2.1.1.1>;text")
				w.register("bob", "b3", "Contact: <sip:bob@3.1.1.1>")
				w.edge.Send(scscf, preferring(c.headers...))
				rung := w.rung(len(strings.Fields(c.want)))
				for id := range strings.SplitSeq(c.want, " ") {
					if rung["sip:bob@"+id+".1.1.1"] == nil {
						t.Errorf("phone %s does not ring: %v", id, rung)
					}
				}
				for _, m := range rung {
					w.refuse(m, 486)
				}
				w.edge.Expect("486")
			})
		})
	}
}

func TestNobodyTheCallerWouldHave(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>;text")
		w.edge.Send(scscf, preferring("Accept-Contact: *;audio;require;explicit"))
		if m := w.edge.Expect("480"); !strings.Contains(m.Get(sip.Warning), "caller would have") {
			t.Errorf("refused with %s", m.Get(sip.Warning))
		}
	})
}

// no-fork: the best phone alone; its refusal is the answer.
func TestNoFork(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>;q=0.5")
		w.register("bob", "b2", "Contact: <sip:bob@2.1.1.1>;q=0.9")
		w.edge.Send(scscf, preferring("Request-Disposition: no-fork"))
		m := w.edge.Expect("INVITE")
		if m.URI != "sip:bob@2.1.1.1" {
			t.Errorf("%s rings", m.URI)
		}
		w.refuse(m, 486)
		w.edge.Expect("486")
	})
}

// sequential: one phone after the other, by q; each rings 20 s but the last. The best of the answers is the caller's.
func TestOnePhoneAfterTheOther(t *testing.T) {
	register := func(w *world) {
		for i, q := range []string{"0.2", "0.9", "0.5"} {
			w.register("bob", fmt.Sprint("b", i+1), fmt.Sprintf("Contact: <sip:bob@%d.1.1.1>;q=%s", i+1, q))
		}
	}
	next := func(w *world, want string) *sip.Message {
		w.t.Helper()
		m := w.edge.Expect("INVITE")
		if m.URI != "sip:bob@"+want+".1.1.1" {
			w.t.Errorf("%s rings, want phone %s", m.URI, want)
		}
		return m
	}
	in(t, "", func(w *world) {
		register(w)
		w.edge.Send(scscf, preferring("Request-Disposition: sequential"))
		w.refuse(next(w, "2"), 486)
		m := next(w, "3")
		start := time.Now()
		w.edge.Reply(m, 180)
		w.edge.Expect("180")
		cancel := w.edge.Expect("CANCEL")
		if d := time.Since(start); d < 19*time.Second || d > 21*time.Second {
			t.Errorf("it rang for %v", d)
		}
		w.edge.Reply(cancel, 200)
		w.refuse(m, 487)
		m = next(w, "1")
		w.edge.Reply(m, 180)
		w.edge.Expect("180")
		w.edge.Quiet(time.Minute)
		w.refuse(m, 404)
		w.edge.Expect("486")
	})
	in(t, "", func(w *world) { // the first that answers ends it
		register(w)
		w.edge.Send(scscf, preferring("Request-Disposition: sequential"))
		w.edge.Reply(next(w, "2"), 200)
		w.edge.Expect("200")
		w.edge.Quiet(time.Minute)
	})
	in(t, "", func(w *world) { // so does one that declines for all
		register(w)
		w.edge.Send(scscf, preferring("Request-Disposition: sequential"))
		w.refuse(next(w, "2"), 603)
		w.edge.Expect("603")
		w.edge.Quiet(time.Minute)
	})
	in(t, "", func(w *world) { // and the caller
		register(w)
		sent := w.edge.Send(scscf, preferring("Request-Disposition: sequential"))
		m := next(w, "2")
		w.edge.Reply(m, 180)
		w.edge.Expect("180")
		w.edge.Send(scscf, as("CANCEL", sent))
		w.edge.Expect("200")
		w.edge.Reply(w.edge.Expect("CANCEL"), 200)
		w.refuse(m, 487)
		w.edge.Expect("487")
		w.edge.Quiet(time.Minute)
	})
}

// Of several flows of one phone one is called; when that is dead it loses its binding and the other is tried (RFC 5626).
func TestFlowsOfOnePhone(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", `Contact: <sip:bob@1.1.1.1>;+sip.instance="<urn:uuid:1>";reg-id=1`)
		w.register("bob", "b2", `Contact: <sip:bob@1.1.1.1>;+sip.instance="<urn:uuid:1>";reg-id=2;expires=200`)
		w.register("bob", "b3", `Contact: <sip:bob@2.1.1.1>;+sip.instance="<urn:uuid:2>";reg-id=1`)
		w.edge.Send(scscf, preferring())
		rung := w.rung(2)
		first, other := rung["sip:bob@1.1.1.1"], rung["sip:bob@2.1.1.1"]
		if first == nil || other == nil || !strings.Contains(first.Get(sip.Route), "flow-b1") {
			t.Fatalf("rung %v", rung)
		}
		w.edge.Quiet(time.Second)
		w.refuse(first, 430)
		again := w.edge.Expect("INVITE")
		if !strings.Contains(again.Get(sip.Route), "flow-b2") {
			t.Errorf("then by %s", again.Get(sip.Route))
		}
		w.refuse(other, 486)
		w.refuse(again, 486)
		w.edge.Expect("486")
		synctest.Wait()
		record, _ := w.store.Get(t.Context(), "sip:bob@ims.test")
		if n := len(record.GetBindings()); n != 2 {
			t.Errorf("%d bindings are left", n)
		}
	})
}

// More phones than are called at once: those of the least q stay silent. A GRUU finds its phone even so.
func TestManyPhones(t *testing.T) {
	in(t, "", func(w *world) {
		for i := range 12 {
			w.register("bob", fmt.Sprint("b", i), fmt.Sprintf(`Contact: <sip:bob@%d.1.1.1>;+sip.instance="<urn:uuid:%d>";q=0.%d`, i+1, i+1, i/2+1))
		}
		w.edge.Send(scscf, preferring())
		rung := w.rung(10)
		if rung["sip:bob@1.1.1.1"] != nil || rung["sip:bob@2.1.1.1"] != nil || len(rung) != 10 {
			t.Errorf("rung %d", len(rung))
		}
		for _, m := range rung {
			w.refuse(m, 486)
		}
		w.edge.Expect("486")
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test;gr=urn:uuid:1"), "Call-ID: call", "Call-ID: other", 1))
		m := w.edge.Expect("INVITE")
		if m.URI != "sip:bob@1.1.1.1" {
			t.Errorf("the GRUU rings %s", m.URI)
		}
		w.refuse(m, 486)
		w.edge.Expect("486")
	})
}
