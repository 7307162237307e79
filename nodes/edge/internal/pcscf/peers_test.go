package pcscf_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

func message(user, to string, seq int, headers ...string) string {
	return strings.ReplaceAll(fmt.Sprintf(`
MESSAGE %[2]s SIP/2.0
From: <%[1]s>;tag=1
To: <%[2]s>
Call-ID: m%[3]d@peer
CSeq: 1 MESSAGE
%[4]s
`, user, to, seq, strings.Join(headers, "\n")), "\n\n", "\n")
}

// E14: a PBX that is listed may send without registering, as users of ours only; the S-CSCF is told whom to challenge; the
// request takes pbx_service_route as it is written.
func TestPBXSendsWithoutRegistering(t *testing.T) {
	const route = "sip:scscf.router.ims.test:5054;transport=TCP;lr;orig;auto-reg"
	in(t, "pbxes=10.7.0.1\npbx_service_route="+route, func(w *world) {
		box := proxytest.NewPeer(w.t, w.net, "10.7.0.1:5060")
		box.Send(accessUDP, message("sip:line7@ims.test", "sip:bob@ims.test", 1, "Route: <sip:evil.test;lr>", "P-Asserted-Identity: <sip:queen@ims.test>", "P-Served-User: <sip:queen@ims.test>"))
		up := w.router.Expect("MESSAGE")
		w.has(up, sip.Route, "<"+route+">")
		w.has(up, sip.PAssertedIdentity, "<sip:line7@ims.test>")
		w.has(up, sip.PServedUser)
		w.has(up, sip.ProxyAuthorization, `Digest username="line7@ims.test", realm="ims.test", nonce="", uri="sip:bob@ims.test", response=""`)
		w.router.Reply(up, 407, `Proxy-Authenticate: Digest realm="ims.test", nonce="n", algorithm=MD5, qop="auth"`)
		w.has(box.Expect("407"), sip.ProxyAuthenticate, `Digest realm="ims.test", nonce="n", algorithm=MD5, qop="auth"`)

		const proof = `Digest username="line7@ims.test", realm="ims.test", nonce="n", uri="sip:bob@ims.test", response="0123"`
		box.Send(accessUDP, message("sip:whoever@ims.test", "sip:bob@ims.test", 2, "P-Preferred-Identity: <sip:line7@ims.test>", "Proxy-Authorization: "+proof+`, integrity-protected="yes"`))
		up = w.router.Expect("MESSAGE")
		w.has(up, sip.ProxyAuthorization, proof)
		w.has(up, sip.PAssertedIdentity, "<sip:line7@ims.test>")
		w.router.Reply(up, 200)
		box.Expect("200")

		box.Send(accessUDP, message("sip:x@far.test", "sip:bob@ims.test", 3))
		box.Expect("403")
		stranger := proxytest.NewPeer(w.t, w.net, "10.7.0.2:5060")
		stranger.Send(accessUDP, message("sip:line7@ims.test", "sip:bob@ims.test", 4))
		stranger.Expect("403")

		w.router.Send(coreTCP, "INVITE sip:line7@10.7.0.1 SIP/2.0\nVia: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKpbx\nRecord-Route: <sip:scscf.router.ims.test;lr>\nRoute: <sip:10.2.0.1:5058;transport=TCP;lr>\nFrom: <sip:bob@ims.test>;tag=b\nTo: <sip:line7@ims.test>\nCall-ID: topbx\nCSeq: 1 INVITE\nContact: <sip:bob@10.9.0.2>\nP-Charging-Vector: icid-value=1\nP-Asserted-Identity: <sip:bob@ims.test>\nPrivacy: id\n")
		got := box.Expect("INVITE")
		w.has(got, sip.PChargingVector)
		w.has(got, sip.PAssertedIdentity)
		bad := got.Clone()
		bad.Del(sip.RecordRoute)
		box.Reply(bad, 200, "Contact: <sip:line7@10.7.0.1>", "Record-Route: <sip:evil.test;lr>", "P-Asserted-Identity: <sip:queen@ims.test>")
		ok := w.router.Expect("200")
		w.has(ok, sip.RecordRoute, got.All(sip.RecordRoute)...)
		w.has(ok, sip.PAssertedIdentity)
		box.Send(accessUDP, fmt.Sprintf("BYE sip:bob@10.9.0.2 SIP/2.0\nFrom: <sip:line7@ims.test>;tag=tag-10.7.0.1-5060\nTo: <sip:bob@ims.test>;tag=b\nCall-ID: topbx\nCSeq: 1 BYE\nRoute: %s\n", strings.Join(got.All(sip.RecordRoute), ", ")))
		w.router.Reply(w.router.Expect("BYE"), 200)
		box.Expect("200")
	})
}

