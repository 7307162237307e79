package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const otherICSCF = "tcp:10.1.0.3:5052"

// Two routers share only the key and the store: the one answers what the other asked, and once.
func TestChallengeOfAnotherRouter(t *testing.T) {
	for _, counting := range []string{"N", "Y"} {
		t.Run("nonce_count_supported="+counting, func(t *testing.T) {
			in(t, "nonce_count_supported="+counting, func(w *world) {
				contact := "Contact: <sip:alice@1.2.3.4>"
				w.edge.Send(icscf, w.registerText("alice", "c", contact))
				a := answer(w.edge.Expect("401"), "alice", "secret")
				w.edge.Send(otherICSCF, w.registerText("alice", "c", contact, a))
				w.edge.Expect("200")
				for _, router := range []string{icscf, otherICSCF} {
					w.edge.Send(router, w.registerText("alice", "c", contact, a))
					if m := w.edge.Expect("401"); !strings.Contains(m.Get(sip.WWWAuthenticate), "stale=true") {
						t.Errorf("%s challenges a used nonce without stale=true", router)
					}
				}
			})
		})
	}
}

func TestChallengeNeedsTheKey(t *testing.T) {
	in(t, "", func(w *world) {
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>"))
		a := answer(w.edge.Expect("401"), "alice", "secret")
		w.hss.Add("eve@ims.test", "secret", "sip:eve@ims.test")
		w.edge.Send(icscf, w.registerText("eve", "c", "Contact: <sip:eve@1.2.3.4>", strings.Replace(a, "alice@ims.test", "eve@ims.test", 1)))
		w.edge.Expect("401") // the nonce is bound to the private identity
	})
}

// assigned is what the HSS has been told so far.
func (w *world) assigned() string {
	var out []string
	for _, a := range w.hss.Assignments() {
		out = append(out, a.GetReqtype()+" "+a.GetImpi())
	}
	return strings.Join(out, ", ")
}

func (w *world) registerAs(impi, callID string, headers ...string) *sip.Message {
	w.t.Helper()
	with := func(h ...string) string {
		return w.registerText("alice", callID, append(h, headers...)...)
	}
	w.edge.Send(icscf, with(fmt.Sprintf(`Authorization: Digest username="%s@ims.test",realm="ims.test",nonce="",uri="sip:ims.test",response=""`, impi)))
	challenge := w.edge.Expect("401")
	w.edge.Send(icscf, with(answer(challenge, impi, "secret")))
	return w.edge.Expect("200")
}

// The registration is the record; the HSS hears of its ends only (a registration is derived from the bindings).
func TestWhatTheHSSHears(t *testing.T) {
	const phone1, phone2 = "Contact: <sip:alice@1.1.1.1>", "Contact: <sip:alice@2.2.2.2>"
	steps := func(t *testing.T, do func(w *world)) {
		in(t, "", func(w *world) {
			w.hss.Add("alice2@ims.test", "secret", "sip:alice@ims.test")
			do(w)
		})
	}
	hears := func(w *world, want string) {
		w.t.Helper()
		synctest.Wait()
		if got := w.assigned(); got != want {
			w.t.Errorf("the HSS heard %q, want %q", got, want)
		}
	}
	t.Run("by the user", func(t *testing.T) {
		steps(t, func(w *world) {
			w.registerAs("alice", "c1", phone1)
			hears(w, "")
			w.registerAs("alice", "c1", phone1)
			hears(w, "")
			w.registerAs("alice", "c1", phone1, "Expires: 0")
			hears(w, "dereg-user alice@ims.test")
		})
	})
	t.Run("two private identities", func(t *testing.T) {
		steps(t, func(w *world) {
			w.registerAs("alice", "c1", phone1)
			w.registerAs("alice2", "c2", phone2)
			hears(w, "")
			w.registerAs("alice", "c1", phone1, "Expires: 0")
			hears(w, "") // the set is still registered
			w.registerAs("alice2", "c2", phone2, "Expires: 0")
			hears(w, "dereg-user alice2@ims.test")
		})
	})
	t.Run("lapse of the last", func(t *testing.T) {
		steps(t, func(w *world) {
			w.registerAs("alice", "c1", phone1, "Expires: 60")
			w.registerAs("alice2", "c2", phone2, "Expires: 120")
			for range 2 {
				time.Sleep(61 * time.Second)
				if err := w.router.Registrar.Expire(w.t.Context(), "sip:alice@ims.test"); err != nil {
					w.t.Fatal(err)
				}
				if w.assigned() == "" {
					w.registerAs("alice2", "c2", phone2, "Expires: 60") // a refresh is nobody's business
				}
			}
			hears(w, "dereg-timeout alice2@ims.test")
		})
	})
	t.Run("a wrong password", func(t *testing.T) {
		steps(t, func(w *world) {
			w.edge.Send(icscf, w.registerText("alice", "c", phone1))
			w.edge.Send(icscf, w.registerText("alice", "c", phone1, answer(w.edge.Expect("401"), "alice", "wrong")))
			w.edge.Expect("403")
			hears(w, "dereg-auth-failed alice@ims.test")
		})
	})
	t.Run("by the network", func(t *testing.T) {
		steps(t, func(w *world) {
			w.registerAs("alice", "c1", phone1)
			if _, err := w.router.Registrar.Deregister(w.t.Context(), "sip:alice@ims.test", "", true); err != nil {
				w.t.Fatal(err)
			}
			hears(w, "dereg-admin alice@ims.test")
		})
	})
}

