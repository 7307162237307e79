package simservs

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rule is what the schema says of one element.
type rule struct {
	attributes map[string]value // known attributes without namespace; a nil map allows any
	required   []string         // attributes and children that must be there
	children   map[name]*rule   // nil: none, the element holds only text
	foreign    bool             // elements of other namespaces may stand among the children (xs:any ##other, lax)
	lax        bool             // any content
	many       bool             // the element may be repeated
	text       value            // of the text; nil: there must be none
}

type name struct{ space, local string }

// value checks a simple type; an empty string means that the text is good, else it says what is allowed.
type value func(text string) (allowed string)

func check(e *Element, r *rule) error { return (&checker{ids: map[string]bool{}}).element(e, r) }

type checker struct{ ids map[string]bool }

func (c *checker) element(e *Element, r *rule) error {
	if r.lax {
		return nil
	}
	if err := c.attributes(e, r); err != nil {
		return err
	}
	if err := content(e, r); err != nil {
		return err
	}
	seen := map[name]bool{}
	for _, child := range e.Children {
		n := name{child.Space, child.Local}
		known, ok := r.children[n]
		switch {
		case ok && seen[n] && !known.many:
			return child.problem("it may stand only once in %s", e.Local)
		case ok:
			if err := c.element(child, known); err != nil {
				return err
			}
		case r.foreign && child.Space != e.Space && child.Space != "" && child.Space != Namespace:
		case child.Space == Namespace && strings.HasSuffix(child.Local, "-serv-cap") && e.Local == "simservs":
		default:
			return child.problem("it is not expected in %s (namespace %q); allowed are %s", e.Local, child.Space, r.allowed())
		}
		seen[n] = true
	}
	for _, wanted := range r.required {
		if _, ok := e.Attribute(wanted); !ok && !slices.ContainsFunc(e.Children, func(c *Element) bool { return c.Local == wanted }) {
			return e.problem("%s is missing", wanted)
		}
	}
	return nil
}

func (c *checker) attributes(e *Element, r *rule) error {
	for _, a := range e.Attributes {
		if a.Name.Space != "" {
			continue
		}
		known, ok := r.attributes[a.Name.Local]
		if !ok {
			if r.attributes == nil {
				continue
			}
			return e.problem("attribute %s is not expected", a.Name.Local)
		}
		if allowed := known(a.Value); allowed != "" {
			return e.problem("attribute %s: %q is refused, allowed is %s", a.Name.Local, a.Value, allowed)
		}
		if e.Local == "rule" && a.Name.Local == "id" {
			if c.ids[a.Value] {
				return e.problem("id %q is used twice in the document", a.Value)
			}
			c.ids[a.Value] = true
		}
	}
	return nil
}

func content(e *Element, r *rule) error {
	if r.text == nil {
		if e.Text != "" {
			return e.problem("text %q is not expected", shorten(e.Text))
		}
		return nil
	}
	if allowed := r.text(e.Text); allowed != "" {
		return e.problem("%q is refused, allowed is %s", shorten(e.Text), allowed)
	}
	return nil
}

func (r *rule) allowed() string {
	var names []string
	for n := range r.children {
		names = append(names, n.local)
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "no elements"
	}
	return strings.Join(names, ", ")
}

func shorten(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

var ncName = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}._\-]*$`)

func isBoolean(s string) string {
	if slices.Contains([]string{"true", "false", "1", "0"}, s) {
		return ""
	}
	return "true, false, 1 or 0"
}

func isID(s string) string {
	if ncName.MatchString(s) {
		return ""
	}
	return "a letter or _, then letters, digits, '.', '-' and '_'"
}

func isURI(s string) string {
	if _, err := url.Parse(s); err == nil && s != "" && !strings.ContainsAny(s, " \t\r\n<>\"{}|\\^`") {
		return ""
	}
	return "a URI"
}

func isReply(s string) string {
	if n, err := strconv.Atoi(s); err == nil && n >= 5 && n <= 180 {
		return ""
	}
	return "a whole number of seconds from 5 to 180"
}

func isTime(s string) string {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05"} {
		if _, err := time.Parse(layout, s); err == nil {
			return ""
		}
	}
	return "a date and time as 2006-01-02T15:04:05Z"
}

func isText(string) string { return "" }

func oneOf(values ...string) value {
	return func(s string) string {
		if slices.Contains(values, s) {
			return ""
		}
		return "one of " + strings.Join(values, ", ")
	}
}
