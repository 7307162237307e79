// Package sipp runs SIPp, the independent SIP test tool, as phones of a test.
package sipp

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Run is one SIPp process.
type Run struct {
	Scenario  string // file name without .xml in acctest/calls/scenarios, or a path
	Proxy     string // address:port that messages go to
	Domain    string // [service]
	Local     string // address:port of the phone
	Transport string // u1 (one UDP socket), t1 (one TCP connection), tn
	Users     []User // one line of field data each, taken in turn
	Calls     int    // how many calls; default one for each user
	Rate      float64
	Limit     int // calls at a time
	Timeout   time.Duration
	OutOfCall string // scenario for requests that belong to no call
	Extra     []string
}

// User is a line of field data: [field0] to [field5].
type User struct {
	Name, Password, Instance string
	Expires                  int
	Peer                     string
	Extra                    string
	IMPI                     string // default Name@Domain
	Card                     Card   // instead of a password, if it has a key
}

// Card is a USIM as SIPp plays it, in hexadecimal. SIPp takes the operator's OP, not an OPc.
type Card struct{ K, OP, AMF string }

// credentials are the parameters of SIPp's [authentication].
func (u User) credentials() string {
	if u.Card.K == "" {
		return "password=" + u.Password
	}
	// SIPp reads each as the text of a keyword and does not end it: without the last octet it goes on into whatever memory
	// is behind it, and now and then finds a bracket there.
	return "aka_K=0x" + u.Card.K + "00 aka_OP=0x" + u.Card.OP + "00 aka_AMF=0x" + u.Card.AMF + "00"
}

// Result is what became of it.
type Result struct {
	Err        error // nil: every call went by the script
	Successful int
	Failed     int
	Errors     string // SIPp's error log, the end of it
	Log        string // what the scenario logged
	Folder     string
	Stats      map[string]string // last line of the statistics
}

// Process is a SIPp that is running.
type Process struct {
	cmd    *exec.Cmd
	done   chan struct{}
	err    error
	folder string
	t      testing.TB
	Proxy  string // where it sends
}

// Do runs SIPp to its end.
func (r Run) Do(t testing.TB) Result {
	t.Helper()
	return r.Start(t).Wait()
}

// Must runs SIPp and fails the test unless every call went by the script.
func (r Run) Must(t testing.TB) Result {
	t.Helper()
	result := r.Do(t)
	if result.Err != nil {
		t.Fatalf("SIPp %s: %v, %d calls good, %d failed\n%s", r.Scenario, result.Err, result.Successful, result.Failed, result.Errors)
	}
	return result
}

// Start starts SIPp; it is stopped at the end of the test if it still runs.
func (r Run) Start(t testing.TB) *Process {
	t.Helper()
	folder := t.TempDir()
	p := &Process{done: make(chan struct{}), folder: folder, t: t, Proxy: r.Proxy}
	args, err := r.arguments(folder)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command("sipp", args...)
	p.cmd.Dir = folder
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	screen, err := os.Create(filepath.Join(folder, "screen"))
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = screen, screen
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting SIPp: %v", err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
		_ = screen.Close()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	if local, err := netip.ParseAddrPort(r.Local); err == nil && strings.HasPrefix(r.Transport, "u") {
		p.bound(local)
	}
	return p
}

func (r Run) arguments(folder string) ([]string, error) {
	scenario := r.Scenario
	if !strings.HasSuffix(scenario, ".xml") {
		scenario = filepath.Join(scenarios(), scenario+".xml")
	}
	local, err := netip.ParseAddrPort(r.Local)
	if err != nil {
		return nil, fmt.Errorf("phone's address: %w", err)
	}
	var data strings.Builder
	data.WriteString("SEQUENTIAL\n")
	for _, u := range r.Users {
		impi := u.IMPI
		if impi == "" {
			impi = u.Name + "@" + r.Domain
		}
		fmt.Fprintf(&data, "%s;[authentication username=%s %s];%s;%d;%s;%s;\n", u.Name, impi, u.credentials(), u.Instance, u.Expires, u.Peer, u.Extra)
	}
	if err := os.WriteFile(filepath.Join(folder, "users.csv"), []byte(data.String()), 0o600); err != nil {
		return nil, err
	}
	calls := r.Calls
	if calls == 0 {
		calls = max(1, len(r.Users))
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 40 * time.Second
	}
	args := []string{
		r.Proxy, "-sf", scenario, "-s", r.Domain, "-i", local.Addr().String(), "-p", strconv.Itoa(int(local.Port())),
		"-t", r.Transport, "-m", strconv.Itoa(calls), "-nostdin", "-timeout", strconv.Itoa(int(timeout.Seconds())) + "s", "-timeout_error",
		"-trace_err", "-error_file", filepath.Join(folder, "errors"), "-trace_logs", "-log_file", filepath.Join(folder, "log"),
		"-trace_stat", "-stf", filepath.Join(folder, "stats.csv"), "-fd", "1",
	}
	if r.Rate == 0 { // under load the log of messages would cost more than the calls
		args = append(args, "-trace_msg", "-message_file", filepath.Join(folder, "messages"))
	}
	if len(r.Users) > 0 {
		args = append(args, "-inf", filepath.Join(folder, "users.csv"))
	}
	if r.Rate > 0 {
		args = append(args, "-r", strconv.FormatFloat(r.Rate, 'f', -1, 64))
	}
	if r.Limit > 0 {
		args = append(args, "-l", strconv.Itoa(r.Limit))
	}
	if r.OutOfCall != "" {
		args = append(args, "-oocsf", filepath.Join(scenarios(), r.OutOfCall+".xml"))
	}
	return append(args, r.Extra...), nil
}

