package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// as is the CANCEL or ACK of a request that a test has sent.
func as(method string, m *sip.Message) string {
	return strings.ReplaceAll(strings.Replace(m.String(), m.Method+" sip", method+" sip", 1), "1 "+m.Method, "1 "+method)
}

func (w *world) counter(name, labels string, want float64) {
	w.t.Helper()
	synctest.Wait()
	families, err := w.counts.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	got := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if labels == "" || strings.Contains(fmt.Sprint(m.GetLabel()), labels) {
				got += m.GetCounter().GetValue()
			}
		}
	}
	if got != want {
		w.t.Errorf("%s{%s} is %v, want %v", name, labels, got, want)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
		problems, err := testutil.GatherAndLint(w.counts)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
}

// A call rings every phone of the user, through the path of each; one answer ends the others.
func TestForkToEveryPhone(t *testing.T) {
	in(t, "", func(w *world) {
		for i := 1; i <= 3; i++ {
			w.register("bob", fmt.Sprintf("b%d", i), fmt.Sprintf("Contact: <sip:bob@%d.1.1.1>", i))
		}
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		legs := map[string]*sip.Message{}
		for range 3 {
			m := w.edge.Expect("INVITE")
			legs[m.URI] = m
			if want := fmt.Sprintf("<sip:flow-b%s@10.1.0.2:5058;transport=TCP;lr;ob>", m.URI[8:9]); m.Get(sip.Route) != want {
				t.Errorf("to %s by %s, want %s", m.URI, m.Get(sip.Route), want)
			}
		}
		if len(legs) != 3 {
			t.Fatalf("legs to %d phones", len(legs))
		}
		w.counter("ims_scscf_forked_invites_total", "", 2)
		w.edge.Reply(legs["sip:bob@1.1.1.1"], 486)
		w.edge.Expect("ACK")
		w.edge.Reply(legs["sip:bob@2.1.1.1"], 180)
		w.edge.Expect("180")
		w.edge.Reply(legs["sip:bob@3.1.1.1"], 200)
		w.edge.Expect("200")
		cancel := w.edge.Expect("CANCEL")
		if cancel.URI != "sip:bob@2.1.1.1" || !strings.Contains(cancel.Get(sip.Reason), "cause=200") {
			t.Errorf("the other phone is told\n%s", cancel)
		}
		w.edge.Reply(cancel, 200)
		w.edge.Reply(legs["sip:bob@2.1.1.1"], 487)
		w.edge.Expect("ACK")
	})
}

func TestForkEnds(t *testing.T) {
	for name, c := range map[string]struct {
		first, second int
		want          string
	}{
		"declined everywhere": {603, 0, "603"}, "best of two": {404, 486, "404"}, "no 503 of a phone": {503, 503, "500"}, "challenge": {486, 407, "407"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
				w.register("bob", "b2", "Contact: <sip:bob@2.1.1.1>")
				w.edge.Send(scscf, invite("sip:bob@ims.test"))
				one, two := w.edge.Expect("INVITE"), w.edge.Expect("INVITE")
				w.edge.Reply(two, 180)
				w.edge.Expect("180")
				w.edge.Reply(one, c.first)
				w.edge.Expect("ACK")
				if c.second == 0 { // 6xx ends the others
					w.edge.Reply(w.edge.Expect("CANCEL"), 200)
					c.second = 487
				}
				w.edge.Reply(two, c.second)
				w.edge.Expect("ACK")
				w.edge.Expect(c.want)
			})
		})
	}
}

func TestCancelByTheCaller(t *testing.T) {
	for _, rings := range []bool{false, true} {
		t.Run(fmt.Sprint("ringing=", rings), func(t *testing.T) {
			in(t, "", func(w *world) {
				w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
				sent := w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "Call-ID", "Supported: 100rel\nCall-ID", 1))
				m := w.edge.Expect("INVITE")
				when := "before_1xx"
				if rings {
					when = "after_1xx"
					w.edge.Reply(m, 180)
					w.edge.Expect("180")
				}
				w.edge.Send(scscf, strings.Replace(as("CANCEL", sent), "\r\nContent-Length", "\r\nReason: SIP;cause=200;text=\"elsewhere\"\r\nContent-Length", 1))
				w.edge.Expect("200")
				if !rings {
					w.edge.Quiet(time.Second) // RFC 3261 9.1
					w.edge.Reply(m, 100)
				}
				cancel := w.edge.Expect("CANCEL")
				if cancel.Get(sip.Reason) == "" {
					t.Error("the Reason of the CANCEL is lost (RFC 3326)")
				}
				w.edge.Reply(cancel, 200)
				w.edge.Reply(m, 487)
				w.edge.Expect("ACK")
				w.edge.Expect("487")
				w.counter("ims_scscf_cancelled_total", when, 2) // both halves
				w.counter("ims_scscf_cancelled_total", "", 2)
			})
		})
	}
	t.Run("crossing the answer", func(t *testing.T) {
		in(t, "", func(w *world) {
			w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
			sent := w.edge.Send(scscf, invite("sip:bob@ims.test"))
			m := w.edge.Expect("INVITE")
			w.edge.Reply(m, 180)
			w.edge.Expect("180")
			w.edge.Send(scscf, as("CANCEL", sent))
			w.edge.Expect("200")
			cancel := w.edge.Expect("CANCEL")
			w.edge.Reply(m, 200)
			if ok := w.edge.Expect("200"); ok.Get(sip.CSeq) != "1 INVITE" {
				t.Errorf("got %s", ok.Get(sip.CSeq))
			}
			w.edge.Reply(cancel, 481)
		})
	})
}

