package scscf_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const (
	rrOrig = "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>"
	rrTerm = "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>"
	rrNone = "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-none>"
)

// Both halves visit a server; Record-Routes by level.
func TestBothHalves(t *testing.T) {
	for level, want := range map[string][3][]string{ // seen by alice's server, bob's server, the phone
		"pcscf":          {{rrOrig}, {rrOrig}, {rrTerm, rrOrig}},
		"pcscf,icscf":    {{rrOrig}, {rrNone, rrOrig}, {rrTerm, rrNone, rrOrig}},
		"pcscf,icscf,as": {{rrOrig}, {rrNone, rrOrig}, {rrTerm, rrNone, rrOrig}},
	} {
		t.Run(level, func(t *testing.T) {
			in(t, "sprout_rr_level="+level, func(w *world) {
				w.hss.Add("alice@ims.test", "secret", "sip:alice@ims.test", "tel:+15551")
				w.hss.Add("bob@ims.test", "secret", "sip:bob@ims.test", "tel:+15552")
				w.criteria("alice", criterion(1, 0, uriOne, session(0), "<Method>INVITE</Method>"), criterion(0, 0, uriOther, session(1)))
				w.criteria("bob", criterion(1, 0, uriOther, session(1)), criterion(0, 0, uriOne, session(0)))
				w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
				m := w.one.Expect("INVITE")
				routes := m.All(sip.Route)
				if len(routes) != 2 || routes[0] != "<"+uriOne+";lr>" || !strings.HasPrefix(routes[1], "<sip:odi_") || !strings.HasSuffix(routes[1], "@10.1.0.1:5054;transport=TCP;lr;orig;service=scscf>") || len(routes[1]) != len("<sip:odi_1234567890@10.1.0.1:5054;transport=TCP;lr;orig;service=scscf>") {
					t.Errorf("Route %q", routes)
				}
				w.header(m, sip.PServedUser, "<sip:alice@ims.test>;sescase=orig;regstate=reg")
				w.header(m, sip.PAssertedIdentity, "<sip:alice@ims.test>", "<tel:+15551>")
				w.header(m, sip.PChargingVector, "icid-value=1;orig-ioi=ims.test")
				w.header(m, sip.RecordRoute, want[0]...)
				w.back(w.one, m)
				second := w.other.Expect("INVITE")
				if routes = second.All(sip.Route); len(routes) != 2 || routes[0] != "<"+uriOther+";lr>" || !strings.HasSuffix(routes[1], ";transport=TCP;lr;service=scscf>") {
					t.Errorf("Route %q", routes)
				}
				w.header(second, sip.PServedUser, "<sip:bob@ims.test>;sescase=term;regstate=reg")
				w.header(second, sip.PChargingVector, "icid-value=1;orig-ioi=ims.test;term-ioi=ims.test")
				w.header(second, sip.RecordRoute, want[1]...)
				w.back(w.other, second)
				last := w.phone.Expect("INVITE")
				w.header(last, sip.PServedUser)
				w.header(last, sip.PCalledPartyID, "<sip:bob@ims.test>")
				w.header(last, sip.Route, "<sip:flow@10.1.0.3:5058;transport=TCP;lr>")
				w.header(last, sip.RecordRoute, want[2]...)
				w.phone.Reply(last, 180, "P-Asserted-Identity: <sip:bob@ims.test>")
				w.header(w.other.Expect("180"), sip.PAssertedIdentity, "<sip:bob@ims.test>", "<tel:+15552>")
				w.phone.Reply(last, 200, "P-Asserted-Identity: <tel:+15552>")
				w.header(w.other.Expect("200"), sip.PAssertedIdentity, "<tel:+15552>", "<sip:+15552@ims.test;user=phone>")
				w.other.Reply(second, 200, "P-Asserted-Identity: <sip:bob@ims.test>") // a server's word is not added to
				w.header(w.one.Expect("200"), sip.PAssertedIdentity, "<sip:bob@ims.test>")
				w.one.Reply(m, 200)
				w.caller.Expect("200")
			})
		})
	}
}

