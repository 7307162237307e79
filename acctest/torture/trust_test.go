package torture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/phone"
)

// claims are headers by which a phone would be somebody else, or choose the way. The word spoofed marks each.
func claims() []string {
	return []string{
		"P-Asserted-Identity: <sip:spoofed@" + shared.Domain + ">",
		"p-asserted-identity : \n \"spoofed\" <tel:+15550000>",
		"P-Served-User: <sip:spoofed@" + shared.Domain + ">;sescase=orig;regstate=reg",
		"P-Charging-Vector: icid-value=spoofed;orig-ioi=spoofed",
		"P-Charging-Function-Addresses: ccf=spoofed",
		"P-Visited-Network-ID: spoofed",
		"P-Profile-Key: <sip:spoofed@" + shared.Domain + ">",
		"P-User-Database: <aaa://spoofed>",
		"P-Asserted-Service: urn:urn-7:spoofed",
		"P-Called-Party-ID: <sip:spoofed@" + shared.Domain + ">",
		"P-Associated-URI: <sip:spoofed@" + shared.Domain + ">",
		"P-Whatever: spoofed",
		"Service-Route: <sip:spoofed;lr>",
		"Path: <sip:spoofed;lr>",
		"Route: <sip:scscf.router." + shared.Domain + ";transport=TCP;lr;orig;x=spoofed>",
		"Route: <sip:odi_spoofed@" + shared.Address("router-1") + ":5054;lr;orig>",
		"Record-Route: <sip:spoofed;lr>",
		"Security-Client: ipsec-3gpp;alg=spoofed",
		`Authorization: Digest username="x", realm="x", nonce="", uri="", response="", integrity-protected="yes"`,
	}
}

// beyond makes a peer of another network, to whom the BGCF sends its domain, and waits until it does.
func beyond(t *testing.T, sender *phone.Phone) *phone.Phone {
	t.Helper()
	peer := phone.Device(t, shared, "peer").PickUp()
	_, port, _ := strings.Cut(peer.Local(), ":")
	probe := "probe-" + port + ".example" // which no document before this one knows
	var routes []string
	for _, domain := range []string{probe, "peer.example", "example.com", "example.net", "registrar.example.com"} {
		routes = append(routes, fmt.Sprintf(`{"name": "peer", "domain": "%s", "route": ["sip:%s;lr"]}`, domain, peer.Local()))
	}
	routes = append(routes, fmt.Sprintf(`{"name": "circle", "domain": "circle.example", "route": ["sip:scscf.router.%s;transport=TCP;lr;orig"]}`, shared.Domain))
	document := `{"routes": [` + strings.Join(routes, ",\n") + `]}`
	if err := shared.PutDocument(t.Context(), "bgcf_json", document); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(100 * time.Millisecond) {
		if sender.StartRequest("MESSAGE", "sip:x@"+probe).Final(5*time.Second).Status() == 200 && peer.Maybe(time.Second, phone.Is("MESSAGE")) != nil {
			return peer
		}
		if time.Now().After(deadline) {
			t.Fatal("the routes of the document are not in force")
		}
	}
}

func sender(t *testing.T) *phone.Phone {
	t.Helper()
	a := phone.Subscriber(t, shared, "")
	a.Start()
	if m := a.Register(60); m.Status() != 200 {
		t.Fatalf("REGISTER is answered by\n%s", m.Raw)
	}
	return a
}

// TestClaimsDoNotCross sends requests with claims, one by one and all together, and looks at what arrives at the next network.
func TestClaimsDoNotCross(t *testing.T) {
	a := sender(t)
	peer := beyond(t, a)
	for _, method := range []string{"MESSAGE", "INVITE", "SUBSCRIBE", "OPTIONS", "PUBLISH", "WHATEVER"} {
		call := a.StartRequest(method, "sip:x@peer.example;orig;lr", claims()...)
		arrived(t, a, peer, call, method)
	}
	for _, claim := range claims() {
		arrived(t, a, peer, a.StartRequest("MESSAGE", "sip:x@peer.example", claim), claim)
	}
}

