package registrar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// contacts is what a REGISTER asks about bindings (RFC 3261 10.2).
type contacts struct {
	add       []*registrations.Binding
	remove    []string
	removeAll bool
	emergency bool
}

var errContact = errors.New("malformed Contact")

// maxContacts in one REGISTER; a phone has one or two.
const maxContacts = 20

// readContacts turns Contact headers into bindings that expire at most longest from now.
func readContacts(m *sip.Message, impi string, now time.Time, longest time.Duration) (contacts, error) {
	var c contacts
	header := m.Expires(-1)
	values := m.All(sip.Contact)
	if len(values) > maxContacts {
		return c, fmt.Errorf("%w: %d of them, at most %d", errContact, len(values), maxContacts)
	}
	for _, value := range values {
		if value == "*" {
			if len(values) != 1 || header != 0 { // RFC 3261 10.2.2
				return c, fmt.Errorf("%w: * needs Expires: 0 and no other Contact", errContact)
			}
			c.removeAll = true
			return c, nil
		}
		b, lasts, err := binding(m, value, impi, now, header, longest)
		if err != nil {
			return c, err
		}
		c.emergency = c.emergency || b.GetEmergency()
		if lasts <= 0 {
			c.remove = append(c.remove, b.GetId())
			continue
		}
		c.add = replace(c.add, b)
	}
	return c, nil
}

// replace keeps the last of several contacts with one id.
func replace(list []*registrations.Binding, b *registrations.Binding) []*registrations.Binding {
	for i, old := range list {
		if old.GetId() == b.GetId() {
			list[i] = b
			return list
		}
	}
	return append(list, b)
}

func binding(m *sip.Message, value, impi string, now time.Time, header int, longest time.Duration) (*registrations.Binding, time.Duration, error) {
	a, err := sip.ParseAddress(value)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errContact, err)
	}
	u, err := sip.ParseURI(a.URI)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errContact, err)
	}
	_, emergency := u.Param("sos")
	lasts := lifetime(a.Params, header, longest)
	number, _ := m.CSeq()
	b := &registrations.Binding{
		Id: bindingID(a, u, emergency), Uri: a.URI, Path: m.All(sip.Path), CallId: m.CallID(), Cseq: number,
		ExpiresAt: now.Add(lasts).UnixMilli(), Params: sip.DelParam(sip.DelParam(a.Params, "expires"), "q"), Impi: impi,
		Emergency: emergency, Q: qualityOf(a.Params),
	}
	return b, lasts, nil
}

// lifetime is the expires parameter, else the Expires header, else the longest; never more than the longest. What is
// malformed counts as absent (RFC 3261 10.2.1.1).
func lifetime(params string, header int, longest time.Duration) time.Duration {
	asked := header
	if v, ok := sip.Param(params, "expires"); ok {
		if n, err := strconv.ParseUint(v, 10, 32); err == nil {
			asked = int(n)
		}
	}
	if asked < 0 {
		return longest
	}
	return min(time.Duration(asked)*time.Second, longest)
}

// bindingID is the instance and reg-id of RFC 5626 6, else the contact URI; an emergency registration is one of its own.
func bindingID(a sip.Address, u sip.URI, emergency bool) string {
	id := ""
	if instance, ok := sip.Param(a.Params, "+sip.instance"); !ok || instance == "" {
		id = normalised(u)
	} else {
		id = instance
		if reg, ok := sip.Param(a.Params, "reg-id"); ok {
			id += ":" + reg
		}
	}
	if emergency {
		return "sos" + id
	}
	return id
}

// normalised is a contact URI in the form in which equal ones are the same text (RFC 3261 19.1.4): case and order of
// parameters, needless escapes and the case of the host make no difference. A parameter that only one of two URIs has
// does: phones behind one NAT tell themselves apart by such.
func normalised(u sip.URI) string {
	if u.Scheme != "sip" && u.Scheme != "sips" {
		return u.String()
	}
	port := u.Port
	plain := u.Canonical()
	if port != 0 {
		user, _, found := strings.Cut(strings.TrimPrefix(plain, u.Scheme+":"), "@")
		plain = u.Scheme + ":"
		if found {
			plain += user + "@"
		}
		plain += sip.HostPort(strings.ToLower(u.Host), port)
	}
	var params []string
	sip.Params(u.Params, func(name, value string) bool {
		if value != "" {
			name += "=" + value
		}
		params = append(params, ";"+strings.ToLower(name))
		return true
	})
	slices.Sort(params)
	headers := strings.Split(strings.TrimPrefix(u.Headers, "?"), "&")
	slices.Sort(headers)
	if joined := strings.Join(headers, "&"); joined != "" {
		params = append(params, "?"+joined)
	}
	return plain + strings.Join(params, "")
}

// qualityOf reads q in thousandths; absent or malformed is 1.
func qualityOf(params string) uint32 {
	v, ok := sip.Param(params, "q")
	if !ok {
		return 1000
	}
	f, err := strconv.ParseFloat(v, 32)
	if err != nil || !(f >= 0 && f <= 1) { // NaN is malformed too
		return 1000
	}
	return uint32(f*1000 + 0.5)
}

// contactValue prints a binding as the 200 shows it.
func contactValue(b *registrations.Binding, now time.Time) string {
	left := (b.GetExpiresAt() - now.UnixMilli() + 999) / 1000
	s := make([]byte, 0, len(b.GetUri())+len(b.GetParams())+40)
	s = append(append(append(s, '<'), b.GetUri()...), '>')
	s = append(s, b.GetParams()...)
	if b.GetQ() != 1000 {
		s = fmt.Appendf(s, ";q=%.3g", float64(b.GetQ())/1000)
	}
	s = append(s, ";expires="...)
	return string(strconv.AppendInt(s, left, 10))
}
