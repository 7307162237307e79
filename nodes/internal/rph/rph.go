// Package rph says how important a SIP request is: the document rph_json gives values of Resource-Priority (RFC 4412) a
// priority. It is pure.
package rph

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Lowest and Highest are the priorities that the document may give.
const (
	Lowest  = 1
	Highest = 15
)

// Table is the document. The zero value gives nobody a priority.
type Table struct{ priorities map[string]int }

// Parse reads {"priority_blocks":[{"priority":1-15,"rph_values":["ets.0"]}]}; "" is an empty table. Every fault is reported.
func Parse(text string) (*Table, error) {
	t := &Table{priorities: map[string]int{}}
	if strings.TrimSpace(text) == "" {
		return t, nil
	}
	var doc struct {
		Blocks []struct {
			Priority int      `json:"priority"`
			Values   []string `json:"rph_values"`
		} `json:"priority_blocks"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("reading rph.json: %w", err)
	}
	var problems []error
	for i, b := range doc.Blocks {
		if b.Priority < Lowest || b.Priority > Highest {
			problems = append(problems, fmt.Errorf("reading rph.json: block %d: priority %d is not from %d to %d", i+1, b.Priority, Lowest, Highest))
			continue
		}
		for _, v := range b.Values {
			v = strings.ToLower(strings.TrimSpace(v))
			if other, known := t.priorities[v]; known && other != b.Priority {
				problems = append(problems, fmt.Errorf("reading rph.json: block %d: %q has priority %d already", i+1, v, other))
			}
			t.priorities[v] = b.Priority
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return t, nil
}

// Priority of a request: the highest of its Resource-Priority values, 0 when it has none that the document knows.
func (t *Table) Priority(m *sip.Message) int {
	if t == nil || len(t.priorities) == 0 || !m.Has(sip.ResourcePriority) {
		return 0
	}
	highest := 0
	for _, list := range m.All(sip.ResourcePriority) {
		for value := range strings.SplitSeq(list, ",") {
			highest = max(highest, t.priorities[strings.ToLower(strings.TrimSpace(value))])
		}
	}
	return highest
}
