package peer

import (
	"fmt"
	"strings"
	"testing"
)

// TestWatchdogIsThatOfRFC3539 walks the table of RFC 3539 3.4.1: events, and after each the state and what is to be done.
func TestWatchdogIsThatOfRFC3539(t *testing.T) {
	events := map[string]func(*watchdog) action{
		"up": (*watchdog).up, "dwa": (*watchdog).answered, "other": (*watchdog).heard, "timer": (*watchdog).expired, "lost": (*watchdog).lost,
	}
	for name, script := range map[string]string{
		"answers keep it okay":          "up okay, timer okay probe, dwa okay, timer okay probe, dwa okay",
		"traffic alone is no answer":    "up okay, timer okay probe, other okay, timer suspect failover",
		"suspect, then answered":        "up okay, timer okay probe, timer suspect failover, dwa okay, timer okay probe",
		"suspect, then any message":     "up okay, timer okay probe, timer suspect failover, other okay",
		"silent to the end":             "up okay, timer okay probe, timer suspect failover, timer down failover close",
		"lost when okay":                "up okay, lost down failover close",
		"lost when suspect":             "up okay, timer okay probe, timer suspect failover, lost down failover close",
		"back: three answers":           "up okay, lost down failover close, up reopen probe, dwa reopen, timer reopen probe, dwa reopen, timer reopen probe, dwa okay",
		"back: other messages do not":   "up okay, lost down failover close, up reopen probe, other reopen, other reopen, other reopen",
		"back: one silence is forgiven": "up okay, lost down failover close, up reopen probe, dwa reopen, timer reopen probe, timer reopen, dwa reopen",
		"back: two silences are not":    "up okay, lost down failover close, up reopen probe, timer reopen, timer down failover close",
		"back and lost again":           "up okay, lost down failover close, up reopen probe, lost down failover close, up reopen probe",
	} {
		t.Run(name, func(t *testing.T) {
			w := &watchdog{}
			for i, step := range strings.Split(script, ", ") {
				event, want, _ := strings.Cut(step, " ")
				a := events[event](w)
				got := w.state.String()
				for _, one := range []struct {
					name string
					set  bool
				}{{"probe", a.probe}, {"failover", a.failover}, {"close", a.close}} {
					if one.set {
						got += " " + one.name
					}
				}
				if got != want {
					t.Fatalf("step %s: got %q", fmt.Sprintf("%d (%s)", i+1, step), got)
				}
			}
		})
	}
}
