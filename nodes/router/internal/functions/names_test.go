package functions_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
)

// Calls to users of the home domain leave for somebody else's I-CSCF; what that sends back is served here.
func TestExternalICSCF(t *testing.T) {
	in(t, "external_icscf_uri='sip:one.test;transport=tcp'", func(w *world) {
		one := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.11:5054")
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		m := one.Expect("INVITE")
		if got := strings.Join(m.All(sip.Route), " "); got != "<sip:one.test;transport=tcp;lr>" || m.URI != "sip:bob@ims.test" {
			t.Errorf("sent to %s by %q", m.URI, got)
		}
		if n := len(w.hss.Locations()); n != 0 {
			t.Errorf("our own I-CSCF asked the HSS %d times", n)
		}
		back := m.Clone()
		back.Pop(sip.Route)
		back.Push(sip.Route, "<sip:scscf.router.ims.test;transport=TCP;lr>")
		back.Push(sip.Via, "SIP/2.0/TCP 10.1.0.11:5054;branch=z9hG4bK-outer")
		one.Send(scscf, back.String())
		last := w.edge.Expect("INVITE")
		if last.URI != "sip:bob@9.9.9.9" {
			t.Errorf("the phone gets %s", last.URI)
		}
		w.edge.Reply(last, 486)
		w.edge.Expect("ACK")
		one.Expect("486")
		one.Reply(m, 486)
		one.Expect("ACK")
		w.edge.Expect("486")
	})
	in(t, "external_icscf_uri='sip:one.test;transport=tcp'", func(w *world) { // who is elsewhere is not its business
		outside := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.9:5060")
		w.edge.Send(scscf, invite("sip:x@elsewhere.test"))
		outside.Reply(outside.Expect("INVITE"), 603)
		outside.Expect("ACK")
		w.edge.Expect("603")
	})
}

// The HSS knows the S-CSCF by a name that all sites share: requests for it stay here, and it stands in the route sets of
// dialogs and registrations. With transport=udp SIP goes by UDP.
func TestNameOfAllSites(t *testing.T) {
	const options = "scscf_uri='sip:scscf.all-sites.test;transport=udp'\ndisable_tcp_switch=Y"
	in(t, options, func(w *world) {
		w.hss.SetServer("sip:scscf.all-sites.test;transport=udp")
		ok := w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		if got := ok.Get(sip.ServiceRoute); got != "<sip:scscf.all-sites.test;transport=udp;lr;orig>" {
			t.Errorf("Service-Route %s", got)
		}
		text := strings.ReplaceAll(invite("sip:bob@ims.test"), "scscf.router.ims.test;transport=TCP", "scscf.all-sites.test;transport=udp")
		w.edge.Send("udp:10.1.0.1:5054", text)
		m := w.edge.Expect("INVITE")
		rr := m.All(sip.RecordRoute)
		if len(rr) != 3 || rr[0] != "<sip:scscf.all-sites.test;transport=udp;lr;billing-role=charge-term>" {
			t.Errorf("Record-Route %q", rr)
		}
		done := w.edge.Reply(m, 200)
		w.edge.Expect("200")
		w.inDialog(done, rr, "BYE", 2)
		for _, a := range w.hss.Assignments() {
			if a.GetServerName() != "sip:scscf.all-sites.test;transport=udp" {
				t.Errorf("the HSS is told of %s", a.GetServerName())
			}
		}
	})
}

// The same by dns_json alone: the shared name leads to this site's S-CSCF, and so it means this node.
func TestNameOfAllSitesByDNS(t *testing.T) {
	const document = `{"hostnames":[{"name":"SCSCF.all-sites.test","records":[{"rrtype":"CNAME","target":"scscf.router.site1.ims.test"}]},{"name":"away.test","records":[{"rrtype":"CNAME","target":"elsewhere.test"}]}]}`
	in(t, "", func(w *world) {
		if err := w.router.SetOverrides(document); err != nil {
			t.Fatal(err)
		}
		w.hss.SetServer("sip:scscf.all-sites.test;transport=TCP")
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(scscf, strings.Replace(invite("sip:bob@ims.test"), "sip:scscf.router.ims.test", "sip:scscf.ALL-sites.test", 1))
		m := w.through()
		if m.URI != "sip:bob@9.9.9.9" || m.Count(sip.Via) != 2 {
			t.Errorf("sent as\n%s", m)
		}
		if err := w.router.SetOverrides("{"); err == nil {
			t.Error("a document that is wrong is taken")
		}
		if err := w.router.SetOverrides(""); err != nil {
			t.Fatal(err)
		}
		w.edge.Send(scscf, strings.NewReplacer("sip:scscf.router.ims.test", "sip:scscf.all-sites.test", ";orig", "", "Call-ID: call", "Call-ID: other").Replace(invite("sip:bob@ims.test")))
		w.edge.Expect("404") // the name is not ours now, and DNS does not know it
	})
}

// A server calls for a user by the I-CSCF: the question to the HSS says that it is about the caller.
func TestLocationOfACaller(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.edge.Send(icscf, strings.Replace(invite("sip:bob@ims.test"), "sip:scscf.router", "sip:icscf.router", 1))
		m := w.edge.Expect("INVITE")
		asked := w.hss.Locations()
		if len(asked) != 2 || asked[0].GetImpu() != "sip:alice@ims.test" || !asked[0].GetOriginating() || asked[1].GetImpu() != "sip:bob@ims.test" || asked[1].GetOriginating() {
			t.Errorf("the HSS was asked %v", asked)
		}
		w.edge.Reply(m, 486)
		w.edge.Expect("ACK")
		w.edge.Expect("486")
	})
}

// What the node takes for itself is in the log when it starts, and again when that changes.
func TestLocalHostAliasesAreLogged(t *testing.T) {
	var out bytes.Buffer
	options := func(more string) *config.Options {
		o, _, err := config.Parse(
			config.File{Name: config.LocalFile, Text: "local_ip=10.1.0.1\npublic_ip=10.1.0.1\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test"},
			config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nnonce_key=k\n" + more})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	r := functions.New(options("alias_list=also.test"), functions.Deps{HSS: hsstest.New("ims.test", "sip:x"), Log: slog.New(slog.NewTextHandler(&out, nil)), Metrics: prometheus.NewRegistry(), Resolver: proxytest.Names{}})
	for _, want := range []string{`msg="Local host aliases:"`, "10.1.0.1", "also.test", "icscf.router.ims.test", "router-1.site1.ims.test", "router.site1.ims.test"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, &out)
		}
	}
	out.Reset()
	r.SetOptions(options("alias_list=also.test\nreg_max_expires=60"))
	if out.Len() != 0 {
		t.Errorf("nothing has changed, but %s", &out)
	}
	r.SetOptions(options("alias_list=new.test"))
	if !strings.Contains(out.String(), "new.test") {
		t.Errorf("not told: %s", &out)
	}
}