// Requests of every other method pass, outside of dialogs to the user's phone and inside along the route.
func TestOtherMethodsPass(t *testing.T) {
	for _, method := range []string{"MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REFER", "INFO", "OPTIONS", "PRACK", "UPDATE"} {
		t.Run(method, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
				event := "Event: presence\nCall-ID"
				w.edge.Send(scscf, strings.Replace(strings.ReplaceAll(invite("sip:bob@ims.test"), "INVITE", method), "Call-ID", event, 1))
				m := w.edge.Expect(method)
				if m.URI != "sip:bob@1.1.1.1" || m.Body != "v=0\n" {
					t.Errorf("sent as\n%s", m)
				}
				w.edge.Reply(m, 202)
				w.edge.Expect("202")
				w.edge.Send(scscf, fmt.Sprintf(`
%s sip:bob@1.1.1.1 SIP/2.0
Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>
Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>
Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>;tag=b
Call-ID: d
CSeq: 2 %[1]s
Event: presence
`, method))
				m = w.edge.Expect(method)
				if m.Get(sip.Route) != "<sip:10.1.0.2:5058;transport=TCP;lr>" || m.Count(sip.Route) != 1 {
					t.Errorf("in the dialog sent as\n%s", m)
				}
				w.edge.Reply(m, 200)
				w.edge.Expect("200")
			})
		})
	}
}

func TestMessageToNobody(t *testing.T) {
	in(t, "", func(w *world) {
		w.edge.Send(scscf, strings.ReplaceAll(invite("sip:bob@ims.test"), "INVITE", "MESSAGE"))
		w.edge.Expect("480")
	})
	in(t, "", func(w *world) {
		w.edge.Send(scscf, strings.ReplaceAll(invite("sip:nobody@ims.test"), "INVITE", "MESSAGE"))
		w.edge.Expect("404")
	})
}

// A request over 1300 bytes goes by TCP to a hop that was named for UDP, unless disable_tcp_switch; by UDP when TCP is refused.
func TestLongMessages(t *testing.T) {
	long := strings.Replace(strings.ReplaceAll(invite("sip:x@elsewhere.test"), "INVITE", "MESSAGE"), "Call-ID", "Subject: "+strings.Repeat("x", 1400)+"\nCall-ID", 1)
	for name, c := range map[string]struct{ options, via string }{
		"long": {"", "/TCP "}, "switched off": {"disable_tcp_switch=Y", "/UDP "}, "refused": {"", "/UDP "},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.options, func(w *world) {
				if err := w.router.SetRoutes(`{"routes":[{"name":"d","domain":"*","route":["sip:10.1.0.9:5060;transport=udp;lr"]}]}`); err != nil {
					t.Fatal(err)
				}
				peer := proxytest.NewPeer
				if name == "refused" {
					peer = proxytest.NewDatagramPeer
				}
				outside := peer(t, w.edge.Network(), "10.1.0.9:5060")
				w.edge.Send(scscf, long)
				m := outside.Expect("MESSAGE")
				if via := m.Get(sip.Via); !strings.Contains(via, c.via) {
					t.Errorf("sent by %s", via)
				}
				outside.Reply(m, 200)
				w.edge.Expect("200")
			})
		})
	}
}

func TestTooManyHops(t *testing.T) {
	in(t, "", func(w *world) {
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "Call-ID", "Max-Forwards: 0\nCall-ID", 1))
		w.edge.Expect("483")
		w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
		w.register("bob", "b2", "Contact: <sip:bob@2.1.1.1>")
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "Call-ID", "Max-Breadth: 1\nCall-ID", 1))
		w.edge.Expect("440")
	})
}

