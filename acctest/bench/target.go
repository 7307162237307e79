package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

// target is a server under measurement: its processes, where phones send, and addresses for phones.
type target struct {
	name    string
	fresh   bool // started for one measurement
	knows   bool // where the called are, without registrations
	proxy   string
	domain  string
	network string // first three bytes of phones' addresses
	pids    func() ([]int, error)
	stop    func()
}

const password = "secret"

func subscriber(i int) string { return fmt.Sprintf("65055%05d", i) }

// startDeployment brings up the local scenario and provisions the subscribers.
func startDeployment(ctx context.Context, o options) (*target, error) {
	d, err := deployment.New("bench", map[string]any{"user_settings": map[string]string{"log_level": "1"}})
	if err != nil {
		return nil, err
	}
	stop := func() {
		if err := d.Destroy(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
	if err := d.Apply(ctx, nil); err != nil {
		stop()
		return nil, err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range o.subscribers {
		group.Go(func() error {
			return d.Provisioning().CreateSubscriber(groupCtx, provisioning.Subscriber{
				PublicIDs: []string{"sip:" + subscriber(i) + "@" + d.Domain}, PrivateID: subscriber(i) + "@" + d.Domain, Realm: d.Domain, Password: password,
			})
		})
	}
	if err := group.Wait(); err != nil {
		stop()
		return nil, fmt.Errorf("provisioning: %w", err)
	}
	t := &target{
		name: "clearwater", proxy: d.Proxies[0], domain: d.Domain, network: d.Network(), stop: stop,
		pids: func() ([]int, error) { return pidsUnder(d.Folder()) },
	}
	pids, err := t.pids()
	if err == nil {
		err = pin(pids)
	}
	if err != nil {
		stop()
		return nil, err
	}
	return t, nil
}

// pidsUnder finds the processes whose program or working folder lies in a deployment's folder.
func pidsUnder(folder string) ([]int, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		program, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && strings.HasPrefix(program, folder+"/") {
			out = append(out, pid)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no process runs from " + folder)
	}
	return out, nil
}

// singles are the targets that are one process: our single functions, built here, and the peer with the allocator that is
// fast (Debian's default one is for debugging).
func singles(ctx context.Context) (map[string]func(options) (*target, error), error) {
	folder := filepath.Join("build", "bench")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", folder+"/", "./nodes/internal/proxy/hop", "./nodes/router/internal/functions/alone")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building: %w: %s", err, out)
	}
	own := func(name, program string, args ...string) func(options) (*target, error) {
		return func(o options) (*target, error) {
			if o.profile != "" {
				args = append(args[:len(args):len(args)], "-profile", filepath.Join(o.profile, name+".pprof"))
			}
			args := append(args[:len(args):len(args)], "-users", strconv.Itoa(max(o.subscribers, o.registered)))
			return startOne(ctx, name, filepath.Join(folder, program), args...)
		}
	}
	return map[string]func(options) (*target, error){
		"registrar": own("registrar", "alone", "-listen", "127.31.0.1"),
		"hop":       own("hop", "hop", "-listen", "127.31.0.1:5060", "-called", "127.31.0.231:5080"),
		"kamailio": func(options) (*target, error) {
			path, err := exec.LookPath("kamailio")
			if err != nil {
				return nil, errors.New("kamailio is missing (Debian package kamailio); install it, or run with -kamailio=false")
			}
			run, err := os.MkdirTemp("", "bench-kamailio")
			if err != nil {
				return nil, err
			}
			t, err := startOne(ctx, "kamailio", path, "-x", "tlsf", "-DD", "-E", "-m", "1024", "-M", "64", "-Y", run, "-P", filepath.Join(run, "pid"), "-f", "acctest/bench/kamailio.cfg")
			if err != nil {
				return nil, err
			}
			stop := t.stop
			t.stop = func() { stop(); _ = os.RemoveAll(run) }
			return t, nil
		},
	}, nil
}

// startOne starts a program on the first core.
func startOne(ctx context.Context, name, path string, args ...string) (*target, error) {
	cmd := exec.CommandContext(ctx, "taskset", append([]string{"-c", "0", path}, args...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &target{
		name: name, fresh: true, proxy: "127.31.0.1:5060", domain: "ims.test", network: "127.31.0", knows: name == "hop",
		pids: func() ([]int, error) { return family(cmd.Process.Pid) },
		stop: func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() },
	}
	switch name {
	case "kamailio":
		t.proxy, t.network = "127.7.0.1:5060", "127.7.0"
	case "registrar":
		t.proxy = "127.31.0.1:5054"
	}
	if err := waitUDP(ctx, t.proxy); err != nil {
		t.stop()
		return nil, fmt.Errorf("%s: %w\n%s", name, err, log.String())
	}
	return t, nil
}

// family is a process with its children.
func family(pid int) ([]int, error) {
	out := []int{pid}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil, err
	}
	for f := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		below, err := family(child)
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}

// pin puts processes onto the first core.
func pin(pids []int) error {
	for _, pid := range pids {
		if out, err := exec.Command("taskset", "-a", "-p", "-c", "0", strconv.Itoa(pid)).CombinedOutput(); err != nil {
			return fmt.Errorf("pinning %d: %w: %s", pid, err, out)
		}
	}
	return nil
}

// usage sums CPU seconds and proportional memory of processes.
func usage(pids []int) (cpu float64, memory int64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, 0, err
		}
		_, after, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(after)
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		cpu += float64(user+system) / 100 // USER_HZ
		memory += pss(pid)
	}
	return cpu, memory, nil
}

func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// waitUDP waits until something is bound to an address.
func waitUDP(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var a, b, c, d, port int
	if _, err := fmt.Sscanf(address, "%d.%d.%d.%d:%d", &a, &b, &c, &d, &port); err != nil {
		return err
	}
	want := fmt.Sprintf("%02X%02X%02X%02X:%04X", d, c, b, a, port)
	for {
		table, err := os.ReadFile("/proc/net/udp")
		if err != nil {
			return err
		}
		if strings.Contains(string(table), want) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("nothing listens at " + address)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
