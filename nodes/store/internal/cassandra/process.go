package cassandra

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	stopLimit = 20 * time.Second // for Cassandra to end in order: it tells its peers and flushes
	pidFile   = "cassandra.pid"
)

// run runs the Java machine until it ends or ctx does.
func (n Node) run(ctx context.Context, jmxPort int, output io.Writer, started func(pid int)) error {
	java, err := n.java()
	if err != nil {
		return err
	}
	args, err := n.arguments(jmxPort)
	if err != nil {
		return err
	}
	last := &lastWords{}
	cmd := exec.CommandContext(ctx, java, args...)
	cmd.Dir = n.Directory
	cmd.Stdout = io.MultiWriter(output, last)
	cmd.Stderr = cmd.Stdout
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	// It gets SIGTERM when the thread that started it ends, so that thread is kept for it alone; and it is in a process
	// group of its own, so that a terminal's interrupt reaches it only through us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting Cassandra: %w", err)
	}
	started(cmd.Process.Pid)
	defer started(0)
	err = writeFile(n.path(pidFile), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"))
	if err != nil {
		err = fmt.Errorf("recording Cassandra's process id: %w", err)
	}
	waitErr := cmd.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(err, explain(waitErr, last.lines()))
}

// awaitPrevious waits for the Cassandra that an earlier process of ours has left, and kills it if it does not end.
func (n Node) awaitPrevious(ctx context.Context, log *slog.Logger) error {
	text, err := os.ReadFile(n.path(pidFile))
	if err != nil {
		return nil // none has run
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !n.isOurs(pid) {
		return nil
	}
	log.Info("waiting for the Cassandra of an earlier process to end", "pid", pid)
	_ = syscall.Kill(pid, syscall.SIGTERM)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(stopLimit); n.isOurs(pid); {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// isOurs tells whether the process is a running Cassandra with this node's configuration.
func (n Node) isOurs(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(line, []byte("-Dcassandra.config=file://"+n.path("conf", yamlFile)+"\x00"))
}

// lastWords keeps the last lines that were printed.
type lastWords struct{ buf []byte }

const lastWordsKept = 16 << 10

func (l *lastWords) Write(p []byte) (int, error) {
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - lastWordsKept; over > lastWordsKept {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(p), nil
}

func (l *lastWords) lines() []string {
	var out []string
	for s := bufio.NewScanner(bytes.NewReader(l.buf)); s.Scan(); {
		out = append(out, s.Text())
	}
	return out
}

// explain makes an error of how the process ended and what it said last.
func explain(err error, lines []string) error {
	if err == nil {
		err = errors.New("it ended by itself")
	}
	for _, c := range causes() {
		for _, line := range lines {
			if strings.Contains(line, c.said) {
				return fmt.Errorf("%s (%s; %w)", c.means, strings.TrimSpace(line), err)
			}
		}
	}
	for _, line := range lines {
		if strings.Contains(line, "Exception") && !strings.HasPrefix(line, "\t") {
			return fmt.Errorf("%s (%w)", strings.TrimSpace(line), err)
		}
	}
	return err
}

type cause struct{ said, means string }

// causes are the ends that an operator can do something about, most telling first.
func causes() []cause {
	return []cause{
		{"No space left on device", "the disk of Cassandra's data is full"},
		{"Insufficient disk space", "the disk of Cassandra's data is full"},
		{"has only", "the disk of Cassandra's data is nearly full"},
		{"CorruptSSTableException", "a data file of Cassandra is corrupt: replace this node, the others hold its rows"},
		{`because "file" is null`, "a data file of Cassandra is corrupt: replace this node, the others hold its rows"}, // what 5.0 says of a system table's
		{"CommitLogReadException", "a commit log of Cassandra is corrupt: replace this node, the others hold its rows"},
		{"CommitLogReplayException", "a commit log of Cassandra is corrupt: replace this node, the others hold its rows"},
		{"Unable to gossip with any peers", "no seed answers: check the seeds, port 7000 between store nodes and that all certificates are of this deployment"},
		{"Unable to contact any seeds", "no seed answers: check the seeds, port 7000 between store nodes and that all certificates are of this deployment"},
		{"Unable to find sufficient sources", "too few of the other nodes are up to copy this node's part from"},
		{"Other bootstrapping/leaving/moving nodes detected", "another node is joining or leaving: one at a time"},
		{"Cannot replace", "the node cannot take the dead one's place"},
		{"already exists, cancelling join", "a node of this address is in the ring already: replace it or remove it first"},
		{"Saved cluster name", "the data folder belongs to another cluster"},
		{"Cannot start node if snitch", "the data folder belongs to another site or rack"},
		{"Failed to bind port", "a port of Cassandra is in use"},
		{"Address already in use", "a port of Cassandra is in use"},
		{"OutOfMemoryError", "Cassandra's heap is too small (option cassandra_heap_mb)"},
		{"UnsupportedClassVersionError", "this Java is too old: Cassandra needs Java 17"},
		{"Failed to initialize SSL", "the node's certificate or key cannot be used"},
		{"Unable to create ssl context", "the node's certificate or key cannot be used"},
	}
}
