package sip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Limits of one message; more is refused, not truncated.
const (
	MaxHeaders    = 256
	MaxMessage    = 64 << 10
	MaxHeaderSize = 32 << 10
)

// ErrSyntax is wrapped by every parse error.
var ErrSyntax = errors.New("malformed SIP message")

func syntax(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, args...))
}

// Parse scans one datagram, or one framed message of a stream. Text after Content-Length is ignored (RFC 3261 18.3);
// a body shorter than Content-Length is an error. The data may be reused by the caller afterwards.
//
// When the start line and the headers could be read but something is missing or wrong, the message is returned
// together with the error, so that a request can be answered with 400.
func Parse(data []byte) (*Message, error) {
	if len(data) > MaxMessage {
		return nil, syntax("%d bytes, at most %d are allowed", len(data), MaxMessage)
	}
	text := string(data)
	text = strings.TrimLeft(text, "\r\n") // RFC 3261 7.5
	// Room for what a hop puts on top as well; a body's lines make it too large at worst.
	m := &Message{Headers: make([]Header, 0, min(strings.Count(text, "\n")+2, 24))}
	rest, err := m.startLine(text)
	if err != nil {
		return nil, err
	}
	length, rest, err := m.headers(rest)
	if err != nil {
		return nil, err
	}
	if length > len(rest) {
		return m, syntax("Content-Length %d but only %d bytes of body", length, len(rest))
	}
	if length >= 0 {
		rest = rest[:length]
	}
	m.Body = rest
	return m, m.validate()
}

// line cuts one line; CRLF and a bare LF both end it.
func line(text string) (string, string, bool) {
	i := strings.IndexByte(text, '\n')
	if i < 0 {
		return "", text, false
	}
	l := text[:i]
	if n := len(l); n > 0 && l[n-1] == '\r' {
		l = l[:n-1]
	}
	return l, text[i+1:], true
}

func (m *Message) startLine(text string) (string, error) {
	first, rest, ok := line(text)
	if !ok {
		return "", syntax("no end of the start line")
	}
	if after, isResponse := strings.CutPrefix(first, "SIP/2.0 "); isResponse {
		code, reason, _ := strings.Cut(after, " ")
		n, err := strconv.Atoi(code)
		if err != nil || len(code) != 3 || n < 100 || n > 699 {
			return "", syntax("status %q", code)
		}
		m.Status, m.Reason = n, reason
		return rest, nil
	}
	method, after, ok := strings.Cut(first, " ")
	uri, version, ok2 := cutLast(after)
	if !ok || !ok2 || !isToken(method) || uri == "" || strings.ContainsAny(uri, " \t<>\"") {
		return "", syntax("request line %.80q", first)
	}
	if version != "SIP/2.0" {
		return "", syntax("version %.20q", version)
	}
	m.Method, m.URI = method, uri
	return rest, nil
}

func cutLast(s string) (string, string, bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// headers scans up to the empty line. It returns Content-Length (-1 when absent) and the text behind.
func (m *Message) headers(text string) (length int, rest string, err error) {
	length = -1
	start := len(text)
	for {
		l, after, ok := line(text)
		if !ok {
			return 0, "", syntax("no empty line after the headers")
		}
		text = after
		if l == "" {
			return length, text, nil
		}
		if start-len(text) > MaxHeaderSize || len(m.Headers) >= MaxHeaders {
			return 0, "", syntax("headers over %d bytes or %d fields", MaxHeaderSize, MaxHeaders)
		}
		for len(text) > 0 && (text[0] == ' ' || text[0] == '\t') { // folded (RFC 3261 7.3.1)
			var more string
			if more, text, ok = line(text); !ok {
				return 0, "", syntax("no end of a folded header")
			}
			l = strings.TrimRight(l, " \t") + " " + strings.Trim(more, " \t")
		}
		colon := strings.IndexByte(l, ':')
		if colon <= 0 {
			return 0, "", syntax("header line %.80q", l)
		}
		name := trimRight(l[:colon])
		id := Lookup(name)
		if id == Other && !isToken(name) {
			return 0, "", syntax("header name %.40q", name)
		}
		value := trim(l[colon+1:])
		if id == ContentLength {
			if length, err = contentLength(value, length); err != nil {
				return 0, "", err
			}
			continue
		}
		if id.isList() && strings.IndexByte(value, ',') >= 0 {
			for _, item := range SplitList(value) {
				m.Headers = append(m.Headers, Header{id, name, item})
			}
			if len(m.Headers) > MaxHeaders {
				return 0, "", syntax("headers over %d values", MaxHeaders)
			}
			continue
		}
		m.Headers = append(m.Headers, Header{id, name, value})
	}
}

func contentLength(value string, previous int) (int, error) {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || (previous >= 0 && previous != int(n)) {
		return 0, syntax("Content-Length %.20q", value)
	}
	return int(n), nil
}

// validate checks what every message must have (RFC 3261 8.1.1): exactly one From, To, Call-ID and CSeq, and a Via.
func (m *Message) validate() error {
	var (
		seen  [CSeq + 1]int
		value [CSeq + 1]string // the first of each
	)
	for i := range m.Headers {
		if h := &m.Headers[i]; h.ID <= CSeq && h.ID != Other {
			if seen[h.ID] == 0 {
				value[h.ID] = h.Value
			}
			seen[h.ID]++
		}
	}
	for _, id := range [...]ID{From, To, CallID, CSeq} {
		if seen[id] != 1 {
			return syntax("%d %s headers, one is required", seen[id], id)
		}
	}
	if seen[Via] == 0 {
		return syntax("no Via header")
	}
	if value[CallID] == "" {
		return syntax("empty Call-ID")
	}
	_, method := parseCSeq(value[CSeq])
	if method == "" || (m.IsRequest() && method != m.Method) {
		return syntax("CSeq %.40q in a %s", value[CSeq], m.kind())
	}
	for _, id := range [...]ID{From, To} {
		if _, err := ParseAddress(value[id]); err != nil {
			return syntax("%s: %v", id, err)
		}
	}
	if _, err := ParseVia(value[Via]); err != nil {
		return err
	}
	return nil
}

func (m *Message) kind() string {
	if m.IsRequest() {
		return m.Method
	}
	return "response"
}

// SplitList cuts a header value at commas outside quotes and angle brackets.
func SplitList(value string) []string {
	var out []string
	start, quoted, angle := 0, false, false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			if item := strings.Trim(value[start:i], " \t"); item != "" {
				out = append(out, item)
			}
			start = i + 1
		}
	}
	if item := strings.Trim(value[start:], " \t"); item != "" {
		out = append(out, item)
	}
	return out
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tokens[s[i]] {
			return false
		}
	}
	return s != ""
}

// tokens are the characters of a token (RFC 3261 25.1).
var tokens = func() (t [256]bool) { //nolint:gochecknoglobals // a table
	for c := range t {
		t[c] = tokenByte(byte(c))
	}
	return t
}()

// trim, trimLeft and trimRight drop blanks and tabs.
func trim(s string) string { return trimRight(trimLeft(s)) }

func trimLeft(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

func trimRight(s string) string {
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

func tokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("-.!%*_+`'~", c) >= 0
}
