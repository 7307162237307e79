package pcscf_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/pcscf"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// world is an edge between phones and a router, all played by hand.
type world struct {
	t          *testing.T
	net        *transporttest.Network
	node       *transporttest.Node
	edge       *pcscf.Edge
	core       *proxy.Core
	router     *proxytest.Peer
	alice, bob *proxytest.Peer
	options    *config.Options
	seq        int
	metrics    *prometheus.Registry
}

const (
	accessUDP = "udp:10.2.0.1:5060"
	accessTCP = "tcp:10.2.0.1:5060"
	coreTCP   = "tcp:10.2.0.1:5058"
	service   = "<sip:scscf.router.ims.test;transport=TCP;lr;orig>"
)

func options(t *testing.T, shared string) *config.Options {
	t.Helper()
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: "local_ip=10.2.0.1\npublic_ip=10.2.0.1\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test"},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nflow_token_key=k\nedge_reg_event=N\n" + shared},
		config.File{Name: config.UserFile, Text: "trusted_peers=10.8.0.1,10.8.0.2,10.8.0.9\nibcf_strip_identity=10.8.0.2\nibcf_domain=ibcf.ims.test"})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func in(t *testing.T, shared string, test func(w *world)) {
	t.Helper()
	o := options(t, shared)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := transporttest.NewNetwork(t)
		w := &world{t: t, net: n, options: o}
		w.node = n.Node(nil, transporttest.TCP(pcscf.Core, "10.2.0.1:5058"), transporttest.UDP(pcscf.Core, "10.2.0.1:5058"),
			transporttest.TCP(pcscf.Access, "10.2.0.1:5060"), transporttest.UDP(pcscf.Access, "10.2.0.1:5060"))
		reg := prometheus.NewPedanticRegistry()
		w.metrics = reg
		names := proxytest.Names{
			"icscf.router.ims.test": {"tcp:10.1.0.1:5054"}, "scscf.router.ims.test": {"tcp:10.1.0.1:5054"},
			"carrier.test": {"udp:10.8.0.9:5060", "tcp:10.8.0.1:5060"}, "mixed.test": {"udp:10.8.0.1:5060", "udp:10.9.0.1:5060"},
		}
		w.edge = pcscf.New(o, pcscf.Deps{Flows: w.node, Resolver: names, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: reg,
			Send: func(ctx context.Context, t proxy.Target) (*proxy.Reply, error) { return w.core.Send(ctx, t) }})
		w.core = proxy.New(proxy.Config{Accept: w.edge.Accept, Local: w.edge.Local, SentBy: w.edge.SentBy, Here: w.edge.Here}, proxy.Deps{
			Wire: w.node, Observe: w.edge,
			Resolver: names,
		})
		w.node.Handle(w.core)
		done := make(chan struct{}, 2)
		go func() { _ = w.core.Run(ctx); done <- struct{}{} }()
		go func() { _ = w.edge.Run(ctx); done <- struct{}{} }()
		w.router = proxytest.NewPeer(t, n, "10.1.0.1:5054")
		w.alice = proxytest.NewPeer(t, n, "10.9.0.1:5060")
		w.bob = proxytest.NewPeer(t, n, "10.9.0.2:5060")
		test(w)
		if held := w.core.Held(); held != 0 {
			t.Errorf("%d transactions are left without a final response", held)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
		cancel()
		<-done
		<-done
	})
}

func registerText(user string, seq int, headers ...string) string {
	addr := map[string]string{"alice": "10.9.0.1", "bob": "10.9.0.2"}[user]
	contact := fmt.Sprintf("Contact: <sip:%s@%s:5060>;expires=300", user, addr)
	for _, h := range headers {
		if strings.HasPrefix(h, "Contact:") {
			contact = ""
		}
	}
	return strings.ReplaceAll(fmt.Sprintf(`
REGISTER sip:ims.test SIP/2.0
From: <sip:%[1]s@ims.test>;tag=%[1]s
To: <sip:%[1]s@ims.test>
Call-ID: reg-%[1]s
CSeq: %[2]d REGISTER
%[3]s
%[4]s
`, user, seq, contact, strings.Join(headers, "\n")), "\n\n", "\n")
}

