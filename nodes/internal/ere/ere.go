// Package ere compiles POSIX extended regular expressions (IEEE 1003.1 section 9.4): filter criteria (TS 29.228) and ENUM
// rules (RFC 3402) use them.
//
// Go's own POSIX syntax differs: a backslash in brackets is an escape, ^ and $ match at lines, collating symbols and
// unmatched closing parentheses are unknown. So the expression is rewritten first. What is left of differences to an
// implementation such as grep -E is this: an expression that POSIX leaves undefined is refused rather than guessed at
// (a repetition of nothing, as in "*a", "^*" or "a|+"; a backslash before a letter or digit, \w, \W, \s and \S
// excepted; \< and \>), collating elements of several characters are refused, repetitions count to 1000 at most, letters
// of other scripts are one character whatever the locale, and classes such as [:alpha:] hold ASCII only.
package ere

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Compile makes an expression that is searched for, not anchored. fold makes it blind to case. Which of several matches
// it reports is Go's choice; Find has that of POSIX.
func Compile(pattern string, fold bool) (*regexp.Regexp, error) {
	tree, err := parse(pattern, fold)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(tree.String())
	if err != nil {
		return nil, fmt.Errorf("expression %.80q: %w", pattern, err)
	}
	return re, nil
}

func parse(pattern string, fold bool) (*syntax.Regexp, error) {
	r := rewriter{in: pattern}
	if err := r.rewrite(); err != nil {
		return nil, fmt.Errorf("expression %.80q: %w", pattern, err)
	}
	flags := syntax.DotNL | syntax.OneLine | syntax.ClassNL
	if fold {
		flags |= syntax.FoldCase
	}
	tree, err := syntax.Parse(r.out.String(), flags)
	if err != nil {
		return nil, fmt.Errorf("expression %.80q: %w", pattern, err)
	}
	return tree, nil
}

// rewriter turns an expression into one that regexp/syntax reads without Perl extensions.
type rewriter struct {
	in    string
	out   strings.Builder
	depth int  // of open parentheses
	atom  bool // there is something that a repetition could repeat
}

type syntaxError string

func (e syntaxError) Error() string { return string(e) }

func (e *rewriter) rewrite() error {
	if !utf8.ValidString(e.in) {
		return syntaxError("not UTF-8")
	}
	for e.in != "" {
		c, size := utf8.DecodeRuneInString(e.in)
		e.in = e.in[size:]
		if err := e.item(c); err != nil {
			return err
		}
	}
	if e.depth > 0 {
		return syntaxError("a parenthesis is not closed")
	}
	return nil
}

func (e *rewriter) item(c rune) error {
	switch c {
	case '\\':
		return e.escape()
	case '[':
		return e.bracket()
	case '(':
		e.depth++
		e.put("(", false)
	case ')':
		if e.depth == 0 {
			e.put(`\)`, true)
			return nil
		}
		e.depth--
		e.put(")", true)
	case '|', '^', '$':
		e.put(string(c), false)
	case '*', '+', '?':
		return e.repeat(string(c))
	case '{':
		return e.interval()
	case '.':
		e.put(".", true)
	default:
		e.put(regexp.QuoteMeta(string(c)), true)
	}
	return nil
}

func (e *rewriter) put(text string, atom bool) {
	e.out.WriteString(text)
	e.atom = atom
}

func (e *rewriter) repeat(text string) error {
	if !e.atom {
		return syntaxError("there is nothing to repeat before " + text)
	}
	e.put(text, true)
	return nil
}

func (e *rewriter) escape() error {
	if e.in == "" {
		return syntaxError("a backslash ends it")
	}
	c := e.in[0]
	e.in = e.in[1:]
	classes := map[byte]string{'w': "[_[:alnum:]]", 'W': "[^_[:alnum:]]", 's': "[[:space:]]", 'S': "[^[:space:]]"}
	switch class := classes[c]; {
	case class != "":
		e.put(class, true)
	case strings.IndexByte("!\"#$%&()*+,-./:;=?@[\\]^_{|}~", c) >= 0:
		e.put(regexp.QuoteMeta(string(c)), true)
	default:
		return syntaxError("a backslash before " + strconv.QuoteRune(rune(c)) + " has no meaning")
	}
	return nil
}

// interval takes {m}, {m,}, {m,n} and, as GNU does, {,n}; another brace is itself.
func (e *rewriter) interval() error {
	body, rest, closed := strings.Cut(e.in, "}")
	low, high, comma := strings.Cut(body, ",")
	if !closed || !digits(low) || !digits(high) || low == "" && high == "" {
		e.put(`\{`, true)
		return nil
	}
	e.in = rest
	if low == "" {
		low = "0"
	}
	if comma {
		low += ","
	}
	return e.repeat("{" + low + high + "}")
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// bracket takes a bracket expression, whose "[" is read.
func (e *rewriter) bracket() error {
	var b strings.Builder
	b.WriteByte('[')
	if strings.HasPrefix(e.in, "^") {
		e.in = e.in[1:]
		b.WriteByte('^')
	}
	for first := true; ; first = false {
		if e.in == "" {
			return syntaxError("a bracket is not closed")
		}
		if e.in[0] == ']' && !first {
			e.in = e.in[1:]
			b.WriteByte(']')
			e.put(b.String(), true)
			return nil
		}
		if err := e.member(&b); err != nil {
			return err
		}
	}
}

// member takes a class, a range or a character of a bracket expression.
func (e *rewriter) member(b *strings.Builder) error {
	if rest, ok := strings.CutPrefix(e.in, "[:"); ok {
		name, rest, ok := strings.Cut(rest, ":]")
		if !ok || !strings.Contains(" alpha digit alnum upper lower space blank punct print graph cntrl xdigit ", " "+name+" ") {
			return syntaxError("there is no such class of characters")
		}
		e.in = rest
		b.WriteString("[:" + name + ":]")
		return nil
	}
	equivalence := strings.HasPrefix(e.in, "[=")
	low, err := e.element()
	if err != nil {
		return err
	}
	high := low
	if len(e.in) > 1 && e.in[0] == '-' && e.in[1] != ']' {
		e.in = e.in[1:]
		if equivalence || strings.HasPrefix(e.in, "[=") || strings.HasPrefix(e.in, "[:") {
			return syntaxError("a class cannot bound a range")
		}
		if high, err = e.element(); err != nil {
			return err
		}
	}
	if high < low {
		return syntaxError("a range ends before it begins")
	}
	_, _ = fmt.Fprintf(b, `\x{%x}-\x{%x}`, low, high)
	return nil
}

// element takes one character, or a collating symbol or equivalence class of one.
func (e *rewriter) element() (rune, error) {
	if e.in == "" {
		return 0, syntaxError("a bracket is not closed")
	}
	for _, kind := range []string{".", "="} {
		if rest, ok := strings.CutPrefix(e.in, "["+kind); ok {
			name, rest, ok := strings.Cut(rest, kind+"]")
			c, size := utf8.DecodeRuneInString(name)
			if !ok || size == 0 || size != len(name) {
				return 0, syntaxError("collating elements have one character")
			}
			e.in = rest
			return c, nil
		}
	}
	c, size := utf8.DecodeRuneInString(e.in)
	e.in = e.in[size:]
	return c, nil
}
