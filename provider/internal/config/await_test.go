package config

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

func node(name string, state management.State, revision int64, restart ...string) management.Registration {
	return management.Registration{Name: name, State: state, Applied: map[string]int64{"shared_config": revision}, Restart: restart}
}

func TestAwait(t *testing.T) {
	for name, c := range map[string]struct {
		answers []management.Cluster // one after the other, the last again and again
		queue   management.Restarts
		err     error
		says    string
		takes   time.Duration
	}{
		"all have it":        {answers: []management.Cluster{{Nodes: []management.Registration{node("a", management.Ready, 7), node("b", management.Ready, 8)}}}},
		"dead ones are left": {answers: []management.Cluster{{Nodes: []management.Registration{node("a", management.Failed, 3), node("b", management.Drained, 0)}}}},
		"one after the other": {answers: []management.Cluster{
			{Nodes: []management.Registration{node("a", management.Ready, 6), node("b", management.Ready, 7)}},
			{Nodes: []management.Registration{node("a", management.Ready, 7, "dns_timeout"), node("b", management.Ready, 7)}},
			{Nodes: []management.Registration{node("a", management.Ready, 7), node("b", management.Ready, 7)}},
		}, takes: 2 * time.Second},
		"stopped": {answers: []management.Cluster{{}}, queue: management.Restarts{Halted: "a is failed"}, says: "stopped: a is failed"},
		"stuck":   {answers: []management.Cluster{{Nodes: []management.Registration{node("a", management.Ready, 6)}}}, says: "a has revision 6", takes: time.Minute},
		"away":    {answers: []management.Cluster{{}}, err: errors.New("connection refused"), says: "connection refused", takes: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, began := 0, time.Now()
				err := Await(t.Context(), Waiting{Poll: time.Second, Stuck: time.Minute, Say: t.Logf, Ask: func(context.Context) (management.Cluster, management.Restarts, error) {
					a := c.answers[min(n, len(c.answers)-1)]
					n++
					return a, c.queue, c.err
				}}, 7)
				if (err != nil) != (c.says != "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
					t.Errorf("it says %v, want %q", err, c.says)
				}
				if took := time.Since(began); took < c.takes || took > c.takes+2*time.Second {
					t.Errorf("it took %s, want %s", took, c.takes)
				}
			})
		})
	}
}
