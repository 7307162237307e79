package sip

import (
	"net/netip"
	"strconv"
	"strings"
)

// URI is a sip:, sips:, tel: or other URI in pieces of its text. For tel: the number is in User and Host is empty;
// for schemes other than these three everything behind the colon is in User.
type URI struct {
	Scheme  string // lower case
	User    string // escaped as received, with a password if there was one
	Host    string // name, IPv4, or IPv6 without brackets
	Port    int    // 0 when absent
	Params  string // ";name=value..." as received
	Headers string // "?name=value..." as received
}

// ParseURI reads a URI (RFC 3261 19.1, RFC 3966).
func ParseURI(text string) (URI, error) {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok || scheme == "" || rest == "" {
		return URI{}, syntax("URI %.80q", text)
	}
	u := URI{Scheme: lower(scheme)}
	for i := 0; i < len(u.Scheme); i++ {
		if c := u.Scheme[i]; !(c >= 'a' && c <= 'z') && (i == 0 || strings.IndexByte("0123456789+-.", c) < 0) {
			return URI{}, syntax("URI scheme %.20q", scheme)
		}
	}
	for i := 0; i < len(rest); i++ {
		if c := rest[i]; c <= ' ' || c == 0x7f || c == '<' || c == '>' || c == '"' {
			return URI{}, syntax("URI %.80q", text)
		}
	}
	switch u.Scheme {
	case "sip", "sips":
		return u.sip(rest, text)
	case "tel":
		if i := strings.IndexByte(rest, ';'); i >= 0 {
			rest, u.Params = rest[:i], rest[i:]
		}
		if rest == "" {
			return URI{}, syntax("URI %.80q", text)
		}
		u.User = rest
		return u, nil
	default:
		u.User = rest
		return u, nil
	}
}

func (u URI) sip(rest, text string) (URI, error) {
	if i := strings.IndexByte(rest, '@'); i >= 0 { // an @ further right must be escaped
		u.User, rest = rest[:i], rest[i+1:]
		if u.User == "" {
			return URI{}, syntax("URI %.80q", text)
		}
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 {
		rest, u.Headers = rest[:i], rest[i:]
	}
	if i := strings.IndexByte(rest, ';'); i >= 0 {
		rest, u.Params = rest[:i], rest[i:]
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return URI{}, syntax("URI %.80q", text)
	}
	u.Host, u.Port = host, port
	return u, nil
}

// splitHostPort reads host[:port]; the host may be a bracketed IPv6 address.
func splitHostPort(text string) (string, int, error) {
	host, port, rest := text, 0, ""
	if strings.HasPrefix(text, "[") {
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return "", 0, ErrSyntax
		}
		host, rest = text[1:end], text[end+1:]
		if _, err := netip.ParseAddr(host); err != nil {
			return "", 0, ErrSyntax
		}
	} else if i := strings.IndexByte(text, ':'); i >= 0 {
		host, rest = text[:i], text[i:]
	}
	if rest != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(rest, ":"), 10, 16)
		if err != nil || rest[0] != ':' || n == 0 {
			return "", 0, ErrSyntax
		}
		port = int(n)
	}
	if host == "" {
		return "", 0, ErrSyntax
	}
	if text[0] != '[' {
		for i := 0; i < len(host); i++ {
			if !hostBytes[host[i]] {
				return "", 0, ErrSyntax
			}
		}
	}
	return host, port, nil
}

// hostBytes are the characters of host names and IPv4 addresses, and the underscore that some use.
var hostBytes = func() (t [256]bool) { //nolint:gochecknoglobals // a table
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") {
		t[c] = true
	}
	return t
}()

// lower is strings.ToLower that does not allocate for text that already is.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// String prints the URI.
func (u URI) String() string {
	var b strings.Builder
	b.Grow(len(u.Scheme) + len(u.User) + len(u.Host) + len(u.Params) + len(u.Headers) + 10)
	b.WriteString(u.Scheme)
	b.WriteByte(':')
	b.WriteString(u.User)
	if u.Host != "" {
		if u.User != "" {
			b.WriteByte('@')
		}
		b.WriteString(HostPort(u.Host, u.Port))
	}
	b.WriteString(u.Params)
	b.WriteString(u.Headers)
	return b.String()
}

// HostPort prints host[:port], with brackets around IPv6; port 0 is left out.
func HostPort(host string, port int) string {
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	if port == 0 {
		return host
	}
	return host + ":" + strconv.Itoa(port)
}

// Param returns a URI parameter; names are case-blind.
func (u URI) Param(name string) (string, bool) { return Param(u.Params, name) }

// WithParam returns the URI with a parameter set; value "" makes a flag.
func (u URI) WithParam(name, value string) URI {
	u.Params = SetParam(u.Params, name, value)
	return u
}

// WithoutParam returns the URI without a parameter.
func (u URI) WithoutParam(name string) URI {
	u.Params = DelParam(u.Params, name)
	return u
}

// Canonical is the form under which an identity is stored and compared (RFC 3261 10.3 step 5, TS 23.003 13.4):
// scheme and host in lower case, the user unescaped where escaping was not needed, no port, parameters or headers; a tel:
// number without visual separators.
func (u URI) Canonical() string {
	switch u.Scheme {
	case "tel":
		return "tel:" + stripSeparators(u.User)
	case "sip", "sips":
		user := unescape(u.User)
		if user == "" {
			return u.Scheme + ":" + lower(u.Host)
		}
		return u.Scheme + ":" + user + "@" + lower(u.Host)
	default:
		return u.Scheme + ":" + u.User
	}
}

// IsNumber tells whether the URI is a telephone number: tel:, or sip: with user=phone, or, unless strict, a sip: user
// of digits with an optional +.
func (u URI) IsNumber(strict bool) bool {
	switch u.Scheme {
	case "tel":
		return true
	case "sip", "sips":
		if v, _ := u.Param("user"); v == "phone" {
			return true
		}
		user, _, _ := strings.Cut(u.User, ";") // parameters of the number, such as rn (RFC 3261 19.1.6)
		return !strict && digitsOnly(user)
	}
	return false
}

// Number returns the telephone number without separators and parameters.
func (u URI) Number() string {
	user, _, _ := strings.Cut(u.User, ";")
	return stripSeparators(user)
}

func digitsOnly(s string) bool {
	s = strings.TrimPrefix(s, "+")
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if (s[i] < '0' || s[i] > '9') && strings.IndexByte("-.()", s[i]) < 0 {
			return false
		}
	}
	return true
}

func stripSeparators(s string) string {
	if !strings.ContainsAny(s, "-.()") {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-.()", r) {
			return -1
		}
		return r
	}, s)
}

// unescape undoes %xx for characters that need no escape in a user part. Text with a malformed escape stays as it is:
// undoing the others could make a new one.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 || !wellEscaped(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && plainUserByte(byte(n)) {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func wellEscaped(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) {
			return false
		}
		if _, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err != nil {
			return false
		}
		i += 2
	}
	return true
}

func plainUserByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()&=+$,;?/", c) >= 0
}
