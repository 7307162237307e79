// Package rollout restarts nodes one after the other where a change of the shared configuration needs it, and stops at the
// first that does not come back. The nodes say in the registry what they wait for; the queue's state is in etcd; one store
// node at a time works on it. Which options need a restart it does not know.
package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

const (
	lockName = "restarts"
	step     = 500 * time.Millisecond // between looks
)

// Cluster is where the queue is; *cluster.Client is one.
type Cluster interface {
	Lock(ctx context.Context, name string) (held context.Context, unlock func(), err error)
	Nodes(ctx context.Context) ([]management.Registration, error)
	RestartState(ctx context.Context) (cluster.RestartState, error)
	PutRestartState(ctx context.Context, s cluster.RestartState) error
}

// Rollout works the queue off.
type Rollout struct {
	Cluster Cluster
	Order   func(ctx context.Context, node management.Registration) error // tells a node to restart
	Limit   time.Duration                                                 // for a node to be ready again
	Now     func() time.Time
	Log     *slog.Logger
}

// Run works until ctx ends, whenever this node holds the lock.
func (r *Rollout) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		held, unlock, err := r.Cluster.Lock(ctx, lockName)
		if err != nil {
			break // ctx has ended
		}
		r.work(held)
		unlock()
	}
	return nil
}

func (r *Rollout) work(ctx context.Context) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		if err := r.Step(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, cluster.ErrConflict) {
			r.Log.Warn("the restart queue", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Step looks once, and does what is next.
func (r *Rollout) Step(ctx context.Context) error {
	s, err := r.Cluster.RestartState(ctx)
	if err != nil || s.Halted != "" {
		return err
	}
	nodes, err := r.Cluster.Nodes(ctx)
	if err != nil {
		return err
	}
	if s.Current != "" {
		return r.follow(ctx, s, nodes)
	}
	waiting := Waiting(nodes, s.Cleared)
	if len(waiting) == 0 {
		return nil
	}
	next := waiting[0]
	s.Current, s.Since = next.Name, r.Now().UTC()
	if err := r.Cluster.PutRestartState(ctx, s); err != nil {
		return err
	}
	r.Log.Info("a node restarts for its configuration", "node", next.Name, "options", strings.Join(next.Restart, ", "), "waiting", len(waiting)-1)
	if err := r.Order(ctx, next); err != nil {
		r.Log.Warn("ordering a restart", "node", next.Name, "error", err) // it may have arrived: the limit decides
	}
	return nil
}

// follow waits for the node that restarts.
func (r *Rollout) follow(ctx context.Context, s cluster.RestartState, nodes []management.Registration) error {
	i := slices.IndexFunc(nodes, func(n management.Registration) bool { return n.Name == s.Current })
	switch {
	case i < 0: // it was taken out meanwhile
		s.Current, s.Since = "", time.Time{}
	case nodes[i].State == management.Ready && len(nodes[i].Restart) == 0:
		r.Log.Info("a node is back with its new configuration", "node", s.Current, "seconds", int(r.Now().Sub(s.Since).Seconds()))
		s.Current, s.Since = "", time.Time{}
	case r.Now().Sub(s.Since) > r.Limit:
		s.Halted = fmt.Sprintf("%s is %s, not ready, %s after its restart was ordered: the others are left as they are", s.Current, nodes[i].State, r.Limit)
		r.Log.Error("the rolling restart has stopped", "reason", s.Halted)
	default:
		return nil
	}
	return r.Cluster.PutRestartState(ctx, s)
}

// Waiting lists the nodes that wait for a restart, in the order of upgrades; those that wait for nothing newer than cleared do
// not count.
func Waiting(nodes []management.Registration, cleared int64) []management.Registration {
	var out []management.Registration
	for _, n := range nodes {
		if len(n.Restart) > 0 && n.State != management.Failed && n.State != management.Drained && n.Applied[config.SharedFile] > cleared {
			out = append(out, n)
		}
	}
	slices.SortStableFunc(out, func(a, b management.Registration) int {
		if d := slices.Index(config.Roles(), config.Role(a.Role)) - slices.Index(config.Roles(), config.Role(b.Role)); d != 0 {
			return d
		}
		if d := len(a.Name) - len(b.Name); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

// View is what is told of the queue.
func View(s cluster.RestartState, nodes []management.Registration) management.Restarts {
	v := s.Restarts
	v.Waiting = nil
	for _, n := range Waiting(nodes, s.Cleared) {
		if n.Name != s.Current {
			v.Waiting = append(v.Waiting, n.Name)
		}
	}
	return v
}
