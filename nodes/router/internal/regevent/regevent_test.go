package regevent

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func TestWants(t *testing.T) {
	for _, c := range []struct {
		method, event string
		accept        []string
		want          bool
	}{
		{"SUBSCRIBE", "reg", nil, true}, {"SUBSCRIBE", "reg;id=1", nil, true}, {"SUBSCRIBE", "reg ; id=1", nil, true},
		{"SUBSCRIBE", "registration", nil, false}, {"SUBSCRIBE", "Reg", nil, false}, {"SUBSCRIBE", "reg.winfo", nil, false}, {"SUBSCRIBE", "", nil, false},
		{"NOTIFY", "reg", nil, false}, {"PUBLISH", "reg", nil, false},
		{"SUBSCRIBE", "reg", []string{"application/reginfo+xml"}, true}, {"SUBSCRIBE", "reg", []string{"text/plain", "a/b, Application/Reginfo+XML;q=0.5"}, true},
		{"SUBSCRIBE", "reg", []string{"application/pidf+xml"}, false},
	} {
		m := &sip.Message{Method: c.method, URI: "sip:a@b"}
		if c.event != "" {
			m.Add(sip.Event, c.event)
		}
		for _, v := range c.accept {
			m.Add(sip.Accept, v)
		}
		if got := Wants(m); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"sip:x.test", "sip:X.test:5060", true}, {"sip:x.test:5061", "sip:x.test:5060", false}, {"sip:x.test", "sip:y.test", false}, {"tel:+1", "tel:+1", false},
	} {
		a, _ := sip.ParseURI(c.a)
		b, _ := sip.ParseURI(c.b)
		if sameHost(a, b) != c.want {
			t.Errorf("%+v", c)
		}
	}
}
