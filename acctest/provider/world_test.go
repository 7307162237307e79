// Package provider drives the real terraform (or tofu) with the built provider and the built nodes, as a user does: apply,
// resize, drift, interruption, import, destroy. It needs the binaries of `make build`.
package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
)

// process is one that runs a binary of a deployment's state folder.
type process struct {
	pid  int
	args string
}

// processes lists them from /proc, without asking anybody.
func processes(t *testing.T, folder string) (out []process) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || !strings.HasPrefix(exe, folder+"/") {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		out = append(out, process{pid, string(bytes.ReplaceAll(args, []byte{0}, []byte(" ")))})
	}
	return out
}

// pid finds a node's own process, 0 when there is none; "supervise" is the supervisor.
func pid(t *testing.T, folder, node string) int {
	t.Helper()
	for _, p := range processes(t, folder) {
		if strings.Contains(p.args, "/"+node+"/config") || (node == "supervise" && strings.Contains(p.args, " supervise ")) {
			return p.pid
		}
	}
	return 0
}

func kill(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		if pid == 0 {
			t.Fatal("the process to kill does not run")
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
	within(t, 5*time.Second, "killed processes are gone", func() bool {
		for _, pid := range pids {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				return false
			}
		}
		return true
	})
}

func within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("within %v not: %s", d, what)
		case <-tick.C:
		}
	}
}

// images is a copy of the built binaries: a build meanwhile must not look like a new image to a test.
var images string //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	root, err := deployment.Root()
	if err == nil {
		images, err = os.MkdirTemp("", "clearwater-images")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(images) }()
	if err := errors.Join(os.Chmod(images, 0o755), copyImages(filepath.Join(root, "bin"), images)); err != nil {
		fmt.Fprintln(os.Stderr, err, "(make build makes them)")
		return 1
	}
	return m.Run()
}

func copyImages(from, to string) error {
	for _, role := range []string{"store", "diameter", "xdms", "router", "edge", "portal"} {
		text, err := os.ReadFile(filepath.Join(from, role))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, role), text, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// small is a whole deployment that comes up fast and lets nodes go fast.
func small() map[string]any {
	return map[string]any{"dns_ttl": 1, "drain_timeout": "20s", "image": images}
}

// emptyPlan fails unless a plan finds nothing to do.
func emptyPlan(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	code, out, err := d.Plan(t.Context())
	if err != nil || code != 0 {
		t.Fatalf("the plan is not empty (exit code %d, %v):\n%s", code, err, out)
	}
}

// changes fails unless a plan finds something, and returns what it prints.
func changes(t *testing.T, d *deployment.Deployment) string {
	t.Helper()
	code, out, err := d.Plan(t.Context())
	if err != nil || code != 2 {
		t.Fatalf("the plan has no changes (exit code %d, %v):\n%s", code, err, out)
	}
	return out
}

// leavesNothing destroys, and looks for processes, sockets and files.
func leavesNothing(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	network := d.Network()
	if err := d.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, d.Folder(), network)
}

func nothingLeft(t *testing.T, folder, network string) {
	t.Helper()
	if left := processes(t, folder); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder is left: %v", err)
	}
	for _, table := range []string{"tcp", "udp"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			fields := strings.Fields(line)
			const timeWait = "06"
			if len(fields) > 3 && strings.HasPrefix(address(fields[1]), network+".") && fields[3] != timeWait {
				t.Errorf("a socket is left: %s %s", table, line)
			}
		}
	}
}

// address turns 0A01467F:13C4 into 127.70.1.10.
func address(hex string) string {
	host, _, _ := strings.Cut(hex, ":")
	n, err := strconv.ParseUint(host, 16, 32)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d.%d", byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
}

// stateOf reads the attributes of a resource from Terraform's state.
func stateOf(t *testing.T, d *deployment.Deployment, address string) map[string]any {
	t.Helper()
	text, err := d.Terraform(t.Context(), "show", "-json")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var state struct {
		Values struct {
			Root struct {
				Resources []struct {
					Address string         `json:"address"`
					Values  map[string]any `json:"values"`
				} `json:"resources"`
			} `json:"root_module"`
		} `json:"values"`
	}
	if err := json.Unmarshal([]byte(text), &state); err != nil {
		t.Fatal(err)
	}
	for _, r := range state.Values.Root.Resources {
		if r.Address == address {
			return r.Values
		}
	}
	t.Fatalf("no %s in state", address)
	return nil
}

// start runs terraform without waiting for it; the returned function tells how it ended.
func start(t *testing.T, d *deployment.Deployment, verb string, args ...string) (*exec.Cmd, func() (string, error)) {
	t.Helper()
	root, err := deployment.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(root, "scripts", "terraform.sh"), append([]string{verb}, args...)...)
	cmd.Env = append(os.Environ(), "ENV="+d.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, func() (string, error) {
		err := cmd.Wait()
		return out.String(), err
	}
}

// variables are a deployment's as arguments.
func variables(d *deployment.Deployment) (out []string) {
	for name, value := range d.Vars {
		text, _ := json.Marshal(value)
		if s, ok := value.(string); ok {
			text = []byte(s)
		}
		out = append(out, "-var="+name+"="+string(text))
	}
	return out
}

func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}
