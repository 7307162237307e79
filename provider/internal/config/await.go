package config

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	nodeconfig "github.com/clearwater-ims/clearwater/nodes/config"
)

const (
	waitPoll  = 500 * time.Millisecond
	waitStuck = 3 * time.Minute // without any progress
)

// Waiting is how the nodes are watched taking a change up.
type Waiting struct {
	Ask   func(ctx context.Context) (management.Cluster, management.Restarts, error)
	Poll  time.Duration
	Stuck time.Duration // without progress, after which the wait fails
	Say   func(format string, args ...any)
}

// Await waits until every node that lives has the shared configuration of a revision in force, restarted where that needs it. It
// fails when the rolling restart has stopped, or when nothing moves any more. Nodes that are away take it up when they
// come back.
func Await(ctx context.Context, w Waiting, revision int64) error {
	last, moved := "", time.Now()
	for {
		cluster, queue, err := w.Ask(ctx)
		behind := lagging(cluster, revision)
		switch {
		case err != nil: // the store that was asked may be the one that restarts
			behind = []string{err.Error()}
		case queue.Halted != "":
			return fmt.Errorf("the change is in the store, but the rolling restart has stopped: %s. Mend the node, then: cw cluster restart-queue --resume", queue.Halted)
		case len(behind) == 0:
			return nil
		}
		now := strings.Join(behind, "; ")
		if now != last {
			last, moved = now, time.Now()
			w.Say("waiting for nodes: %s", now)
		}
		if time.Since(moved) > w.Stuck {
			return fmt.Errorf("the change is in the store, but after %s nodes have not taken it up: %s", w.Stuck, now)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the change is in the store, but not yet on all nodes (%s): %w", now, ctx.Err())
		case <-time.After(w.Poll):
		}
	}
}

// lagging says of each node that lives what it lacks.
func lagging(c management.Cluster, revision int64) (out []string) {
	for _, n := range c.Nodes {
		switch {
		case n.State == management.Failed || n.State == management.Drained || n.State == management.Unjoined:
		case n.Applied[nodeconfig.SharedFile] < revision:
			out = append(out, fmt.Sprintf("%s has revision %d", n.Name, n.Applied[nodeconfig.SharedFile]))
		case len(n.Restart) > 0:
			out = append(out, n.Name+" waits for its restart")
		}
	}
	return out
}
