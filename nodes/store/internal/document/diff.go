package document

import (
	"slices"
	"strings"
)

// secrets are the options whose values are not shown in a diff.
func secret(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	return strings.HasSuffix(name, "_key") || strings.Contains(name, "password") || strings.Contains(name, "secret")
}

// Diff lists the lines that went and came, for the log: "-" and "+" before each, values of keys hidden. At most 50.
func Diff(old, text string) []string {
	before, after := strings.Split(strings.TrimSpace(old), "\n"), strings.Split(strings.TrimSpace(text), "\n")
	var out []string
	add := func(sign string, lines, others []string) {
		for _, l := range lines {
			if l = strings.TrimRight(l, " \r"); l == "" || slices.Contains(others, l) {
				continue
			}
			if name, _, ok := strings.Cut(l, "="); ok && secret(l) {
				l = name + "=(hidden)"
			}
			out = append(out, sign+l)
		}
	}
	add("-", before, after)
	add("+", after, before)
	if len(out) > 50 {
		out = append(out[:50], "...")
	}
	return out
}
