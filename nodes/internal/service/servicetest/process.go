package servicetest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

const patience = 20 * time.Second

// Process is a node that runs as a process of its own: the test binary, started again.
type Process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer // read after the end
	mu     sync.Mutex
	lines  []string
	grown  chan struct{}
	exited chan struct{}
}

// Start runs the test binary with an environment variable that its TestMain knows. The process ends with the test.
func Start(t testing.TB, env string, args ...string) *Process {
	t.Helper()
	p := &Process{cmd: exec.Command(os.Args[0], args...), grown: make(chan struct{}, 1), exited: make(chan struct{})} //nolint:gosec,noctx // itself
	p.cmd.Env = append(os.Environ(), env)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			p.mu.Unlock()
			select {
			case p.grown <- struct{}{}:
			default:
			}
		}
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("output:\n%s\n%s", p.Output(), p.stderr.String())
		}
	})
	return p
}

// Output returns what the process has logged so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// Stderr returns what the process wrote there; call it after Exit.
func (p *Process) Stderr() string {
	<-p.exited
	return p.stderr.String()
}

// Signal sends a signal.
func (p *Process) Signal(s os.Signal) error { return p.cmd.Process.Signal(s) }

// Await waits for a line of output that holds text.
func (p *Process) Await(t testing.TB, text string) {
	t.Helper()
	limit := time.After(patience)
	for !strings.Contains(p.Output(), text) {
		select {
		case <-p.grown:
		case <-p.exited:
			if !strings.Contains(p.Output(), text) {
				t.Fatalf("the node ended without %q", text)
			}
		case <-limit:
			t.Fatalf("no %q in the output", text)
		}
	}
}

// Exit waits for the end and returns the exit code.
func (p *Process) Exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatal("the node does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}
