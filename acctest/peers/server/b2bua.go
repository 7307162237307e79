package main

import (
	"fmt"
	"slices"
	"strings"
)

// leg is one of the two dialogs of a call that ends here and goes on from here.
type leg struct {
	other        *leg
	callID       string
	local, peer  string // From and To as we send them
	target       string // Request-URI within the dialog
	routes       []string
	seq          int
	incoming     *exchange // of the leg on which the call came
	invite       *branch   // of the leg on which it goes on
	acknowledged bool
}

// bridge makes the second leg of a call.
func (s *server) bridge(x *exchange) {
	m := x.request
	in := &leg{callID: m.callID(), incoming: x, seq: 1, local: m.first("To") + ";tag=" + x.tag, peer: m.first("From"), target: uriOf(m.first("Contact")), routes: m.lines("Record-Route")}
	out := &leg{callID: token(), seq: 1, other: in, local: strings.SplitN(m.first("From"), ";tag=", 2)[0] + ";tag=" + token(), peer: m.first("To")}
	in.other = out
	s.legs[in.callID], s.legs[out.callID] = in, out
	b := s.newBranch(m, m.uri)
	b.leg = out
	b.headers = []string{"From: " + out.local, "To: " + out.peer, "Call-ID: " + out.callID, "CSeq: 1 " + m.method}
	out.invite = b
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s SIP/2.0\r\n%s\r\nMax-Forwards: 69\r\n%s\r\nContact: <sip:%s>\r\n", m.method, m.uri, b.via(s), strings.Join(b.headers, "\r\n"), s.wire.local)
	for _, line := range m.head {
		key, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "via", "route", "record-route", "from", "to", "call-id", "cseq", "max-forwards", "contact":
		default:
			text.WriteString(line + "\r\n")
		}
	}
	for _, r := range b.routes {
		text.WriteString("Route: " + r + "\r\n")
	}
	s.wire.send(b.address, b.transport, text.String()+"\r\n"+m.body)
}

func uriOf(value string) string {
	_, after, _ := strings.Cut(value, "<")
	uri, _, _ := strings.Cut(after, ">")
	return uri
}

// answered passes an answer on the second leg to the first.
func (l *leg) answered(s *server, b *branch, m *message) {
	if b != l.invite {
		return
	}
	if m.status >= 180 && m.status < 300 {
		l.peer, l.target, l.routes = m.first("To"), uriOf(m.first("Contact")), m.lines("Record-Route")
		slices.Reverse(l.routes)
	}
	headers := []string{"Contact: <sip:" + s.wire.local + ">"}
	if m.body != "" {
		headers = append(headers, "Content-Type: "+m.first("Content-Type"), "\n"+m.body)
	}
	l.other.incoming.answer(s, m.status, headers...)
}

// acknowledge sends the ACK of the second leg when the first has got its own.
func (l *leg) acknowledge(s *server) {
	if l.invite == nil || l.acknowledged || l.invite.status/100 != 2 {
		return
	}
	l.acknowledged = true
	l.send(s, "ACK", 1)
}

// within answers a request in one dialog and sends its like in the other.
func (l *leg) within(s *server, x *exchange) {
	x.answer(s, 200)
	l.other.seq++
	l.other.send(s, x.request.method, l.other.seq)
}

func (l *leg) send(s *server, method string, seq int) {
	b := &branch{id: "z9hG4bK" + token(), uri: l.target, leg: l, routes: l.routes}
	b.headers = []string{"From: " + l.local, "To: " + l.peer, "Call-ID: " + l.callID, fmt.Sprintf("CSeq: %d %s", seq, method)}
	next := "<" + l.target + ">"
	if len(l.routes) > 0 {
		next = l.routes[0]
	}
	b.address, b.transport = s.wire.hop(next)
	s.branches[b.id] = b
	text := fmt.Sprintf("%s %s SIP/2.0\r\n%s\r\nMax-Forwards: 70\r\n%s\r\n", method, l.target, b.via(s), strings.Join(b.headers, "\r\n"))
	for _, r := range l.routes {
		text += "Route: " + r + "\r\n"
	}
	s.wire.send(b.address, b.transport, text+"Content-Length: 0\r\n\r\n")
}
