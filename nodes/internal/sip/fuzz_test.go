package sip_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// FuzzParse holds the law: what parses, prints to something that parses to the same value.
func FuzzParse(f *testing.F) {
	for _, c := range torture {
		f.Add([]byte(wire(c.text)))
	}
	f.Add([]byte(invite))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := sip.Parse(data)
		if err != nil {
			if m != nil && m.IsRequest() {
				_ = m.NewResponse(400, "", "t").String() // what the transport does with it
			}
			return
		}
		text := m.AppendTo(nil)
		if len(text)-len(m.Body) > sip.MaxHeaderSize || len(text) > sip.MaxMessage {
			return // one line for each value takes more room
		}
		again, err := sip.Parse(text)
		if err != nil {
			t.Fatalf("printed form does not parse: %v\n%q\n%q", err, data, text)
		}
		if !reflect.DeepEqual(m, again) {
			t.Fatalf("changed by printing:\n%#v\n%#v", m, again)
		}
		readEverything(m)
	})
}

// readEverything calls every reader; none may panic whatever the text is.
func readEverything(m *sip.Message) {
	_, _ = m.CSeq()
	_, _ = m.FromTag(), m.ToTag()
	_ = m.Expires(1)
	for _, h := range m.Headers {
		if a, err := sip.ParseAddress(h.Value); err == nil {
			sip.Params(a.Params, func(string, string) bool { return true })
			_ = sip.SetParam(sip.DelParam(a.Params, "tag"), "tag", "x")
			if u, err := sip.ParseURI(a.URI); err == nil {
				_, _, _ = u.Canonical(), u.Number(), u.IsNumber(false)
			}
		}
		_, _ = sip.ParseVia(h.Value)
		_ = m.HasOption(h.ID, "path")
	}
	c := m.Clone()
	c.DelOption(sip.Require, "sec-agree")
	c.Push(sip.Route, "<sip:x>")
	_ = c.NewResponse(200, "", "t")
	c.Del(sip.Via, sip.Route)
}

func FuzzURI(f *testing.F) {
	for _, s := range []string{"sip:alice@ims.test", "sips:a:pw@[::1]:5061;transport=tcp?x=y", "tel:+1-555;phone-context=x", "urn:service:sos", "sip:a%40b@h", "sip:;x@h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := sip.ParseURI(s)
		if err != nil {
			return
		}
		again, err := sip.ParseURI(u.String())
		if err != nil || again != u {
			t.Fatalf("%q: %+v prints %q, which reads %+v, %v", s, u, u.String(), again, err)
		}
		c := u.Canonical()
		if cu, err := sip.ParseURI(c); err == nil && cu.Canonical() != c {
			t.Fatalf("%q: canonical form %q is not canonical: %q", s, c, cu.Canonical())
		}
	})
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{`"A \"b" <sip:a@b;x>;tag=1`, "sip:a@b;tag=2", "<tel:+1>", `Bob<sip:b@c>;q=0.1;+x="<;>"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := sip.ParseAddress(s)
		if err != nil || strings.ContainsAny(s, "\r\n") {
			return
		}
		again, err := sip.ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q: %+v prints %q, which reads %+v, %v", s, a, a.String(), again, err)
		}
	})
}

func FuzzVia(f *testing.F) {
	for _, s := range []string{"SIP/2.0/UDP a:1;branch=z9hG4bK;rport", "SIP / 2.0 / TCP [::1] : 5 ;x", "SIP/2.0/WSS x.invalid;alias"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := sip.ParseVia(s)
		if err != nil {
			return
		}
		again, err := sip.ParseVia(v.String())
		if err != nil || again != v {
			t.Fatalf("%q: %+v prints %q, which reads %+v, %v", s, v, v.String(), again, err)
		}
	})
}

// FuzzParams holds: setting a parameter makes it readable and leaves the others; deleting removes it.
func FuzzParams(f *testing.F) {
	f.Add(";a=1;b=\"x;y\";lr", "b")
	f.Add(";a = 1 ; b", "lr")
	f.Fuzz(func(t *testing.T, params, name string) {
		if !strings.HasPrefix(params, ";") || name == "" || strings.ContainsAny(name, ";=\" \t\r\n\\,<>?") || strings.Count(params, `"`)%2 != 0 || strings.Contains(params, `\`) {
			return
		}
		set := sip.SetParam(params, name, "v")
		if v, ok := sip.Param(set, name); !ok || v != "v" {
			t.Fatalf("SetParam(%q, %q) = %q, which holds %q %v", params, name, set, v, ok)
		}
	})
}
