// Package phone is a SIP endpoint of which every message is in the hands of a test: it sends what the test says, when the
// test says it, and keeps what comes in with its time. It is UDP over loopback, where nothing is lost, so it has no
// retransmissions and no transactions of its own; those that it gets it can see. What comes in is read by
// github.com/emiago/sipgo/sip and not by the code under test, so that a fault of one parser does not hide in the other.
package phone

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Phone is one endpoint.
type Phone struct {
	Name, Domain, Password string
	Proxy                  string // address:port of the edge

	// EachRegister, when set, sends the requests of a registration in place of the phone.
	EachRegister func(send func())
	// Answer, when set before the first message, is called for every request in the order in which they come.
	Answer func(*Message)

	t     testing.TB
	conn  *net.UDPConn
	done  chan struct{}
	mu    sync.Mutex
	log   []*Message
	taken map[*Message]bool
	news  chan struct{} // closed when something comes
	own   map[string]*Call

	registered bool
	busy       atomic.Bool
}

// Message is what came in.
type Message struct {
	At   time.Time
	From string // address:port
	Raw  string
	sip.Message
}

// Listen opens an endpoint at address:port of 127.0.0.0/8; it closes at the end of the test.
func Listen(t testing.TB, local string) *Phone {
	t.Helper()
	addr, err := net.ResolveUDPAddr("udp4", local)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Phone{t: t, conn: conn, done: make(chan struct{}), taken: map[*Message]bool{}, news: make(chan struct{}), own: map[string]*Call{}}
	return p
}

// Start begins to read.
func (p *Phone) Start() {
	go p.read()
	p.t.Cleanup(func() {
		p.EachRegister = nil
		if p.registered { // an edge that is stopped waits for who is registered there
			p.register(0)
		}
		_ = p.conn.Close()
		<-p.done
	})
}

// Local is the address of the phone.
func (p *Phone) Local() string { return p.conn.LocalAddr().String() }

// URI is the identity.
func (p *Phone) URI() string { return "sip:" + p.Name + "@" + p.Domain }

func (p *Phone) read() {
	defer close(p.done)
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if n <= 4 {
			continue // keep-alive
		}
		raw := string(buffer[:n])
		parsed, err := sip.ParseMessage([]byte(raw))
		if err != nil {
			p.t.Errorf("%s gets what the other stack cannot read: %v\n%s", p.Name, err, raw)
			continue
		}
		p.take(&Message{At: time.Now(), From: from.String(), Raw: raw, Message: parsed})
	}
}

// take answers first, so that what the test sees is answered.
func (p *Phone) take(m *Message) {
	p.mu.Lock()
	call := p.own[m.CallID().Value()]
	p.mu.Unlock()
	switch {
	case m.Status() >= 300 && m.CSeq().MethodName == sip.INVITE && call != nil:
		call.acknowledge(m)
	case m.Status() == 0 && p.Answer != nil:
		p.Answer(m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, m)
	close(p.news)
	p.news = make(chan struct{})
}

// Status of a response, 0 of a request.
func (m *Message) Status() int {
	if r, ok := m.Message.(*sip.Response); ok {
		return r.StatusCode
	}
	return 0
}

// Method of the request, or of the request that is answered.
func (m *Message) Method() string {
	if r, ok := m.Message.(*sip.Request); ok {
		return string(r.Method)
	}
	return string(m.CSeq().MethodName)
}

// ToTag is the tag of To.
func (m *Message) ToTag() string {
	tag, _ := m.To().Params.Get("tag")
	return tag
}

var compact = map[string]string{"Via": "v", "From": "f", "To": "t", "Call-ID": "i", "Contact": "m"} //nolint:gochecknoglobals // RFC 3261 7.3.3

// Lines are the values of a header, one for each line, as they stand on the wire.
func (m *Message) Lines(name string) []string {
	var out []string
	head, _, _ := strings.Cut(m.Raw, "\r\n\r\n")
	head = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(head)
	for _, line := range strings.Split(head, "\r\n") {
		key, value, ok := strings.Cut(line, ":")
		if key = strings.TrimSpace(key); ok && (strings.EqualFold(key, name) || strings.EqualFold(key, compact[name])) {
			out = append(out, strings.TrimSpace(value))
		}
	}
	return out
}

// Log is everything that came in and fits, in order.
func (p *Phone) Log(fits func(*Message) bool) []*Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*Message
	for _, m := range p.log {
		if fits(m) {
			out = append(out, m)
		}
	}
	return out
}