// Without pbx_service_route their calls take the way of others, and a PBX that registers is a phone like others.
func TestPBXWithoutServiceRoute(t *testing.T) {
	in(t, "pbxes=10.9.0.1", func(w *world) {
		w.alice.Send(accessUDP, message("sip:line@ims.test", "sip:bob@ims.test", 1))
		up := w.router.Expect("MESSAGE")
		w.has(up, sip.Route, "<sip:icscf.router.ims.test:5052;transport=TCP;lr;orig>")
		w.router.Reply(up, 200)
		w.alice.Expect("200")
		w.register(w.alice, accessUDP, "alice")
		w.alice.Send(accessUDP, message("sip:line@ims.test", "sip:bob@ims.test", 2))
		up = w.router.Expect("MESSAGE")
		w.has(up, sip.Route, service)
		w.has(up, sip.PAssertedIdentity, "<sip:alice@ims.test>")
		w.has(up, sip.ProxyAuthorization)
		w.router.Reply(up, 200)
		w.alice.Expect("200")
	})
}

// R08 at the edge: a challenge of the S-CSCF reaches a phone, without keys, and the phone's answer reaches the S-CSCF.
func TestChallengesOfOtherRequests(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.alice.Send(accessUDP, message("sip:alice@ims.test", "sip:bob@ims.test", 1, "Proxy-Authorization: Digest garbage integrity-protected=yes"))
		up := w.router.Expect("MESSAGE")
		w.has(up, sip.ProxyAuthorization)
		w.router.Reply(up, 407, `Proxy-Authenticate: Digest realm="ims.test", nonce="n", algorithm=AKAv1-MD5, ck="secret", ik="secret"`)
		w.has(w.alice.Expect("407"), sip.ProxyAuthenticate, `Digest realm="ims.test", nonce="n", algorithm=AKAv1-MD5`)
		const proof = `Digest username="alice@ims.test", realm="ims.test", nonce="n", uri="sip:bob@ims.test", response="0123"`
		w.alice.Send(accessUDP, message("sip:alice@ims.test", "sip:bob@ims.test", 2, "Proxy-Authorization: "+proof))
		up = w.router.Expect("MESSAGE")
		w.has(up, sip.ProxyAuthorization, proof)
		w.router.Reply(up, 200)
		w.alice.Expect("200")
	})
}

