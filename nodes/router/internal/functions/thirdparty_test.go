package functions_test

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// toServer is a criterion for REGISTER requests of the given types, all when there are none; inside goes into its
// ApplicationServer element.
func toServer(addr string, handling int, inside string, types ...int) string {
	kinds := ""
	for _, n := range types {
		kinds += fmt.Sprintf("<RegistrationType>%d</RegistrationType>", n)
	}
	if kinds != "" {
		kinds = "<Extension>" + kinds + "</Extension>"
	}
	return fmt.Sprintf(`<InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><Group>0</Group><Method>REGISTER</Method>%s</SPT></TriggerPoint>
<ApplicationServer><ServerName>sip:%s;transport=TCP</ServerName><DefaultHandling>%d</DefaultHandling>%s</ApplicationServer></InitialFilterCriteria>`, kinds, addr, handling, inside)
}

// deregister is alice's REGISTER of Contact: *.
func (w *world) deregister(headers ...string) *sip.Message {
	w.t.Helper()
	return w.register("alice", "c1", append([]string{"Contact: *", "Expires: 0"}, headers...)...)
}

const alice = "sip:alice@ims.test"

func TestThirdPartyRegister(t *testing.T) {
	in(t, "", func(w *world) {
		as := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.21:5060")
		w.hss.SetFilterCriteria(alice, toServer(as.Addr, 0, ""))
		contact := "Contact: <sip:alice@1.2.3.4>;expires=60"
		ok := w.register("alice", "c1", contact, "P-Access-Network-Info: wlan", "P-Visited-Network-ID: visited", "P-Charging-Vector: icid-value=7")
		ids := map[string]bool{}
		expect := func(expires string) *sip.Message {
			t.Helper()
			m := as.Expect("REGISTER")
			for id, want := range map[sip.ID]string{
				sip.To: "<sip:alice@ims.test>", sip.Contact: "<sip:scscf.router.ims.test;transport=TCP>", sip.Expires: expires, sip.CSeq: "1 REGISTER",
			} {
				if got := m.Get(id); got != want {
					t.Errorf("%s: %q, want %q", id, got, want)
				}
			}
			from, _ := sip.ParseAddress(m.Get(sip.From))
			if m.URI != "sip:10.1.0.21:5060;transport=TCP" || from.URI != "sip:scscf.router.ims.test;transport=TCP" || m.FromTag() == "" || ids[m.CallID()] || m.Body != "" || m.Count(sip.Via) != 1 {
				t.Errorf("sent as\n%s", m)
			}
			ids[m.CallID()] = true
			as.Reply(m, 200)
			return m
		}
		first := expect("60")
		if first.Get(sip.PAccessNetworkInfo) != "wlan" || first.Get(sip.PVisitedNetworkID) != "visited" || first.Get(sip.PChargingVector) != "icid-value=7" ||
			first.Get(sip.PChargingFunctionAddresses) != ok.Get(sip.PChargingFunctionAddresses) {
			t.Errorf("sent as\n%s", first)
		}
		w.register("alice", "c1", contact)
		expect("60")
		w.register("alice", "c2", "Contact: <sip:alice@5.6.7.8>;expires=200") // the longest one counts
		expect("200")
		w.register("alice", "c2") // only asks
		as.Quiet(time.Second)
		w.register("alice", "c2", "Contact: <sip:alice@5.6.7.8>;expires=0")
		expect("59")
		w.deregister()
		expect("0")
		synctest.Wait()
		w.counter("ims_thirdparty_registers_total", "accepted", 5)
	})
}

// The end of a registration, whoever ends it, reaches the servers that heard of its beginning, once for each identity.
func TestThirdPartyDeregister(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"user": func(w *world) { w.deregister() },
		"time": func(w *world) {
			time.Sleep(21 * time.Second)
			if err := w.second.Registrar.Expire(w.t.Context(), alice); err != nil { // another node than the one that registered
				w.t.Error(err)
			}
		},
		"operator": func(w *world) {
			if _, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", true); err != nil {
				w.t.Error(err)
			}
		},
		"HSS": func(w *world) {
			if _, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", false); err != nil {
				w.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				as := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.21:5060")
				w.hss.SetFilterCriteria(alice, toServer(as.Addr, 1, ""))
				w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>;expires=20")
				as.Reply(as.Expect("REGISTER"), 200)
				go end(w)
				m := as.Expect("REGISTER")
				if m.Get(sip.Expires) != "0" || m.Get(sip.To) != "<sip:alice@ims.test>" {
					t.Errorf("sent as\n%s", m)
				}
				as.Reply(m, 503) // does not matter any more
				synctest.Wait()
				record, _ := w.store.Get(w.t.Context(), alice)
				if len(record.GetBindings()) != 0 || len(record.GetOwed()) != 0 {
					t.Errorf("left is %v", record)
				}
				as.Quiet(time.Minute)
			})
		})
	}
}

// What a node that dies has not told, the next one that is reminded tells, with the same Call-ID as a repeat would have.
func TestThirdPartyDeregisterIsOwed(t *testing.T) {
	in(t, "", func(w *world) {
		as := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.21:5060")
		w.hss.SetFilterCriteria(alice, toServer(as.Addr, 0, ""))
		w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>;expires=60")
		as.Reply(as.Expect("REGISTER"), 200)
		if _, err := w.store.Apply(w.t.Context(), &registrations.ApplyRequest{Aor: alice, RemoveAll: true}); err != nil { // by a node that dies here
			t.Fatal(err)
		}
		before, _ := w.store.Get(w.t.Context(), alice)
		go func() { _ = w.router.Registrar.Expire(w.t.Context(), alice) }()
		m := as.Expect("REGISTER")
		known := false
		for _, e := range before.GetOwed() {
			known = known || strings.HasPrefix(m.CallID(), e.GetId())
		}
		if !known || m.Get(sip.Expires) != "0" {
			t.Errorf("sent as\n%s", m)
		}
		as.Reply(m, 200)
		synctest.Wait()
		if after, _ := w.store.Get(w.t.Context(), alice); len(after.GetOwed()) != 0 {
			t.Errorf("owed is %v", after.GetOwed())
		}
	})
}

