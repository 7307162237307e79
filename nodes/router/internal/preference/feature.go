package preference

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// features are what a contact says of itself: for each tag the values that it may have (RFC 3840 5).
type features map[string][]value

// predicate is one Accept-Contact or Reject-Contact.
type predicate struct {
	terms             []term
	require, explicit bool
}

type term struct {
	tag    string
	values []value
}

// on tells how many of the terms' tags a contact has, and whether none of these contradicts.
func (p predicate) on(f features) (known int, matches bool) {
	matches = true
	for _, t := range p.terms {
		have, ok := f[t.tag]
		if !ok {
			continue
		}
		known++
		matches = matches && slices.ContainsFunc(t.values, func(want value) bool {
			return slices.ContainsFunc(have, want.overlaps)
		})
	}
	return known, matches
}

// predicates are those of a header; one without any feature says nothing.
func predicates(m *sip.Message, header sip.ID) []predicate {
	var out []predicate
	for _, v := range m.All(header) {
		var p predicate
		at := strings.IndexByte(v, ';')
		if at < 0 {
			continue
		}
		sip.Params(v[at:], func(name, text string) bool {
			switch name = strings.ToLower(name); {
			case name == "require":
				p.require = true
			case name == "explicit":
				p.explicit = true
			case isFeature(name):
				p.terms = append(p.terms, term{name, valuesOf(text)})
			}
			return true
		})
		if len(p.terms) > 0 {
			out = append(out, p)
		}
	}
	return out
}

func featuresOf(params string) features {
	f := features{}
	sip.Params(params, func(name, text string) bool {
		if name = strings.ToLower(name); isFeature(name) {
			f[name] = valuesOf(text)
		}
		return true
	})
	return f
}

// isFeature tells feature tags from other parameters of a Contact (RFC 3840 9): the base tags, and every one with a plus.
func isFeature(name string) bool {
	switch name {
	case "audio", "automata", "class", "duplex", "data", "control", "mobility", "description", "events", "priority", "methods",
		"schemes", "application", "video", "language", "type", "isfocus", "actor", "text", "extensions":
		return true
	}
	return strings.HasPrefix(name, "+")
}

// value is one element of a feature's list. Which values it means is told by kind; not means all the others.
type value struct {
	kind      kind
	text      string  // of tokens in lower case, of strings as it is
	low, high float64 // of numbers, inclusive
	not       bool
}

type kind uint8

const (
	token kind = iota // TRUE and FALSE too
	text
	number
)

// valuesOf reads a feature's value: nothing (TRUE), a string in angle brackets, or a list of tokens and numbers.
func valuesOf(s string) []value {
	s = strings.Trim(s, `"`)
	if s == "" {
		return []value{{text: "true"}}
	}
	if s[0] == '<' {
		return []value{{kind: text, text: s}}
	}
	var out []value
	for item := range strings.SplitSeq(s, ",") {
		item = strings.TrimSpace(item)
		rest, not := strings.CutPrefix(item, "!")
		v := value{text: strings.ToLower(rest), not: not}
		if n, ok := strings.CutPrefix(rest, "#"); ok {
			if low, high, ok := interval(n); ok {
				v = value{kind: number, low: low, high: high, not: not}
			}
		}
		out = append(out, v)
	}
	return out
}

// interval reads 5, =5, >=5, <=5 and 1:5.
func interval(s string) (low, high float64, ok bool) {
	bound := func(s string) float64 {
		x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			return math.NaN()
		}
		return x
	}
	switch from, to, isRange := strings.Cut(s, ":"); {
	case isRange:
		low, high = bound(from), bound(to)
	case strings.HasPrefix(s, ">="):
		low, high = bound(s[2:]), math.Inf(1)
	case strings.HasPrefix(s, "<="):
		low, high = math.Inf(-1), bound(s[2:])
	default:
		low = bound(strings.TrimPrefix(s, "="))
		high = low
	}
	return low, high, low <= high // not for NaN
}

// overlaps tells whether some value is meant by both.
func (v value) overlaps(w value) bool {
	switch {
	case v.not && w.not:
		return true // there are always others
	case v.not:
		return !w.within(v)
	case w.not:
		return !v.within(w)
	case v.kind != w.kind:
		return false
	case v.kind == number:
		return v.low <= w.high && w.low <= v.high
	default:
		return v.text == w.text
	}
}

// within tells whether w, not counting its negation, means everything that v means.
func (v value) within(w value) bool {
	if v.kind != w.kind {
		return false
	}
	if v.kind == number {
		return v.low >= w.low && v.high <= w.high
	}
	return v.text == w.text
}
