package command

import (
	"fmt"
	"strings"
)

// contextLines are shown around a change.
const contextLines = 3

// edit is one line of a comparison: ' ' in both, '-' only before, '+' only after.
type edit struct {
	sign byte
	line string
}

// unified compares two texts line by line in the usual notation.
func unified(beforeName, afterName, before, after string) string {
	edits := compare(lines(before), lines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", beforeName, afterName)
	shown := make([]bool, len(edits))
	for i, e := range edits {
		if e.sign != ' ' {
			for j := max(0, i-contextLines); j < min(len(edits), i+contextLines+1); j++ {
				shown[j] = true
			}
		}
	}
	old, fresh := 1, 1
	for i := 0; i < len(edits); i++ {
		if shown[i] {
			end := i
			for end < len(edits) && shown[end] {
				end++
			}
			oldCount, freshCount := count(edits[i:end])
			fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n", old, oldCount, fresh, freshCount)
			for _, e := range edits[i:end] {
				fmt.Fprintf(&b, "%c%s\n", e.sign, e.line)
			}
			old, fresh = old+oldCount, fresh+freshCount
			i = end - 1
			continue
		}
		old, fresh = old+1, fresh+1
	}
	return b.String()
}

func count(edits []edit) (before, after int) {
	for _, e := range edits {
		if e.sign != '+' {
			before++
		}
		if e.sign != '-' {
			after++
		}
	}
	return before, after
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// compare finds a shortest edit by longest common subsequence. Where that would need a large table, which no document made by
// hand does, the middle part is shown as replaced.
func compare(before, after []string) []edit {
	head := 0
	for head < len(before) && head < len(after) && before[head] == after[head] {
		head++
	}
	tail := 0
	for tail < len(before)-head && tail < len(after)-head && before[len(before)-1-tail] == after[len(after)-1-tail] {
		tail++
	}
	var out []edit
	for _, l := range before[:head] {
		out = append(out, edit{' ', l})
	}
	out = append(out, middle(before[head:len(before)-tail], after[head:len(after)-tail])...)
	for _, l := range before[len(before)-tail:] {
		out = append(out, edit{' ', l})
	}
	return out
}

func middle(before, after []string) []edit {
	var out []edit
	n, m := len(before), len(after)
	if n*m > 4_000_000 {
		for _, l := range before {
			out = append(out, edit{'-', l})
		}
		for _, l := range after {
			out = append(out, edit{'+', l})
		}
		return out
	}
	common := make([][]int, n+1) // common[i][j]: longest common subsequence of before[i:] and after[j:]
	for i := range common {
		common[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < n || j < m {
		switch {
		case i < n && j < m && before[i] == after[j]:
			out = append(out, edit{' ', before[i]})
			i, j = i+1, j+1
		case j == m || (i < n && common[i+1][j] >= common[i][j+1]):
			out = append(out, edit{'-', before[i]})
			i++
		default:
			out = append(out, edit{'+', after[j]})
			j++
		}
	}
	return out
}
