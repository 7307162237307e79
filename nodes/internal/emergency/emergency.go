// Package emergency knows emergency calls when it sees them: service URNs (RFC 5031), the numbers that are dialled for
// them, and emergency registrations (TS 24.229 5.1.6). It is pure.
package emergency

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const urn = "urn:service:"

// Priority is the Resource-Priority of an emergency call (RFC 7135).
const Priority = "esnet.0"

// URN is the Request-URI of calls to a service.
func URN(service string) string { return urn + service }

// Service returns the service of a URN: sos of urn:service:sos, sos.fire of urn:service:SOS.fire.
func Service(uri string) (service string, ok bool) {
	if len(uri) < len(urn)+3 || !strings.EqualFold(uri[:len(urn)], urn) {
		return "", false
	}
	service = strings.ToLower(uri[len(urn):])
	return service, service == "sos" || strings.HasPrefix(service, "sos.")
}

// Parent is the service that a sub-service is a kind of: sos of sos.fire; "" of sos.
func Parent(service string) string {
	i := strings.LastIndexByte(service, '.')
	return service[:max(i, 0)]
}

// Call tells an INVITE that begins an emergency call.
func Call(m *sip.Message) bool {
	if m.Method != sip.INVITE {
		return false
	}
	_, ok := Service(m.URI)
	return ok
}

// Registration tells a REGISTER for emergency calls: its Contacts have the parameter sos.
func Registration(m *sip.Message) bool {
	if m.Method != sip.REGISTER {
		return false
	}
	for i := range m.Headers {
		if h := &m.Headers[i]; h.ID == sip.Contact && Contact(h.Value) {
			return true
		}
	}
	return false
}

// Contact tells a Contact that is for emergency calls.
func Contact(value string) bool {
	if !mentionsSOS(value) { // nearly always
		return false
	}
	a, err := sip.ParseAddress(value)
	if err != nil {
		return false
	}
	u, err := sip.ParseURI(a.URI)
	if err != nil {
		return false
	}
	_, sos := u.Param("sos")
	return sos
}

// mentionsSOS looks for the letters in any case.
func mentionsSOS(s string) bool {
	for i := 1; i+1 < len(s); i++ {
		if s[i]|0x20 == 'o' && s[i-1]|0x20 == 's' && s[i+1]|0x20 == 's' {
			return true
		}
	}
	return false
}

// Numbers are the services by the numbers that are dialled for them.
type Numbers map[string]string

// ParseNumbers reads emergency_numbers: a number, or number:service.
func ParseNumbers(list []string) Numbers {
	out := Numbers{}
	for _, item := range list {
		number, service, found := strings.Cut(item, ":")
		if !found {
			service = "sos"
		}
		out[number] = strings.ToLower(service)
	}
	return out
}

// Dialled finds the service of a dialled number; for sip: URIs ours tells whether the host is this network's.
func (n Numbers) Dialled(uri string, ours func(host string) bool) (service string, ok bool) {
	if len(n) == 0 {
		return "", false
	}
	u, err := sip.ParseURI(uri)
	if err != nil || (u.Scheme != "tel" && !((u.Scheme == "sip" || u.Scheme == "sips") && ours(u.Host))) {
		return "", false
	}
	user, _, _ := strings.Cut(u.User, ";")
	if service, ok = n[user]; ok {
		return service, true
	}
	service, ok = n[sip.URI{Scheme: "tel", User: user}.Number()]
	return service, ok
}
