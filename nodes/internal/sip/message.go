// Package sip holds SIP messages, headers and URIs (RFC 3261 section 7 and 25). A message is scanned once: its
// text stays one string, and headers are pieces of it that can be read, removed, replaced and printed without
// decoding what nobody looks at. It opens no sockets and knows no transactions.
package sip

import (
	"strconv"
	"strings"
)

// Message is a request or a response. Requests have a Method and a URI, responses a Status.
// Header values are as received; list headers that proxies edit (Via, Route, Record-Route, Path, Service-Route,
// Contact and the asserted identities) are held one value to an element. Content-Length is not among Headers:
// printing computes it.
type Message struct {
	Method  string
	URI     string // Request-URI as text
	Status  int    // 0 in a request
	Reason  string
	Headers []Header
	Body    string
}

// Header is one header field. ID is Other for names this package does not know.
type Header struct {
	ID    ID
	Name  string // as received, or the canonical long form
	Value string
}

// Methods that the core itself looks at.
const (
	INVITE    = "INVITE"
	ACK       = "ACK"
	BYE       = "BYE"
	CANCEL    = "CANCEL"
	REGISTER  = "REGISTER"
	OPTIONS   = "OPTIONS"
	SUBSCRIBE = "SUBSCRIBE"
	NOTIFY    = "NOTIFY"
	MESSAGE   = "MESSAGE"
	PRACK     = "PRACK"
	UPDATE    = "UPDATE"
)

// IsRequest tells a request from a response.
func (m *Message) IsRequest() bool { return m.Status == 0 }

// Get returns the first value of a header, or "".
func (m *Message) Get(id ID) string {
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			return m.Headers[i].Value
		}
	}
	return ""
}

// Has tells whether a header is present.
func (m *Message) Has(id ID) bool { return m.index(id) >= 0 }

// All returns every value of a header, top first.
func (m *Message) All(id ID) []string {
	var out []string
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			out = append(out, m.Headers[i].Value)
		}
	}
	return out
}

// Count tells how many values a header has.
func (m *Message) Count(id ID) int {
	n := 0
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			n++
		}
	}
	return n
}

// Named returns the first value of a header by name; it is for headers without an ID.
func (m *Message) Named(name string) string {
	for i := range m.Headers {
		if strings.EqualFold(m.Headers[i].Name, name) {
			return m.Headers[i].Value
		}
	}
	return ""
}

func (m *Message) index(id ID) int {
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			return i
		}
	}
	return -1
}

// Set replaces all values of a header by one, at the place of the first, or adds it at the end.
func (m *Message) Set(id ID, value string) {
	i := m.index(id)
	if i < 0 {
		m.Add(id, value)
		return
	}
	m.Headers[i].Value = value
	rest := m.Headers[:i+1]
	for _, h := range m.Headers[i+1:] {
		if h.ID != id {
			rest = append(rest, h)
		}
	}
	m.Headers = rest
}

// SetFirst replaces the first value of a header and leaves the others; it adds the header if it is absent.
func (m *Message) SetFirst(id ID, value string) {
	if i := m.index(id); i >= 0 {
		m.Headers[i].Value = value
		return
	}
	m.Add(id, value)
}

// Add appends a value below those that exist.
func (m *Message) Add(id ID, value string) {
	last := -1
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			last = i
		}
	}
	m.insert(last+1, last < 0, Header{ID: id, Name: id.String(), Value: value})
}

// AddNamed appends a header that has no ID.
func (m *Message) AddNamed(name, value string) {
	m.Headers = append(m.Headers, Header{ID: Lookup(name), Name: name, Value: value})
}

// Push puts a value on top of those that exist (Via, Route, Record-Route, Path).
func (m *Message) Push(id ID, value string) {
	i := m.index(id)
	if i < 0 && id != Via { // Via stays first: every hop reads it
		for i = 0; i < len(m.Headers) && m.Headers[i].ID == Via; i++ {
		}
	}
	m.insert(max(i, 0), false, Header{ID: id, Name: id.String(), Value: value})
}

func (m *Message) insert(at int, end bool, h Header) {
	if end {
		m.Headers = append(m.Headers, h)
		return
	}
	m.Headers = append(m.Headers, Header{})
	copy(m.Headers[at+1:], m.Headers[at:])
	m.Headers[at] = h
}

// Pop removes and returns the topmost value of a header; "" when there is none.
func (m *Message) Pop(id ID) string {
	i := m.index(id)
	if i < 0 {
		return ""
	}
	value := m.Headers[i].Value
	m.Headers = append(m.Headers[:i], m.Headers[i+1:]...)
	return value
}

// Del removes every value of the given headers.
func (m *Message) Del(ids ...ID) {
	kept := m.Headers[:0]
	for _, h := range m.Headers {
		if !contains(ids, h.ID) {
			kept = append(kept, h)
		}
	}
	m.Headers = kept
}