// Each return of a server that stays out of the dialog gets a Record-Route at the highest level only.
func TestRecordRouteOnReturns(t *testing.T) {
	drop := func(m *sip.Message) { m.Push(sip.RecordRoute, "<sip:10.1.0.21;lr>") }
	for level, want := range map[string][]string{
		"pcscf":          {rrTerm, "<sip:10.1.0.21;lr>", "<sip:10.1.0.21;lr>", rrOrig},
		"pcscf,icscf":    {rrTerm, rrNone, "<sip:10.1.0.21;lr>", "<sip:10.1.0.21;lr>", rrOrig},
		"pcscf,icscf,as": {rrTerm, rrNone, "<sip:10.1.0.21;lr>", rrNone, "<sip:10.1.0.21;lr>", rrOrig},
	} {
		in(t, "sprout_rr_level="+level, func(w *world) {
			w.criteria("alice", criterion(1, 0, uriOne), criterion(2, 0, uriOther))
			w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
			m := w.one.Expect("INVITE")
			w.back(w.one, m, drop)
			second := w.other.Expect("INVITE")
			w.back(w.other, second, drop)
			last := w.phone.Expect("INVITE")
			w.header(last, sip.RecordRoute, want...)
			w.phone.Reply(last, 200)
			w.other.Expect("200")
			w.other.Reply(second, 200)
			w.one.Expect("200")
			w.one.Reply(m, 200)
			w.caller.Expect("200")
		})
	}
}

// A server returns the request twice with everything changed but the token; afterwards the token is unknown.
func TestForkingServerAndLateReturn(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, uriOne), criterion(2, 0, uriOther, "<SIPHeader><Header>X-Fork</Header><Content>1</Content></SIPHeader>"))
		w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
		m := w.one.Expect("INVITE")
		fork := func(n, to string) func(*sip.Message) {
			return func(m *sip.Message) {
				m.Set(sip.CallID, "fork-"+n)
				m.Set(sip.From, "<sip:mangled@x.test>;tag=f"+n)
				m.AddNamed("X-Fork", n)
				m.URI = to
				m.Del(sip.PServedUser, sip.PAssertedIdentity)
			}
		}
		w.back(w.one, m, fork("1", "sip:bob@ims.test"))
		w.back(w.one, m, fork("2", "sip:carol@ims.test"))
		second := w.other.Expect("INVITE") // only the first fork carries what the second criterion asks for
		w.header(second, sip.CallID, "fork-1")
		w.header(second, sip.PServedUser, "<sip:alice@ims.test>;sescase=orig;regstate=reg")
		third := w.phone.Expect("INVITE")
		w.header(third, sip.CallID, "fork-2")
		w.header(third, sip.PCalledPartyID, "<sip:carol@ims.test>")
		w.phone.Reply(third, 486)
		w.phone.Expect("ACK")
		w.one.Expect("486")
		w.other.Reply(second, 603)
		w.other.Expect("ACK")
		w.one.Expect("603")
		w.one.Reply(m, 603)
		w.one.Expect("ACK")
		w.caller.Expect("603")
		synctest.Wait()
		// The transaction is over: what comes now is a new request on behalf of the user in P-Served-User.
		w.back(w.one, m, func(c *sip.Message) { c.Set(sip.CallID, "late") })
		again := w.one.Expect("INVITE")
		w.header(again, sip.PServedUser, "<sip:alice@ims.test>;sescase=orig;regstate=reg")
		w.one.Reply(again, 486)
		w.one.Expect("ACK")
		w.one.Expect("486")
		if got := w.metric("ims_scscf_unknown_tokens_total"); got != 1 {
			t.Errorf("%v unknown tokens are counted", got)
		}
	})
}