// A phone is one binding however it writes itself; two phones are two.
func TestReplacement(t *testing.T) {
	const instance = `;+sip.instance="<urn:uuid:1>"`
	for name, c := range map[string]struct {
		first, second string
		bindings      int
	}{
		"same instance and reg-id, new address": {"<sip:alice@1.1.1.1>" + instance + ";reg-id=1", "<sip:alice@2.2.2.2>" + instance + ";reg-id=1", 1},
		"same instance, other flow":             {"<sip:alice@1.1.1.1>" + instance + ";reg-id=1", "<sip:alice@1.1.1.1>" + instance + ";reg-id=2", 2},
		"other instance, same address":          {"<sip:alice@1.1.1.1>" + instance, `<sip:alice@1.1.1.1>;+sip.instance="<urn:uuid:2>"`, 2},
		"case of the host":                      {"<sip:alice@Phone.test>", "<sip:alice@phone.TEST>", 1},
		"case of the user":                      {"<sip:alice@phone.test>", "<sip:Alice@phone.test>", 2},
		"needless escape":                       {"<sip:%61lice@phone.test>", "<sip:alice@phone.test>", 1},
		"order and case of parameters":          {"<sip:a@phone.test;transport=TCP;Line=7>", "<sip:a@phone.test;line=7;transport=tcp>", 1},
		"other line":                            {"<sip:a@phone.test;line=7>", "<sip:a@phone.test;line=8>", 2},
		"port":                                  {"<sip:a@phone.test>", "<sip:a@phone.test:5060>", 2},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.register("alice", "c1", "Contact: "+c.first)
				if got := w.register("alice", "c2", "Contact: "+c.second).All(sip.Contact); len(got) != c.bindings {
					t.Errorf("bindings %q, want %d", got, c.bindings)
				}
			})
		})
	}
}

func TestOlderRegisterIsRefused(t *testing.T) {
	in(t, "", func(w *world) {
		contact := "Contact: <sip:alice@1.2.3.4>"
		again := func(cseq int, callID, status string) {
			t.Helper()
			w.edge.Send(icscf, w.registerText("alice", callID, contact))
			a := answer(w.edge.Expect("401"), "alice", "secret")
			w.cseq = cseq - 1
			w.edge.Send(icscf, w.registerText("alice", callID, contact, a))
			w.edge.Expect(status)
		}
		again(10, "c", "200")
		again(10, "c", "500") // the same
		again(9, "c", "500")
		again(1, "restarted", "200") // another Call-ID has an order of its own
		again(11, "c", "200")
	})
}

