package ere

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"unicode"
)

const (
	maxNodes = 2000 // of an expression whose parts are wanted, repetitions written out
	maxText  = 256  // bytes of a text whose parts are wanted
)

// Pattern is an expression whose parenthesised parts are wanted. It is safe for concurrent use.
type Pattern struct {
	re    *regexp.Regexp // finds where the match is
	tree  *syntax.Regexp // tells what the parts of it match
	nodes map[*syntax.Regexp]int
}

// CompileParts makes a Pattern. An expression of more than 2000 elements is refused.
func CompileParts(pattern string, fold bool) (*Pattern, error) {
	re, err := Compile(pattern, fold)
	if err != nil {
		return nil, err
	}
	re.Longest()
	tree, err := parse(pattern, fold)
	if err != nil {
		return nil, err
	}
	p := &Pattern{re: re, tree: tree.Simplify(), nodes: map[*syntax.Regexp]int{}}
	if p.number(p.tree); len(p.nodes) > maxNodes {
		return nil, errors.New("the expression is too long")
	}
	return p, nil
}

func (p *Pattern) number(re *syntax.Regexp) {
	if _, known := p.nodes[re]; known || len(p.nodes) > maxNodes {
		return
	}
	p.nodes[re] = len(p.nodes)
	for _, sub := range re.Sub {
		p.number(sub)
	}
}

// Groups is how many parenthesised parts the expression has.
func (p *Pattern) Groups() int { return p.re.NumSubexp() }

// Find returns the match in text and its parts as POSIX has it: the leftmost, of these the longest, and each part from
// left to right as long as that leaves the rest a match. Element 0 is the whole; a part that took no part is "". Texts of
// more than 256 bytes do not match.
func (p *Pattern) Find(text string) ([]string, bool) {
	if len(text) > maxText {
		return nil, false
	}
	at := p.re.FindStringIndex(text)
	if at == nil {
		return nil, false
	}
	m := matcher{text: text, nodes: p.nodes, parts: make([]string, p.Groups()+1), known: map[span]bool{}}
	m.parts[0] = text[at[0]:at[1]]
	if p.Groups() > 0 {
		m.assign(p.tree, at[0], at[1])
	}
	return m.parts, true
}

// span asks whether a node, or the children of a concatenation from one on, match text[from:to] exactly.
type span struct{ node, child, from, to int }

type matcher struct {
	text  string
	nodes map[*syntax.Regexp]int
	parts []string
	known map[span]bool
}

// matches tells whether the node matches text[from:to] exactly.
func (m *matcher) matches(re *syntax.Regexp, from, to int) bool {
	switch re.Op {
	case syntax.OpNoMatch:
		return false
	case syntax.OpEmptyMatch:
		return from == to
	case syntax.OpBeginText, syntax.OpBeginLine:
		return from == to && from == 0
	case syntax.OpEndText, syntax.OpEndLine:
		return from == to && to == len(m.text)
	case syntax.OpLiteral, syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return m.characters(re, m.text[from:to])
	case syntax.OpCapture:
		return m.matches(re.Sub[0], from, to)
	case syntax.OpConcat:
		return m.sequence(re, 0, from, to)
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if m.matches(sub, from, to) {
				return true
			}
		}
		return false
	case syntax.OpQuest:
		return from == to || m.matches(re.Sub[0], from, to)
	case syntax.OpStar:
		return from == to || m.repeats(re, from, to)
	case syntax.OpPlus:
		return m.repeats(re, from, to) || from == to && m.matches(re.Sub[0], from, to)
	default: // word boundaries, which no expression of POSIX makes
		return false
	}
}

// characters tells whether text is what a literal, class or dot takes.
func (m *matcher) characters(re *syntax.Regexp, text string) bool {
	runes := []rune(text)
	switch re.Op {
	case syntax.OpLiteral:
		if len(runes) != len(re.Rune) {
			return false
		}
		for i, r := range re.Rune {
			if runes[i] != r && (re.Flags&syntax.FoldCase == 0 || !folds(runes[i], r)) {
				return false
			}
		}
		return true
	case syntax.OpCharClass:
		if len(runes) != 1 {
			return false
		}
		for i := 0; i+1 < len(re.Rune); i += 2 {
			if runes[0] >= re.Rune[i] && runes[0] <= re.Rune[i+1] {
				return true
			}
		}
		return false
	default:
		return len(runes) == 1
	}
}

func folds(a, b rune) bool {
	for r := unicode.SimpleFold(a); r != a; r = unicode.SimpleFold(r) {
		if r == b {
			return true
		}
	}
	return a == b
}

// remember answers from memory or by ask.
func (m *matcher) remember(key span, ask func() bool) bool {
	if v, ok := m.known[key]; ok {
		return v
	}
	v := ask()
	m.known[key] = v
	return v
}

// sequence tells whether the children from one on match text[from:to].
func (m *matcher) sequence(re *syntax.Regexp, child, from, to int) bool {
	if child == len(re.Sub) {
		return from == to
	}
	return m.remember(span{m.nodes[re], child, from, to}, func() bool {
		for end := to; end >= from; end-- {
			if m.matches(re.Sub[child], from, end) && m.sequence(re, child+1, end, to) {
				return true
			}
		}
		return false
	})
}

// repeats tells whether one or more repetitions, none of them empty, match text[from:to].
func (m *matcher) repeats(re *syntax.Regexp, from, to int) bool {
	return m.remember(span{m.nodes[re], -1, from, to}, func() bool {
		for end := to; end > from; end-- {
			if m.matches(re.Sub[0], from, end) && (end == to || m.repeats(re, end, to)) {
				return true
			}
		}
		return false
	})
}

// assign fills the parts of a node that matches text[from:to].
func (m *matcher) assign(re *syntax.Regexp, from, to int) {
	switch re.Op {
	case syntax.OpCapture:
		m.parts[re.Cap] = m.text[from:to]
		m.assign(re.Sub[0], from, to)
	case syntax.OpConcat:
		for i, sub := range re.Sub {
			end := to
			for end > from && !(m.matches(sub, from, end) && m.sequence(re, i+1, end, to)) {
				end--
			}
			m.assign(sub, from, end)
			from = end
		}
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			if m.matches(sub, from, to) {
				m.assign(sub, from, to)
				return
			}
		}
	case syntax.OpQuest:
		if from < to || m.matches(re.Sub[0], from, to) {
			m.assign(re.Sub[0], from, to)
		}
	case syntax.OpStar, syntax.OpPlus:
		m.assignLast(re, from, to)
	default:
	}
}

// assignLast fills the parts of a repetition: those of its last round.
func (m *matcher) assignLast(re *syntax.Regexp, from, to int) {
	for from < to {
		end := to
		for end > from && !(m.matches(re.Sub[0], from, end) && (end == to || m.repeats(re, end, to))) {
			end--
		}
		if end == from {
			return
		}
		m.assign(re.Sub[0], from, end)
		from = end
	}
}
