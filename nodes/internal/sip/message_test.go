package sip_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const invite = "INVITE sip:bob@ims.test SIP/2.0\r\n" +
	"Via: SIP/2.0/UDP 127.0.0.2:5070;branch=z9hG4bK1;rport, SIP/2.0/TCP [2001:db8::1];branch=z9hG4bK0\r\n" +
	"Max-Forwards: 70\r\n" +
	"Route: <sip:a.test;lr>,<sip:b.test;lr;x=\"a,b\">\r\n" +
	"f: \"Al, ice\" <sip:alice@ims.test>;tag=1\r\n" +
	"To: <sip:bob@ims.test>\r\n" +
	"i: abc@host\r\n" +
	"CSeq: 7 INVITE\r\n" +
	"Subject: one\r\n  two\r\n" +
	"l: 4\r\n\r\nv=0\n"

func TestParseAndPrint(t *testing.T) {
	m, err := sip.Parse([]byte(invite + "trailing"))
	if err != nil {
		t.Fatal(err)
	}
	if m.Count(sip.Via) != 2 || m.Count(sip.Route) != 2 || m.Body != "v=0\n" || m.Get(sip.Subject) != "one two" {
		t.Errorf("read %+v", m)
	}
	if n, method := m.CSeq(); n != 7 || method != "INVITE" || m.FromTag() != "1" || m.ToTag() != "" || m.CallID() != "abc@host" {
		t.Errorf("CSeq %d %s, tags %q %q", n, method, m.FromTag(), m.ToTag())
	}
	again, err := sip.Parse([]byte(m.String()))
	if err != nil || again.String() != m.String() {
		t.Errorf("print(parse) is not stable: %v\n%s", err, again)
	}
}

func TestEditing(t *testing.T) {
	m, err := sip.Parse([]byte(invite))
	if err != nil {
		t.Fatal(err)
	}
	c := m.Clone()
	if got := c.Pop(sip.Route); got != "<sip:a.test;lr>" {
		t.Errorf("Pop = %q", got)
	}
	c.Push(sip.Route, "<sip:c.test;lr>")
	c.Push(sip.RecordRoute, "<sip:me;lr>")
	c.Set(sip.MaxForwards, "69")
	c.Del(sip.Subject)
	if got := c.All(sip.Route); len(got) != 2 || got[0] != "<sip:c.test;lr>" || got[1] != `<sip:b.test;lr;x="a,b">` {
		t.Errorf("routes %q", got)
	}
	if m.Count(sip.Route) != 2 || m.Get(sip.MaxForwards) != "70" || m.Has(sip.RecordRoute) || !m.Has(sip.Subject) {
		t.Error("editing a clone changed the original")
	}
}

func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no empty line":  "OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\n",
		"no call id":     strings.Replace(invite, "i: abc@host\r\n", "", 1),
		"two to":         strings.Replace(invite, "CSeq", "To: <sip:x@y>\r\nCSeq", 1),
		"cseq method":    strings.Replace(invite, "7 INVITE", "7 BYE", 1),
		"short body":     strings.Replace(invite, "l: 4", "l: 40", 1),
		"bad length":     strings.Replace(invite, "l: 4", "l: -4", 1),
		"version":        strings.Replace(invite, "SIP/2.0", "SIP/3.0", 1),
		"status":         "SIP/2.0 99 x\r\n\r\n",
		"header":         strings.Replace(invite, "Max-Forwards", "Max Forwards", 1),
		"from":           strings.Replace(invite, "<sip:alice@ims.test>", "<sip:alice@ims.test", 1),
		"via":            strings.Replace(invite, "SIP/2.0/UDP 127.0.0.2:5070", "SIP/2.0/UDP 127.0.0.2:99999", 1),
		"space in uri":   strings.Replace(invite, "sip:bob@ims.test", "sip:bob @ims.test", 1),
		"empty":          "",
		"only new lines": "\r\n\r\n",
	} {
		if m, err := sip.Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
	}
}

func TestURI(t *testing.T) {
	for text, want := range map[string]string{
		"sip:Alice@IMS.test:5060;transport=tcp?x=y": "sip:Alice@ims.test",
		"sip:%41lice@ims.test":                      "sip:Alice@ims.test",
		"tel:+1-650-555.1234;phone-context=x":       "tel:+16505551234",
		"sip:[2001:db8::1]:5060":                    "sip:2001:db8::1",
		"urn:service:sos.fire":                      "urn:service:sos.fire",
	} {
		u, err := sip.ParseURI(text)
		if err != nil || u.Canonical() != want {
			t.Errorf("%s: %q, %v; want %q", text, u.Canonical(), err, want)
		}
		if err == nil && u.String() != text {
			t.Errorf("%s prints as %s", text, u)
		}
	}
	for _, text := range []string{"", "sip:", "sip:@host", "sip:a@b:0", "sip:a@b:70000", "sip:a b@c", "sip:[::1", "1ip:x", "tel:"} {
		if u, err := sip.ParseURI(text); err == nil {
			t.Errorf("%q accepted as %+v", text, u)
		}
	}
}

func TestParams(t *testing.T) {
	const p = `;lr;x="a;b=c";Tag=1`
	if v, ok := sip.Param(p, "x"); !ok || v != "a;b=c" {
		t.Errorf("x = %q", v)
	}
	if v, ok := sip.Param(p, "tag"); !ok || v != "1" {
		t.Errorf("tag = %q", v)
	}
	if got := sip.DelParam(p, "x"); got != ";lr;Tag=1" {
		t.Error(got)
	}
	if got := sip.SetParam(sip.SetParam(p, "lr", "on"), "new", ""); got != `;lr=on;x="a;b=c";Tag=1;new` {
		t.Error(got)
	}
}

func BenchmarkParsePrint(b *testing.B) {
	data := []byte(invite)
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		m, err := sip.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		buf = m.AppendTo(buf[:0])
	}
}
