package enum

import (
	"errors"
	"fmt"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/ere"
)

// substitution is a substitution expression (RFC 3402 section 3.2): delimiter, expression, delimiter, replacement,
// delimiter, flags.
type substitution struct {
	pattern     *ere.Pattern
	replacement []piece
}

// piece is a text, or the part of the match with the number part when that is not 0.
type piece struct {
	text string
	part int
}

// parseSubstitution reads an expression such as !^(.*)$!sip:\1@example.com!i.
func parseSubstitution(text string) (substitution, error) {
	if text == "" {
		return substitution{}, errors.New("it is empty, allowed is !pattern!replacement!")
	}
	delimiter := text[0]
	if delimiter >= '0' && delimiter <= '9' || delimiter == '\\' || delimiter == 'i' || delimiter >= 0x80 {
		return substitution{}, errors.New("a digit, a backslash and i cannot be the delimiter")
	}
	pattern, rest, ok := cutDelimiter(text[1:], delimiter)
	if !ok {
		return substitution{}, errors.New("there is no second delimiter, allowed is !pattern!replacement!")
	}
	replacement, flags, ok := cutDelimiter(rest, delimiter)
	if !ok {
		return substitution{}, errors.New("there is no third delimiter, allowed is !pattern!replacement!")
	}
	if strings.Trim(flags, "i") != "" {
		return substitution{}, errors.New("the flag is " + flags + ", allowed is i")
	}
	var s substitution
	var err error
	if s.pattern, err = ere.CompileParts(pattern, flags != ""); err != nil {
		return substitution{}, fmt.Errorf("the pattern is no POSIX regular expression: %w", err)
	}
	s.replacement, err = pieces(replacement, s.pattern.Groups())
	return s, err
}

// cutDelimiter cuts at the first delimiter that no backslash stands before; one that a backslash stands before loses that.
func cutDelimiter(text string, delimiter byte) (before, after string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == delimiter:
			return b.String(), text[i+1:], true
		case c == '\\' && i+1 < len(text) && text[i+1] == delimiter:
			i++
			b.WriteByte(delimiter)
		case c == '\\' && i+1 < len(text):
			b.WriteString(text[i : i+2])
			i++
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// pieces reads a replacement. A backslash before 1 to 9 refers back; before anything else but 0 it makes that itself.
func pieces(text string, groups int) ([]piece, error) {
	var out []piece
	var plain strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c >= 0x80 || c < ' ':
			return nil, errors.New("the replacement has characters that no URI may have")
		case c != '\\':
			plain.WriteByte(c)
			continue
		case i+1 == len(text):
			return nil, errors.New("a backslash ends the replacement")
		}
		i++
		if c = text[i]; c < '0' || c > '9' {
			plain.WriteByte(c)
			continue
		}
		if n := int(c - '0'); n == 0 || n > groups {
			return nil, errors.New(`\` + string(c) + " refers to a part that the pattern has not")
		}
		out = append(out, piece{text: plain.String()}, piece{part: int(c - '0')})
		plain.Reset()
	}
	return append(out, piece{text: plain.String()}), nil
}

// apply substitutes; false when the pattern does not match. What of the text does not match is dropped.
func (s substitution) apply(text string) (string, bool) {
	parts, ok := s.pattern.Find(text)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for _, p := range s.replacement {
		if p.part > 0 {
			b.WriteString(parts[p.part])
		} else {
			b.WriteString(p.text)
		}
	}
	return b.String(), true
}
