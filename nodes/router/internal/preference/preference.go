// Package preference orders the contacts of a called user by what the caller prefers (RFC 3841) and what the phones said
// of themselves when they registered (RFC 3840). It is pure.
package preference

import (
	"cmp"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Fork is how contacts are to be tried.
type Fork uint8

// Ways of trying.
const (
	Parallel   Fork = iota // all at once
	Sequential             // one after the other
	Single                 // the best one only
)

// Disposition reads how the caller wants contacts to be tried (Request-Disposition, RFC 3841 9.1). Without a word of it
// they are tried all at once.
func Disposition(m *sip.Message) Fork {
	fork := Parallel
	for _, v := range m.All(sip.RequestDisposition) {
		for word := range strings.SplitSeq(v, ",") {
			switch word = strings.TrimSpace(word); {
			case strings.EqualFold(word, "no-fork"):
				return Single
			case strings.EqualFold(word, "sequential"):
				fork = Sequential
			}
		}
	}
	return fork
}

// Order drops the contacts that the caller rejects or that lack what it requires, and sorts the others, best first: by
// the callee's q, then by the caller's preference, then the one that lasts longest (RFC 3841 7.2.4). A contact that has
// said nothing of itself is immune to preferences.
func Order(m *sip.Message, contacts []*registrations.Binding) []*registrations.Binding {
	rejected, accepted := predicates(m, sip.RejectContact), predicates(m, sip.AcceptContact)
	if len(rejected)+len(accepted) == 0 {
		accepted = implicit(m)
	}
	type ranked struct {
		*registrations.Binding
		score float64
	}
	list := make([]ranked, 0, len(contacts))
	for _, b := range contacts {
		if score, ok := rank(featuresOf(b.GetParams()), rejected, accepted); ok {
			list = append(list, ranked{b, score})
		}
	}
	slices.SortStableFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.GetQ(), a.GetQ()), cmp.Compare(b.score, a.score), cmp.Compare(b.GetExpiresAt(), a.GetExpiresAt()))
	})
	out := make([]*registrations.Binding, len(list))
	for i := range list {
		out[i] = list[i].Binding
	}
	return out
}

// rank is the caller's preference for a contact, from 0 to 1; false when it is not to be called.
func rank(f features, rejected, accepted []predicate) (score float64, ok bool) {
	if len(f) == 0 {
		return 1, true
	}
	for _, p := range rejected {
		if known, matches := p.on(f); known == len(p.terms) && matches {
			return 0, false
		}
	}
	if len(accepted) == 0 {
		return 1, true
	}
	sum := 0.0
	for _, p := range accepted {
		known, matches := p.on(f)
		incomplete := p.explicit && known < len(p.terms)
		switch {
		case p.require && (!matches || incomplete):
			return 0, false
		case matches && !incomplete:
			sum += float64(known) / float64(len(p.terms))
		}
	}
	return sum / float64(len(accepted)), true
}

// implicit is what a request without preferences prefers: who understands it (RFC 3841 7.2.2).
func implicit(m *sip.Message) []predicate {
	p := predicate{terms: []term{{"methods", []value{{kind: token, text: strings.ToLower(m.Method)}}}}, require: true}
	if event, _, _ := strings.Cut(m.Get(sip.Event), ";"); event != "" {
		p.terms = append(p.terms, term{"events", []value{{kind: token, text: strings.ToLower(strings.TrimSpace(event))}}})
	}
	return []predicate{p}
}
