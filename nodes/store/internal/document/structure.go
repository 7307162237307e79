package document

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// form is what an element may hold, as the schema of TS 29.228 Annex E has it (order is left free, as readers leave it).
type form struct {
	one      []string // exactly once
	optional []string // at most once
	some     []string // at least once
	any      []string // any number of times
	choice   []string // exactly one of them
}

// forms lists the elements that hold others. Those of Extension are anybody's.
func forms() map[string]form {
	return map[string]form{
		"SharedIFCsSets":        {any: []string{"SharedIFCsSet"}},
		"SharedIFCsSet":         {one: []string{"SetID"}, any: []string{"InitialFilterCriteria"}},
		"FallbackIFCsSet":       {any: []string{"InitialFilterCriteria"}},
		"InitialFilterCriteria": {one: []string{"Priority", "ApplicationServer"}, optional: []string{"TriggerPoint", "ProfilePartIndicator", "Extension"}},
		"TriggerPoint":          {one: []string{"ConditionTypeCNF"}, some: []string{"SPT"}, optional: []string{"Extension"}},
		"SPT": {some: []string{"Group"}, optional: []string{"ConditionNegated", "Extension"},
			choice: []string{"RequestURI", "Method", "SIPHeader", "SessionCase", "SessionDescription"}},
		"SIPHeader":          {one: []string{"Header"}, optional: []string{"Content", "Extension"}},
		"SessionDescription": {one: []string{"Line"}, optional: []string{"Content", "Extension"}},
		"ApplicationServer":  {one: []string{"ServerName"}, optional: []string{"DefaultHandling", "ServiceInfo", "Extension"}},
	}
}

// inside is an element that is being read.
type inside struct {
	name string
	line int
	seen map[string]int
}

// structure checks that elements stand where they may, and as often. What a reader would pass over, such as a misspelled name, is told.
func structure(text string) error {
	dec := xml.NewDecoder(strings.NewReader(text))
	known := forms()
	var open []inside
	var problems []error
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return errors.Join(problems...)
		}
		if err != nil {
			return fmt.Errorf("it is not XML: %w", err)
		}
		line, _ := dec.InputPos()
		switch t := token.(type) {
		case xml.StartElement:
			name := t.Name.Local
			if len(open) > 0 {
				parent := &open[len(open)-1]
				parent.seen[name]++
				if f, ok := known[parent.name]; !ok || !slices.Contains(f.all(), name) {
					problems = append(problems, fmt.Errorf("line %d: %s may not stand in %s%s", line, name, parent.name, f.hint()))
				}
			}
			if name == "Extension" {
				if err := dec.Skip(); err != nil {
					return fmt.Errorf("it is not XML: %w", err)
				}
				continue
			}
			open = append(open, inside{name, line, map[string]int{}})
		case xml.EndElement:
			last := open[len(open)-1]
			open = open[:len(open)-1]
			problems = append(problems, known[last.name].check(last)...)
		}
	}
}

func (f form) all() []string { return slices.Concat(f.one, f.optional, f.some, f.any, f.choice) }

func (f form) hint() string {
	if len(f.all()) == 0 {
		return ", which holds text"
	}
	return ", allowed are " + strings.Join(f.all(), ", ")
}

// check counts.
func (f form) check(e inside) (problems []error) {
	for _, name := range f.one {
		if n := e.seen[name]; n != 1 {
			problems = append(problems, fmt.Errorf("line %d: %s has %d %s, allowed is 1", e.line, e.name, n, name))
		}
	}
	for _, name := range f.optional {
		if n := e.seen[name]; n > 1 {
			problems = append(problems, fmt.Errorf("line %d: %s has %d %s, allowed is at most 1", e.line, e.name, n, name))
		}
	}
	for _, name := range f.some {
		if e.seen[name] == 0 {
			problems = append(problems, fmt.Errorf("line %d: %s has no %s, at least 1 is needed", e.line, e.name, name))
		}
	}
	if len(f.choice) > 0 {
		n := 0
		for _, name := range f.choice {
			n += e.seen[name]
		}
		if n != 1 {
			problems = append(problems, fmt.Errorf("line %d: %s has %d of %s, allowed is 1", e.line, e.name, n, strings.Join(f.choice, ", ")))
		}
	}
	return problems
}
