package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limitCPU lets processes have a share of one core together, and tells how. The kernel does it by a quota where control
// groups can be made (version 2 or 1); elsewhere the processes are stopped and continued in short turns.
func limitCPU(t *testing.T, pids []int, share float64) (how string) {
	t.Helper()
	period := strconv.FormatInt(quotaPeriod.Microseconds(), 10)
	quota := strconv.FormatInt(int64(share*float64(quotaPeriod.Microseconds())), 10)
	for _, group := range []struct {
		how, root string
		settings  [][2]string // files and what they get; the weight lets nothing but the quota hold the processes back
	}{
		{"cgroup v2 cpu.max", "/sys/fs/cgroup", [][2]string{{"cpu.max", quota + " " + period}, {"cpu.weight", "10000"}}},
		{"cgroup v1 cpu.cfs_quota_us", "/sys/fs/cgroup/cpu", [][2]string{{"cpu.cfs_period_us", period}, {"cpu.cfs_quota_us", quota}, {"cpu.shares", "100000"}}},
	} {
		err := inGroup(t, pids, group.root, group.settings)
		if err == nil {
			return group.how
		}
		t.Logf("figures: no %s: %v", group.how, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		turns(ctx, pids, share)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return "SIGSTOP and SIGCONT in turns"
}

const quotaPeriod = 20 * time.Millisecond

// inGroup puts processes into a control group of their own, and back when the test ends.
func inGroup(t *testing.T, pids []int, root string, settings [][2]string) error {
	t.Helper()
	two := settings[0][0] == "cpu.max"
	home := filepath.Join(root, ownGroup(two))
	if text, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")); two {
		if err != nil || !slices.Contains(strings.Fields(string(text)), "cpu") {
			return errors.Join(errors.New("the controller cpu is not there"), err)
		}
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0); err != nil {
			return err
		}
	}
	dir := filepath.Join(root, fmt.Sprintf("overload-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	move := func(to string) error {
		var failed error
		for _, pid := range pids {
			if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil && !errors.Is(err, syscall.ESRCH) {
				failed = err
			}
		}
		return failed
	}
	remove := func() {
		_ = move(home)
		for range 50 { // threads that end leave a moment later
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("the control group %s could not be removed", dir)
	}
	for _, setting := range settings {
		if err := os.WriteFile(filepath.Join(dir, setting[0]), []byte(setting[1]), 0); err != nil {
			remove()
			return err
		}
	}
	if err := move(dir); err != nil {
		remove()
		return err
	}
	t.Cleanup(remove)
	return nil
}

// ownGroup is the control group of this process, which its children are in too.
func ownGroup(two bool) string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (two && f[0] == "0" || !two && slices.Contains(strings.Split(f[1], ","), "cpu")) {
			return f[2]
		}
	}
	return "/"
}

// turns stops and continues processes so that they run for their share of each 10 ms.
func turns(ctx context.Context, pids []int, share float64) {
	const turn = 10 * time.Millisecond
	all := func(sig syscall.Signal) {
		for _, pid := range pids {
			_ = syscall.Kill(pid, sig) // one that is gone needs neither
		}
	}
	defer all(syscall.SIGCONT)
	for ctx.Err() == nil {
		all(syscall.SIGCONT)
		time.Sleep(time.Duration(share * float64(turn)))
		all(syscall.SIGSTOP)
		time.Sleep(turn - time.Duration(share*float64(turn)))
	}
}

// family is a process and what it has started.
func family(pid int) []int {
	out := []int{pid}
	for i := 0; i < len(out); i++ {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", out[i]))
		for _, list := range lists {
			text, _ := os.ReadFile(list)
			for _, child := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(child); err == nil {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

// cpuTime is what processes have used so far.
func cpuTime(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, i := range []int{11, 12} { // user and system time in hundredths of a second
			n, _ := strconv.Atoi(f[i])
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