// E16, E17: what a peer asserts counts if it is believed; its network and ours are named for charging, each to the other;
// nothing else of the core's leaves.
func TestCallFromPeer(t *testing.T) {
	in(t, "cdf_identity=cdf", func(w *world) {
		for addr, believed := range map[string]bool{"10.8.0.1:5060": true, "10.8.0.2:5060": false} {
			peer := proxytest.NewPeer(w.t, w.net, addr)
			call := "INVITE sip:bob@ims.test SIP/2.0\nRecord-Route: <sip:border.far.test;lr>\nFrom: <sip:carol@far.test>;tag=a\nTo: <sip:bob@ims.test>\nCall-ID: " + addr + "\nCSeq: 1 INVITE\nContact: <sip:carol@" + addr + ">\n" +
				"P-Asserted-Identity: <sip:carol@far.test>\nP-Charging-Vector: icid-value=\"theirs\";orig-ioi=far.test;access-network-charging-info=x\nP-Access-Network-Info: 3GPP\nP-Charging-Function-Addresses: ccf=evil\n"
			peer.Send(accessUDP, call)
			up := w.router.Expect("INVITE")
			w.has(up, sip.PChargingFunctionAddresses, "ccf=cdf")
			if believed {
				w.has(up, sip.PAssertedIdentity, "<sip:carol@far.test>")
				w.has(up, sip.PChargingVector, `icid-value="theirs";icid-generated-at=edge-1.site1.ims.test;orig-ioi=far.test`)
			} else {
				w.has(up, sip.PAssertedIdentity)
				w.has(up, sip.PChargingVector, `icid-value="`+addr+`";icid-generated-at=edge-1.site1.ims.test;orig-ioi=far.test`)
			}
			if rr := up.All(sip.RecordRoute); len(rr) != 3 || rr[2] != "<sip:border.far.test;lr>" {
				t.Errorf("Record-Route %q", rr)
			}
			vector := up.Get(sip.PChargingVector)
			up.Push(sip.RecordRoute, "<sip:scscf.router.ims.test;transport=TCP;lr>")
			w.router.Reply(up, 200, "Contact: <sip:bob@10.9.0.2>", "P-Asserted-Identity: <sip:bob@ims.test>", "Privacy: id", "P-Charging-Vector: "+vector+";term-ioi=inner", "P-Charging-Function-Addresses: ccf=cdf")
			ok := peer.Expect("200")
			w.has(ok, sip.PChargingFunctionAddresses)
			w.has(ok, sip.PChargingVector, vector+";term-ioi=ims.test")
			if believed {
				w.has(ok, sip.PAssertedIdentity, "<sip:bob@ims.test>")
			} else {
				w.has(ok, sip.PAssertedIdentity)
			}
			routes := routeSet(ok)[1:] // behind the peer's own
			peer.Send(accessUDP, strings.NewReplacer("call@10.9.0.1", addr).Replace(inDialog("BYE", 2, routes)))
			w.router.Reply(w.router.Expect("BYE"), 200)
			peer.Expect("200")
		}
	})
}

const outward = `
INVITE sip:+15551@%[1]s;user=phone SIP/2.0
Via: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKout%[2]d
Record-Route: <sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>
Route: <sip:%[3]s;transport=TCP;lr>
From: <sip:bob@ims.test>;tag=b
To: <sip:+15551@%[1]s;user=phone>
Call-ID: out%[2]d
CSeq: 1 INVITE
Contact: <sip:bob@10.9.0.2>
P-Asserted-Identity: <sip:bob@ims.test>
Privacy: id
P-Charging-Vector: icid-value="ours";icid-generated-at=10.1.0.1;orig-ioi=ims.test
P-Charging-Function-Addresses: ccf=cdf
P-Access-Network-Info: 3GPP-E-UTRAN
P-Served-User: <sip:bob@ims.test>
`

