package pcscf_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func TestStrangersAreRefused(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		mallory := proxytest.NewPeer(t, w.net, "10.9.0.66:5060")
		for i, method := range []string{"MESSAGE", "SUBSCRIBE", "OPTIONS", "PUBLISH", "BYE", "FOO"} {
			mallory.Send(accessUDP, fmt.Sprintf("%[1]s sip:bob@ims.test SIP/2.0\nFrom: <sip:alice@ims.test>;tag=1\nTo: <sip:bob@ims.test>\nCall-ID: s%[2]d\nCSeq: 1 %[1]s\nP-Asserted-Identity: <sip:alice@ims.test>\nRoute: %[3]s\n", method, i, service))
			mallory.Expect("403")
		}
		mallory.Send(accessTCP, "MESSAGE sip:bob@ims.test SIP/2.0\nFrom: <sip:alice@ims.test>;tag=1\nTo: <sip:bob@ims.test>;tag=made-up\nCall-ID: t\nCSeq: 1 MESSAGE\nRoute: "+service+"\n")
		mallory.Expect("403")
	})
}

// Nothing a phone writes into P- headers, Route, Path or orig parameters may reach the core.
func TestSpoofedHeadersDoNotCross(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		sent := w.alice.Send(accessUDP, strings.Replace(inviteText(
			"P-Asserted-Identity: <sip:queen@ims.test>", "p-asserted-identity: <tel:+1>", "P-Served-User: <sip:queen@ims.test>;sescase=orig",
			"P-Charging-Vector: icid-value=evil", "P-Charging-Function-Addresses: ccf=evil", "P-Visited-Network-ID: evil", "P-Profile-Key: <sip:evil>",
			"P-User-Database: <aaa://evil>", "P-Asserted-Service: evil", "P-Called-Party-ID: <sip:evil>", "P-Associated-URI: <sip:evil>", "P-New-Thing: evil",
			"Route: <sip:evil.test;lr>", "Route: <sip:scscf.router.ims.test;lr;orig>, <sip:10.2.0.1:5058;lr;orig>", "Record-Route: <sip:evil.test;lr>",
			"Path: <sip:evil.test>", "Service-Route: <sip:evil.test>", "Resource-Priority: esnet.0"), "sip:bob@ims.test SIP", "sip:bob@ims.test;orig;lr SIP", 1))
		up := w.router.Expect("INVITE")
		if text := up.String(); strings.Contains(text, "evil") || strings.Contains(text, "queen") {
			t.Errorf("a spoofed header crossed:\n%s", text)
		}
		w.has(up, sip.Route, service)
		w.has(up, sip.PAssertedIdentity, "<sip:alice@ims.test>")
		w.has(up, sip.ResourcePriority)
		if up.URI != "sip:bob@ims.test" || up.Count(sip.RecordRoute) != 2 {
			t.Errorf("URI %s, %d Record-Route", up.URI, up.Count(sip.RecordRoute))
		}
		w.router.Reply(up, 404)
		w.router.Expect("ACK")
		ack(w.alice, accessUDP, sent, w.alice.Expect("404"))
	})
}

func TestSpoofedRegisterHeadersDoNotCross(t *testing.T) {
	in(t, "", func(w *world) {
		w.alice.Send(accessUDP, registerText("alice", 1, "P-Asserted-Identity: <sip:evil@x>", "P-Visited-Network-ID: evil", "P-Charging-Vector: evil",
			"Path: <sip:evil.test;lr>", "Route: <sip:evil.test;lr>", "P-User-Database: <aaa://evil>", "Record-Route: <sip:evil.test>", "P-Access-Network-Info: mine"))
		up := w.router.Expect("REGISTER")
		if text := up.String(); strings.Contains(text, "evil") {
			t.Errorf("a spoofed header crossed:\n%s", text)
		}
		w.has(up, sip.PAccessNetworkInfo, "mine")
		w.router.Reply(up, 403)
		w.alice.Expect("403")
	})
}

func TestPreferredIdentityIsChecked(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.register(w.bob, accessUDP, "bob")
		for i, c := range []struct {
			headers []string
			want    string // asserted, or 403
		}{
			{nil, "<sip:alice@ims.test>"},
			{[]string{"P-Preferred-Identity: <sip:alice@ims.test>"}, "<sip:alice@ims.test>"},
			{[]string{"P-Preferred-Identity: \"Al\" <sip:alice@IMS.test:5060;x=y>"}, "<sip:alice@ims.test>"},
			{[]string{"P-Preferred-Identity: <sip:alice@ims.test>, <tel:+15555>"}, "<sip:alice@ims.test>|<tel:+15555>"},
			{[]string{"P-Preferred-Identity: <sip:bob@ims.test>"}, "403"},
			{[]string{"P-Preferred-Identity: <sip:alice@ims.test>", "P-Preferred-Identity: <tel:+15553>"}, "403"},
			{[]string{"P-Preferred-Identity: <sip:alice@ims.test>, <sip:alice@ims.test>"}, "403"},
			{[]string{"P-Preferred-Identity: <sip:alice@ims.test>, <tel:+15555>, <tel:+15555>"}, "403"},
			{[]string{"P-Preferred-Identity: garbage"}, "403"},
		} {
			w.alice.Send(accessUDP, fmt.Sprintf("MESSAGE sip:bob@ims.test SIP/2.0\nFrom: \"x\" <sip:anonymous@anonymous.invalid>;tag=1\nTo: <sip:bob@ims.test>\nCall-ID: p%d\nCSeq: 1 MESSAGE\n%s\n", i, strings.Join(c.headers, "\n")))
			if c.want == "403" {
				w.alice.Expect("403")
				continue
			}
			up := w.router.Expect("MESSAGE")
			w.has(up, sip.PAssertedIdentity, strings.Split(c.want, "|")...)
			w.has(up, sip.RecordRoute)
			w.router.Reply(up, 200)
			w.alice.Expect("200")
		}
	})
}

