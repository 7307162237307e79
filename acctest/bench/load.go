package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// measure loads the target for a while and tells the CPU of its processes.
func (t *target) measure(ctx context.Context, k kind, o options) (figure, error) {
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		return figure{}, err
	}
	defer os.RemoveAll(folder)
	half := o.subscribers / 2
	caller, called := t.network+".230:5070", t.network+".231:5080"
	if k.name == "registrar" {
		// Everybody has registered once before: what is measured is how registrations are kept, not how they begin.
		data := registerData(t, 0, o.registered)
		if _, err := t.sipp(ctx, folder, "reg", caller, k.rate, o.registered, data); err != nil {
			return figure{}, fmt.Errorf("registering: %w", err)
		}
		return t.timed(ctx, folder, "reg", caller, k.rate, k.rate*o.seconds, data)
	}
	if k.scenario == "reg" {
		return t.timed(ctx, folder, "reg", caller, k.rate, k.rate*o.seconds, registerData(t, 0, o.subscribers))
	}
	if !t.knows {
		// Phones register outside the measurement: callers from one address, the called from the other.
		if _, err := t.sipp(ctx, folder, "reg", caller, 200, half, registerData(t, 0, half)); err != nil {
			return figure{}, fmt.Errorf("registering callers: %w", err)
		}
		if _, err := t.sipp(ctx, folder, "reg", called, 200, half, registerData(t, half, o.subscribers)); err != nil {
			return figure{}, fmt.Errorf("registering the called: %w", err)
		}
	}
	answering := t.command(ctx, folder, "uas", called, 0, 0, "")
	if err := answering.Start(); err != nil {
		return figure{}, err
	}
	defer func() { _ = answering.Process.Kill(); _ = answering.Wait() }()
	if err := waitUDP(ctx, called); err != nil {
		return figure{}, err
	}
	var data strings.Builder
	data.WriteString("SEQUENTIAL\n")
	for i := range half {
		fmt.Fprintf(&data, "%s;%s;\n", subscriber(half+i), subscriber(i))
	}
	return t.timed(ctx, folder, "uac", caller, k.rate, k.rate*o.seconds, data.String())
}

func registerData(t *target, from, to int) string {
	var b strings.Builder
	b.WriteString("SEQUENTIAL\n")
	for i := from; i < to; i++ {
		user := subscriber(i)
		if t.name != "kamailio" {
			user += "@" + t.domain
		}
		fmt.Fprintf(&b, "%s;[authentication username=%s password=%s];\n", subscriber(i), user, password)
	}
	return b.String()
}

func (t *target) timed(ctx context.Context, folder, scenario, local string, rate, calls int, data string) (figure, error) {
	pids, err := t.pids()
	if err != nil {
		return figure{}, err
	}
	before, _, err := usage(pids)
	if err != nil {
		return figure{}, err
	}
	started := time.Now()
	done, err := t.sipp(ctx, folder, scenario, local, rate, calls, data)
	took := time.Since(started)
	if err != nil {
		return figure{}, err
	}
	after, memory, err := usage(pids)
	if err != nil {
		return figure{}, fmt.Errorf("a process has ended under load: %w", err)
	}
	good := done["SuccessfulCall(C)"]
	if good == 0 {
		return figure{}, errors.New("no operation went by the script")
	}
	return figure{per1000: (after - before) / float64(good) * 1000, rate: float64(good) / took.Seconds(), failed: done["FailedCall(C)"], repeated: done["Retransmissions(C)"], memory: memory}, nil
}

// sipp runs a scenario and returns its counters. Failed calls are figures, not errors.
func (t *target) sipp(ctx context.Context, folder, scenario, local string, rate, calls int, data string) (map[string]int, error) {
	cmd := t.command(ctx, folder, scenario, local, rate, calls, data)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return nil, fmt.Errorf("SIPp %s: %w\n%s", scenario, err, out)
	}
	file, err := os.Open(filepath.Join(folder, scenario+".stats"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	in := csv.NewReader(file)
	in.Comma, in.FieldsPerRecord, in.LazyQuotes = ';', -1, true
	lines, err := in.ReadAll()
	if err != nil || len(lines) < 2 {
		return nil, fmt.Errorf("SIPp %s left no statistics: %w", scenario, err)
	}
	result := map[string]int{}
	for i, name := range lines[0] {
		if last := lines[len(lines)-1]; i < len(last) {
			result[name], _ = strconv.Atoi(last[i])
		}
	}
	return result, nil
}

func (t *target) command(ctx context.Context, folder, scenario, local string, rate, calls int, data string) *exec.Cmd {
	address, port, _ := strings.Cut(local, ":")
	stats := filepath.Join(folder, scenario+".stats")
	_ = os.Remove(stats)
	args := []string{
		"-c", "1", "sipp", t.proxy, "-sf", filepath.Join("acctest", "bench", scenario+".xml"), "-s", t.domain, "-i", address, "-p", port, "-t", "u1",
		"-nostdin", "-trace_stat", "-stf", stats, "-fd", "1", "-buff_size", "4000000",
	}
	if calls > 0 {
		args = append(args, "-m", strconv.Itoa(calls), "-r", strconv.Itoa(rate), "-l", strconv.Itoa(20*rate), "-timeout", strconv.Itoa(calls/rate+60)+"s")
	}
	if data != "" {
		file := filepath.Join(folder, scenario+".csv")
		if os.WriteFile(file, []byte(data), 0o600) == nil {
			args = append(args, "-inf", file)
		}
	}
	return exec.CommandContext(ctx, "taskset", args...)
}
