package subscriber

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/ere"
)

// wildcard is a wildcarded public identity (TS 23.003 13.5): text with an extended regular expression between two
// exclamation marks.
type wildcard struct {
	expression *regexp.Regexp
	fixed      int // characters outside the expression: more of them make it more specific
}

// newWildcard reads a wildcarded identity; nil when text is not one.
func newWildcard(text string) (*wildcard, error) {
	before, rest, ok := strings.Cut(text, "!")
	at := strings.LastIndexByte(rest, '!')
	if !ok || at < 0 {
		return nil, nil
	}
	inner, after := rest[:at], rest[at+1:]
	before, after = plain(before), plain(after)
	if i := strings.IndexByte(after, '@'); i >= 0 { // the host has no case
		after = after[:i] + strings.ToLower(after[i:])
	}
	re, err := ere.Compile("^"+literal(before)+"("+inner+")"+literal(after)+"$", false)
	if err != nil {
		return nil, fmt.Errorf("wildcard %.80q: %w", text, err)
	}
	return &wildcard{re, len(before) + len(after)}, nil
}

// plain is the fixed part of a wildcard in the form of canonical identities.
func plain(text string) string {
	scheme, rest, ok := strings.Cut(text, ":")
	if !ok {
		return text
	}
	if scheme = strings.ToLower(scheme); scheme == "tel" {
		rest = strings.NewReplacer("-", "", ".", "", "(", "", ")", "").Replace(rest)
	}
	return scheme + ":" + rest
}

// literal is text as an expression that matches it alone.
func literal(text string) string {
	var b strings.Builder
	for _, c := range text {
		if strings.ContainsRune(`.[]()*+?{}|^$\`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
