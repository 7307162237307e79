package functions_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
)

// proof is a Proxy-Authorization of alice for a challenge.
func proof(challenge *sip.Message, method, uri, password, nc string) string {
	nonce := nonceIn.FindStringSubmatch(challenge.Get(sip.ProxyAuthenticate))[1]
	response := digest(digest("alice@ims.test", "ims.test", password), nonce, nc, "cn", "auth", digest(method, uri))
	return fmt.Sprintf(`Proxy-Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="%s",uri="%s",response="%s",qop=auth,nc=%s,cnonce="cn"`, nonce, uri, response, nc)
}

// calling is alice's INVITE by a route, with more headers; each is a transaction of its own.
func (w *world) calling(route string, headers ...string) string {
	w.cseq++
	more := ""
	for _, h := range headers {
		more += h + "\n"
	}
	return strings.NewReplacer(
		"<sip:scscf.router.ims.test;transport=TCP;lr;orig>", route, "CSeq: 1 ", fmt.Sprintf("CSeq: %d ", w.cseq), "Call-ID: call", fmt.Sprintf("%sCall-ID: call-%d", more, w.cseq),
	).Replace(invite("sip:bob@ims.test"))
}

// through expects an INVITE to pass and ends it.
func (w *world) through() *sip.Message {
	w.t.Helper()
	m := w.edge.Expect("INVITE")
	w.edge.Reply(m, 486)
	w.edge.Expect("ACK")
	w.edge.Expect("486")
	return m
}

const second = "tcp:10.1.0.3:5054"

// A phone that registered by digest proves each request outside a dialog, at whichever router; each proof serves once.
func TestPhonesProveTheirRequests(t *testing.T) {
	in(t, "non_register_authentication=initial_req_from_reg_digest_endpoint", func(w *world) {
		route := w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>").Get(sip.ServiceRoute)
		if route != "<sip:scscf.router.ims.test;transport=TCP;lr;orig;username=alice%40ims.test>" {
			t.Fatalf("Service-Route %s", route)
		}
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, w.calling(route))
		challenge := w.edge.Expect("407")
		if v := challenge.Get(sip.ProxyAuthenticate); !strings.Contains(v, `realm="ims.test"`) || strings.Contains(v, "stale") {
			t.Errorf("challenged by %s", v)
		}
		swaps := w.store.Swaps()
		good := proof(challenge, "INVITE", "sip:bob@ims.test", "secret", "00000001")
		foreign := `Proxy-Authorization: Digest username="x",realm="elsewhere.test",nonce="n",uri="u",response="r"`
		w.edge.Send(second, w.calling(route, foreign, good)) // the other router takes the answer
		m := w.through()
		if got := m.All(sip.ProxyAuthorization); len(got) != 1 || !strings.Contains(got[0], "elsewhere.test") {
			t.Errorf("beyond the S-CSCF: %q", got)
		}
		if n := w.store.Swaps() - swaps; n != 1 {
			t.Errorf("a proof costs %d swaps", n)
		}
		w.edge.Send(scscf, w.calling(route, good))
		if again := w.edge.Expect("407"); !strings.Contains(again.Get(sip.ProxyAuthenticate), "stale=true") {
			t.Error("a used proof is challenged without stale=true")
		}
		w.edge.Send(scscf, w.calling(route))
		w.edge.Send(scscf, w.calling(route, proof(w.edge.Expect("407"), "INVITE", "sip:bob@ims.test", "guess", "00000001")))
		w.edge.Expect("403")
		w.edge.Send(scscf, w.calling("<sip:scscf.router.ims.test;transport=TCP;lr;orig>")) // by an application server
		w.through()
		if n := len(w.hss.Assignments()); n == 0 || w.hss.Assignments()[n-1].GetReqtype() == hss.DeregAuthFailed {
			t.Errorf("the HSS heard of a failed registration: %v", w.hss.Assignments())
		}
		w.counter("ims_registrar_request_authentications_total", "challenged", 2)
		w.counter("ims_registrar_request_authentications_total", "wrong", 1)
	})
}

// Within a dialog nothing is asked, and what the phone says of itself stays here.
func TestProofsWithinDialogs(t *testing.T) {
	in(t, "non_register_authentication=if_proxy_authorization_present", func(w *world) {
		w.edge.Send(scscf, `
BYE sip:bob@9.9.9.9:1234 SIP/2.0
Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>
Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>;tag=b
Call-ID: d
CSeq: 2 BYE
Proxy-Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="n",uri="u",response="r"
`)
		m := w.edge.Expect("BYE")
		if m.Has(sip.ProxyAuthorization) {
			t.Errorf("sent as\n%s", m)
		}
		w.edge.Reply(m, 200)
		w.edge.Expect("200")
	})
}

