package sip

import (
	"net/netip"
	"strconv"
	"strings"
)

// ViaHop is one Via value (RFC 3261 20.42).
type ViaHop struct {
	Transport string // upper case: UDP, TCP, TLS, WS, WSS
	Host      string
	Port      int // 0 when absent
	Params    string
}

// MagicCookie starts every branch of an RFC 3261 element.
const MagicCookie = "z9hG4bK"

// ParseVia reads one Via value.
func ParseVia(value string) (ViaHop, error) {
	if v, ok := plainVia(value); ok {
		return v, nil
	}
	protocol, rest, ok := strings.Cut(value, " ")
	if ok && !strings.HasPrefix(protocol, "SIP/2.0/") { // blanks around the slashes are allowed
		if i := strings.LastIndexByte(value, '/'); i >= 0 {
			name, after, found := strings.Cut(strings.TrimLeft(value[i+1:], " \t"), " ")
			protocol, rest, ok = strings.Map(dropBlank, value[:i+1])+name, after, found
		}
	}
	transport, isSIP := strings.CutPrefix(protocol, "SIP/2.0/")
	if !ok || !isSIP || !isToken(transport) {
		return ViaHop{}, syntax("Via %.80q", value)
	}
	v := ViaHop{Transport: strings.ToUpper(transport)}
	rest = strings.TrimLeft(rest, " \t")
	if i := strings.IndexByte(rest, ';'); i >= 0 {
		rest, v.Params = rest[:i], rest[i:]
	}
	host, port, err := splitHostPort(strings.Map(dropBlank, rest))
	if err != nil {
		return ViaHop{}, syntax("Via %.80q", value)
	}
	v.Host, v.Port = host, port
	return v, nil
}

// plainVia reads a value without blanks but the one, which nearly all are; others are left to ParseVia.
func plainVia(value string) (v ViaHop, ok bool) {
	protocol, rest, ok := strings.Cut(value, " ")
	if !ok || !strings.HasPrefix(protocol, "SIP/2.0/") {
		return v, false
	}
	switch v.Transport = protocol[len("SIP/2.0/"):]; v.Transport {
	case "UDP", "TCP", "TLS", "WS", "WSS":
	default:
		return v, false
	}
	if i := strings.IndexByte(rest, ';'); i >= 0 {
		rest, v.Params = rest[:i], rest[i:]
	}
	host, port, err := splitHostPort(rest)
	if err != nil {
		return v, false
	}
	v.Host, v.Port = host, port
	return v, true
}

func dropBlank(r rune) rune {
	if r == ' ' || r == '\t' {
		return -1
	}
	return r
}

// Branch returns the branch parameter.
func (v ViaHop) Branch() string {
	b, _ := Param(v.Params, "branch")
	return b
}

// String prints the value.
func (v ViaHop) String() string {
	return "SIP/2.0/" + v.Transport + " " + HostPort(v.Host, v.Port) + v.Params
}

// Stamp returns a Via value with the source of the request that it topped: received, and rport where it was asked for
// (RFC 3261 18.2.1, RFC 3581 4). A value that tells the source already, and one that is malformed, come back as they are.
func Stamp(value string, source netip.AddrPort) string {
	via, err := ParseVia(value)
	if err != nil {
		return value
	}
	addr := source.Addr().Unmap()
	start, end, _ := findParam(via.Params, "rport")
	if start == end {
		if host, err := netip.ParseAddr(via.Host); err == nil && host.Unmap() == addr {
			return value
		}
	}
	var room [256]byte
	b := append(room[:0], value[:len(value)-len(via.Params)]...)
	params := via.Params
	if start != end { // rport takes the place of its flag
		b = append(b, params[:start]...)
		b = append(b, ";rport="...)
		b = strconv.AppendUint(b, uint64(source.Port()), 10)
		b = append(b, params[end:]...)
	} else {
		b = append(b, params...)
	}
	if _, has := Param(via.Params, "received"); has { // no phone does that
		whole := string(b)
		head := whole[:len(value)-len(via.Params)]
		return head + SetParam(whole[len(head):], "received", addr.String())
	}
	b = append(b, ";received="...)
	b = addr.AppendTo(b)
	return string(b)
}
