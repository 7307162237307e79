package rollout_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/rollout"
)

// queue is a cluster of nodes that wait for a restart.
type queue struct {
	nodes []management.Registration
	state cluster.RestartState
	told  []string
	now   time.Time
	deaf  bool // nodes cannot be told
}

func (q *queue) Lock(ctx context.Context, _ string) (context.Context, func(), error) {
	return ctx, func() {}, nil
}
func (q *queue) Nodes(context.Context) ([]management.Registration, error) { return q.nodes, nil }
func (q *queue) RestartState(context.Context) (cluster.RestartState, error) {
	return q.state, nil
}
func (q *queue) PutRestartState(_ context.Context, s cluster.RestartState) error {
	q.state = s
	return nil
}

func (q *queue) rollout() *rollout.Rollout {
	return &rollout.Rollout{Cluster: q, Limit: time.Minute, Now: func() time.Time { return q.now }, Log: slog.New(slog.DiscardHandler),
		Order: func(_ context.Context, n management.Registration) error {
			q.told = append(q.told, n.Name)
			if q.deaf {
				return errors.New("connection refused")
			}
			return nil
		}}
}

func waiting(names ...string) (out []management.Registration) {
	for _, name := range names {
		role, _, _ := strings.Cut(name, "-")
		out = append(out, management.Registration{Name: name, Role: role, State: management.Ready, Restart: []string{"dns_timeout"}, Applied: map[string]int64{"shared_config": 7}})
	}
	return out
}

func (q *queue) is(name string, state management.State, waits bool) {
	for i := range q.nodes {
		if q.nodes[i].Name == name {
			q.nodes[i].State, q.nodes[i].Restart = state, nil
			if waits {
				q.nodes[i].Restart = []string{"dns_timeout"}
			}
		}
	}
}

func TestOneAfterTheOther(t *testing.T) {
	q := &queue{nodes: waiting("edge-1", "router-10", "router-2", "store-1"), now: time.Now()}
	r := q.rollout()
	for _, want := range []string{"store-1", "router-2", "router-10", "edge-1"} {
		for range 3 { // it stays with one until that is back
			if err := r.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if q.state.Current != want || q.told[len(q.told)-1] != want {
			t.Fatalf("%s restarts, told %v, want %s", q.state.Current, q.told, want)
		}
		q.is(want, management.Joining, false)
		_ = r.Step(t.Context())
		if q.state.Current != want {
			t.Fatalf("%s is not ready yet, and %s restarts", want, q.state.Current)
		}
		q.is(want, management.Ready, false)
		_ = r.Step(t.Context())
	}
	_ = r.Step(t.Context())
	if len(q.told) != 4 || q.state.Current != "" {
		t.Errorf("told %v, current %q", q.told, q.state.Current)
	}
}

func TestStopsAtTheFirstThatFails(t *testing.T) {
	q := &queue{nodes: waiting("router-1", "router-2"), now: time.Now()}
	r := q.rollout()
	_ = r.Step(t.Context())
	q.is("router-1", management.Failed, false)
	q.now = q.now.Add(59 * time.Second)
	_ = r.Step(t.Context())
	if q.state.Halted != "" {
		t.Fatalf("too early: %s", q.state.Halted)
	}
	q.now = q.now.Add(2 * time.Second)
	for range 3 {
		_ = r.Step(t.Context())
	}
	if !strings.Contains(q.state.Halted, "router-1 is failed") || !slices.Equal(q.told, []string{"router-1"}) {
		t.Errorf("halted %q, told %v", q.state.Halted, q.told)
	}
	if v := rollout.View(q.state, q.nodes); !slices.Equal(v.Waiting, []string{"router-2"}) || v.Halted == "" {
		t.Errorf("it shows %+v", v)
	}
	q.state.Halted, q.state.Current = "", "" // resumed
	_ = r.Step(t.Context())
	if q.state.Current != "router-2" {
		t.Errorf("resumed with %q", q.state.Current)
	}
}

func TestClearedAndAbsent(t *testing.T) {
	q := &queue{nodes: waiting("router-1", "router-2"), now: time.Now(), deaf: true}
	q.nodes[1].State = management.Failed // cannot be restarted
	q.state.Cleared = 7
	r := q.rollout()
	_ = r.Step(t.Context())
	if len(q.told) != 0 {
		t.Errorf("told %v of a change that was cleared", q.told)
	}
	q.nodes[0].Applied["shared_config"] = 8
	_ = r.Step(t.Context())
	if q.state.Current != "router-1" {
		t.Errorf("current %q", q.state.Current)
	}
	q.nodes = q.nodes[1:] // taken out meanwhile
	_ = r.Step(t.Context())
	if q.state.Current != "" || q.state.Halted != "" {
		t.Errorf("after it is gone: %+v", q.state)
	}
}
