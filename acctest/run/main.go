// Command run runs the test suites of acctest/suites.tsv and says how each ended. It is what `make test` and `make
// soak` call. A suite that skips a test, lacks something that it needs, runs over its budget or runs no test has
// failed. At the end it checks acctest/rows.md: every test that is named there as evidence must have passed in this run.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

func main() {
	tier := flag.String("tier", "ci", "which suites to run: ci or soak (soak runs both)")
	only := flag.String("only", "", "run just this suite, and check no rows")
	out := flag.String("out", "build/test", "folder for the suites' full output")
	flag.Parse()
	failed, err := run(*tier, *only, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

func run(tier, only, out string) (failed bool, err error) {
	suites, err := readSuites("acctest/suites.tsv", tier, only)
	if err != nil {
		return false, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return false, err
	}
	started := time.Now()
	results := runAll(suites, out)
	rows := []string(nil)
	if only == "" {
		if rows, err = checkRows("acctest/rows.md", results); err != nil {
			return false, err
		}
	}
	return report(results, rows, time.Since(started)), nil
}

// runAll runs suites that load the machine one after the other, the others two at a time before them.
func runAll(suites []suite, out string) []result {
	results := make([]result, len(suites))
	slots := make(chan struct{}, 2)
	var group sync.WaitGroup
	for i, s := range suites {
		if s.alone {
			continue
		}
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = s.run(filepath.Join(out, s.name+".json"))
		})
	}
	group.Wait()
	for i, s := range suites {
		if s.alone {
			results[i] = s.run(filepath.Join(out, s.name+".json"))
		}
	}
	return results
}

// report prints the table, what is wrong with the rows, and the closing line; it tells whether anything failed.
func report(results []result, rows []string, took time.Duration) bool {
	passed, failedTests, bad := 0, 0, len(rows)
	fmt.Printf("\n%-14s %-7s %7s %7s %7s %9s  %s\n", "suite", "result", "passed", "failed", "skipped", "seconds", "")
	for _, r := range results {
		verdict := "ok"
		if r.problem != "" {
			verdict = "FAILED"
			bad++
		}
		fmt.Printf("%-14s %-7s %7d %7d %7d %9.1f  %s\n", r.suite, verdict, len(r.passed), len(r.failed), len(r.skipped), r.took.Seconds(), r.problem)
		passed += len(r.passed)
		failedTests += len(r.failed)
	}
	for _, line := range rows {
		fmt.Println("rows.md:", line)
	}
	if bad > 0 && failedTests == 0 {
		failedTests = bad
	}
	fmt.Printf("\nin %s\n%d passed, %d failed\n", took.Round(time.Second), passed, failedTests)
	return bad > 0
}