// A phone may follow the routes of its dialogs and no others.
func TestInjectedRoutesAreRefused(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.register(w.bob, accessUDP, "bob")
		w.alice.Send(accessUDP, inviteText())
		up := w.router.Expect("INVITE")
		up.Push(sip.RecordRoute, "<sip:scscf.router.ims.test;transport=TCP;lr>")
		w.router.Reply(up, 200, "Contact: <sip:bob@10.9.0.2>")
		routes := routeSet(w.alice.Expect("200"))
		unsealed := "Route: " + up.All(sip.RecordRoute)[2]
		seq := 1
		refused := func(what string, phone *proxytest.Peer, text string) {
			t.Helper()
			seq++
			phone.Send(accessUDP, strings.Replace(text, "CSeq: 9", fmt.Sprint("CSeq: ", seq), 1))
			phone.Expect("403")
		}
		refused("one more", w.alice, inDialog("BYE", 9, append(append([]string{}, routes...), "Route: <sip:evil.test;lr>")))
		refused("one less", w.alice, inDialog("BYE", 9, routes[:2]))
		refused("other parameters", w.alice, inDialog("BYE", 9, append(routes[:2:2], "Route: <sip:scscf.router.ims.test;transport=TCP;lr;orig>")))
		refused("token of the core's side", w.alice, inDialog("BYE", 9, append([]string{unsealed}, routes[1:]...)))
		refused("another call", w.alice, strings.Replace(inDialog("BYE", 9, routes), "call@10.9.0.1", "other@10.9.0.1", 1))
		refused("no token", w.alice, inDialog("BYE", 9, routes[1:]))
		refused("no route", w.alice, inDialog("BYE", 9, nil))
		mallory := proxytest.NewPeer(t, w.net, "10.9.0.66:5060")
		refused("another flow", mallory, inDialog("BYE", 9, routes))
		w.alice.Send(accessUDP, inDialog("ACK", 1, routes[:1])) // a bad ACK is not answered
		w.alice.Send(accessUDP, "ACK sip:bob@ims.test SIP/2.0\nFrom: <sip:alice@ims.test>;tag=a\nTo: <sip:bob@ims.test>\nCall-ID: odd\nCSeq: 1 ACK\n")
		w.alice.Quiet(time.Second)
		w.router.Quiet(time.Second)

		w.alice.Send(accessUDP, inDialog("BYE", 20, routes))
		w.router.Reply(w.router.Expect("BYE"), 200)
		w.alice.Expect("200")
	})
}

func TestTrunks(t *testing.T) {
	in(t, "", func(w *world) {
		trunk := proxytest.NewPeer(t, w.net, "10.8.0.1:5060")
		trunk.Send(accessUDP, registerText("alice", 1))
		trunk.Expect("405")
		message := "MESSAGE sip:bob@ims.test SIP/2.0\nFrom: <sip:carol@far.test>;tag=1\nTo: <sip:bob@ims.test>\nCall-ID: %d\nCSeq: 1 MESSAGE\nP-Asserted-Identity: <sip:carol@far.test>\nP-Served-User: <sip:bob@ims.test>\n%s\n"
		trunk.Send(accessUDP, fmt.Sprintf(message, 1, "Route: <sip:10.2.0.1;lr;orig>"))
		trunk.Expect("403")
		trunk.Send(accessUDP, fmt.Sprintf(message, 2, "Route: <sip:x.test;lr>, <sip:scscf.router.ims.test;lr;orig>"))
		trunk.Expect("403")
		trunk.Send(accessUDP, fmt.Sprintf(message, 3, "Route: <sip:10.2.0.1;lr>, <sip:x.test;lr>"))
		up := w.router.Expect("MESSAGE")
		w.has(up, sip.Route, "<sip:icscf.router.ims.test:5052;transport=TCP;lr>")
		w.has(up, sip.PAssertedIdentity, "<sip:carol@far.test>")
		w.has(up, sip.PServedUser)
		w.router.Reply(up, 200)
		trunk.Expect("200")
	})
}

func TestOptionsApplyLive(t *testing.T) {
	in(t, "", func(w *world) {
		up, _ := w.register(w.alice, accessUDP, "alice")
		w.edge.SetOptions(options(t, "cdf_identity=later"))
		again, _ := w.register(w.alice, accessUDP, "alice")
		w.has(again, sip.PChargingFunctionAddresses, "ccf=later")
		w.has(again, sip.Path, up.Get(sip.Path))
	})
}