// A chain keeps the criteria it began with; which of them match is decided by the request as servers return it.
func TestCriteriaAreFrozen(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, uriOne), criterion(2, 0, uriOther, "<SIPHeader><Header>X-Wants</Header></SIPHeader>"))
		w.caller.Send(router, request("MESSAGE", "sip:bob@ims.test"))
		m := w.one.Expect("MESSAGE")
		w.criteria("alice")
		w.back(w.one, m, func(m *sip.Message) { m.AddNamed("X-Wants", "1") })
		second := w.other.Expect("MESSAGE")
		w.other.Reply(second, 202)
		w.one.Expect("202")
		w.one.Reply(m, 202)
		w.caller.Expect("202")
		w.caller.Send(router, request("MESSAGE", "sip:bob@ims.test"))
		w.phone.Reply(w.phone.Expect("MESSAGE"), 200) // the next request has the new ones
		w.caller.Expect("200")
	})
}

func TestServerRetargets(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *sip.Message)
		served string // P-Served-User at the other server, "" when it is not visited
		called string // at the phone
		route  string
	}{
		"same, with parameters": {func(m *sip.Message) { m.URI = "sip:bob@IMS.test;x=y" }, "<sip:bob@ims.test>;sescase=term;regstate=reg", "<sip:bob@ims.test>", ""},
		"alias":                 {func(m *sip.Message) { m.URI = "sip:robert@ims.test" }, "<sip:robert@ims.test>;sescase=term;regstate=reg", "<sip:robert@ims.test>", ""},
		"other":                 {func(m *sip.Message) { m.URI = "sip:carol@ims.test" }, "<sip:bob@ims.test>;orig-cdiv", "<sip:carol@ims.test>", ""},
		"other, with route": {func(m *sip.Message) {
			m.URI = "sip:carol@ims.test"
			m.Add(sip.Route, "<sip:gateway.test;lr>")
		}, "", "", "<sip:gateway.test;lr>"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.hss.Add("bob@ims.test", "secret", "sip:bob@ims.test", "sip:robert@ims.test")
				w.criteria("bob", criterion(1, 0, uriOne, session(1)), criterion(2, 0, uriOther, session(1)), criterion(3, 0, uriOther, session(4)))
				w.caller.Send(router, request("INVITE", "sip:bob@ims.test", "History-Info: <sip:bob@ims.test>;index=1"))
				m := w.one.Expect("INVITE")
				w.back(w.one, m, c.change)
				if c.served != "" {
					second := w.other.Expect("INVITE")
					w.header(second, sip.PServedUser, c.served)
					w.back(w.other, second)
				}
				last := w.phone.Expect("INVITE")
				w.header(last, sip.HistoryInfo, "<sip:bob@ims.test>;index=1")
				if c.route != "" {
					w.header(last, sip.Route, c.route)
				} else {
					w.header(last, sip.PCalledPartyID, c.called)
				}
				w.header(last, sip.PServedUser)
				w.phone.Reply(last, 200)
				if c.served != "" {
					w.other.Expect("200")
				} else {
					w.one.Expect("200")
				}
				w.one.Reply(m, 200)
				w.caller.Expect("200")
			})
		})
	}
}

func TestUnregisteredUsers(t *testing.T) {
	in(t, "", func(w *world) { // called: the chain runs before the 480
		w.unbind("bob")
		w.criteria("bob", criterion(1, 0, uriOther, session(1)), criterion(2, 0, uriOne, session(2))+"<InitialFilterCriteria><Priority>0</Priority><ApplicationServer><ServerName>"+uriOther+"</ServerName></ApplicationServer><ProfilePartIndicator>0</ProfilePartIndicator></InitialFilterCriteria>")
		w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
		m := w.one.Expect("INVITE")
		w.header(m, sip.PServedUser, "<sip:bob@ims.test>;sescase=term;regstate=unreg")
		w.back(w.one, m)
		w.one.Expect("480")
		w.one.Reply(m, 480)
		w.one.Expect("ACK")
		w.caller.Expect("480")
	})
	for user, registered := range map[string]bool{"alice": true, "dave": false} { // calling: a server acts for somebody
		in(t, "", func(w *world) {
			w.hss.Add("dave@ims.test", "secret", "sip:dave@ims.test")
			w.criteria(user, criterion(1, 0, uriOther, session(map[bool]int{true: 0, false: 3}[registered])))
			text := strings.ReplaceAll(request("INVITE", "sip:bob@ims.test"), "alice", "server")
			w.one.Send(router, text+"P-Served-User: <sip:"+user+"@ims.test>;sescase=orig\n")
			m := w.other.Expect("INVITE")
			w.header(m, sip.PServedUser, "<sip:"+user+"@ims.test>;sescase=orig;regstate="+map[bool]string{true: "reg", false: "unreg"}[registered])
			w.other.Reply(m, 486)
			w.other.Expect("ACK")
			w.one.Expect("486")
		})
	}
}