// register registers a phone and returns the REGISTER as the router saw it and the 200 as the phone did.
func (w *world) register(phone *proxytest.Peer, to, user string, answer ...string) (up, ok *sip.Message) {
	w.t.Helper()
	w.seq++
	phone.Send(to, registerText(user, w.seq))
	up = w.router.Expect("REGISTER")
	if answer == nil {
		answer = []string{"Contact: " + up.Get(sip.Contact)}
	}
	w.router.Reply(up, 200, append(answer, "Service-Route: "+service, "P-Associated-URI: <sip:"+user+"@ims.test>", "P-Associated-URI: <tel:+1555"+fmt.Sprint(len(user))+">",
		"Path: "+up.Get(sip.Path), "P-Charging-Function-Addresses: ccf=secret")...)
	return up, phone.Expect("200")
}

func inviteText(headers ...string) string {
	return strings.ReplaceAll(fmt.Sprintf(`
INVITE sip:bob@ims.test SIP/2.0
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>
Call-ID: call@10.9.0.1
CSeq: 1 INVITE
Contact: <sip:alice@10.9.0.1:5060>
%s
`, strings.Join(headers, "\n")), "\n\n", "\n")
}

func (w *world) has(m *sip.Message, id sip.ID, want ...string) {
	w.t.Helper()
	if got := m.All(id); strings.Join(got, "|") != strings.Join(want, "|") {
		w.t.Errorf("%s is %q, want %q\n%s", id, got, want, m)
	}
}

func TestRegisterGoesUpWithPathAndComesBackClean(t *testing.T) {
	in(t, "cdf_identity=cdf.ims.test", func(w *world) {
		up, ok := w.register(w.alice, accessUDP, "alice")
		path := up.Get(sip.Path)
		if !strings.HasSuffix(path, "@10.2.0.1:5058;transport=TCP;lr;ob>") || up.Count(sip.Path) != 1 {
			t.Errorf("Path %q", up.All(sip.Path))
		}
		w.has(up, sip.PVisitedNetworkID, "ims.test")
		w.has(up, sip.Route, "<sip:icscf.router.ims.test:5052;transport=TCP;lr>")
		w.has(up, sip.PChargingFunctionAddresses, "ccf=cdf.ims.test")
		w.has(up, sip.PChargingVector, `icid-value="reg-alice";icid-generated-at=edge-1.site1.ims.test;orig-ioi=ims.test`)
		if !up.HasOption(sip.Require, "path") || !up.HasOption(sip.Supported, "path") {
			t.Error("path is not required")
		}
		if vias := up.All(sip.Via); len(vias) != 2 || !strings.Contains(vias[0], "TCP 10.2.0.1:5058") || !strings.Contains(vias[1], "received=10.9.0.1;rport=5060") && !strings.Contains(vias[1], "rport=5060") {
			t.Errorf("Via %q", vias)
		}
		w.has(ok, sip.PChargingFunctionAddresses)
		w.has(ok, sip.ServiceRoute, service)
		w.has(ok, sip.FlowTimer) // the registrar has not granted outbound
		if ok.Count(sip.Via) != 1 || w.edge.Registrations() != 1 {
			t.Errorf("%d Via, %d registrations", ok.Count(sip.Via), w.edge.Registrations())
		}
		<-time.After(304 * time.Second)
		synctest.Wait()
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("%d registrations after their time", n)
		}
		sent := w.alice.Send(accessUDP, inviteText())
		ack(w.alice, accessUDP, sent, w.alice.Expect("403"))
	})
}

// ack acknowledges a failed INVITE.
func ack(phone *proxytest.Peer, to string, invite, final *sip.Message) {
	phone.Send(to, fmt.Sprintf("ACK %s SIP/2.0\nVia: %s\nFrom: %s\nTo: %s\nCall-ID: %s\nCSeq: 1 ACK\n",
		invite.URI, invite.Get(sip.Via), invite.Get(sip.From), final.Get(sip.To), invite.CallID()))
}