func contains(ids []ID, id ID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// Clone copies a message so that headers of the copy can be edited; text is shared.
func (m *Message) Clone() *Message {
	c := *m
	c.Headers = make([]Header, len(m.Headers), len(m.Headers)+4)
	copy(c.Headers, m.Headers)
	return &c
}

// Outline copies what responses are made from, so that the message itself can be given away: the start line, and Via, From,
// To, Call-ID, CSeq, Record-Route and Max-Breadth.
func (m *Message) Outline() *Message {
	count := 0
	for i := range m.Headers {
		if outlined(m.Headers[i].ID) {
			count++
		}
	}
	o := &Message{Method: m.Method, URI: m.URI, Status: m.Status, Reason: m.Reason, Headers: make([]Header, 0, count)}
	for i := range m.Headers {
		if outlined(m.Headers[i].ID) {
			o.Headers = append(o.Headers, m.Headers[i])
		}
	}
	return o
}

func outlined(id ID) bool { return id == MaxBreadth || copied(id, 200) }

// AppendTo prints the message. Content-Length is computed.
func (m *Message) AppendTo(b []byte) []byte {
	if m.IsRequest() {
		b = append(b, m.Method...)
		b = append(b, ' ')
		b = append(b, m.URI...)
		b = append(b, " SIP/2.0\r\n"...)
	} else {
		b = append(b, "SIP/2.0 "...)
		b = strconv.AppendInt(b, int64(m.Status), 10)
		b = append(b, ' ')
		b = append(b, m.Reason...)
		b = append(b, "\r\n"...)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		b = append(b, h.Name...)
		b = append(b, ": "...)
		b = append(b, h.Value...)
		b = append(b, "\r\n"...)
	}
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(m.Body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, m.Body...)
}

// Size is how many bytes AppendTo appends.
func (m *Message) Size() int {
	n := len("SIP/2.0 200 \r\n") + len(m.Reason)
	if m.IsRequest() {
		n = len(m.Method) + len(m.URI) + len("  SIP/2.0\r\n")
	}
	for i := range m.Headers {
		n += len(m.Headers[i].Name) + len(m.Headers[i].Value) + len(": \r\n")
	}
	n += len("Content-Length: \r\n\r\n") + 1
	for rest := len(m.Body); rest >= 10; rest /= 10 {
		n++
	}
	return n + len(m.Body)
}

// String prints the message.
func (m *Message) String() string { return string(m.AppendTo(nil)) }

// CSeq returns the sequence number and method of the CSeq header; 0 and "" when it is not well formed.
func (m *Message) CSeq() (uint32, string) { return parseCSeq(m.Get(CSeq)) }

func parseCSeq(value string) (uint32, string) {
	number, method, found := strings.Cut(value, " ")
	if !found {
		number, method, found = strings.Cut(value, "\t")
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || !found {
		return 0, ""
	}
	return uint32(n), strings.TrimSpace(method)
}

// CallID returns the Call-ID.
func (m *Message) CallID() string { return m.Get(CallID) }

// FromTag returns the tag of From, ToTag that of To; "" when absent.
func (m *Message) FromTag() string { return addressTag(m.Get(From)) }

// ToTag returns the tag of To, "" when absent: a request without one is outside any dialog.
func (m *Message) ToTag() string { return addressTag(m.Get(To)) }

func addressTag(value string) string {
	a, err := ParseAddress(value)
	if err != nil {
		return ""
	}
	tag, _ := Param(a.Params, "tag")
	return tag
}

// Expires returns the Expires header in seconds, or missing when it is absent or malformed.
func (m *Message) Expires(missing int) int {
	n, err := strconv.ParseUint(m.Get(Expires), 10, 32)
	if err != nil {
		return missing
	}
	return int(n)
}

// HasOption tells whether a comma-separated token list (Supported, Require, Proxy-Require, Allow) holds a token.
func (m *Message) HasOption(id ID, token string) bool {
	for i := range m.Headers {
		if m.Headers[i].ID == id {
			for item := range strings.SplitSeq(m.Headers[i].Value, ",") {
				if strings.EqualFold(strings.TrimSpace(item), token) {
					return true
				}
			}
		}
	}
	return false
}

// DelOption removes a token from a comma-separated list, and the header with it when nothing is left.
func (m *Message) DelOption(id ID, token string) {
	kept := m.Headers[:0]
	for _, h := range m.Headers {
		if h.ID == id {
			var items []string
			for item := range strings.SplitSeq(h.Value, ",") {
				if item = strings.TrimSpace(item); !strings.EqualFold(item, token) && item != "" {
					items = append(items, item)
				}
			}
			if len(items) == 0 {
				continue
			}
			h.Value = strings.Join(items, ", ")
		}
		kept = append(kept, h)
	}
	m.Headers = kept
}

// NewResponse makes the response that a UAS or proxy sends to a request (RFC 3261 8.2.6): Via, From, To, Call-ID and
// CSeq copied, a To tag added unless the status is 100 or the tag is there; reason "" takes the standard phrase.
func (m *Message) NewResponse(status int, reason, toTag string) *Message {
	if reason == "" {
		reason = StatusText(status)
	}
	count := 2 // what a function adds
	if status >= 200 && status < 300 {
		count = 8
	}
	for i := range m.Headers {
		if copied(m.Headers[i].ID, status) {
			count++
		}
	}
	r := &Message{Status: status, Reason: reason, Headers: make([]Header, 0, count)}
	for i := range m.Headers {
		h := &m.Headers[i]
		if !copied(h.ID, status) {
			continue
		}
		r.Headers = append(r.Headers, *h)
		if h.ID == To && status > 100 && toTag != "" && addressTag(h.Value) == "" {
			r.Headers[len(r.Headers)-1].Value += ";tag=" + toTag
		}
	}
	return r
}

// copied tells the headers that a response of a status takes from its request.
func copied(id ID, status int) bool {
	switch id {
	case Via, From, To, CallID, CSeq:
		return true
	case RecordRoute:
		return status > 100 && status < 300
	default:
		return false
	}
}