// Registering one identity of the set registers all of them (TS 23.228 5.2.1a); a barred one may ask for it.
func TestImplicitSet(t *testing.T) {
	for _, asks := range []string{"alice", "second", "barred"} {
		t.Run(asks, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.hss.Add("alice@ims.test", "secret", "sip:alice@ims.test", "sip:second@ims.test", "sip:barred@ims.test")
				w.hss.SetBarred("sip:barred@ims.test", true)
				w.hss.Add("caller@ims.test", "secret", "sip:caller@ims.test")
				text := func(h ...string) string {
					h = append(h, "Contact: <sip:phone@1.2.3.4>")
					return strings.ReplaceAll(w.registerText("alice", "c", h...), "To: <sip:alice@", "To: <sip:"+asks+"@")
				}
				w.edge.Send(icscf, text(`Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="",uri="sip:ims.test",response=""`))
				w.edge.Send(icscf, text(answer(w.edge.Expect("401"), "alice", "secret")))
				ok := w.edge.Expect("200")
				if got := strings.Join(ok.All(sip.PAssociatedURI), " "); got != "<sip:alice@ims.test> <tel:+15551> <sip:second@ims.test>" {
					t.Errorf("P-Associated-URI %s", got)
				}
				for i, to := range []string{"sip:alice@ims.test", "sip:second@ims.test", "tel:+15551", "sip:+15551@ims.test;user=phone"} {
					w.edge.Send(scscf, w.call("caller", to, i))
					m := w.edge.Expect("INVITE")
					if m.URI != "sip:phone@1.2.3.4" {
						t.Errorf("a call to %s goes to %s", to, m.URI)
					}
					w.edge.Reply(m, 486)
					w.edge.Expect("ACK")
					w.edge.Expect("486")
				}
				w.edge.Send(scscf, w.call("caller", "sip:barred@ims.test", 10))
				w.edge.Expect("404")
				w.edge.Send(scscf, w.call("barred", "sip:alice@ims.test", 11))
				w.edge.Expect("403")
			})
		})
	}
}

// call is an initial INVITE of a user, as the edge sends it.
func (w *world) call(from, to string, n int) string {
	text := strings.NewReplacer("alice@ims.test", from+"@ims.test", "Call-ID: call", fmt.Sprintf("Call-ID: call-%d", n)).Replace(invite("TARGET"))
	return strings.ReplaceAll(text, "TARGET", to)
}

// A set of which every identity is barred cannot be registered, by the word of the HSS or by its profile.
func TestEveryIdentityBarred(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.Add("eve@ims.test", "secret", "sip:eve@ims.test", "sip:eva@ims.test")
		w.edge.Send(icscf, w.registerText("eve", "c", "Contact: <sip:eve@1.2.3.4>"))
		challenge := w.edge.Expect("401")
		w.hss.SetBarred("sip:eve@ims.test", true)
		w.hss.SetBarred("sip:eva@ims.test", true)
		for _, credentials := range []string{"Subject: none", answer(challenge, "eve", "secret")} {
			w.edge.Send(icscf, w.registerText("eve", "c", "Contact: <sip:eve@1.2.3.4>", credentials))
			w.edge.Expect("403")
		}
		if record, _ := w.store.Get(t.Context(), "sip:eve@ims.test"); len(record.GetBindings()) != 0 {
			t.Errorf("stored %v", record)
		}
		w.hss.SetBarred("sip:eva@ims.test", false) // one is enough
		w.edge.Send(icscf, w.registerText("eve", "c", "Contact: <sip:eve@1.2.3.4>", answer(challenge, "eve", "secret")))
		if got := w.edge.Expect("200").All(sip.PAssociatedURI); len(got) != 1 || got[0] != "<sip:eva@ims.test>" {
			t.Errorf("P-Associated-URI %q", got)
		}
	})
}

// The default identity is the first unbarred sip: one, whatever stands before it.
func TestDefaultIdentity(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.Add("dora@ims.test", "secret", "tel:+15559", "sip:dora0@ims.test", "sip:dora@ims.test")
		w.hss.SetBarred("sip:dora0@ims.test", true)
		ok := w.register("dora", "d", "Contact: <sip:dora@1.2.3.4>")
		if got := strings.Join(ok.All(sip.PAssociatedURI), " "); got != "<sip:dora@ims.test> <tel:+15559>" {
			t.Errorf("P-Associated-URI %s", got)
		}
		if r, _ := w.store.Get(t.Context(), "sip:dora@ims.test"); len(r.GetBindings()) != 1 {
			t.Errorf("stored %v", r)
		}
	})
}

