package main

import (
	"fmt"
	"strconv"
	"strings"
)

// branch is a request that it sent.
type branch struct {
	id, uri            string
	address, transport string
	routes             []string
	request            *message // that it was made of
	headers            []string // From, To, Call-ID, CSeq
	x                  *exchange
	leg                *leg
	status             int
	cancelled          bool
}

// forward gives a request back by the Route below ours.
func (s *server) forward(x *exchange, uri string) {
	m := x.request
	b := s.newBranch(m, uri)
	b.x = x
	x.branches = append(x.branches, b)
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s SIP/2.0\r\n%s\r\n", m.method, uri, b.via(s))
	for _, line := range m.head {
		key, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "route":
		case "max-forwards":
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			fmt.Fprintf(&text, "Max-Forwards: %d\r\n", n-1)
		default:
			text.WriteString(line + "\r\n")
		}
	}
	for _, r := range b.routes {
		text.WriteString("Route: " + r + "\r\n")
	}
	s.wire.send(b.address, b.transport, text.String()+"\r\n"+m.body)
}

// newBranch prepares a request along the Routes below our own.
func (s *server) newBranch(m *message, uri string) *branch {
	b := &branch{id: "z9hG4bK" + token(), uri: uri, request: m}
	if routes := m.lines("Route"); len(routes) > 0 {
		b.routes = routes[1:]
	}
	next := "<" + uri + ">"
	if len(b.routes) > 0 {
		next = b.routes[0]
	}
	b.address, b.transport = s.wire.hop(next)
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		b.headers = append(b.headers, name+": "+m.first(name))
	}
	s.branches[b.id] = b
	return b
}

func (b *branch) via(s *server) string {
	return "Via: SIP/2.0/" + b.transport + " " + s.wire.local + ";branch=" + b.id
}

// again sends CANCEL, or the ACK of a failure, in the transaction of the branch.
func (b *branch) again(s *server, method, to string) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s SIP/2.0\r\n%s\r\nMax-Forwards: 70\r\n", method, b.uri, b.via(s))
	for _, h := range b.headers {
		switch {
		case strings.HasPrefix(h, "CSeq:"):
			h = strings.TrimSuffix(h, "INVITE") + method
		case strings.HasPrefix(h, "To:") && to != "":
			h = "To: " + to
		}
		text.WriteString(h + "\r\n")
	}
	for _, r := range b.routes {
		text.WriteString("Route: " + r + "\r\n")
	}
	s.wire.send(b.address, b.transport, text.String()+"Content-Length: 0\r\n\r\n")
}

func (b *branch) cancel(s *server) {
	if b.status < 200 && !b.cancelled {
		b.cancelled = true
		b.again(s, "CANCEL", "")
	}
}

// answered handles an answer to what it sent.
func (s *server) answered(m *message) {
	b := s.branches[m.branch()]
	if b == nil || m.method == "CANCEL" || m.status == 100 {
		return
	}
	if m.status >= 300 && strings.HasSuffix(b.headers[3], "INVITE") {
		b.again(s, "ACK", m.first("To"))
	}
	if b.status < 200 {
		b.status = m.status
	}
	switch {
	case b.leg != nil:
		b.leg.answered(s, b, m)
	case b.x != nil:
		b.x.relay(s, b, m)
	}
}

// relay sends an answer up: provisional ones and success at once, failures when no branch is left.
func (x *exchange) relay(s *server, b *branch, m *message) {
	if m.status >= 300 {
		for _, other := range x.branches {
			if other.status < 200 {
				return
			}
		}
	}
	if x.final >= 200 && m.status >= 300 {
		return
	}
	if m.status >= 200 {
		x.final = m.status
		for _, other := range x.branches {
			other.cancel(s)
		}
	}
	text := strings.SplitN(m.raw, "\r\n", 2)[0] + "\r\n"
	own := true
	for _, line := range m.head {
		if key, _, _ := strings.Cut(line, ":"); own && strings.EqualFold(key, "Via") {
			own = false
			continue
		}
		text += line + "\r\n"
	}
	x.request.reply(text + "\r\n" + m.body)
}
