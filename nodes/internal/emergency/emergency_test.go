package emergency

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func TestServices(t *testing.T) {
	for uri, want := range map[string]string{
		"urn:service:sos": "sos", "URN:Service:SOS.Fire": "sos.fire", "urn:service:sos.police.traffic": "sos.police.traffic",
		"urn:service:counseling": "", "urn:service:so": "", "urn:service:sosaria": "", "sip:sos@ims.test": "", "urn:service:": "", "": "",
	} {
		got, ok := Service(uri)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q is %q, %v", uri, got, ok)
		}
		if m := (&sip.Message{Method: sip.INVITE, URI: uri}); Call(m) != ok {
			t.Errorf("an INVITE to %q", uri)
		}
		if Call(&sip.Message{Method: sip.MESSAGE, URI: uri}) {
			t.Errorf("a MESSAGE to %q is a call", uri)
		}
	}
	for service, want := range map[string]string{"sos.police.traffic": "sos.police", "sos.fire": "sos", "sos": "", "": ""} {
		if got := Parent(service); got != want {
			t.Errorf("parent of %s is %s", service, got)
		}
	}
}

func TestNumbers(t *testing.T) {
	n := ParseNumbers([]string{"112", "110:sos.Police", "*911"})
	ours := func(host string) bool { return host == "ims.test" }
	for uri, want := range map[string]string{
		"tel:112": "sos", "tel:1-1-2": "sos", "tel:112;phone-context=ims.test": "sos", "sip:110@ims.test;user=phone": "sos.police", "sip:110;phone-context=x@ims.test": "sos.police", "tel:*911": "sos",
		"sip:112@other.test": "", "tel:+112": "", "tel:1120": "", "sip:ims.test": "", "mailto:112": "", "rubbish": "",
	} {
		if got, ok := n.Dialled(uri, ours); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v", uri, got, ok)
		}
	}
	if _, ok := (Numbers{}).Dialled("tel:112", ours); ok {
		t.Error("a number that is not configured")
	}
}

func TestRegistrations(t *testing.T) {
	register := func(contacts ...string) *sip.Message {
		m := &sip.Message{Method: sip.REGISTER, URI: "sip:ims.test"}
		for _, c := range contacts {
			m.Add(sip.Contact, c)
		}
		return m
	}
	for text, want := range map[string]bool{"<sip:a@1.2.3.4;sos>": true, "<sip:a@1.2.3.4;SOS>;expires=60": true, "<sip:sos@1.2.3.4>": false, "<sip:a@1.2.3.4>;sos": false, "*": false, "<sos": false} {
		if got := Registration(register(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if Registration(register()) || !Registration(register("<sip:a@1.1.1.1>", "<sip:a@1.1.1.1;sos>")) || Registration(&sip.Message{Method: sip.INVITE, Headers: register("<sip:a@b;sos>").Headers}) {
		t.Error("none, one of two, or another method")
	}
}