// scenarios is the folder of the scenario files, found from any test package under acctest.
func scenarios() string {
	dir, _ := os.Getwd()
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "acctest", "calls", "scenarios")
}

// bound waits until SIPp has its UDP socket, so that what is sent to it next is not lost.
func (p *Process) bound(local netip.AddrPort) {
	four := local.Addr().As4()
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", four[3], four[2], four[1], four[0], local.Port())
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if table, err := os.ReadFile("/proc/net/udp"); err == nil && bytes.Contains(table, []byte(want)) {
			return
		}
		select {
		case <-p.done:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Quit asks SIPp to start no more calls and to end when those under way are over.
func (p *Process) Quit() { _ = p.cmd.Process.Signal(syscall.SIGUSR1) }

// Stop ends SIPp at once, without judging what was under way.
func (p *Process) Stop() Result {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.Wait()
}

// Stats reads the newest line of statistics, by column name; counters end in (C).
func (p *Process) Stats() map[string]string {
	lines, _ := csvLines(filepath.Join(p.folder, "stats.csv")) // the last line may be half written
	if len(lines) < 2 {
		return nil
	}
	out := map[string]string{}
	for i, name := range lines[0] {
		if last := lines[len(lines)-1]; i < len(last) {
			out[name] = last[i]
		}
	}
	return out
}

// CallStates tells how many calls of a caller's scenario ring and how many talk now. It needs -trace_counts.
func (p *Process) CallStates() (ringing, talking int) {
	matches, _ := filepath.Glob(filepath.Join(p.folder, "*_counts.csv"))
	if len(matches) == 0 {
		return 0, 0
	}
	lines, err := csvLines(matches[0])
	if err != nil || len(lines) < 2 {
		return 0, 0
	}
	counts := map[string]int{}
	for i, column := range lines[0] {
		last := lines[len(lines)-1]
		if i >= len(last) || strings.HasSuffix(column, "_Retrans") || strings.HasSuffix(column, "_Timeout") || strings.HasSuffix(column, "_Unexp") || strings.HasSuffix(column, "_Lost") {
			continue
		}
		for _, what := range []string{"_180_", "_INVITE_", "_ACK_", "_BYE_"} {
			if strings.Contains(column+"_", what) {
				n, _ := strconv.Atoi(last[i])
				counts[what] += n
			}
		}
	}
	return counts["_180_"] - counts["_ACK_"], counts["_ACK_"] - counts["_BYE_"]
}

func csvLines(path string) ([][]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := csv.NewReader(file)
	in.Comma, in.FieldsPerRecord, in.LazyQuotes = ';', -1, true
	return in.ReadAll()
}

// Number reads a counter of the statistics.
func (p *Process) Number(column string) int {
	n, _ := strconv.Atoi(p.Stats()[column])
	return n
}

// Wait waits for the end.
func (p *Process) Wait() Result {
	<-p.done
	r := Result{Err: p.err, Folder: p.folder, Stats: p.Stats()}
	r.Successful, _ = strconv.Atoi(r.Stats["SuccessfulCall(C)"])
	r.Failed, _ = strconv.Atoi(r.Stats["FailedCall(C)"])
	r.Errors = tail(filepath.Join(p.folder, "errors"), 3000) + tail(filepath.Join(p.folder, "messages"), 12000)
	r.Log = tail(filepath.Join(p.folder, "log"), 1<<20)
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		r.Err = fmt.Errorf("exit code %d (%s)", exit.ExitCode(), map[int]string{1: "a call failed", 97: "stopped by command", 99: "no call was made", 254: "connection error", 255: "fatal error"}[exit.ExitCode()])
		if r.Errors == "" {
			r.Errors = tail(filepath.Join(p.folder, "screen"), 2000)
		}
	}
	return r
}

func tail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-n):])
}

// WaitFor polls until check is true or the context ends.
func WaitFor(ctx context.Context, check func() bool) error {
	for !check() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