// How the HSS refuses decides the status; an outage is never a 403 (TS 24.229 5.3.1.2).
func TestRefusalOfTheHSS(t *testing.T) {
	for result, want := range map[hss.Result]string{
		hss.Result_RESULT_UNKNOWN: "403", hss.Result_RESULT_ROAMING_REFUSED: "403", hss.Result_RESULT_BARRED: "403",
		hss.Result_RESULT_UNAVAILABLE: "504", hss.Result_RESULT_TIMEOUT: "504", hss.Result_RESULT_UNSUPPORTED_SCHEME: "403",
	} {
		in(t, "", func(w *world) {
			w.hss.Fail(result)
			w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>"))
			if m := w.edge.Expect(want); m.Get(sip.Warning) == "" {
				t.Errorf("%s without a reason", result)
			}
		})
	}
}

// An S-CSCF that fails makes the I-CSCF ask for capabilities and try another one, each once (TS 24.229 5.3.1.3).
func TestAnotherSCSCF(t *testing.T) {
	const pool = `{"s-cscfs":[{"server":"sip:one.test","priority":1},{"server":"sip:two.test","priority":2}]}`
	for name, c := range map[string]struct {
		named string
		one   int // status of the first, 0: silence
		want  string
	}{
		"5xx": {"sip:one.test", 500, "200"}, "503": {"sip:one.test", 503, "200"}, "time-out": {"sip:one.test", 0, "200"},
		"unreachable": {"sip:away.test", 500, "200"}, "a decision": {"sip:one.test", 403, "403"},
	} {
		for _, method := range []string{"REGISTER", "INVITE"} {
			if name == "time-out" && method == "REGISTER" {
				continue // its sender has given up by then
			}
			t.Run(name+" "+method, func(t *testing.T) {
				in(t, "", func(w *world) {
					one, two := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.11:5054"), proxytest.NewPeer(t, w.edge.Network(), "10.1.0.12:5054")
					if err := w.router.SetPool(pool); err != nil {
						t.Fatal(err)
					}
					w.hss.SetServer(c.named)
					if method == "REGISTER" {
						w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>"))
					} else {
						w.edge.Send(icscf, strings.Replace(invite("sip:bob@ims.test"), "<sip:scscf.router.ims.test;transport=TCP;lr;orig>", "<sip:icscf.router.ims.test;transport=TCP;lr>", 1))
					}
					reply := func(p *proxytest.Peer, m *sip.Message, status int) {
						p.Reply(m, status)
						if method == "INVITE" && status >= 300 {
							p.Expect("ACK")
						}
					}
					m := one.Expect(method)
					if m.Has(sip.RecordRoute) && m.Count(sip.RecordRoute) != 1 {
						t.Errorf("the I-CSCF adds Record-Route: %q", m.All(sip.RecordRoute))
					}
					if c.one != 0 {
						reply(one, m, c.one)
					}
					if c.want == "200" {
						reply(two, two.Expect(method), 200)
					}
					w.edge.Expect(c.want)
				})
			})
		}
	}
}

func TestEverySCSCFFailed(t *testing.T) {
	in(t, "", func(w *world) {
		one, two := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.11:5054"), proxytest.NewPeer(t, w.edge.Network(), "10.1.0.12:5054")
		if err := w.router.SetPool(`{"s-cscfs":[{"server":"sip:one.test"},{"server":"sip:two.test","priority":1}]}`); err != nil {
			t.Fatal(err)
		}
		w.hss.SetServer("")
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>"))
		one.Reply(one.Expect("REGISTER"), 504)
		two.Reply(two.Expect("REGISTER"), 500)
		w.edge.Expect("500")
		if n := w.hss.Calls("authorize"); n != 3 {
			t.Errorf("%d questions, want 3", n)
		}
	})
}

// No S-CSCF has the capabilities: 600 for a REGISTER, 480 for a call; without capabilities and s-cscf.json, this deployment's.
func TestNoSCSCFForTheCapabilities(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.SetServer("")
		w.register("alice", "c", "Contact: <sip:alice@1.2.3.4>")
		w.hss.SetCapabilities(&hss.Capabilities{Mandatory: []int32{7}})
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>"))
		w.edge.Expect("600")
		w.edge.Send(scscf, w.call("alice", "sip:bob@ims.test", 1))
		w.edge.Expect("480")
	})
}
