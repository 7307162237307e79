package ifc

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/ere"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Kind tells what a condition looks at.
type Kind uint8

// The kinds of service point trigger.
const (
	Method Kind = iota
	RequestURI
	Header
	CaseOfSession
	SessionDescription
)

// Condition is a service point trigger (SPT).
type Condition struct {
	Kind          Kind
	Negated       bool
	Groups        []int              // ascending, without repeats
	Text          string             // the method; or the expression for the Request-URI, the header's name or the SDP line's letter
	Content       *string            // the expression for the header's value or the rest of the SDP line; nil asks only whether it is there
	Case          SessionCase        // of CaseOfSession
	Registrations []RegistrationType // of Method REGISTER; none means all
	text, content *regexp.Regexp
}

// compile prepares the expressions.
func (c *Condition) compile() (err error) {
	if c.Kind == Method || c.Kind == CaseOfSession {
		return nil
	}
	if c.text, err = expression(c.Text, c.Kind == Header); err != nil || c.Content == nil {
		return err
	}
	c.content, err = expression(*c.Content, false)
	return err
}

// expression compiles a POSIX expression.
func expression(pattern string, fold bool) (*regexp.Regexp, error) {
	re, err := ere.Compile(pattern, fold)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return re, nil
}

func (c *Condition) holds(q *Query) bool { return c.found(q) != c.Negated }

func (c *Condition) found(q *Query) bool {
	switch c.Kind {
	case Method:
		return q.Msg.Method == c.Text &&
			(len(c.Registrations) == 0 || c.Text != sip.REGISTER || slices.Contains(c.Registrations, q.Registration))
	case RequestURI:
		subject, ok := uriSubject(q.Msg.URI)
		return ok && c.text.MatchString(subject)
	case Header:
		return c.header(q.Msg)
	case CaseOfSession:
		return c.Case == q.Case
	default:
		return c.description(q.Msg)
	}
}

// uriSubject is the part of a Request-URI that expressions see: host and port of sip:, the number of tel:, and what
// follows the scheme of others.
func uriSubject(text string) (string, bool) {
	u, err := sip.ParseURI(text)
	if err != nil {
		return "", false
	}
	switch u.Scheme {
	case "sip", "sips":
		return sip.HostPort(u.Host, u.Port), true
	case "tel":
		return u.Number(), true
	default:
		return u.User, true
	}
}

// header looks for one header field whose name and value match; list headers are looked at one element at a time.
func (c *Condition) header(m *sip.Message) bool {
	for i := range m.Headers {
		h := &m.Headers[i]
		name := h.Name
		if h.ID != sip.Other {
			name = h.ID.String() // the long form of a compact name
		}
		if c.text.MatchString(name) && (c.content == nil || c.content.MatchString(h.Value)) {
			return true
		}
	}
	// Messages keep no Content-Length.
	return c.text.MatchString("Content-Length") && (c.content == nil || c.content.MatchString(strconv.Itoa(len(m.Body))))
}

// description looks for one line of the session description.
func (c *Condition) description(m *sip.Message) bool {
	for line := range strings.SplitSeq(sdp(m.Get(sip.ContentType), m.Body), "\n") {
		letter, rest, ok := strings.Cut(strings.TrimRight(line, "\r"), "=")
		if ok && c.text.MatchString(letter) && (c.content == nil || c.content.MatchString(rest)) {
			return true
		}
	}
	return false
}

// sdp finds the session description in a body, the first one of a multipart body; "" when there is none.
func sdp(contentType, body string) string {
	kind, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return ""
	case kind == "application/sdp":
		return body
	case !strings.HasPrefix(kind, "multipart/"):
		return ""
	}
	r := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for {
		part, err := r.NextRawPart()
		if err != nil {
			return ""
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return ""
		}
		if inner := part.Header.Get("Content-Type"); inner != contentType {
			if found := sdp(inner, string(text)); found != "" {
				return found
			}
		}
	}
}