func TestAuthorizationIsMarkedByTheEdgeAlone(t *testing.T) {
	in(t, "", func(w *world) {
		mark := func(header string) string {
			t.Helper()
			w.seq++
			w.alice.Send(accessUDP, registerText("alice", w.seq, header))
			up := w.router.Expect("REGISTER")
			w.router.Reply(up, 401, `WWW-Authenticate: Digest realm="ims.test", nonce="n", ck="secret", ik="secret", algorithm=MD5`)
			w.has(w.alice.Expect("401"), sip.WWWAuthenticate, `Digest realm="ims.test", nonce="n", algorithm=MD5`)
			got := up.Get(sip.Authorization)
			if n := strings.Count(strings.ToLower(got), "integrity-protected"); n > 1 {
				t.Errorf("%d marks in %q", n, got)
			}
			_, after, _ := strings.Cut(got, `integrity-protected="`)
			value, _, _ := strings.Cut(after, `"`)
			return value
		}
		const base = `Authorization: Digest username="alice@ims.test", realm="ims.test"`
		for header, want := range map[string]string{
			base + `, response=""`:                                         "",
			base + `, response="abc"`:                                      "ip-assoc-pending",
			base + `, integrity-protected="yes", response=""`:              "",
			base + `, Integrity-Protected = "tls-yes", response="abc"`:     "ip-assoc-pending",
			base + `, integrity-protected=yes,integrity-protected=tls-yes`: "",
			base + `, opaque="x\", integrity-protected=\"yes"`:             "",
			`Authorization: Digest garbage integrity-protected="yes"`:      "",
		} {
			if got := mark(header); got != want {
				t.Errorf("%s: mark %q, want %q", header, got, want)
			}
		}
		w.register(w.alice, accessUDP, "alice")
		if got := mark(base + `, response="abc"`); got != "ip-assoc-yes" {
			t.Errorf("on a registered flow: %q", got)
		}
		w.seq++ // somebody else's identity on alice's flow
		w.alice.Send(accessUDP, registerText("bob", w.seq, base+`, response="abc"`))
		up := w.router.Expect("REGISTER")
		if got := up.Get(sip.Authorization); !strings.Contains(got, "ip-assoc-pending") {
			t.Errorf("another identity: %q", got)
		}
		w.router.Reply(up, 403)
		w.alice.Expect("403")
	})
}

func TestDeregistrationUnbinds(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.seq++
		w.alice.Send(accessUDP, registerText("alice", w.seq, "Contact: <sip:alice@10.9.0.1:5060>", "Expires: 0"))
		up := w.router.Expect("REGISTER")
		w.router.Reply(up, 200, "Contact: <sip:alice@elsewhere.test>;expires=100") // another phone of hers
		w.alice.Expect("200")
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("%d registrations", n)
		}
		w.register(w.alice, accessUDP, "alice")
		w.seq++
		w.alice.Send(accessUDP, registerText("alice", w.seq, "Contact: *", "Expires: 0"))
		w.router.Reply(w.router.Expect("REGISTER"), 200)
		w.alice.Expect("200")
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("%d registrations", n)
		}
	})
}