// Maybe waits for the first message that fits and was not taken yet; nil when none comes within d.
func (p *Phone) Maybe(d time.Duration, fits func(*Message) bool) *Message {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		p.mu.Lock()
		for _, m := range p.log {
			if !p.taken[m] && fits(m) {
				p.taken[m] = true
				p.mu.Unlock()
				return m
			}
		}
		news := p.news
		p.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// Expect is Maybe that fails the test.
func (p *Phone) Expect(d time.Duration, what string, fits func(*Message) bool) *Message {
	p.t.Helper()
	m := p.Maybe(d, fits)
	if m == nil {
		var seen strings.Builder
		for _, m := range p.Log(func(*Message) bool { return true }) {
			first, _, _ := strings.Cut(m.Raw, "\r\n")
			fmt.Fprintf(&seen, "%s %s (%s, %s)\n", m.At.Format("15:04:05.000"), first, m.Method(), m.CallID().Value())
		}
		p.t.Fatalf("%s gets no %s within %v; it has got\n%s", p.Name, what, d, seen.String())
	}
	return m
}

// Is fits requests of a method.
func Is(method string) func(*Message) bool {
	return func(m *Message) bool { return m.Status() == 0 && m.Method() == method }
}

// Send sends text to the proxy; line ends may be plain newlines.
func (p *Phone) Send(text string) { p.SendTo(p.Proxy, text) }

// SendTo sends text to an address.
func (p *Phone) SendTo(address, text string) {
	to, err := net.ResolveUDPAddr("udp4", address)
	if err == nil {
		_, err = p.conn.WriteToUDP([]byte(CRLF(text)), to)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) { // what comes when the test is over is not answered
		p.t.Errorf("%s cannot send: %v", p.Name, err)
	}
}

// CRLF gives lines the ends that SIP wants.
func CRLF(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
}

// Reply answers a request; tag is that of To, headers are whole lines.
func (p *Phone) Reply(m *Message, status int, tag string, headers ...string) {
	p.SendTo(m.From, Reply(m, status, tag, headers...))
}

// Reply builds an answer from what the request holds.
func Reply(m *Message, status int, tag string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d Answer\n", status)
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, value := range m.Lines(name) {
			if name == "To" && tag != "" && !strings.Contains(value, ";tag=") {
				value += ";tag=" + tag
			}
			fmt.Fprintf(&b, "%s: %s\n", name, value)
		}
	}
	body := ""
	for _, h := range headers {
		if text, ok := strings.CutPrefix(h, "\n"); ok {
			body = text
			continue
		}
		b.WriteString(h + "\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\n\n%s", len(CRLF(body)), body)
	return b.String()
}

// Via is a line with a new branch.
func (p *Phone) Via() string {
	return "Via: SIP/2.0/UDP " + p.Local() + ";branch=" + Branch() + ";rport"
}

// Branch is a new one.
func Branch() string { return "z9hG4bK" + rand.Text() }

var challenge = regexp.MustCompile(`(realm|nonce|opaque|algorithm|qop)="?([^",]+)"?`)

// Register registers with digest for the given time, and has that ended with the test; it returns the answer.
func (p *Phone) Register(expires int, extra ...string) *Message {
	p.t.Helper()
	m := p.register(expires, extra...)
	if m == nil {
		p.t.Fatalf("%s: REGISTER is not answered", p.Name)
	}
	p.registered = m.Status() == 200 && expires > 0
	return m
}

// register returns nil when there is no answer.
func (p *Phone) register(expires int, extra ...string) *Message {
	id, from, authorization := rand.Text(), rand.Text(), ""
	for n := 1; ; n++ {
		lines := append([]string{
			"REGISTER sip:" + p.Domain + " SIP/2.0", p.Via(), "Max-Forwards: 70", fmt.Sprintf("From: <%s>;tag=%s", p.URI(), from), "To: <" + p.URI() + ">",
			"Call-ID: " + id, fmt.Sprintf("CSeq: %d REGISTER", n), fmt.Sprintf("Expires: %d", expires), "Supported: path, outbound", "Content-Length: 0",
			fmt.Sprintf("Contact: <sip:%s@%s>;+sip.instance=\"<urn:uuid:%s>\"", p.Name, p.Local(), p.instance()),
		}, extra...)
		if authorization != "" {
			lines = append(lines, authorization)
		}
		send := func() { p.Send(strings.Join(lines, "\n") + "\n\n") }
		if p.EachRegister != nil {
			p.EachRegister(send)
		} else {
			send()
		}
		m := p.Maybe(5*time.Second, func(m *Message) bool {
			return m.Status() >= 200 && m.CallID().Value() == id && int(m.CSeq().SeqNo) == n
		})
		if m == nil || m.Status() != 401 || n > 1 {
			return m
		}
		authorization = p.authorize(m.Lines("WWW-Authenticate")[0], "REGISTER", "sip:"+p.Domain)
	}
}

func (p *Phone) instance() string {
	sum := md5.Sum([]byte(p.Local()))
	h := hex.EncodeToString(sum[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// authorize is RFC 2617 with qop auth.
func (p *Phone) authorize(challengeLine, method, uri string) string {
	c := map[string]string{}
	for _, m := range challenge.FindAllStringSubmatch(challengeLine, -1) {
		c[m[1]] = m[2]
	}
	sum := func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }
	user, cnonce := p.Name+"@"+p.Domain, rand.Text()
	response := sum(strings.Join([]string{sum(user + ":" + c["realm"] + ":" + p.Password), c["nonce"], "00000001", cnonce, "auth", sum(method + ":" + uri)}, ":"))
	return fmt.Sprintf(`Authorization: Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5, cnonce="%s", qop=auth, nc=00000001, opaque="%s"`,
		user, c["realm"], c["nonce"], uri, response, cnonce, c["opaque"])
}