func TestWhoIsInvoked(t *testing.T) {
	const nobody = "sip:mmtel.ims.test" // does not resolve
	fallback := "<FallbackIFCsSet>" + criterion(0, 0, uriOther, "<Method>INVITE</Method>") + "</FallbackIFCsSet>"
	shared := "<SharedIFCsSets><SharedIFCsSet><SetID>7</SetID>" + criterion(1, 0, uriOther) + "</SharedIFCsSet></SharedIFCsSets>"
	ids := func(n int) string {
		return fmt.Sprintf("<Extension><SharedIFCSetID>%d</SharedIFCSetID></Extension>", n)
	}
	for name, c := range map[string]struct {
		options, criteria string
		visited           string // "one", "other", "" for neither
		status            int    // instead of a call that goes through
		metric            string // that counts one
	}{
		"nobody":                        {"", "", "", 0, ""},
		"bad address":                   {"", criterion(0, 0, "tel:+1555"), "", 502, ""},
		"worse address":                 {"", criterion(0, 0, "sip:"), "", 502, ""},
		"unresolvable":                  {"", criterion(0, 0, nobody), "", 0, ""},
		"dummy":                         {"dummy_app_server=sip:dummy.test", criterion(0, 0, "sip:dummy.test"), "", 0, ""},
		"after the dummy":               {"dummy_app_server=sip:dummy.test", criterion(0, 0, "sip:dummy.test") + criterion(1, 0, uriOne), "one", 0, ""},
		"broken criterion":              {"", criterion(0, 7, uriOther) + criterion(1, 0, uriOne), "one", 0, ""},
		"no fallback unless asked for":  {"", "", "", 0, ""},
		"fallback":                      {"apply_fallback_ifcs=Y", "", "other", 0, "ims_scscf_fallback_ifcs_total"},
		"fallback not needed":           {"apply_fallback_ifcs=Y", criterion(0, 0, uriOne), "one", 0, ""},
		"dummy needs no fallback":       {"apply_fallback_ifcs=Y\ndummy_app_server=sip:dummy.test", criterion(0, 0, "sip:dummy.test"), "", 0, ""},
		"rejected":                      {"reject_if_no_matching_ifcs=Y", criterion(0, 0, uriOne, "<Method>MESSAGE</Method>"), "", 400, ""},
		"fallback saves from rejection": {"reject_if_no_matching_ifcs=Y\napply_fallback_ifcs=Y", "", "other", 0, ""},
		"shared set, by priority":       {"", criterion(2, 0, uriOne) + ids(7), "other", 0, ""},
		"own first":                     {"", criterion(0, 0, uriOne) + ids(7), "one", 0, ""},
		"unknown set":                   {"", criterion(2, 0, uriOne) + ids(8), "one", 0, "ims_scscf_unknown_shared_ifcs_total"},
		"nothing but an unknown set":    {"", ids(8), "", 0, "ims_scscf_unknown_shared_ifcs_total"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.options, func(w *world) {
				if err := w.router.SetSharedCriteria(shared); err != nil {
					t.Fatal(err)
				}
				if err := w.router.SetFallbackCriteria(fallback); err != nil {
					t.Fatal(err)
				}
				w.criteria("alice", c.criteria)
				w.criteria("bob", criterion(0, 0, "sip:dummy.test", session(0))+criterion(0, 0, nobody, session(1)))
				start := time.Now()
				w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
				switch {
				case c.status != 0:
					m := w.caller.Expect(fmt.Sprint(c.status))
					if m.Get(sip.Warning) == "" {
						t.Error("a refusal without a reason")
					}
				case c.visited == "one":
					m := w.one.Expect("INVITE")
					w.one.Reply(m, 200)
					w.caller.Expect("200")
				case c.visited == "other":
					m := w.other.Expect("INVITE")
					w.other.Reply(m, 200)
					w.caller.Expect("200")
				default:
					m := w.phone.Expect("INVITE")
					w.takes(start, 0)
					w.phone.Reply(m, 200)
					w.caller.Expect("200")
				}
				if c.metric != "" {
					if got := w.metric(c.metric); got != 1 {
						t.Errorf("%s counts %v", c.metric, got)
					}
				}
				w.one.Quiet(5 * time.Second)
				w.other.Quiet(5 * time.Second)
			})
		})
	}
}

