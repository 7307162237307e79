package bgcf

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Routes is bgcf.json, made ready for look-ups.
type Routes struct {
	domains map[string][]string
	numbers map[string][]string
	longest int
}

// entry is one route of the document.
type entry struct {
	Name   string   `json:"name"`
	Domain *string  `json:"domain"`
	Number *string  `json:"number"`
	Route  []string `json:"route"`
}

// Parse reads {"routes":[{"name","domain"|"number","route":["sip:.."]}]}; "" has no routes. Every fault is reported.
func Parse(text string) (*Routes, error) {
	r := &Routes{domains: map[string][]string{}, numbers: map[string][]string{}}
	if text == "" {
		return r, nil
	}
	var doc struct {
		Routes []entry `json:"routes"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("reading bgcf.json: %w", err)
	}
	var problems []error
	for i, e := range doc.Routes {
		if err := r.add(e); err != nil {
			problems = append(problems, fmt.Errorf("reading bgcf.json: entry %d (%q): %w", i+1, e.Name, err))
		}
	}
	return r, errors.Join(problems...)
}

// add takes one entry; of two for one key the first wins.
func (r *Routes) add(e entry) error {
	if (e.Domain == nil) == (e.Number == nil) {
		return errors.New("exactly one of domain and number must be there")
	}
	if len(e.Route) == 0 {
		return errors.New("route is empty")
	}
	for _, uri := range e.Route {
		if u, err := sip.ParseURI(strings.Trim(uri, "<>")); err != nil || (u.Scheme != "sip" && u.Scheme != "sips") {
			return fmt.Errorf("route %q is no SIP URI", uri)
		}
	}
	via := make([]string, len(e.Route))
	for i, uri := range e.Route {
		via[i] = strings.Trim(uri, "<>")
	}
	if e.Domain != nil {
		key := strings.ToLower(*e.Domain)
		if _, known := r.domains[key]; !known {
			r.domains[key] = via
		}
		return nil
	}
	key := sip.URI{Scheme: "tel", User: *e.Number}.Number()
	if _, known := r.numbers[key]; !known {
		r.numbers[key] = via
	}
	r.longest = max(r.longest, len(key))
	return nil
}

// Domain finds the routes of a domain: the exact one, else "*".
func (r *Routes) Domain(host string) ([]string, bool) {
	if via, ok := r.domains[strings.ToLower(host)]; ok {
		return via, true
	}
	via, ok := r.domains["*"]
	return via, ok
}

// Number finds the routes of the longest prefix of a number.
func (r *Routes) Number(number string) ([]string, bool) {
	for n := min(len(number), r.longest); n >= 0; n-- {
		if via, ok := r.numbers[number[:n]]; ok {
			return via, true
		}
	}
	return nil, false
}