// Who comes with Proxy-Authorization, as the edge lets PBXs do, must prove it; others need not.
func TestWhoeverGivesProofMustHaveIt(t *testing.T) {
	const bare = `Proxy-Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="",uri="",response=""`
	route := "<sip:scscf.router.ims.test;transport=TCP;lr;orig>"
	in(t, "non_register_authentication=if_proxy_authorization_present\nnonce_count_supported=Y", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, w.calling(route))
		w.through()
		w.edge.Send(scscf, w.calling(route, bare))
		challenge := w.edge.Expect("407")
		for _, nc := range []string{"00000001", "00000002"} {
			w.edge.Send(scscf, w.calling(route, proof(challenge, "INVITE", "sip:bob@ims.test", "secret", nc)))
			w.through()
		}
		w.edge.Send(scscf, w.calling(route, proof(challenge, "INVITE", "sip:bob@ims.test", "secret", "00000002"))) // replayed
		w.edge.Expect("407")
		w.edge.Send(scscf, w.calling(route, strings.Replace(bare, "ims.test\",nonce", "elsewhere.test\",nonce", 1))) // no way round
		w.edge.Expect("407")
		w.edge.Send(scscf, w.calling(route, strings.Replace(bare, "alice@", "bob@", 1))) // bob's identity is not alice's
		w.edge.Expect("403")
		w.edge.Send(scscf, w.calling(route, "Proxy-Authorization: Basic abc"))
		w.edge.Expect("400")
		w.hss.FailWith(context.DeadlineExceeded)
		w.edge.Send(scscf, w.calling(route, bare))
		w.edge.Expect("504")
	})
	in(t, "", func(w *world) { // not asked for
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, w.calling(route, bare))
		if m := w.through(); !m.Has(sip.ProxyAuthorization) {
			t.Error("somebody else's credentials are lost")
		}
	})
}

// A phone that was authenticated with a card, or by its P-CSCF, is not marked.
func TestOnlyDigestPhonesAreMarked(t *testing.T) {
	in(t, "non_register_authentication=initial_req_from_reg_digest_endpoint", func(w *world) {
		w.edge.Send(icscf, w.registerText("alice", "c", "Contact: <sip:alice@1.2.3.4>", `Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="",uri="sip:ims.test",response="",integrity-protected="tls-yes"`))
		if got := w.edge.Expect("200").Get(sip.ServiceRoute); strings.Contains(got, "username") {
			t.Errorf("Service-Route %s", got)
		}
	})
}

// With authentication off everybody is who they say, whatever the HSS has of credentials, and everybody hears of it.
func TestAuthenticationOff(t *testing.T) {
	in(t, "authentication=accept_all\nnon_register_authentication=if_proxy_authorization_present", func(w *world) {
		w.hss.AddCard("dave@ims.test", "sip:dave@ims.test")
		for _, user := range []string{"alice", "bob", "dave"} {
			w.edge.Send(icscf, w.registerText(user, "c-"+user, "Contact: <sip:"+user+"@9.9.9.9>"))
			if ok := w.edge.Expect("200"); ok.Count(sip.Contact) != 1 {
				t.Errorf("%s: %q", user, ok.All(sip.Contact))
			}
		}
		if n := len(w.hss.Vectors()); n != 0 {
			t.Errorf("%d vectors were used up", n)
		}
		w.edge.Send(scscf, w.calling("<sip:scscf.router.ims.test;transport=TCP;lr;orig>", `Proxy-Authorization: Digest username="alice@ims.test",realm="ims.test"`))
		w.through()
		w.edge.Send(icscf, w.registerText("nobody", "c", "Contact: <sip:nobody@9.9.9.9>"))
		w.edge.Expect("403")
	})
	for value, loud := range map[string]bool{"accept_all": true, "challenge": false} {
		var out bytes.Buffer
		counts := prometheus.NewRegistry()
		o, _, err := config.Parse(
			config.File{Name: config.LocalFile, Text: "local_ip=10.1.0.1\npublic_ip=10.1.0.1\npublic_hostname=r\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test"},
			config.File{Name: config.SharedFile, Text: "home_domain=ims.test"}, config.File{Name: config.UserFile, Text: "authentication=" + value})
		if err != nil {
			t.Fatal(err)
		}
		functions.New(o, functions.Deps{HSS: hsstest.New("ims.test", "sip:x"), Log: slog.New(slog.NewTextHandler(&out, nil)), Metrics: counts, Resolver: proxytest.Names{}})
		if got := regexp.MustCompile("level=ERROR.*AUTHENTICATION IS OFF").MatchString(out.String()); got != loud {
			t.Errorf("authentication=%s: the log says %s", value, &out)
		}
		w := &world{t: t, counts: counts}
		w.gauge("ims_router_authentication_off", map[bool]float64{true: 1}[loud])
	}
}

func (w *world) gauge(name string, want float64) {
	w.t.Helper()
	families, err := w.counts.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name && f.GetMetric()[0].GetGauge().GetValue() == want {
			return
		}
	}
	w.t.Errorf("%s is not %v", name, want)
}
