package functions_test

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// A public GRUU is given to phones that understand it, shown to subscribers, and reaches that phone alone (RFC 5627,
// RFC 5628).
func TestPublicGRUU(t *testing.T) {
	in(t, "", func(w *world) {
		const instance = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
		const gruu = "sip:bob@ims.test;gr=" + instance
		plain := w.register("bob", "b1", `Contact: <sip:bob@1.1.1.1>;+sip.instance="<urn:uuid:other>"`)
		if strings.Contains(plain.String(), "gruu") {
			t.Errorf("a phone that does not understand GRUUs got\n%s", plain)
		}
		ok := w.register("bob", "b2", `Contact: <sip:bob@2.2.2.2>;+sip.instance="<`+instance+`>"`, "Supported: path, gruu")
		if got := ok.All(sip.Contact); len(got) != 2 || !strings.Contains(got[0], `;pub-gruu="`+gruu+`"`) || !strings.Contains(got[1], `;pub-gruu="sip:bob@ims.test;gr=urn:uuid:other"`) {
			t.Errorf("contacts %q", got)
		}
		w.register("bob", "b3", "Contact: <sip:bob@3.3.3.3>", "Supported: gruu") // no instance, no GRUU

		sent := w.edge.Send(scscf, invite(gruu))
		m := w.edge.Expect("INVITE")
		if m.URI != "sip:bob@2.2.2.2" {
			t.Errorf("sent to %s", m.URI)
		}
		w.edge.Reply(m, 486)
		w.edge.Expect("ACK")
		w.edge.Expect("486")
		w.edge.Send(scscf, as("ACK", sent))
		sent = w.edge.Send(scscf, strings.ReplaceAll(invite("sip:bob@ims.test;gr=urn:uuid:gone"), "Call-ID: call", "Call-ID: none"))
		if got := w.edge.Expect("480"); got.Get(sip.Warning) == "" {
			t.Errorf("answer\n%s", got)
		}
		w.edge.Send(scscf, as("ACK", sent))

		s := w.watcher("s")
		s.asserted = "<sip:10.1.0.2>"
		w.edge.Send(icscf, "\nSUBSCRIBE sip:bob@ims.test SIP/2.0\nFrom: <sip:10.1.0.2>;tag=w\nTo: <sip:bob@ims.test>\nCall-ID: s\nCSeq: 1 SUBSCRIBE\nP-Asserted-Identity: <sip:10.1.0.2>\nEvent: reg\nContact: <sip:10.1.0.2:5058;transport=TCP>\n")
		notify := w.edge.Maybe(time.Second)
		if notify != nil && !notify.IsRequest() {
			notify = w.edge.Expect("NOTIFY")
		} else {
			w.edge.Expect("200")
		}
		w.edge.Reply(notify, 200)
		var doc struct {
			Contacts []struct {
				URI  string `xml:"uri"`
				GRUU []struct {
					URI string `xml:"uri,attr"`
				} `xml:"urn:ietf:params:xml:ns:gruuinfo pub-gruu"`
			} `xml:"registration>contact"`
		}
		if err := xml.Unmarshal([]byte(notify.Body), &doc); err != nil || len(doc.Contacts) != 3 {
			t.Fatalf("%v\n%s", err, notify.Body)
		}
		for _, c := range doc.Contacts {
			if (len(c.GRUU) == 1) != (c.URI == "sip:bob@2.2.2.2") || len(c.GRUU) == 1 && c.GRUU[0].URI != gruu {
				t.Errorf("%s shows %v", c.URI, c.GRUU)
			}
		}
	})
}