func TestCallFromPhone(t *testing.T) {
	for _, access := range []string{accessUDP, accessTCP} {
		t.Run(access[:3], func(t *testing.T) {
			in(t, "cdf_identity=cdf", func(w *world) {
				w.register(w.alice, access, "alice")
				w.alice.Send(access, inviteText("P-Preferred-Identity: <tel:+1555-5>", "Require: sec-agree, 100rel", "Proxy-Require: sec-agree",
					"Security-Verify: x", "P-Access-Network-Info: 3GPP-E-UTRAN"))
				up := w.router.Expect("INVITE")
				w.has(up, sip.Route, service)
				w.has(up, sip.PAssertedIdentity, "<tel:+15555>")
				w.has(up, sip.PPreferredIdentity)
				w.has(up, sip.Require, "100rel")
				w.has(up, sip.ProxyRequire)
				w.has(up, sip.SecurityVerify)
				w.has(up, sip.PAccessNetworkInfo, "3GPP-E-UTRAN")
				w.has(up, sip.PChargingVector, `icid-value="call10.9.0.1";icid-generated-at=edge-1.site1.ims.test;orig-ioi=ims.test`)
				rr := up.All(sip.RecordRoute)
				if len(rr) != 2 || rr[0] != "<sip:10.2.0.1:5058;transport=TCP;lr>" || !strings.HasSuffix(rr[1], "@edge-1.site1.ims.test:5060;transport="+access[:3]+";lr>") {
					t.Fatalf("Record-Route %q", rr)
				}
				up.Push(sip.RecordRoute, "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>")
				w.router.Reply(up, 180)
				early := w.alice.Expect("180").All(sip.RecordRoute)
				if want := up.All(sip.RecordRoute); len(early) != 3 || early[0] != want[0] || early[1] != want[1] || early[2] == want[2] {
					t.Errorf("Record-Route %q, want ours sealed and the others as they were: %q", early, want)
				}
				w.router.Reply(up, 200, "Contact: <sip:bob@10.9.0.2>", "P-Charging-Vector: icid-value=x", "P-Asserted-Identity: <sip:bob@ims.test>")
				ok := w.alice.Expect("200")
				w.has(ok, sip.PChargingVector)
				w.has(ok, sip.PAssertedIdentity, "<sip:bob@ims.test>")
				if w.edge.Dialogs() != 1 {
					t.Errorf("%d dialogs", w.edge.Dialogs())
				}
				routes := routeSet(ok)
				w.alice.Send(access, inDialog("ACK", 1, routes))
				got := w.router.Expect("ACK")
				w.has(got, sip.Route, "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>")
				// The other side's request comes back to the phone over the token, which the phone need not have sealed.
				w.router.Send(coreTCP, fromCore("INVITE", up.All(sip.RecordRoute)[1:]))
				re := w.alice.Expect("INVITE")
				w.has(re, sip.Route)
				w.has(re, sip.RecordRoute)
				w.alice.Reply(re, 200, "Contact: <sip:alice@10.9.0.1>", "P-Asserted-Identity: <sip:queen@ims.test>")
				w.has(w.router.Expect("200"), sip.PAssertedIdentity, "<sip:alice@ims.test>")
				w.alice.Send(access, inDialog("BYE", 2, routes))
				w.router.Reply(w.router.Expect("BYE"), 200)
				w.alice.Expect("200")
				if w.edge.Dialogs() != 0 {
					t.Errorf("%d dialogs after BYE", w.edge.Dialogs())
				}
			})
		})
	}
}

// routeSet is the caller's (RFC 3261 12.1.2).
func routeSet(ok *sip.Message) []string {
	rr := ok.All(sip.RecordRoute)
	out := make([]string, 0, len(rr))
	for i := len(rr) - 1; i >= 0; i-- {
		out = append(out, "Route: "+rr[i])
	}
	return out
}

func inDialog(method string, seq int, routes []string) string {
	return fmt.Sprintf(`
%[1]s sip:bob@10.9.0.2 SIP/2.0
From: <sip:alice@ims.test>;tag=a
To: <sip:bob@ims.test>;tag=tag-10.1.0.1-5054
Call-ID: call@10.9.0.1
CSeq: %[2]d %[1]s
%[3]s
`, method, seq, strings.Join(routes, "\n"))
}

func fromCore(method string, routes []string) string {
	return fmt.Sprintf(`
%[1]s sip:alice@10.9.0.1:5060 SIP/2.0
Via: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKcore%[1]s
From: <sip:bob@ims.test>;tag=tag-10.1.0.1-5054
To: <sip:alice@ims.test>;tag=a
Call-ID: call@10.9.0.1
CSeq: 7 %[1]s
Route: %[2]s
`, method, strings.Join(routes, ", "))
}

func toPhone(path string, headers ...string) string {
	return strings.ReplaceAll(fmt.Sprintf(`
INVITE sip:alice@10.9.0.1:5060 SIP/2.0
Via: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKterm
Record-Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>
Route: %s
From: <sip:bob@ims.test>;tag=b
To: <sip:alice@ims.test>
Call-ID: term
CSeq: 1 INVITE
Contact: <sip:bob@10.9.0.2>
%s
`, path, strings.Join(headers, "\n")), "\n\n", "\n")
}