func arrived(t *testing.T, a, peer *phone.Phone, call *phone.Call, what string) {
	t.Helper()
	final := call.Final(5 * time.Second)
	got := peer.Maybe(100*time.Millisecond, func(m *phone.Message) bool { return m.CallID().Value() == call.ID })
	switch {
	case got == nil && final.Status() < 300:
		t.Errorf("%s: %d without arriving", what, final.Status())
	case got == nil:
		return // refused
	}
	asserted := got.Lines("P-Asserted-Identity")
	if strings.Contains(got.Raw, "spoofed") || strings.Contains(got.Raw, "integrity-protected") || len(asserted) != 1 || asserted[0] != "<"+a.URI()+">" {
		t.Errorf("%s: at the peer arrives\n%s", what, got.Raw)
	}
	if uri := strings.Fields(got.Raw)[1]; strings.Contains(uri, "orig") {
		t.Errorf("%s: the Request-URI is %s", what, uri)
	}
	if routes := got.Lines("Route"); len(routes) != 1 || !strings.Contains(routes[0], peer.Local()) {
		t.Errorf("%s: the Routes are %v", what, routes)
	}
	if got.Method() == "INVITE" && final.Status() == 200 {
		call.Ack(final)
		call.Bye(final)
	}
}

// TestRoutesOfADialogAreItsOwn: within a dialog, too, a phone cannot choose the way.
func TestRoutesOfADialogAreItsOwn(t *testing.T) {
	a := sender(t)
	peer := beyond(t, a)
	call := a.Invite("sip:x@peer.example")
	final := call.Final(5 * time.Second)
	call.Ack(final)
	seq := call.Within(final, "INFO", "Route: <sip:spoofed@"+peer.Local()+";lr>")
	m := a.Expect(5*time.Second, "answer to INFO", func(m *phone.Message) bool {
		return call.Answers("INFO", 200, 699)(m) && int(m.CSeq().SeqNo) == seq
	})
	if m.Status() != 403 || len(peer.Log(phone.Is("INFO"))) > 0 {
		t.Errorf("a Route that was added in a dialog: %d", m.Status())
	}
	call.Bye(final)
}

// TestStrangersReachNobody: without a registration claims do not even reach the core.
func TestStrangersReachNobody(t *testing.T) {
	a := sender(t)
	peer := beyond(t, a)
	stranger := phone.Device(t, shared, a.Name)
	stranger.Start()
	for _, method := range []string{"MESSAGE", "INVITE", "SUBSCRIBE", "OPTIONS", "PUBLISH", "WHATEVER"} {
		call := stranger.StartRequest(method, "sip:x@peer.example;orig", append(claims(), "P-Preferred-Identity: <"+a.URI()+">")...)
		if m := call.Final(5 * time.Second); m.Status() != 403 {
			t.Errorf("a stranger's %s is answered by %d", method, m.Status())
		}
	}
	if got := peer.Log(func(m *phone.Message) bool { return strings.Contains(m.Raw, stranger.Local()) }); len(got) > 0 {
		t.Errorf("a stranger reaches the peer:\n%s", got[0].Raw)
	}
}

// TestAnswersClaimNothing: what a called phone writes into its answers does not reach a caller of another network either.
func TestAnswersClaimNothing(t *testing.T) {
	b := phone.Subscriber(t, shared, "")
	b.Answer = func(m *phone.Message) {
		all := claims()
		b.Reply(m, 200, b.Tag(), append(all[:len(all)-1], b.Contact())...) // Authorization means nothing in an answer
	}
	b.Start()
	if m := b.Register(60); m.Status() != 200 {
		t.Fatalf("REGISTER is answered by\n%s", m.Raw)
	}
	caller := phone.Device(t, shared, "caller")
	caller.Domain, caller.Proxy = "peer.example", shared.Address("router-1")+":5052"
	caller.Start()
	call := caller.StartRequest("MESSAGE", b.URI())
	final := call.Final(5 * time.Second)
	asserted := final.Lines("P-Asserted-Identity")
	if final.Status() != 200 || strings.Contains(final.Raw, "spoofed") || len(asserted) != 1 || asserted[0] != "<"+b.URI()+">" {
		t.Errorf("the caller gets\n%s", final.Raw)
	}
}

