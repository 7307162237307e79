package enum

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// rule is a NAPTR record that this client can use.
type rule struct {
	order, preference uint16
	terminal          bool
	substitution      *substitution // nil: leads on to name
	name              string
}

// outcome of a rule: a URI, or where to look next.
type outcome struct {
	uri    sip.URI
	name   string // a domain name
	number string // a number
}

func (o outcome) found() bool { return o.uri.Scheme != "" }

// rulesOf takes the records that are for SIP, by order and then preference, the lower first (RFC 3403 section 4.1).
// Records that are malformed or for something else are passed over.
func rulesOf(rrs []dns.RR) []rule {
	var out []rule
	for _, rr := range rrs {
		if n, ok := rr.(*dns.NAPTR); ok {
			if r, ok := ruleOf(n); ok {
				out = append(out, r)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b rule) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.preference, b.preference))
	})
	return out
}

func ruleOf(n *dns.NAPTR) (rule, bool) {
	r := rule{order: n.Order, preference: n.Preference, terminal: strings.EqualFold(n.Flags, "u")}
	if !r.terminal && n.Flags != "" || !forSIP(n.Service) && (r.terminal || n.Service != "") {
		return rule{}, false
	}
	if text := unescape(n.Regexp); text != "" {
		s, err := parseSubstitution(text)
		r.substitution = &s
		return r, err == nil
	}
	r.name = strings.ToLower(strings.TrimSuffix(n.Replacement, "."))
	return r, !r.terminal && r.name != ""
}

// forSIP tells whether a service (RFC 6116 3.4.3.1) holds an enumservice whose URIs a SIP server can use: sip (RFC 3764)
// or pstn with tel or sip (RFC 4769).
func forSIP(service string) bool {
	kinds := strings.Split(strings.ToLower(service), "+")
	return kinds[0] == "e2u" && slices.ContainsFunc(kinds[1:], func(kind string) bool {
		return kind == "sip" || kind == "pstn:tel" || kind == "pstn:sip"
	})
}

// unescape undoes how the library shows a character string of a record: \" and \\ and \DDD.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

// apply takes the first rule that has something to say about the number. Once a rule leads on, no other counts.
func apply(rules []rule, number string) (outcome, bool) {
	for _, r := range rules {
		if out, ok := r.apply(number); ok {
			return out, true
		}
	}
	return outcome{}, false
}

// apply gives the rule's outcome; false when its pattern does not match, or a terminal rule's result is no URI that can
// be used.
func (r rule) apply(number string) (outcome, bool) {
	if r.substitution == nil {
		return outcome{name: r.name}, true
	}
	text, ok := r.substitution.apply(number)
	if !ok {
		return outcome{}, false
	}
	if r.terminal {
		u, ok := usable(text)
		return outcome{uri: u}, ok
	}
	if next := strings.TrimPrefix(text, "tel:"); onlyDigits(next) {
		return outcome{number: next}, true
	}
	return outcome{name: strings.ToLower(strings.TrimSuffix(text, "."))}, true
}

// usable reads what a rule produced: a sip:, sips: or tel: URI.
func usable(text string) (sip.URI, bool) {
	u, err := sip.ParseURI(text)
	return u, err == nil && (u.Scheme == "sip" || u.Scheme == "sips" || u.Scheme == "tel")
}

// onlyDigits tells a number, which may begin with +, from other text.
func onlyDigits(s string) bool {
	s = strings.TrimPrefix(s, "+")
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// shuffled draws an order of rules in which, among rules of one order, each comes first as often as its preference says.
// Rules of preference 0 come last.
func shuffled(rules []rule, draw func(n int) int) []rule {
	out := slices.Clone(rules)
	for i := range out {
		total := 0
		end := i
		for ; end < len(out) && out[end].order == out[i].order; end++ {
			total += int(out[end].preference)
		}
		if total == 0 {
			continue
		}
		for left, j := draw(total), i; j < end; j++ {
			if left -= int(out[j].preference); left < 0 {
				out[i], out[j] = out[j], out[i]
				break
			}
		}
	}
	return out
}
