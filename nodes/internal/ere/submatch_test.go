package ere

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestPartsAreThoseOfPOSIX(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          []string
	}{
		{`^\+1(.*)$`, "+16505551234", []string{"+16505551234", "6505551234"}},
		{`(\+1|\+12)(.*)`, "+123", []string{"+123", "+12", "3"}}, // Go alone says +1 and 23
		{`(a|ab)(c|bcd)(d*)`, "abcd", []string{"abcd", "ab", "c", "d"}},
		{`(a*)(a*)`, "aaa", []string{"aaa", "aaa", ""}},
		{`(a|b)*`, "ab", []string{"ab", "b"}},
		{`x(a)?y`, "xy", []string{"xy", ""}},
		{`([0-9]{3})([0-9]{2,4})`, "1234567", []string{"1234567", "123", "4567"}},
		{`b+`, "abbb", []string{"bbb"}},
		{`^(.*)$`, "", []string{"", ""}},
		{`((a)|b)+`, "ab", []string{"ab", "b", "a"}},
	} {
		p, err := CompileParts(c.pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := p.Find(c.text); !ok || !slices.Equal(got, c.want) {
			t.Errorf("%s in %s: %q, want %q", c.pattern, c.text, got, c.want)
		}
	}
	p, err := CompileParts("(AB)c", true)
	if got, ok := p.Find("abC"); err != nil || !ok || got[1] != "ab" {
		t.Errorf("blind to case: %q, %v", got, err)
	}
	if got, ok := p.Find("xyz"); ok {
		t.Errorf("no match gives %q", got)
	}
}

// The parts that a match reports do exist: the whole is what the expression finds, and each part lies in it.
func TestPartsLieInTheMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := expression(t, 2)
		text := rapid.StringMatching(`[ab1A\]\-.]{0,8}`).Draw(t, "text")
		p, err := CompileParts(pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		m := matcher{text: text, nodes: p.nodes, parts: make([]string, p.Groups()+1), known: map[span]bool{}}
		at := p.re.FindStringIndex(text)
		if at != nil && !m.matches(p.tree, at[0], at[1]) {
			t.Fatalf("%s in %q: the match at %v is none", pattern, text, at)
		}
		for end := range text { // a longer one would have been found
			if at != nil && end > at[1] && m.matches(p.tree, at[0], end) {
				t.Fatalf("%s in %q: longer than %v is %d", pattern, text, at, end)
			}
		}
		_, _ = p.Find(text)
	})
}