func TestCallToPhone(t *testing.T) {
	in(t, "", func(w *world) {
		up, _ := w.register(w.alice, accessTCP, "alice")
		w.router.Send(coreTCP, toPhone(up.Get(sip.Path), "P-Called-Party-ID: <tel:+15555>", "P-Charging-Vector: icid-value=1", "P-Served-User: <sip:x@y>",
			"P-Asserted-Identity: <sip:bob@ims.test>", "Privacy: id", "P-Access-Network-Info: x", "Authorization: Digest a=b", "P-Visited-Network-ID: v"))
		got := w.alice.Expect("INVITE")
		for _, id := range []sip.ID{sip.PChargingVector, sip.PServedUser, sip.PAssertedIdentity, sip.PAccessNetworkInfo, sip.Authorization, sip.PVisitedNetworkID, sip.Route} {
			w.has(got, id)
		}
		rr := got.All(sip.RecordRoute)
		if len(rr) != 3 || !strings.Contains(rr[0], "@edge-1.site1.ims.test:5060;transport=tcp;lr") || rr[1] != "<sip:10.2.0.1:5058;transport=TCP;lr>" {
			t.Fatalf("Record-Route %q", rr)
		}
		bad := got.Clone() // the phone's answer tries to change the route set and to be somebody else
		bad.Del(sip.RecordRoute)
		bad.Add(sip.RecordRoute, "<sip:evil.test;lr>")
		w.alice.Reply(bad, 200, "Contact: <sip:alice@10.9.0.1>", "P-Asserted-Identity: <sip:queen@ims.test>", "P-Charging-Vector: icid-value=2", "P-Weird: x")
		ok := w.router.Expect("200")
		w.has(ok, sip.RecordRoute, rr...)
		w.has(ok, sip.PAssertedIdentity, "<tel:+15555>")
		w.has(ok, sip.PChargingVector)
		if ok.Named("P-Weird") != "" {
			t.Error("an unknown P- header passed")
		}
		if w.edge.Dialogs() != 1 {
			t.Errorf("%d dialogs", w.edge.Dialogs())
		}
		// The called phone ends the call along its route set: Record-Route in order.
		w.alice.Send(accessTCP, strings.NewReplacer("sip:bob@10.9.0.2 ", "sip:bob@10.9.0.2 ").Replace(fmt.Sprintf(`
BYE sip:bob@10.9.0.2 SIP/2.0
From: <sip:alice@ims.test>;tag=tag-10.9.0.1-5060
To: <sip:bob@ims.test>;tag=b
Call-ID: term
CSeq: 1 BYE
Route: %s
`, strings.Join(rr, ", "))))
		bye := w.router.Expect("BYE")
		w.has(bye, sip.Route, "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>")
		w.has(bye, sip.PAssertedIdentity, "<sip:alice@ims.test>")
		w.router.Reply(bye, 200)
		w.alice.Expect("200")
		if w.edge.Dialogs() != 0 {
			t.Errorf("%d dialogs after BYE", w.edge.Dialogs())
		}
	})
}

func TestDeadFlowIs430(t *testing.T) {
	in(t, "", func(w *world) {
		up, _ := w.register(w.alice, accessTCP, "alice")
		path := up.Get(sip.Path)
		w.alice.Sever()
		synctest.Wait()
		if n := w.edge.Registrations(); n != 0 {
			t.Errorf("%d registrations on a closed flow", n)
		}
		for i, route := range []string{path, strings.Replace(path, "<sip:", "<sip:A", 1), "<sip:nonsense@10.2.0.1:5058;lr>"} {
			w.router.Send(coreTCP, strings.NewReplacer("bKterm", fmt.Sprint("bKterm", i)).Replace(toPhone(route)))
			w.router.Expect("430")
			w.router.Send(coreTCP, strings.NewReplacer("bKterm", fmt.Sprint("bKterm", i), "INVITE sip", "ACK sip", "1 INVITE", "1 ACK").Replace(toPhone(route)))
		}
		w.router.Send(coreTCP, strings.Replace(toPhone("<sip:10.2.0.1:5058;lr>"), "bKterm", "bKnone", 1))
		w.router.Expect("403")
	})
}

func TestPhoneCannotClaimThatItsFlowFailed(t *testing.T) {
	in(t, "", func(w *world) {
		up, _ := w.register(w.alice, accessUDP, "alice")
		w.router.Send(coreTCP, toPhone(up.Get(sip.Path)))
		w.alice.Reply(w.alice.Expect("INVITE"), 430)
		w.router.Expect("480")
		w.alice.Expect("ACK")
	})
}