func TestDocumentsOfCriteria(t *testing.T) {
	in(t, "apply_fallback_ifcs=Y", func(w *world) {
		good := "<FallbackIFCsSet>" + criterion(0, 0, uriOne) + "</FallbackIFCsSet>"
		if err := w.router.SetFallbackCriteria(good); err != nil {
			t.Fatal(err)
		}
		if err := w.router.SetFallbackCriteria("<Other/>"); err == nil {
			t.Error("a document of another kind is taken")
		}
		if err := w.router.SetSharedCriteria("<"); err == nil {
			t.Error("rubbish is taken")
		}
		w.caller.Send(router, request("MESSAGE", "sip:bob@ims.test"))
		w.one.Reply(w.one.Expect("MESSAGE"), 200)
		w.caller.Expect("200")
		if err := w.router.SetFallbackCriteria(""); err != nil {
			t.Fatal(err)
		}
		w.caller.Send(router, request("MESSAGE", "sip:bob@ims.test"))
		w.phone.Reply(w.phone.Expect("MESSAGE"), 200)
		w.caller.Expect("200")
	})
}

// A route that the last server loads is followed and counted.
func TestPreloadedRoute(t *testing.T) {
	for _, user := range []string{"alice", "bob"} {
		in(t, "", func(w *world) {
			w.criteria(user, criterion(1, 0, uriOne, session(map[string]int{"alice": 0, "bob": 1}[user])))
			w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
			m := w.one.Expect("INVITE")
			w.back(w.one, m, func(m *sip.Message) { m.Add(sip.Route, "<sip:gateway.test;lr>") })
			last := w.phone.Expect("INVITE")
			w.header(last, sip.Route, "<sip:gateway.test;lr>")
			w.header(last, sip.PServedUser)
			w.phone.Reply(last, 486)
			w.phone.Expect("ACK")
			w.one.Expect("486")
			w.one.Reply(m, 486)
			w.one.Expect("ACK")
			w.caller.Expect("486")
			if got := w.metric("ims_scscf_preloaded_routes_total"); got != 1 {
				t.Errorf("%v preloaded routes are counted", got)
			}
		})
	}
}

// CANCEL reaches the server that has the request, and ends the wait for one that is silent.
func TestCancelInTheChain(t *testing.T) {
	for _, answers := range []bool{true, false} {
		in(t, "", func(w *world) {
			w.criteria("alice", criterion(1, 0, uriOne), criterion(2, 0, uriOther))
			text := request("INVITE", "sip:bob@ims.test", "Via: SIP/2.0/UDP 10.1.0.2:5058;branch=z9hG4bKc")
			w.caller.Send(router, text)
			m := w.one.Expect("INVITE")
			if answers {
				w.one.Reply(m, 183)
				w.caller.Expect("183")
			}
			w.caller.Send(router, strings.ReplaceAll(text, "INVITE", "CANCEL"))
			w.caller.Expect("200")
			if answers {
				w.one.Reply(w.one.Expect("CANCEL"), 200)
				w.one.Reply(m, 487)
				w.one.Expect("ACK")
			}
			w.caller.Expect("487")
			w.other.Quiet(10 * time.Second)
			w.phone.Quiet(10 * time.Second)
		})
	}
}