// A phone that does not answer a MESSAGE: 100 after 3.5 s, no 408 (RFC 4320).
func TestSilentPhone(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
		start := time.Now()
		w.edge.Send(scscf, strings.ReplaceAll(invite("sip:bob@ims.test"), "INVITE", "MESSAGE"))
		w.edge.Expect("MESSAGE")
		w.edge.Expect("100")
		if d := time.Since(start); d < 3500*time.Millisecond {
			t.Errorf("100 after %v", d)
		}
		w.edge.Quiet(time.Minute)
	})
}

// An application server calls on behalf of a user, registered or not, at the S-CSCF or by the I-CSCF (orig and P-Served-User).
func TestOriginatingForAUser(t *testing.T) {
	for _, at := range []string{"scscf", "icscf"} {
		for _, registered := range []bool{true, false} {
			t.Run(fmt.Sprint(at, " registered=", registered), func(t *testing.T) {
				in(t, "", func(w *world) {
					w.hss.Add("carol@ims.test", "secret", "sip:carol@ims.test")
					w.register("bob", "b1", "Contact: <sip:bob@1.1.1.1>")
					if registered {
						w.register("carol", "c1", "Contact: <sip:carol@2.2.2.2>")
					}
					port := map[string]string{"scscf": scscf, "icscf": icscf}[at]
					w.edge.Send(port, strings.NewReplacer(
						"scscf.router", at+".router", "Call-ID", "P-Served-User: <sip:carol@ims.test>\nCall-ID",
					).Replace(invite("sip:bob@ims.test")))
					m := w.edge.Expect("INVITE")
					if m.URI != "sip:bob@1.1.1.1" || !strings.Contains(m.Get(sip.PChargingVector), "orig-ioi=ims.test") {
						t.Errorf("sent as\n%s", m)
					}
					w.edge.Reply(m, 486)
					w.edge.Expect("ACK")
					w.edge.Expect("486")
				})
			})
		}
	}
	t.Run("barred", func(t *testing.T) {
		in(t, "", func(w *world) {
			w.hss.Add("alice@ims.test", "secret", "sip:alice@ims.test", "sip:barred@ims.test")
			w.hss.SetBarred("sip:barred@ims.test", true)
			w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "Call-ID", "P-Served-User: <sip:barred@ims.test>\nCall-ID", 1))
			w.edge.Expect("403") // though P-Asserted-Identity is not
		})
	})
}

// What the HSS says about the called user decides (TS 24.229 5.3.2.1).
func TestAnswersToLocation(t *testing.T) {
	for result, want := range map[hss.Result]string{
		hss.Result_RESULT_UNKNOWN: "404", hss.Result_RESULT_NOT_REGISTERED: "480", hss.Result_RESULT_UNAVAILABLE: "504", hss.Result_RESULT_TIMEOUT: "504",
	} {
		in(t, "", func(w *world) {
			w.hss.Fail(result)
			w.edge.Send(icscf, strings.Replace(invite("sip:bob@ims.test"), "scscf.router.ims.test;transport=TCP;lr;orig", "icscf.router.ims.test;transport=TCP;lr", 1))
			if m := w.edge.Expect(want); m.Get(sip.Warning) == "" {
				t.Errorf("%s without a reason", result)
			}
		})
	}
}

// The I-CSCF takes its own Route off, puts the S-CSCF's on, stays out of the dialog and asks nobody for a password.
func TestICSCFRoutes(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.SetServer("sip:one.test;transport=TCP")
		one := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.11:5054")
		w.edge.Send(icscf, strings.Replace(invite("sip:bob@ims.test"), "scscf.router.ims.test;transport=TCP;lr;orig", "icscf.router.ims.test;transport=TCP;lr", 1))
		m := one.Expect("INVITE")
		if got := strings.Join(m.All(sip.Route), " "); got != "<sip:one.test;transport=TCP;lr>" || m.URI != "sip:bob@ims.test" {
			t.Errorf("sent to %s by %s", m.URI, got)
		}
		if got := m.All(sip.RecordRoute); len(got) != 1 {
			t.Errorf("Record-Route %q", got)
		}
		one.Reply(m, 200)
		w.edge.Expect("200")
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.1.1.1>"))
		m = one.Expect("REGISTER")
		if m.URI != "sip:one.test;transport=TCP" || m.Has(sip.Route) {
			t.Errorf("sent as\n%s", m)
		}
		one.Reply(m, 200)
		w.edge.Expect("200")
	})
}