// TestCirclesEnd: a way that leads back to where it began ends in 482 or 483, soon, and nothing is left of it.
func TestCirclesEnd(t *testing.T) {
	w := watch(t)
	a := phone.Subscriber(t, shared, "").PickUp()
	if m := a.Register(60); m.Status() != 200 {
		t.Fatalf("REGISTER is answered by\n%s", m.Raw)
	}
	beyond(t, a)
	edge := shared.Address("edge-1")
	for _, c := range []struct{ method, uri, route string }{
		{"MESSAGE", "sip:x@circle.example", ""},
		{"INVITE", "sip:x@circle.example", ""},
		{"MESSAGE", "sip:x@peer.example", "Route: <sip:" + edge + ":5060;lr>, <sip:" + edge + ":5060;lr>, <sip:" + edge + ":5058;lr>, <sip:" + edge + ":5060;lr>"},
		{"MESSAGE", "sip:" + a.Name + "@" + shared.Domain, ""}, // to itself is no circle
	} {
		call := a.StartRequest(c.method, c.uri, c.route)
		final := call.Final(5 * time.Second)
		circle := strings.Contains(c.uri, "circle")
		if circle != (final.Status() == 482 || final.Status() == 483) || !circle && final.Status() != 200 {
			t.Errorf("%s %s is answered by %d", c.method, c.uri, final.Status())
		}
	}
	w.unharmed(t)
}

// TestTortureMessagesOfAPhone sends the well-formed messages of RFC 4475 from a phone that is registered: they go on to the
// next network, with the phone's identity and without the Routes that they bring.
func TestTortureMessagesOfAPhone(t *testing.T) {
	a := sender(t)
	peer := beyond(t, a)
	peer.Busy(true)
	arrive := map[string]string{ // and what has to arrive as it was
		"wsinv":   "", // its To has a tag, so it is of a dialog that nobody knows
		"intmeth": "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
		"esc01":   "INVITE sip:sips%3Auser%40example.com@example.net", "esc02": "C%6Fntact: <sip:alias2@host2.example.com>", "lwsdisp": "From: caller<sip:caller@example.com>;tag=323",
		"longreq": "Via: SIP/2.0/TCP host.example.com;received=192.0.2.5;branch=very", "semiuri": "OPTIONS sip:user;par=u%40example.net@example.com", "transports": "SIP/2.0/UNKNOWN t4.example.com",
		"baddate": "Date: Fri, 01 Jan 2010 16:00:00 EST", "invut": "Content-Type: application/unknownformat", "sdp01": "Accept: text/nobodyKnowsThis",
		"inv2543": "From: <sip:+13035551111@ift.client.example.net;user=phone>",
		"unkscm":  "", "novelsc": "", "bext01": "", "zeromf": "", "escruri": "INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0",
	}
	for name, part := range arrive {
		text, err := os.ReadFile(filepath.Join("testdata", "rfc4475", name+".dat"))
		if err != nil {
			t.Fatal(err)
		}
		a.Send(string(own(text, name, "phone")))
		got := peer.Maybe(map[bool]time.Duration{true: 3 * time.Second, false: 300 * time.Millisecond}[part != ""], func(m *phone.Message) bool {
			return strings.Contains(m.CallID().Value(), name+"phone.")
		})
		switch {
		case got == nil && part != "":
			t.Errorf("%s does not arrive", name)
		case got != nil && part == "":
			t.Errorf("%s arrives as\n%s", name, got.Raw)
		case got != nil && (!strings.Contains(got.Raw, part) || len(got.Lines("Route")) != 1 || len(got.Lines("P-Asserted-Identity")) != 1 || got.Lines("P-Asserted-Identity")[0] != "<"+a.URI()+">"):
			t.Errorf("%s arrives as\n%s", name, got.Raw)
		}
	}
}
