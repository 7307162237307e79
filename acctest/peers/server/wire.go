package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// message is a message that came in. It is checked by the parser and then kept as text.
type message struct {
	raw, from, method, uri string
	status                 int
	head                   []string // header lines
	body                   string
	reply                  func(text string)
}

func read(raw, from string, reply func(string)) (*message, error) {
	parsed, err := sip.ParseMessage([]byte(raw))
	if err != nil {
		return nil, err
	}
	m := &message{raw: raw, from: from, reply: reply}
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	m.head, m.body = lines[1:], body
	switch p := parsed.(type) {
	case *sip.Request:
		m.method, m.uri = string(p.Method), strings.Fields(lines[0])[1]
	case *sip.Response:
		m.status, m.method = p.StatusCode, string(p.CSeq().MethodName)
	}
	return m, nil
}

// lines are the values of a header, each value by itself where lists are allowed.
func (m *message) lines(name string) []string {
	var out []string
	for _, line := range m.head {
		key, value, _ := strings.Cut(line, ":")
		if !strings.EqualFold(strings.TrimSpace(key), name) {
			continue
		}
		if name != "Route" && name != "Record-Route" && name != "Via" {
			out = append(out, strings.TrimSpace(value))
			continue
		}
		for v := range strings.SplitSeq(value, ",") {
			out = append(out, strings.TrimSpace(v))
		}
	}
	return out
}

func (m *message) first(name string) string {
	if l := m.lines(name); len(l) > 0 {
		return l[0]
	}
	return ""
}

func (m *message) callID() string { return m.first("Call-ID") }

func (m *message) branch() string {
	_, after, _ := strings.Cut(m.first("Via"), "branch=")
	return strings.FieldsFunc(after+";", func(r rune) bool { return r == ';' })[0]
}

// answer builds an answer.
func (m *message) answer(status int, tag string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "SIP/2.0 %d Answer\r\n", status)
	for _, name := range []string{"Via", "Record-Route", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range m.lines(name) {
			if name == "To" && !strings.Contains(v, ";tag=") && status > 100 {
				v += ";tag=" + tag
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	body := ""
	for _, h := range headers {
		if text, ok := strings.CutPrefix(h, "\n"); ok {
			body = text
			continue
		}
		b.WriteString(h + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.String()
}

func token() string { return rand.Text() }

// wire is the sockets.
type wire struct {
	local   string
	udp     *net.UDPConn
	tcp     net.Listener
	message func(*message)
	names   *net.Resolver

	mu      sync.Mutex
	dialled map[string]net.Conn
}

func listenOn(local, dns string, message func(*message)) (*wire, error) {
	addr, err := net.ResolveUDPAddr("udp4", local)
	if err != nil {
		return nil, err
	}
	w := &wire{local: local, message: message, dialled: map[string]net.Conn{}}
	w.names = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, dns)
	}}
	if w.udp, err = net.ListenUDP("udp4", addr); err != nil {
		return nil, err
	}
	w.tcp, err = net.Listen("tcp4", local)
	return w, err
}

func (w *wire) serve() {
	go func() {
		for {
			c, err := w.tcp.Accept()
			if err != nil {
				return
			}
			go w.stream(c)
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := w.udp.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if m, err := read(string(buffer[:n]), from.String(), func(text string) { _, _ = w.udp.WriteToUDPAddrPort([]byte(text), from) }); err == nil {
			w.message(m)
		}
	}
}

// stream reads messages from a connection.
func (w *wire) stream(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		var head strings.Builder
		length := 0
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if line == "\r\n" && head.Len() == 0 {
				continue
			}
			head.WriteString(line)
			if line == "\r\n" {
				break
			}
			if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, "Content-Length") {
				length, _ = strconv.Atoi(strings.TrimSpace(value))
			}
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if m, err := read(head.String()+string(body), c.RemoteAddr().String(), func(text string) { _, _ = c.Write([]byte(text)) }); err == nil {
			w.message(m)
		}
	}
}

// send sends a request to where its first Route leads; it returns the transport that it takes.
func (w *wire) send(address, transport, text string) {
	if transport != "TCP" {
		if to, err := net.ResolveUDPAddr("udp4", address); err == nil {
			_, _ = w.udp.WriteToUDP([]byte(text), to)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.dialled[address]
	if c == nil {
		var err error
		if c, err = net.Dial("tcp4", address); err != nil {
			return
		}
		w.dialled[address] = c
		go w.stream(c)
	}
	_, _ = c.Write([]byte(text))
}

// hop is where a URI in angle brackets leads: by SRV when it names no port (RFC 3263 4.2).
func (w *wire) hop(value string) (address, transport string) {
	value = strings.Trim(strings.SplitN(value[strings.Index(value, "<")+1:], ">", 2)[0], "<>")
	var u sip.Uri
	if sip.ParseUri(value, &u) != nil {
		return "", ""
	}
	transport = "UDP"
	if t, ok := u.UriParams.Get("transport"); ok {
		transport = strings.ToUpper(t)
	}
	host, port := u.Host, u.Port
	if net.ParseIP(host) == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if _, found, err := w.names.LookupSRV(ctx, "sip", strings.ToLower(transport), host); port == 0 && err == nil && len(found) > 0 {
			host, port = found[0].Target, int(found[0].Port)
		}
		if found, err := w.names.LookupHost(ctx, host); err == nil && len(found) > 0 {
			host = found[0]
		}
	}
	if port == 0 {
		port = 5060
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), transport
}
