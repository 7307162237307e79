package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// suite is one line of suites.tsv: name, tier, alone or shared, budget in seconds, needs, command, what it covers.
type suite struct {
	name    string
	alone   bool
	budget  time.Duration
	needs   []string
	command []string
}

// result is how a suite ended; problem is empty when it is in order.
type result struct {
	suite                   string
	passed, failed, skipped []string
	problem                 string
	took                    time.Duration
}

func readSuites(path, tier, only string) ([]suite, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []suite
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 7 {
			return nil, fmt.Errorf("%s:%d: %d columns, 7 are needed", path, i+1, len(f))
		}
		seconds, err := strconv.Atoi(f[3])
		if err != nil {
			return nil, fmt.Errorf("%s:%d: budget %q is not a number of seconds", path, i+1, f[3])
		}
		if (f[1] != tier && tier != "soak") || (only != "" && f[0] != only) {
			continue
		}
		s := suite{name: f[0], alone: f[2] == "alone", budget: time.Duration(seconds) * time.Second, command: strings.Fields(f[5])}
		if f[4] != "-" {
			s.needs = strings.Split(f[4], ",")
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no suite for tier %q, name %q", path, tier, only)
	}
	return out, nil
}

// run runs the command. `go test` commands are asked for JSON, and their tests are counted; any other command is one
// test that passes when it exits 0.
func (s suite) run(log string) (r result) {
	r.suite = s.name
	started := time.Now()
	defer func() { r.took = time.Since(started) }()
	for _, need := range s.needs {
		if _, err := exec.LookPath(need); err != nil {
			r.problem = "missing: " + need
			return r
		}
	}
	fmt.Printf("== %s: %s\n", s.name, strings.Join(s.command, " "))
	ctx, cancel := context.WithTimeout(context.Background(), s.budget)
	defer cancel()
	file, err := os.Create(log)
	if err != nil {
		r.problem = err.Error()
		return r
	}
	defer file.Close()
	args := s.command[1:]
	isGo := len(args) > 0 && s.command[0] == "go" && args[0] == "test"
	if isGo {
		if args, err = packages(args); err != nil {
			r.problem = err.Error()
			return r
		}
		args = append([]string{"test", "-json", "-count=1", "-timeout", s.budget.String()}, args[1:]...)
	}
	err = s.execute(ctx, args, isGo, file, &r)
	switch {
	case ctx.Err() != nil:
		r.problem = fmt.Sprintf("over its budget of %s", s.budget)
	case len(r.failed) > 0:
		r.problem = "failed: " + short(r.failed)
	case err != nil:
		r.problem = err.Error()
	case len(r.skipped) > 0:
		r.problem = "skipped: " + short(r.skipped)
	case len(r.passed) == 0:
		r.problem = "no test ran"
	}
	return r
}

// packages takes those out of a command's package patterns that it names with "!": what a pattern finds is tested unless it
// is said that another suite does.
func packages(args []string) ([]string, error) {
	var out, patterns []string
	without := map[string]bool{}
	for _, a := range args {
		switch name, excluded := strings.CutPrefix(a, "!./"); {
		case excluded:
			without[name] = true
		case strings.HasPrefix(a, "./"):
			patterns = append(patterns, a)
		default:
			out = append(out, a)
		}
	}
	if len(without) == 0 {
		return args, nil
	}
	text, err := exec.Command("go", append([]string{"list", "-f", "{{.Module.Path}} {{.ImportPath}}"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		module, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		name := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
		if !without[name] {
			out = append(out, path)
		}
		delete(without, name)
	}
	for name := range without {
		return nil, fmt.Errorf("!./%s: there is no such package", name)
	}
	return out, nil
}

func short(names []string) string {
	if len(names) > 6 {
		return strings.Join(names[:6], " ") + fmt.Sprintf(" and %d more", len(names)-6)
	}
	return strings.Join(names, " ")
}

func (s suite) execute(ctx context.Context, args []string, isGo bool, log io.Writer, r *result) error {
	cmd := exec.CommandContext(ctx, s.command[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if !isGo {
		var tail bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.MultiWriter(log, &tail), io.MultiWriter(log, &tail)
		if err := cmd.Run(); err != nil {
			lines := strings.Split(strings.TrimSpace(tail.String()), "\n")
			fmt.Println(strings.Join(lines[max(0, len(lines)-60):], "\n"))
			r.failed = append(r.failed, s.name)
			return err
		}
		r.passed = append(r.passed, s.name)
		return nil
	}
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	collect(io.TeeReader(stdout, log), r)
	if err := cmd.Wait(); err != nil && len(r.failed) == 0 {
		return errors.New("go test did not succeed: " + err.Error())
	}
	return nil
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// collect reads events, prints the output of what fails and the lines that tests mark as figures.
func collect(in io.Reader, r *result) {
	outputs := map[string][]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text())
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if strings.Contains(e.Output, "figures:") {
				fmt.Print("   ", strings.TrimLeft(e.Output, " "))
			}
			if e.Action == "build-output" {
				fmt.Print(e.Output)
			}
			outputs[key] = append(outputs[key], e.Output)
		case "pass":
			if e.Test != "" {
				r.passed = append(r.passed, e.Test)
			}
			delete(outputs, key)
		case "skip":
			if e.Test != "" {
				r.skipped = append(r.skipped, e.Test)
			}
		case "fail":
			name := e.Test
			if name == "" {
				name = e.Package
			}
			r.failed = append(r.failed, name)
			fmt.Printf("-- FAIL %s %s\n%s", e.Package, e.Test, strings.Join(outputs[key], ""))
		}
	}
}
