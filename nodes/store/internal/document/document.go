// Package document says whether a configuration document may be put in force: the shared configuration through
// nodes/config, the JSON and XML documents by their own rules. It changes and stores nothing.
package document

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// MaxText is the size of a document, in bytes.
const MaxText = 1 << 20

// Validate checks text against the rules of its type, in place of old ("" = none). local are this node's options, for
// what a shared configuration needs around it. The error names every option (or place), its value and what is allowed;
// warnings are what is read past.
func Validate(typ, text, old string, local *config.Options) (warnings []string, err error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("%s has %d bytes, allowed are %d", typ, len(text), MaxText)
	}
	if typ != config.SharedFile && strings.TrimSpace(text) == "" {
		return nil, nil // it goes out of force
	}
	switch typ {
	case config.SharedFile:
		return shared(text, old, local)
	case "bgcf_json":
		return nil, decode(typ, text, bgcf)
	case "scscf_json":
		return nil, decode(typ, text, scscf)
	case "enum_json":
		return nil, decode(typ, text, func(enumDocument) error { return enum.Check(text) })
	case "rph_json":
		return nil, decode(typ, text, rph)
	case "dns_json":
		if _, err := resolve.ParseOverrides(text); err != nil {
			return nil, fmt.Errorf("%s: %w", typ, err)
		}
		return nil, nil
	case "shared_ifcs", "fallback_ifcs":
		return nil, criteria(typ, text)
	default:
		return nil, decode(typ, text, func(map[string]any) error { return nil })
	}
}

// shared parses the shared configuration together with the local one of this node. home_domain is for ever.
func shared(text, old string, local *config.Options) ([]string, error) {
	parse := func(text string) (*config.Options, []config.Warning, error) {
		return config.Parse(config.File{Name: config.LocalFile, Path: config.LocalFile, Text: local.Render("local")},
			config.File{Name: config.SharedFile, Path: config.SharedFile, Text: text})
	}
	o, found, err := parse(text)
	if err != nil {
		return nil, err
	}
	if o.HomeDomain == "" {
		return nil, config.Problem{File: config.SharedFile, Option: "home_domain", Allowed: "every deployment needs it"}
	}
	// Only that line of the old text counts, so that an option which is refused today cannot open the way.
	before, _, err := parse(only("home_domain", old))
	if err == nil && before.HomeDomain != "" && before.HomeDomain != o.HomeDomain {
		return nil, fmt.Errorf("%s: option home_domain: value %q is refused, allowed is %s: it cannot be changed once subscribers belong to it",
			config.SharedFile, o.HomeDomain, before.HomeDomain)
	}
	warnings := make([]string, len(found))
	for i, w := range found {
		warnings[i] = w.String()
	}
	return warnings, nil
}

// only is the lines of a text that set one option.
func only(option, text string) string {
	var out strings.Builder
	for l := range strings.Lines(text) {
		if name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(l), "export "), "="); strings.TrimSpace(name) == option {
			out.WriteString(l)
		}
	}
	return out.String()
}

// decode parses a JSON document and hands it to its rules.
func decode[T any](typ, text string, rules func(T) error) error {
	dec := json.NewDecoder(strings.NewReader(text))
	var v T
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("%s: %w", typ, describe(text, err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: there is more after the JSON object", typ)
	}
	if err := rules(v); err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	return nil
}

// describe says where in the text the error is.
func describe(text string, err error) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: it is not JSON: %w", line(text, syntax.Offset), err)
	case errors.As(err, &wrong):
		return fmt.Errorf("line %d: %s must be a JSON %s, not a %s", line(text, wrong.Offset), orDocument(wrong.Field), kind(wrong), wrong.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is not JSON: it ends too early")
	}
	return err
}

func line(text string, offset int64) int {
	return 1 + strings.Count(text[:min(int(offset), len(text))], "\n")
}

func orDocument(field string) string {
	if field == "" {
		return "the document"
	}
	return field
}

func kind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "struct", "map":
		return "object"
	case "slice":
		return "array"
	case "string":
		return "string"
	default:
		return "number"
	}
}

type bgcfDocument struct {
	Routes []struct {
		Name   string   `json:"name"`
		Domain *string  `json:"domain"`
		Number *string  `json:"number"`
		Route  []string `json:"route"`
	} `json:"routes"`
}

var numberPattern = regexp.MustCompile(`^\+?[0-9A-Fa-f*#().-]*$`)