func TestNodeURIAndTimeouts(t *testing.T) {
	in(t, "scscf_node_uri=sip:router-1.public.test:5154\nsession_continued_timeout_ms=300\nsession_terminated_timeout_ms=700\n", func(w *world) {
		w.criteria("alice", criterion(1, 0, "sip:10.1.0.21:5060"), criterion(2, 1, uriOther))
		start := time.Now()
		w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
		m := w.one.Expect("INVITE")
		if route := m.All(sip.Route)[1]; !strings.HasSuffix(route, "@router-1.public.test:5154;lr;orig;service=scscf>") {
			t.Errorf("Route %s", route)
		}
		second := w.other.Expect("INVITE")
		w.takes(start, 300*time.Millisecond)
		returning := second.All(sip.Route)[1]
		c := second.Clone()
		c.Del(sip.Route)
		c.Push(sip.Route, returning)
		c.Push(sip.Via, "SIP/2.0/TCP 10.1.0.22:5060;branch=z9hG4bKr")
		w.other.Send(router, c.String()) // the name leads here, wherever it resolves
		last := w.phone.Expect("INVITE")
		w.phone.Reply(last, 200)
		w.other.Expect("200")
		w.other.Reply(second, 200)
		w.caller.Expect("200")
		w.caller.Send(router, strings.ReplaceAll(request("INVITE", "sip:bob@ims.test"), "Call-ID: call", "Call-ID: two"))
		start = time.Now()
		w.other.Expect("INVITE") // the first server is silent over UDP, and so is the second
		w.takes(start, 300*time.Millisecond)
		w.caller.Expect("408")
		w.takes(start, time.Second)
	})
}

// A server that returns the request after it was given up does not make the phone ring twice.
func TestReturnTooLate(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, uriOne))
		w.caller.Send(router, request("INVITE", "sip:bob@ims.test"))
		m := w.one.Expect("INVITE")
		last := w.phone.Expect("INVITE")
		w.back(w.one, m)
		w.one.Expect("487")
		w.phone.Quiet(5 * time.Second)
		w.phone.Reply(last, 200)
		w.caller.Expect("200")
		w.one.Reply(m, 487)
		w.one.Expect("ACK")
	})
}

// What happens to a chain whose server is this very node: it goes on in memory.
func TestServerIsThisNode(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, "sip:scscf.router.ims.test;transport=TCP"), criterion(2, 0, uriOther))
		w.caller.Send(router, request("MESSAGE", "sip:bob@ims.test"))
		w.other.Reply(w.other.Expect("MESSAGE"), 200)
		w.caller.Expect("200")
	})
}

// CANCEL after default handling went on without the servers of both halves.
func TestCancelBehindFailedServers(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("alice", criterion(1, 0, "sip:mmtel.ims.test"))
		w.criteria("bob", criterion(1, 0, "sip:mmtel.ims.test"))
		text := request("INVITE", "sip:bob@ims.test", "Via: SIP/2.0/UDP 10.1.0.2:5058;branch=z9hG4bKc")
		w.caller.Send(router, text)
		m := w.phone.Expect("INVITE")
		w.phone.Reply(m, 180)
		w.caller.Expect("180")
		start := time.Now()
		w.caller.Send(router, strings.ReplaceAll(text, "INVITE", "CANCEL"))
		w.caller.Expect("200")
		w.phone.Reply(w.phone.Expect("CANCEL"), 200)
		w.phone.Reply(m, 487)
		w.phone.Expect("ACK")
		w.caller.Expect("487")
		w.takes(start, 0)
	})
}
