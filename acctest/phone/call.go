package phone

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Call is a request that the phone sent, INVITE or another, and what follows it.
type Call struct {
	Phone   *Phone
	ID      string // Call-ID
	Sent    time.Time
	method  string
	uri     string
	from    string
	to      string
	branch  string
	routes  string // Route lines of the request
	nextSeq int
}

// Start sends a request outside a dialog. Headers are whole lines; one that begins with a newline is the body.
func (p *Phone) StartRequest(method, uri string, headers ...string) *Call {
	c := &Call{
		Phone: p, ID: rand.Text(), method: method, uri: uri, from: fmt.Sprintf("<%s>;tag=%s", p.URI(), rand.Text()), to: "<" + uri + ">", branch: Branch(),
		nextSeq: 2,
	}
	for _, h := range headers {
		if strings.HasPrefix(h, "Route:") {
			c.routes += h + "\n"
		}
	}
	p.mu.Lock()
	p.own[c.ID] = c
	p.mu.Unlock()
	c.Sent = time.Now()
	p.Send(c.build(method, 1, c.uri, c.to, c.branch, append([]string{fmt.Sprintf("Contact: <sip:%s@%s>", p.Name, p.Local())}, headers...)...))
	return c
}

// Invite calls.
func (p *Phone) Invite(uri string, headers ...string) *Call {
	return p.StartRequest("INVITE", uri, append(headers, "Content-Type: application/sdp", "\n"+SDP)...)
}

// SDP is a body.
const SDP = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 6000 RTP/AVP 8\na=rtpmap:8 PCMA/8000\n"

func (c *Call) build(method string, seq int, uri, to, branch string, headers ...string) string {
	body := ""
	lines := []string{
		method + " " + uri + " SIP/2.0", "Via: SIP/2.0/UDP " + c.Phone.Local() + ";branch=" + branch + ";rport", "Max-Forwards: 70",
		"From: " + c.from, "To: " + to, "Call-ID: " + c.ID, fmt.Sprintf("CSeq: %d %s", seq, method),
	}
	for _, h := range headers {
		if text, ok := strings.CutPrefix(h, "\n"); ok {
			body = text
			continue
		}
		if h != "" {
			lines = append(lines, strings.TrimSuffix(h, "\n"))
		}
	}
	return strings.Join(lines, "\n") + fmt.Sprintf("\nContent-Length: %d\n\n%s", len(CRLF(body)), body)
}

// Cancel cancels the INVITE (RFC 3261 9.1).
func (c *Call) Cancel() {
	c.Phone.Send(c.build("CANCEL", 1, c.uri, c.to, c.branch, c.routes))
}

// acknowledge sends the ACK of a final response that is not 2xx (RFC 3261 17.1.1.3).
func (c *Call) acknowledge(m *Message) {
	c.Phone.Send(c.build("ACK", 1, c.uri, m.Lines("To")[0], c.branch, c.routes))
}

// Answers fits the answers to a request of the call by its method.
func (c *Call) Answers(method string, from, to int) func(*Message) bool {
	return func(m *Message) bool {
		return m.CallID().Value() == c.ID && m.Status() >= from && m.Status() <= to && m.Method() == method
	}
}

// Final waits for the final answer to the first request.
func (c *Call) Final(d time.Duration) *Message {
	c.Phone.t.Helper()
	return c.Phone.Expect(d, "final answer to its "+c.method, c.Answers(c.method, 200, 699))
}

// Ack sends the ACK of a 2xx.
func (c *Call) Ack(success *Message) { c.within(success, "ACK", 1) }

// AckOf is Ack for the INVITE with another CSeq.
func (c *Call) AckOf(success *Message, seq int) { c.within(success, "ACK", seq) }

// Within sends a request in the dialog that an answer made, and returns its CSeq.
func (c *Call) Within(answer *Message, method string, headers ...string) int {
	seq := c.nextSeq
	c.nextSeq++
	c.within(answer, method, seq, headers...)
	return seq
}

func (c *Call) within(answer *Message, method string, seq int, headers ...string) {
	routes := RouteSet(answer.Lines("Record-Route"))
	slices.Reverse(routes)
	for i, r := range routes {
		routes[i] = "Route: " + r
	}
	target := strings.Trim(strings.SplitN(strings.Trim(answer.Lines("Contact")[0], "<"), ">", 2)[0], "<>")
	all := append(routes, headers...)
	c.Phone.Send(c.build(method, seq, target, answer.Lines("To")[0], Branch(), all...))
}

// RouteSet splits lines of Record-Route into their values.
func RouteSet(lines []string) []string {
	var out []string
	for _, line := range lines {
		for _, v := range strings.SplitAfter(line, ">") {
			if i := strings.Index(v, "<"); i >= 0 {
				out = append(out, v[i:])
			}
		}
	}
	return out
}

// Hang up: BYE, and the 200 to it.
func (c *Call) Bye(answer *Message) {
	c.Phone.t.Helper()
	seq := c.Within(answer, "BYE")
	c.Phone.Expect(5*time.Second, "answer to BYE", func(m *Message) bool {
		return c.Answers("BYE", 200, 299)(m) && int(m.CSeq().SeqNo) == seq
	})
}
