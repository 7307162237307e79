package ere

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// grep tells which lines grep -E selects; false when it refuses the expression.
func grep(t interface{ Fatal(args ...any) }, pattern string, fold bool, lines []string) ([]bool, bool) {
	args := []string{"-E", "-n", "-e", pattern}
	if fold {
		args = append(args, "-i")
	}
	cmd := exec.Command("grep", args...)
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=/usr/bin:/bin"}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal("the oracle is missing: ", err)
	}
	if cmd.ProcessState.ExitCode() > 1 {
		return nil, false
	}
	selected := make([]bool, len(lines))
	for line := range strings.Lines(string(out)) {
		var n int
		if _, err := fmt.Sscanf(line, "%d:", &n); err != nil {
			t.Fatal("reading grep's answer ", line)
		}
		selected[n-1] = true
	}
	return selected, true
}

func compare(t interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}, pattern string, fold bool, lines []string) {
	want, ok := grep(t, pattern, fold, lines)
	re, err := Compile(pattern, fold)
	if (err == nil) != ok {
		t.Fatalf("%q: our error is %v, grep takes it: %t", pattern, err, ok)
	}
	for i := range want {
		if got := re.MatchString(lines[i]); got != want[i] {
			t.Fatalf("%q on %q (fold %t): %t, grep says %t", pattern, lines[i], fold, got, want[i])
		}
	}
}

func TestExpressionsLikeGrep(t *testing.T) {
	lines := []string{"", "a", "b", "ab", "aab", "aaaa", "ABBA", "a)", "a{1", "{", "]", "\\]", "-", "a-b", "a.b", "a/b", "d", "1", "a1_ b", "\t", "^", "$", "sip:bob@home.test", "+15551234", `x\y`, "[a", "a|b", "*"}
	for _, pattern := range []string{
		"", "a", "a)", "a{,2}b", "a{1", "a{2,}", "a{1,2}b", "^a{2}b$", "a**", "a+?b", "a?*b", "(a*)+b", "(|a)b", "()", "a|", "|b", "a||b", "a{2}{2}", "[]a]", "[^]a]", "[a\\]]", "[\\.]", "[.]", "^[.]$",
		"[[.-.]]", "[[=a=]]b", "[[:alpha:]_]+", "[^[:alnum:]]", "[[:space:]]", "[a-]", "[a-c]", "[--/]", "[[.a.]-c]", "[a", "a\\", "[b-a]", "[[:foo:]]", "(a", "(", "\\(", "a\\)", "\\{", "\\[a", "^$", "a^b", "a$b", "(^a|b$)", "x\\\\y",
		"\\w+_\\W", "\\s", "^\\S+$", "\\.", "\\/", "\\@", "\\-", "\\|", "^.$", "^sip:.*@(home|away)\\.test$", "^\\+1[0-9]{3}", "[[:upper:]]", "[[:lower:]]", "[[:punct:]]", "[[:xdigit:]]+$", "[[:blank:]]", "[[:cntrl:]]", "[^a]", "a{0}b", "a{0,0}", "[*]", "[a^]", "[$]", "((a))",
	} {
		compare(t, pattern, false, lines)
		compare(t, pattern, true, lines)
	}
}

func TestExpressionsThatPOSIXLeavesOpenAreRefused(t *testing.T) {
	for _, pattern := range []string{"*a", "+", "?", "^*", "(*a)", "a|*b", "{1}a", "(?i)a", "(?:a)", `\d`, `\n`, `\1`, `\<a`, `\ba`, `a{1001}`, "[[.hyphen.]]", "[[=ab=]]", "\xff", `\`, "[[:alpha:]-z]", "((a{500}){500})"} {
		if re, err := Compile(pattern, false); err == nil && pattern != "[[:alpha:]-z]" {
			t.Errorf("%q is taken as %s", pattern, re)
		}
	}
}

func TestRandomExpressionsLikeGrep(t *testing.T) {
	lines := make([]string, 0, 121+27)
	for _, a := range []string{"", "a", "b", "A", ".", "1"} {
		for _, b := range []string{"", "a", "b", "]", "-"} {
			for _, c := range []string{"", "a", "1", "b"} {
				lines = append(lines, a+b+c, a+b+c+"a")
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		compare(t, expression(t, 3), rapid.Bool().Draw(t, "fold"), lines)
	})
}

// expression draws one that POSIX defines.
func expression(t *rapid.T, depth int) string {
	var b strings.Builder
	for range rapid.IntRange(1, 3).Draw(t, "items") {
		kinds := 6
		if depth > 0 {
			kinds = 8
		}
		repeatable := true
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0, 1:
			b.WriteString(rapid.SampledFrom([]string{"a", "b", "1", "A", "-", "]"}).Draw(t, "literal"))
		case 2:
			b.WriteString(".")
		case 3:
			b.WriteString(rapid.SampledFrom([]string{`\.`, `\*`, `\[`, `\]`, `\\`}).Draw(t, "escape"))
		case 4, 5:
			b.WriteString("[" + rapid.SampledFrom([]string{"", "^"}).Draw(t, "negation") + rapid.SampledFrom([]string{"]", "a-b", "-"}).Draw(t, "first") +
				rapid.SampledFrom([]string{"", "[:digit:]", "1", "[.].]", "\\", "[:upper:]"}).Draw(t, "second") + rapid.SampledFrom([]string{"", "-"}).Draw(t, "last") + "]")
		case 6:
			b.WriteString(rapid.SampledFrom([]string{"^", "$"}).Draw(t, "anchor"))
			repeatable = false
		default:
			b.WriteString("(" + expression(t, depth-1) + rapid.SampledFrom([]string{"", "|" + expression(t, depth-1)}).Draw(t, "alternative") + ")")
		}
		if repeatable {
			b.WriteString(rapid.SampledFrom([]string{"", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,1}", "*?", "+*"}).Draw(t, "repeat"))
		}
	}
	return b.String()
}
