package provider

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
)

func TestDriftIsSeenAndHealed(t *testing.T) {
	vars := small()
	vars["counts"] = map[string]int{"edge": 0}
	d := deployment.Up(t, "acc-drift", vars)
	folder := d.Folder()

	t.Run("killed node is back within 2 s, plan empty", func(t *testing.T) {
		for _, node := range []string{"router-1.site1", "store-1.site1"} {
			old := pid(t, folder, node)
			kill(t, old)
			within(t, 2*time.Second, node+" runs again", func() bool { now := pid(t, folder, node); return now != 0 && now != old })
		}
		emptyPlan(t, d)
	})
	t.Run("supervisor killed: seen, healed, the same processes", func(t *testing.T) {
		router := pid(t, folder, "router-1.site1")
		kill(t, pid(t, folder, "supervise"))
		if out := changes(t, d); !strings.Contains(out, `"stopped" -> "running"`) {
			t.Errorf("the plan does not say so:\n%s", out)
		}
		heal(t, d)
		if now := pid(t, folder, "router-1.site1"); now != router {
			t.Errorf("the router restarted: pid %d, was %d", now, router)
		}
	})
	t.Run("machine started again: seen, healed on the same data", func(t *testing.T) {
		killAll(t, folder)
		changes(t, d)
		heal(t, d)
	})
	t.Run("a node's folder deleted: seen, replaced", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(folder, "nodes", "xdms-1.site1")); err != nil {
			t.Fatal(err)
		}
		if out := changes(t, d); !strings.Contains(out, "clearwater_tier.xdms") {
			t.Errorf("the plan does not say so:\n%s", out)
		}
		heal(t, d)
		if pid(t, folder, "xdms-1.site1") == 0 {
			t.Error("the node does not run")
		}
	})
	t.Run("everything killed: destroy succeeds and leaves nothing", func(t *testing.T) {
		killAll(t, folder)
		leavesNothing(t, d)
	})
}

// heal applies and looks that nothing is left to do. The plan reads subscribers, numbers and shared configuration back
// from the deployment: one that was lost would be planned again.
func heal(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	if err := d.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	emptyPlan(t, d)
}

func killAll(t *testing.T, folder string) {
	t.Helper()
	supervisor := pid(t, folder, "supervise") // first, or it would start the others again
	kill(t, supervisor)
	var pids []int
	for _, p := range processes(t, folder) {
		pids = append(pids, p.pid)
	}
	kill(t, pids...)
}

func TestInterruptedApplyIsFinishedByTheNext(t *testing.T) {
	vars := small()
	vars["counts"] = map[string]int{"edge": 0, "router": 2}
	for name, tc := range map[string]struct {
		at     string // the progress line at which it happens
		signal syscall.Signal
	}{
		"asked to stop before the store is bootstrapped": {"starting store-1", syscall.SIGINT},
		"asked to stop while routers start":              {"starting router-", syscall.SIGINT},
		"killed after the deployment is there":           {"deployment acc-", syscall.SIGKILL},
		"killed before the store is bootstrapped":        {"starting store-1", syscall.SIGKILL},
		"killed while the tiers start":                   {"starting diameter-1", syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := deployment.New("acc-interrupt", vars)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if t.Failed() {
					d.KeepLogs()
				}
				_ = d.Destroy(context.Background()) // a second time, if the test got there
			})
			events := filepath.Join(t.TempDir(), "events")
			t.Setenv("CLEARWATER_EVENTS", events)
			cmd, wait := start(t, d, "apply", variables(d)...)
			within(t, time.Minute, tc.at, func() bool {
				text, _ := os.ReadFile(events)
				return strings.Contains(string(text), tc.at)
			})
			if err := syscall.Kill(-cmd.Process.Pid, tc.signal); err != nil {
				t.Fatal(err)
			}
			_, _ = wait() // it fails or, having been almost done, succeeds
			if err := d.Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			emptyPlan(t, d)
			if len(d.Nodes) != 6 {
				t.Errorf("nodes %v", d.Nodes)
			}
			leavesNothing(t, d)
		})
	}
}