func TestCoreDoesNotRegister(t *testing.T) {
	in(t, "", func(w *world) {
		w.router.Send(coreTCP, registerText("alice", 1))
		w.router.Expect("405")
	})
}

func TestEmergencyContactIsRefused(t *testing.T) {
	in(t, "", func(w *world) {
		w.alice.Send(accessUDP, registerText("alice", 1, "Contact: <sip:alice@10.9.0.1;sos>;expires=300"))
		w.alice.Expect("503")
	})
}

func TestPollIsAnsweredHere(t *testing.T) {
	in(t, "alias_list=other.test\nadditional_home_domains=second.test", func(w *world) {
		for i, host := range []string{"10.2.0.1", "edge-1.site1.ims.test:5060", "ims.test", "OTHER.test", "second.test"} {
			w.alice.Send(accessUDP, fmt.Sprintf("OPTIONS sip:%s SIP/2.0\nFrom: <sip:p@p>;tag=1\nTo: <sip:p@p>\nCall-ID: %d\nCSeq: 1 OPTIONS\n", host, i))
			w.alice.Expect("200")
		}
		w.alice.Send(accessUDP, "OPTIONS sip:bob@ims.test SIP/2.0\nFrom: <sip:p@p>;tag=1\nTo: <sip:p@p>\nCall-ID: x\nCSeq: 1 OPTIONS\n")
		w.alice.Expect("403")
	})
}

func TestDrain(t *testing.T) {
	for answer, want := range map[string]string{"305": "305", "503": "503"} {
		t.Run(answer, func(t *testing.T) {
			in(t, "edge_drain_answer="+answer, func(w *world) {
				w.register(w.alice, accessUDP, "alice")
				w.edge.Quiesce(true)
				w.seq++
				w.bob.Send(accessUDP, registerText("bob", w.seq))
				m := w.bob.Expect(want)
				if answer == "305" {
					w.has(m, sip.Contact, "<sip:ims.test;transport=udp>")
				} else if m.Get(sip.RetryAfter) == "" {
					t.Error("no Retry-After")
				}
				sent := w.alice.Send(accessUDP, inviteText()) // who is registered is served on
				up := w.router.Expect("INVITE")
				w.router.Reply(up, 486)
				w.router.Expect("ACK")
				ack(w.alice, accessUDP, sent, w.alice.Expect("486"))
				w.seq++
				w.alice.Send(accessUDP, registerText("alice", w.seq, "Contact: <sip:alice@10.9.0.1:5060>;expires=0")) // and may leave
				w.router.Reply(w.router.Expect("REGISTER"), 200)
				w.alice.Expect("200")
				ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
				defer cancel()
				if err := w.edge.Idle(ctx); err != nil {
					t.Errorf("still held: %d registrations, %d dialogs", w.edge.Registrations(), w.edge.Dialogs())
				}
				w.edge.Quiesce(false)
				w.register(w.bob, accessUDP, "bob")
			})
		})
	}
}

func TestDrainWaitsForWhatIsHeld(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.edge.Quiesce(true)
		ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Second)
		defer cancel()
		if err := w.edge.Idle(ctx); err == nil {
			t.Error("a registration was given up")
		}
		ctx, cancel = context.WithTimeout(w.t.Context(), 300*time.Second)
		defer cancel()
		if err := w.edge.Idle(ctx); err != nil {
			t.Errorf("a lapsed registration is still held: %v", err)
		}
	})
}

func TestMovedPhoneIsReachedOnItsNewFlow(t *testing.T) {
	in(t, "", func(w *world) {
		first, _ := w.register(w.alice, accessTCP, "alice")
		w.alice.Sever()
		synctest.Wait()
		second, _ := w.register(w.alice, accessTCP, "alice")
		if first.Get(sip.Path) == second.Get(sip.Path) {
			t.Fatal("two connections have one token")
		}
		w.router.Send(coreTCP, toPhone(second.Get(sip.Path)))
		w.alice.Reply(w.alice.Expect("INVITE"), 486)
		w.router.Expect("486")
		w.alice.Expect("ACK")
	})
}