func bgcf(d bgcfDocument) error {
	if d.Routes == nil {
		return errors.New("routes is missing: a list, empty if there are none")
	}
	var problems []error
	for i, r := range d.Routes {
		at := fmt.Sprintf("routes[%d] (%s)", i, r.Name)
		switch {
		case r.Domain != nil && r.Number != nil:
			problems = append(problems, fmt.Errorf("%s: it has both domain %q and number %q, allowed is one of them", at, *r.Domain, *r.Number))
		case r.Domain == nil && r.Number == nil:
			problems = append(problems, fmt.Errorf("%s: it has neither domain nor number, one is needed", at))
		case r.Domain != nil && *r.Domain == "":
			problems = append(problems, fmt.Errorf("%s: domain is empty, allowed are a domain and *", at))
		case r.Number != nil && !numberPattern.MatchString(*r.Number):
			problems = append(problems, fmt.Errorf("%s: number %q, allowed is a number prefix such as +1650", at, *r.Number))
		}
		if len(r.Route) == 0 {
			problems = append(problems, fmt.Errorf("%s: route is empty, at least one SIP URI is needed", at))
		}
		for _, uri := range r.Route {
			if !sipURI(uri) {
				problems = append(problems, fmt.Errorf("%s: route %q, allowed is a SIP URI", at, uri))
			}
		}
	}
	return errors.Join(problems...)
}

// sipURI takes what a Route header may hold: a URI, in angle brackets or bare.
func sipURI(s string) bool {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '<'); i >= 0 && strings.HasSuffix(s, ">") {
		s = s[i+1 : len(s)-1]
	}
	scheme, rest, ok := strings.Cut(s, ":")
	return ok && (strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips")) && rest != "" && !strings.ContainsAny(rest, " <>\"")
}

type scscfDocument struct {
	SCSCFs []struct {
		Server       string `json:"server"`
		Priority     *int   `json:"priority"`
		Weight       *int   `json:"weight"`
		Capabilities []int  `json:"capabilities"`
	} `json:"s-cscfs"`
}

func scscf(d scscfDocument) error {
	if d.SCSCFs == nil {
		return errors.New("s-cscfs is missing: a list")
	}
	var problems []error
	for i, s := range d.SCSCFs {
		if !sipURI(s.Server) {
			problems = append(problems, fmt.Errorf("s-cscfs[%d]: server %q, allowed is a SIP URI", i, s.Server))
		}
		for name, n := range map[string]*int{"priority": s.Priority, "weight": s.Weight} {
			if n == nil || *n < 0 {
				problems = append(problems, fmt.Errorf("s-cscfs[%d]: %s is missing or negative", i, name))
			}
		}
	}
	return errors.Join(problems...)
}

// enumDocument is its form; the rules are those of who uses it.
type enumDocument struct {
	Blocks []struct {
		Name   string  `json:"name"`
		Prefix *string `json:"prefix"`
		Regex  string  `json:"regex"`
	} `json:"number_blocks"`
}

type rphDocument struct {
	Blocks []struct {
		Priority *int     `json:"priority"`
		Values   []string `json:"rph_values"`
	} `json:"priority_blocks"`
}

func rph(d rphDocument) error {
	if d.Blocks == nil {
		return errors.New("priority_blocks is missing: a list")
	}
	var problems []error
	seen := map[string]int{}
	for i, b := range d.Blocks {
		if b.Priority == nil || *b.Priority < 1 || *b.Priority > 15 {
			problems = append(problems, fmt.Errorf("priority_blocks[%d]: priority is missing or not from 1 to 15", i))
		}
		for _, v := range b.Values {
			v = strings.ToLower(v)
			if other, ok := seen[v]; ok && other != i {
				problems = append(problems, fmt.Errorf("priority_blocks[%d]: value %q stands in priority_blocks[%d] as well", i, v, other))
			}
			seen[v] = i
		}
	}
	return errors.Join(problems...)
}

// wellFormed checks that a text is one XML element.
func wellFormed(typ, text string) error {
	dec := xml.NewDecoder(strings.NewReader(text))
	elements := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: it is not XML: %w", typ, err)
		}
		if _, ok := token.(xml.StartElement); ok {
			elements++
		}
	}
	if elements == 0 {
		return fmt.Errorf("%s: there is no XML element in it", typ)
	}
	return nil
}
