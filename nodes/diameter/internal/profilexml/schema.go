package profilexml

import (
	"slices"
	"strconv"
	"strings"
)

// rule is what an element may hold, after the CxDataType schema of TS 29.228 annex E. The order of elements is not
// checked: deployed HSSs and provisioning tools differ in it, and nothing depends on it.
type rule struct {
	value    *value          // of an element without children
	children map[string]part // nil and no value: anything (Extension)
	oneOf    []string        // exactly one of these children must be there
}

type part struct {
	rule
	min, max int // max 0 means any number
}

type value struct {
	allowed string
	ok      func(string) bool
}

func check(n *node, r rule) error {
	switch {
	case r.value != nil:
		if len(n.children) > 0 {
			return invalid("<%s> holds elements, allowed is %s", n.name, r.value.allowed)
		}
		if !r.value.ok(n.text) {
			return invalid("<%s> is %q, allowed is %s", n.name, n.text, r.value.allowed)
		}
		return nil
	case r.children == nil:
		return nil
	case n.text != "":
		return invalid("<%s> holds text, allowed are elements", n.name)
	}
	counts := map[string]int{}
	for _, c := range n.children {
		p, ok := r.children[c.name]
		if !ok {
			return invalid("<%s> is not allowed in <%s>", c.name, n.name)
		}
		counts[c.name]++
		if err := check(c, p.rule); err != nil {
			return err
		}
	}
	return r.count(n, counts)
}

func (r rule) count(n *node, counts map[string]int) error {
	chosen := 0
	for name, p := range r.children {
		if counts[name] < p.min {
			return invalid("<%s> needs <%s>", n.name, name)
		}
		if p.max > 0 && counts[name] > p.max {
			return invalid("<%s> holds <%s> %d times, allowed is %d", n.name, name, counts[name], p.max)
		}
		if slices.Contains(r.oneOf, name) {
			chosen += counts[name]
		}
	}
	if r.oneOf != nil && chosen != 1 {
		return invalid("<%s> needs exactly one of <%s>", n.name, strings.Join(r.oneOf, ">, <"))
	}
	return nil
}

func text(allowed string, ok func(string) bool) rule { return rule{value: &value{allowed, ok}} }

func anyText() rule { return text("text", func(string) bool { return true }) }

func someText() rule { return text("text, not empty", func(s string) bool { return s != "" }) }

func boolean() rule {
	return text("0, 1, true or false", func(s string) bool { return slices.Contains([]string{"0", "1", "true", "false"}, s) })
}

func number(low, high int) rule {
	return text("a whole number from "+strconv.Itoa(low)+" to "+strconv.Itoa(high), func(s string) bool {
		n, err := strconv.Atoi(s)
		return err == nil && n >= low && n <= high
	})
}

// identity accepts URIs as far as their scheme: which ones are taken is provisioning's decision.
func identity() rule {
	return text("a sip:, sips: or tel: URI", func(s string) bool {
		scheme, rest, ok := strings.Cut(s, ":")
		return ok && rest != "" && slices.Contains([]string{"sip", "sips", "tel"}, strings.ToLower(scheme))
	})
}

func optional(r rule) part { return part{r, 0, 1} }
func required(r rule) part { return part{r, 1, 1} }
func many(r rule) part     { return part{r, 0, 0} }

// extension is open by design: what is in it is kept as it is, but the parts that have a meaning here are checked.
func extension() part { return optional(rule{}) }

func publicIdentity() rule {
	return rule{children: map[string]part{
		"Identity":          required(identity()),
		"BarringIndication": optional(boolean()),
		"Extension": optional(rule{children: map[string]part{
			"IdentityType":                             optional(number(0, 4)),
			"WildcardedPSI":                            optional(someText()),
			"WildcardedIMPU":                           optional(someText()),
			"ServiceLevelTraceInfo":                    optional(rule{}),
			"ServicePriorityLevel":                     optional(number(0, 4)),
			"MaxNumOfAllowedSimultaneousRegistrations": optional(number(1, 1<<30)),
			"Extension":                                extension(),
		}}),
	}}
}

func serviceProfile() rule {
	return rule{children: map[string]part{
		"PublicIdentity":                   many(publicIdentity()),
		"CoreNetworkServicesAuthorization": optional(rule{}),
		"InitialFilterCriteria":            many(initialFilterCriteria()),
		"Extension": optional(rule{children: map[string]part{
			"SharedIFCSetID": many(number(0, 1<<31-1)),
			"Extension":      extension(),
		}}),
	}}
}

func initialFilterCriteria() rule {
	return rule{children: map[string]part{
		"Priority":             optional(number(0, 1<<31-1)),
		"TriggerPoint":         optional(triggerPoint()),
		"ApplicationServer":    required(applicationServer()),
		"ProfilePartIndicator": optional(number(0, 1)),
		"Extension":            extension(),
	}}
}

func applicationServer() rule {
	return rule{children: map[string]part{
		"ServerName":      required(text("a SIP URI", func(s string) bool { return strings.HasPrefix(s, "sip:") || strings.HasPrefix(s, "sips:") })),
		"DefaultHandling": optional(number(0, 1)),
		"ServiceInfo":     optional(anyText()),
		"Extension":       extension(),
	}}
}

func triggerPoint() rule {
	return rule{children: map[string]part{
		"ConditionTypeCNF": required(boolean()),
		"SPT":              {servicePointTrigger(), 1, 0},
		"Extension":        extension(),
	}}
}

func servicePointTrigger() rule {
	return rule{
		oneOf: []string{"RequestURI", "Method", "SIPHeader", "SessionCase", "SessionDescription"},
		children: map[string]part{
			"ConditionNegated":   optional(boolean()),
			"Group":              {number(0, 1<<31-1), 1, 0},
			"RequestURI":         optional(someText()),
			"Method":             optional(someText()),
			"SIPHeader":          optional(rule{children: map[string]part{"Header": required(someText()), "Content": optional(anyText()), "Extension": extension()}}),
			"SessionCase":        optional(number(0, 4)),
			"SessionDescription": optional(rule{children: map[string]part{"Line": required(someText()), "Content": optional(anyText()), "Extension": extension()}}),
			"Extension": optional(rule{children: map[string]part{
				"RegistrationType": {number(0, 2), 0, 2},
				"Extension":        extension(),
			}}),
		},
	}
}
