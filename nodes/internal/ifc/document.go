package ifc

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// ProfileElement is the part of a ServiceProfile element that selects application servers.
type ProfileElement struct {
	Criteria []Element `xml:"InitialFilterCriteria"`
	Shared   []string  `xml:"Extension>SharedIFCSetID"`
}

// Profile is a service profile: its own criteria, ascending by priority, and the ids of the shared sets that belong to
// it too. Broken tells what was left out.
type Profile struct {
	Criteria []Criterion
	Shared   []int
	Broken   []error
}

// Profile understands the element.
func (e *ProfileElement) Profile() Profile {
	p := Profile{}
	p.Criteria, p.Broken = read(e.Criteria)
	for _, text := range e.Shared {
		id, err := number(text, "", 1<<31-1, "SharedIFCSetID")
		switch {
		case err != nil:
			p.Broken = append(p.Broken, err)
		case !slices.Contains(p.Shared, id):
			p.Shared = append(p.Shared, id)
		}
	}
	return p
}

func read(elements []Element) (out []Criterion, broken []error) {
	for i := range elements {
		c, err := elements[i].Criterion()
		if err != nil {
			broken = append(broken, fmt.Errorf("criterion %d: %w", i+1, err))
			continue
		}
		out = append(out, c)
	}
	Sort(out)
	return out, broken
}

// ParseProfile reads a ServiceProfile document.
func ParseProfile(text string) (Profile, error) {
	var d struct {
		XMLName xml.Name
		ProfileElement
	}
	if err := unmarshal(text, &d, &d.XMLName, "ServiceProfile"); err != nil {
		return Profile{}, err
	}
	return d.Profile(), nil
}

func unmarshal(text string, v any, root *xml.Name, want string) error {
	if err := xml.Unmarshal([]byte(text), v); err != nil {
		return invalid("%v", err)
	}
	if root.Local != want {
		return invalid("root element is %s, wanted is %s", root.Local, want)
	}
	return nil
}

// Sets are the shared sets of criteria of a deployment, by id.
type Sets map[int][]Criterion

// ParseSets reads a shared_ifcs document; empty text is none. The second result tells which criteria were left out.
func ParseSets(text string) (Sets, []error, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil, nil
	}
	var d struct {
		XMLName xml.Name
		Sets    []struct {
			IDs []string `xml:"SetID"`
			ProfileElement
		} `xml:"SharedIFCsSet"`
	}
	if err := unmarshal(text, &d, &d.XMLName, "SharedIFCsSets"); err != nil {
		return nil, nil, err
	}
	sets := Sets{}
	var left []error
	for _, s := range d.Sets {
		if len(s.IDs) != 1 {
			return nil, nil, invalid("a SharedIFCsSet needs one SetID")
		}
		id, err := number(s.IDs[0], "", 1<<31-1, "SetID")
		if err != nil {
			return nil, nil, err
		}
		if _, twice := sets[id]; twice {
			return nil, nil, invalid("SetID %d is there twice", id)
		}
		var broken []error
		sets[id], broken = read(s.Criteria)
		for _, err := range broken {
			left = append(left, fmt.Errorf("set %d: %w", id, err))
		}
	}
	return sets, left, nil
}

// ParseFallback reads a fallback_ifcs document; empty text is none. The second result tells which criteria were left out.
func ParseFallback(text string) ([]Criterion, []error, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil, nil
	}
	var d struct {
		XMLName xml.Name
		ProfileElement
	}
	if err := unmarshal(text, &d, &d.XMLName, "FallbackIFCsSet"); err != nil {
		return nil, nil, err
	}
	list, broken := read(d.Criteria)
	return list, broken, nil
}

// Resolve merges the criteria of a profile with those of its shared sets, ascending by priority, the profile's own first
// among equals. It also returns the ids that no set has.
func (p *Profile) Resolve(sets Sets) (criteria []Criterion, unknown []int) {
	if len(p.Shared) == 0 {
		return p.Criteria, nil
	}
	criteria = slices.Clone(p.Criteria)
	for _, id := range p.Shared {
		set, ok := sets[id]
		if !ok {
			unknown = append(unknown, id)
		}
		criteria = append(criteria, set...)
	}
	Sort(criteria)
	return criteria, unknown
}
