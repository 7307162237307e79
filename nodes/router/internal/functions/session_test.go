package functions_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// The interval of a session: the deployment's default where none is asked for, bounded above by the deployment, below by
// the caller's Min-SE and RFC 4028. A callee without session timers leaves refreshing to a caller that has them.
func TestSessionInterval(t *testing.T) {
	for name, c := range map[string]struct {
		headers      []string
		want, least  string // at the phone
		answer       string // Session-Expires of the phone's 200
		caller       string // and of the caller's
		requireTimer bool
		refused      string // Min-SE of a 422
	}{
		"nobody knows them":     {nil, "600", "", "", "", false, ""},
		"the caller does":       {[]string{"Supported: timer"}, "600", "", "", "600;refresher=uac", true, ""},
		"both do":               {[]string{"Supported: 100rel, timer"}, "600", "", "600;refresher=uas", "600;refresher=uas", false, ""},
		"asked for":             {[]string{"Supported: timer", "Session-Expires: 500;refresher=uac"}, "500;refresher=uac", "", "", "500;refresher=uac", true, ""},
		"compact":               {[]string{"k: timer", "x: 500"}, "500", "", "", "500;refresher=uac", true, ""},
		"too long":              {[]string{"Supported: timer", "Session-Expires: 7200;refresher=uac"}, "1000;refresher=uac", "", "", "1000;refresher=uac", true, ""},
		"too long, but so long": {[]string{"Supported: timer", "Session-Expires: 7200", "Min-SE: 1800"}, "1800", "1800", "", "1800;refresher=uac", true, ""},
		"no less than":          {[]string{"Supported: timer", "Min-SE: 700"}, "700", "700", "", "700;refresher=uac", true, ""},
		"too short":             {[]string{"Supported: timer", "Session-Expires: 89"}, "", "", "", "", false, "90"},
		"too short by a proxy":  {[]string{"Session-Expires: 60"}, "90", "90", "", "", false, ""},
		"rubbish":               {[]string{"Session-Expires: soon"}, "600", "", "", "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "max_session_expires=1000", func(w *world) {
				w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
				w.edge.Send(scscf, preferring(c.headers...))
				if c.refused != "" {
					if m := w.edge.Expect("422"); m.Get(sip.MinSE) != c.refused {
						t.Errorf("refused with Min-SE %q", m.Get(sip.MinSE))
					}
					return
				}
				m := w.edge.Expect("INVITE")
				if m.Get(sip.SessionExpires) != c.want || m.Get(sip.MinSE) != c.least || m.Count(sip.SessionExpires) != 1 {
					t.Errorf("the phone gets Session-Expires %q and Min-SE %q, want %q and %q", m.All(sip.SessionExpires), m.Get(sip.MinSE), c.want, c.least)
				}
				var extra []string
				if c.answer != "" {
					extra = []string{"Session-Expires: " + c.answer}
				}
				w.edge.Reply(m, 180)
				if w.edge.Expect("180").Has(sip.SessionExpires) {
					t.Error("a 180 has a session interval")
				}
				w.edge.Reply(m, 200, extra...)
				ok := w.edge.Expect("200")
				if ok.Get(sip.SessionExpires) != c.caller || ok.Count(sip.SessionExpires) > 1 || ok.HasOption(sip.Require, "timer") != c.requireTimer || ok.Count(sip.Require) > 1 {
					t.Errorf("the caller gets Session-Expires %q, Require %q, want %q", ok.All(sip.SessionExpires), ok.All(sip.Require), c.caller)
				}
			})
		})
	}
}

// Within the dialog a new INVITE gets an interval as the first did, an UPDATE only if it has one, and nothing else.
func TestSessionRefreshes(t *testing.T) {
	for name, c := range map[string]struct{ method, header, want, answer string }{
		"INVITE":              {"INVITE", "Supported: timer", "300", "300;refresher=uac"},
		"INVITE, too long":    {"INVITE", "Supported: timer\nSession-Expires: 900;refresher=uac", "600;refresher=uac", "600;refresher=uac"},
		"UPDATE":              {"UPDATE", "Supported: timer\nSession-Expires: 900", "600", "600;refresher=uac"},
		"UPDATE for the rest": {"UPDATE", "Supported: timer", "", ""},
		"INFO":                {"INFO", "Supported: timer\nSession-Expires: 900", "900", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "default_session_expires=300", func(w *world) {
				w.edge.Send(scscf, strings.NewReplacer("METHOD", c.method, "HEADER", c.header).Replace(`
METHOD sip:bob@1.1.1.1 SIP/2.0
Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>
Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>
Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>;tag=b
Call-ID: d
CSeq: 2 METHOD
HEADER
`))
				m := w.edge.Expect(c.method)
				if got := m.Get(sip.SessionExpires); got != c.want {
					t.Errorf("sent on with %q, want %q", got, c.want)
				}
				w.edge.Reply(m, 200)
				if got := w.edge.Expect("200").Get(sip.SessionExpires); got != c.answer {
					t.Errorf("answered with %q, want %q", got, c.answer)
				}
			})
		})
	}
}
