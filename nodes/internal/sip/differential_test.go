package sip_test

import (
	"fmt"
	"strings"
	"testing"

	sipgo "github.com/emiago/sipgo/sip"
	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// facts are what two parsers must agree on about a message.
type facts struct {
	start, callID, cseq, fromTag, toTag, via, body string
	vias, routes                                   int
}

func ourFacts(m *sip.Message) facts {
	n, method := m.CSeq()
	via, _ := sip.ParseVia(m.Get(sip.Via))
	f := facts{
		callID: m.CallID(), cseq: fmt.Sprint(n, " ", method), fromTag: m.FromTag(), toTag: m.ToTag(), body: m.Body,
		via: fmt.Sprint(via.Transport, " ", via.Host, ":", via.Port, " ", via.Branch()), vias: m.Count(sip.Via), routes: m.Count(sip.Route),
	}
	if m.IsRequest() {
		f.start = m.Method + " " + m.URI
	} else {
		f.start = fmt.Sprint(m.Status, " ", m.Reason)
	}
	return f
}

func theirFacts(m sipgo.Message) facts {
	var f facts
	switch m := m.(type) {
	case *sipgo.Request:
		f.start = string(m.Method) + " " + m.Recipient.String()
	case *sipgo.Response:
		f.start = fmt.Sprint(m.StatusCode, " ", m.Reason)
	}
	if h := m.CallID(); h != nil {
		f.callID = h.Value()
	}
	if h := m.CSeq(); h != nil {
		f.cseq = fmt.Sprint(h.SeqNo, " ", h.MethodName)
	}
	if h := m.From(); h != nil {
		f.fromTag, _ = h.Params.Get("tag")
	}
	if h := m.To(); h != nil {
		f.toTag, _ = h.Params.Get("tag")
	}
	if h := m.Via(); h != nil {
		branch, _ := h.Params.Get("branch")
		f.via = fmt.Sprint(strings.ToUpper(h.Transport), " ", strings.Trim(h.Host, "[]"), ":", h.Port, " ", branch)
	}
	f.vias, f.routes, f.body = len(m.GetHeaders("Via")), len(m.GetHeaders("Route")), string(m.Body())
	return f
}

// What an ordinary peer sends must mean the same to an independent parser.
func TestAgreesWithAnotherParser(t *testing.T) {
	token := rapid.StringMatching(`[a-zA-Z0-9.!%*_+~-]{1,12}`)
	host := rapid.SampledFrom([]string{"a.test", "10.0.0.1", "edge-1.site1.ims.test", "x"})
	uri := rapid.Custom(func(t *rapid.T) string {
		s := "sip:" + rapid.StringMatching(`[a-z0-9+_.-]{1,10}`).Draw(t, "user") + "@" + host.Draw(t, "host")
		if p := rapid.IntRange(0, 65535).Draw(t, "port"); p > 0 {
			s += fmt.Sprint(":", p)
		}
		return s + rapid.SampledFrom([]string{"", ";lr", ";transport=tcp;lr", ";user=phone"}).Draw(t, "params")
	})
	address := rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"", "Bob ", `"Q, \"x\" <y>;z=" `, `"" `}).Draw(t, "display") + "<" + uri.Draw(t, "uri") + ">"
	})
	rapid.Check(t, func(t *rapid.T) {
		method := rapid.SampledFrom([]string{"INVITE", "REGISTER", "MESSAGE", "BYE", "FOO"}).Draw(t, "method")
		var lines []string
		if rapid.Bool().Draw(t, "request") {
			lines = append(lines, method+" "+uri.Draw(t, "request-uri")+" SIP/2.0")
		} else {
			lines = append(lines, fmt.Sprintf("SIP/2.0 %d %s", rapid.IntRange(100, 699).Draw(t, "status"), rapid.SampledFrom([]string{"OK", "Not Found", "x y z"}).Draw(t, "reason")))
		}
		for range rapid.IntRange(1, 3).Draw(t, "vias") {
			lines = append(lines, rapid.SampledFrom([]string{"Via", "v", "VIA"}).Draw(t, "name")+": SIP/2.0/"+rapid.SampledFrom([]string{"UDP", "TCP", "TLS"}).Draw(t, "transport")+
				" "+host.Draw(t, "sent-by")+":5060;rport;branch=z9hG4bK"+token.Draw(t, "branch"))
		}
		from, to := rapid.SampledFrom([]string{"From: ", "f: "}).Draw(t, "from"), rapid.SampledFrom([]string{"To: ", "t:"}).Draw(t, "to")
		lines = append(lines, from+address.Draw(t, "caller")+";tag="+token.Draw(t, "fromtag"), to+address.Draw(t, "called")+rapid.SampledFrom([]string{"", ";tag=tt"}).Draw(t, "totag"),
			"Call-ID: "+token.Draw(t, "callid")+"@"+host.Draw(t, "callhost"), fmt.Sprintf("CSeq: %d %s", rapid.Uint32Range(0, 1<<31-1).Draw(t, "cseq"), method))
		for range rapid.IntRange(0, 3).Draw(t, "routes") {
			lines = append(lines, "Route: <"+uri.Draw(t, "route")+">")
		}
		body := rapid.SampledFrom([]string{"", "v=0\r\n", "x\r\n\r\ny"}).Draw(t, "body")
		text := strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body)) + body

		ours, err := sip.Parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		theirs, err := sipgo.ParseMessage([]byte(text))
		if err != nil {
			t.Fatalf("the other parser: %v\n%s", err, text)
		}
		if a, b := ourFacts(ours), theirFacts(theirs); a != b {
			t.Fatalf("ours   %+v\ntheirs %+v\n%s", a, b, text)
		}
		// What we print must mean the same to the other parser, too.
		printed, err := sipgo.ParseMessage(ours.AppendTo(nil))
		if err != nil || theirFacts(printed) != theirFacts(theirs) {
			t.Fatalf("printed form: %v\n%s", err, ours)
		}
	})
}