// The BGCF's calls reach trusted peers through the edge, by address or name, one server after the other; nobody else.
func TestCallToPeer(t *testing.T) {
	in(t, "", func(w *world) {
		carrier := proxytest.NewPeer(w.t, w.net, "10.8.0.1:5060")
		w.router.Send(coreTCP, fmt.Sprintf(outward, "carrier.test", 1, "ibcf.ims.test:5058")) // whose first server is not there
		got := carrier.Expect("INVITE")
		w.has(got, sip.Route)
		w.has(got, sip.PAssertedIdentity, "<sip:bob@ims.test>")
		w.has(got, sip.PChargingVector, `icid-value="ours";orig-ioi=ims.test`)
		for _, id := range []sip.ID{sip.PChargingFunctionAddresses, sip.PAccessNetworkInfo, sip.PServedUser} {
			w.has(got, id)
		}
		if via := got.All(sip.Via); len(via) < 2 || !strings.Contains(via[0], "10.2.0.1:5060") {
			t.Errorf("Via %q", via)
		}
		got.Push(sip.RecordRoute, "<sip:border.carrier.test;lr>")
		carrier.Reply(got, 200, "Contact: <sip:+15551@10.8.0.1>", "P-Asserted-Identity: <tel:+15551>", "P-Charging-Function-Addresses: ccf=evil", "P-Charging-Vector: icid-value=\"ours\";orig-ioi=ims.test;term-ioi=carrier")
		ok := w.router.Expect("200")
		w.has(ok, sip.PAssertedIdentity, "<tel:+15551>")
		w.has(ok, sip.PChargingVector, `icid-value="ours";orig-ioi=ims.test;term-ioi=carrier`)
		w.has(ok, sip.PChargingFunctionAddresses)
		if rr := ok.All(sip.RecordRoute); len(rr) != 4 || rr[0] != "<sip:border.carrier.test;lr>" {
			t.Errorf("Record-Route %q", rr)
		}
		// In the dialog both sides find each other, though the connection has ended meanwhile.
		rr := ok.All(sip.RecordRoute)
		carrier.Send(accessTCP, fmt.Sprintf("BYE sip:bob@10.9.0.2 SIP/2.0\nFrom: <sip:+15551@carrier.test>;tag=tag-10.8.0.1-5060\nTo: <sip:bob@ims.test>;tag=b\nCall-ID: out1\nCSeq: 1 BYE\nRoute: %s\n", strings.Join(rr[1:], ", ")))
		w.router.Reply(w.router.Expect("BYE"), 200)
		carrier.Expect("200")
		carrier.Sever()
		synctest.Wait()
		w.router.Send(coreTCP, fmt.Sprintf("INFO sip:+15551@10.8.0.1:5060 SIP/2.0\nVia: SIP/2.0/TCP 10.1.0.1:5054;branch=z9hG4bKinfo\nRoute: %s, %s\nFrom: <sip:bob@ims.test>;tag=b\nTo: <sip:+15551@carrier.test>;tag=tag-10.8.0.1-5060\nCall-ID: out1\nCSeq: 2 INFO\n", rr[2], rr[1]))
		carrier.Reply(carrier.Expect("INFO"), 200)
		w.router.Expect("200")

		for i, host := range []string{"10.9.0.1", "mixed.test", "unknown.test"} {
			w.router.Send(coreTCP, fmt.Sprintf(outward, host, 10+i, "10.2.0.1:5058"))
			w.router.Expect(map[string]string{"unknown.test": "404"}[host] + map[bool]string{true: "403"}[host != "unknown.test"])
		}
		w.alice.Quiet(time.Second)

		hidden := proxytest.NewPeer(w.t, w.net, "10.8.0.2:5060")
		w.router.Send(coreTCP, fmt.Sprintf(outward, "10.8.0.2", 20, "10.2.0.1:5058"))
		got = hidden.Expect("INVITE")
		w.has(got, sip.PAssertedIdentity)
		hidden.Reply(got, 486, "P-Asserted-Identity: <tel:+15551>")
		w.has(w.router.Expect("486"), sip.PAssertedIdentity)
		hidden.Expect("ACK")
	})
}

// When no server of a peer is reached the core learns it in time.
func TestPeerThatIsNotThere(t *testing.T) {
	in(t, "", func(w *world) {
		w.net.Node(nil, transporttest.UDP("", "10.8.0.8:5060"))
		w.router.Send(coreTCP, fmt.Sprintf(outward, "10.8.0.1;transport=tcp", 1, "10.2.0.1:5058"))
		w.router.Expect("503")
	})
}
