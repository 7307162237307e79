package enum

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// blocks is enum.json, made ready for look-ups: the longest prefix first.
type blocks struct{ list []block }

type block struct {
	prefix       string
	substitution substitution
}

// Check tells whether a text could be enum.json. Every fault is reported with its entry.
func Check(text string) error {
	_, err := parseBlocks(text)
	return err
}

// parseBlocks reads {"number_blocks":[{"name","prefix","regex"}]}; "" has none. Every fault is reported with its entry.
func parseBlocks(text string) (*blocks, error) {
	out := &blocks{}
	if strings.TrimSpace(text) == "" {
		return out, nil
	}
	var doc struct {
		Blocks []struct {
			Name   string  `json:"name"`
			Prefix *string `json:"prefix"`
			Regex  string  `json:"regex"`
		} `json:"number_blocks"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("reading enum.json: %w", err)
	}
	if doc.Blocks == nil {
		return nil, errors.New("reading enum.json: number_blocks is missing")
	}
	var problems []error
	for i, b := range doc.Blocks {
		at := fmt.Sprintf("entry %d (%q)", i+1, b.Name)
		s, err := parseSubstitution(b.Regex)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: regex %q: %w", at, b.Regex, err))
		}
		if b.Prefix == nil {
			problems = append(problems, fmt.Errorf("%s: prefix is missing; an empty one is for every number", at))
			continue
		}
		prefix := sip.URI{Scheme: "tel", User: *b.Prefix}.Number()
		if prefix != "" && prefix != "+" && !onlyDigits(prefix) {
			problems = append(problems, fmt.Errorf("%s: prefix %q, allowed are digits with a + before them if wanted", at, *b.Prefix))
		}
		out.list = append(out.list, block{prefix, s})
	}
	if problems != nil {
		return nil, fmt.Errorf("reading enum.json: %w", errors.Join(problems...))
	}
	slices.SortStableFunc(out.list, func(a, b block) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return out, nil
}

// lookup takes the block with the longest prefix of the number; of several with the same prefix, the first whose pattern
// matches.
func (b *blocks) lookup(number string) Result {
	longest := -1
	for _, x := range b.list {
		if !strings.HasPrefix(number, x.prefix) || longest > len(x.prefix) {
			continue
		}
		longest = len(x.prefix)
		if text, ok := x.substitution.apply(number); ok {
			if u, ok := usable(text); ok {
				return Result{u, true}
			}
		}
	}
	return Result{}
}