func TestThirdPartyRegistrationTypes(t *testing.T) {
	in(t, "dummy_app_server=sip:10.1.0.29:5060;transport=TCP", func(w *world) {
		var as [3]*proxytest.Peer
		criteria := toServer("10.1.0.29:5060", 1, "") // the dummy
		for i := range as {
			as[i] = proxytest.NewPeer(t, w.edge.Network(), fmt.Sprintf("10.1.0.2%d:5060", i+1))
			criteria += toServer(as[i].Addr, 0, "", i)
		}
		w.hss.SetFilterCriteria(alice, criteria)
		contact := "Contact: <sip:alice@1.2.3.4>;expires=60"
		for i, step := range []func(){
			func() { w.register("alice", "c1", contact) }, func() { w.register("alice", "c1", contact) }, func() { w.deregister() },
		} {
			step()
			as[i].Reply(as[i].Expect("REGISTER"), 200)
			for _, other := range as {
				other.Quiet(time.Second)
			}
		}
	})
}

func TestThirdPartyBody(t *testing.T) {
	const info = "<ServiceInfo>a &amp; b</ServiceInfo>"
	const both = "<IncludeRegisterRequest/><IncludeRegisterResponse/>"
	for name, c := range map[string]struct {
		options, inside string
		want            []string // "type|start of the body"
	}{
		"nothing":  {"", "", nil},
		"info":     {"", info, []string{`application/3gpp-ims+xml|<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ims-3gpp version="1"><service-info>a &amp; b</service-info></ims-3gpp>`}},
		"request":  {"", "<Extension><IncludeRegisterRequest/></Extension>", []string{"message/sip|REGISTER sip:"}},
		"response": {"", "<Extension><IncludeRegisterResponse/></Extension>", []string{"message/sip|SIP/2.0 200 OK\r\n"}},
		"all":      {"", info + "<Extension>" + both + "</Extension>", []string{"application/3gpp-ims+xml|<?xml", "message/sip|REGISTER sip:", "message/sip|SIP/2.0 200 OK"}},
		"forced":   {"force_third_party_reg_body=Y", "", []string{"message/sip|REGISTER sip:", "message/sip|SIP/2.0 200 OK"}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.options, func(w *world) {
				as := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.21:5060")
				w.hss.SetFilterCriteria(alice, toServer(as.Addr, 0, c.inside))
				w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>")
				m := as.Expect("REGISTER")
				as.Reply(m, 200)
				got := bodies(t, m)
				if len(got) != len(c.want) {
					t.Fatalf("parts %q, want %q", got, c.want)
				}
				for i := range got {
					if !strings.HasPrefix(got[i], c.want[i]) {
						t.Errorf("part %d is %q, want %q", i, got[i], c.want[i])
					}
					if kind, text, _ := strings.Cut(got[i], "|"); kind == "message/sip" {
						if inner, err := sip.Parse([]byte(text)); err != nil || inner.Get(sip.To) == "" {
							t.Errorf("part %d: %v", i, err)
						}
					}
				}
			})
		})
	}
}

// bodies reads a body with the library's own MIME reader.
func bodies(t *testing.T, m *sip.Message) (out []string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.Get(sip.ContentType))
	if m.Body == "" {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if kind != "multipart/mixed" {
		return []string{kind + "|" + m.Body}
	}
	r := multipart.NewReader(strings.NewReader(m.Body), params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Header.Get("Content-Type")+"|"+string(text))
	}
}

// A server that fails ends the registration when its default handling is SESSION_TERMINATED; one that refuses does not.
func TestThirdPartyFailure(t *testing.T) {
	for name, c := range map[string]struct {
		handling, status int
		ends             bool
	}{
		"500 terminated": {1, 500, true}, "408 terminated": {1, 408, true}, "silent terminated": {1, 0, true}, "403 terminated": {1, 403, false},
		"500 continued": {0, 500, false}, "silent continued": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				as, other := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.21:5060"), proxytest.NewPeer(t, w.edge.Network(), "10.1.0.22:5060")
				w.hss.SetFilterCriteria(alice, toServer(as.Addr, c.handling, "")+toServer(other.Addr, 0, ""))
				w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>")
				m := as.Expect("REGISTER")
				other.Reply(other.Expect("REGISTER"), 200)
				if c.status != 0 {
					as.Reply(m, c.status)
				} else {
					defer time.Sleep(time.Minute) // until the transaction ends
				}
				time.Sleep(5 * time.Second)
				record, _ := w.store.Get(w.t.Context(), alice)
				if ended := len(record.GetBindings()) == 0; ended != c.ends {
					t.Errorf("bindings %v", record.GetBindings())
				}
				if !c.ends {
					return
				}
				for _, p := range []*proxytest.Peer{as, other} {
					last := p.Expect("REGISTER")
					if last.Get(sip.Expires) != "0" {
						t.Errorf("sent as\n%s", last)
					}
					p.Reply(last, 200)
				}
				synctest.Wait()
				if got := w.hss.Assignments(); len(got) != 1 || got[0].GetReqtype() != hss.DeregAdmin {
					t.Errorf("the HSS heard %v", got)
				}
				if left, _ := w.store.Get(w.t.Context(), alice); len(left.GetOwed()) != 0 {
					t.Errorf("owed is %v", left.GetOwed())
				}
			})
		})
	}
}
