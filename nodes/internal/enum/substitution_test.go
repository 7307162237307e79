package enum

import (
	"strings"
	"testing"
)

func TestSubstitution(t *testing.T) {
	for _, c := range []struct{ expression, number, want string }{
		{`!^.*$!sip:a@b!`, "123", "sip:a@b"},
		{`!^(.*)$!sip:\1@b!`, "+123", "sip:+123@b"},
		{`!2!x!`, "123", "x"}, // only what matched is replaced, the rest is dropped: RFC 6116 3.4.3
		{`!^(1)(2)(3)(4)(5)(6)(7)(8)(9)$!\9\8\7\6\5\4\3\2\1!`, "123456789", "987654321"},
		{`/^1(.*)/sip:\1\/2@b/`, "123", "sip:23/2@b"},
		{`!^\+1(.*)$!sip:\1@b!`, "+16505551234", "sip:6505551234@b"},
		{`!^(\+1|\+12)(.*)$!\1-\2!`, "+123", "+12-3"},
		{`!^A$!x!i`, "a", "x"},
		{`!^A$!x!`, "a", ""},
		{`!^1$!\\\!!`, "1", `\!`},
		{`!!sip:a@b!`, "1", "sip:a@b"},
		{`#^([0-9]{2})#\1\1#`, "12", "1212"},
		{"\"^1$\"x\"", "1", "x"},
	} {
		s, err := parseSubstitution(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		if got, ok := s.apply(c.number); got != c.want || ok != (c.want != "") {
			t.Errorf("%s on %s: %q %t, want %q", c.expression, c.number, got, ok, c.want)
		}
	}
	for _, bad := range []string{"", "!", "!a", "!a!b", "!a!b!x", "!a!b!iu", `!(!b!`, `!a!\1!`, `!(a)!\2!`, `!(a)!\0!`, `!a!b\`, `!a!é!`, `1a1b1`, `\a\b\`, "iaibi", `!\d!x!`, `!(?:a)!x!`, `!*!x!`, "!((a{500}){500})!x!"} {
		if s, err := parseSubstitution(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, s)
		}
	}
}

func TestNameOf(t *testing.T) {
	for number, want := range map[string]string{
		"12012031234": "4.3.2.1.3.0.2.1.0.2.1.e164.arpa", "+1": "1.e164.arpa", "": "", "+": "", strings.Repeat("1", 200): "",
	} {
		if got := nameOf(number, "e164.arpa"); got != want {
			t.Errorf("%s is %s, want %s", number, got, want)
		}
	}
}

func FuzzSubstitution(f *testing.F) {
	for _, seed := range []string{`!(^.*$)!sip:\1@b!`, `!^\+1(.*$)!sip:\1@b!i`, `/a\/b/\1/`, `!((a|ab)*(c?)+){2,3}!\1\2!`, `!(\+^.*$)!\1!`, "!!!", `!([[:digit:]]{3}|1*)*$!\1!`} {
		f.Add(seed, "+12125550271")
	}
	f.Fuzz(func(t *testing.T, expression, number string) {
		if len(expression) > 255 || len(number) > 40 { // a character string of DNS
			return
		}
		s, err := parseSubstitution(expression)
		if err != nil {
			return
		}
		if out, ok := s.apply(number); !ok && out != "" {
			t.Errorf("%q on %q: %q without a match", expression, number, out)
		}
	})
}
