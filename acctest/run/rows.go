package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

var rowLine = regexp.MustCompile(`^\| ([A-Z]+[0-9]+) \| ([^|]+) \| ([^|]+) \|$`)

// checkRows reads `| id | what | TestA, TestB |` lines and returns what is wrong: a row twice, a row without tests, a
// test that did not pass in this run.
func checkRows(path string, results []result) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	passed := map[string]bool{}
	for _, r := range results {
		for _, name := range r.passed {
			passed[name] = true
		}
	}
	var wrong []string
	seen := map[string]bool{}
	for i, line := range strings.Split(string(text), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| row ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		m := rowLine.FindStringSubmatch(line)
		if m == nil {
			wrong = append(wrong, fmt.Sprintf("line %d is not | id | what | tests |", i+1))
			continue
		}
		if seen[m[1]] {
			wrong = append(wrong, "row "+m[1]+" is there twice")
		}
		seen[m[1]] = true
		for name := range strings.SplitSeq(m[3], ",") {
			if name = strings.TrimSpace(name); !passed[name] {
				wrong = append(wrong, fmt.Sprintf("row %s: %s did not pass in this run, or does not exist", m[1], name))
			}
		}
	}
	if len(seen) == 0 {
		wrong = append(wrong, "no rows at all")
	}
	return wrong, nil
}
