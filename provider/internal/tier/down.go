package tier

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// errDrain: something is still held when the time is over.
var errDrain = errors.New("not drained in time")

// down ends the nodes above count: out of DNS, wait for caches, drain, terminate.
func (r *run) down(ctx context.Context, count int) error {
	var surplus []platform.Node
	for _, n := range r.nodes() {
		if n.Index > count {
			surplus = append(surplus, n)
		}
	}
	slices.Reverse(surplus)
	if len(surplus) == 0 {
		if count == 0 {
			return r.publish(ctx, nil)
		}
		return nil
	}
	if r.shape.Role == config.Store && !r.lastStore(surplus) {
		return r.leaveStore(ctx, surplus)
	}
	if err := r.drain(ctx, surplus); err != nil {
		return err
	}
	for _, n := range surplus {
		if err := r.terminate(ctx, n); err != nil {
			return err
		}
	}
	if err := r.look(ctx); err != nil {
		return err
	}
	return r.publish(ctx, r.nodes())
}

// drain takes nodes out of DNS, waits until nobody remembers their names, and waits until they hold nothing.
func (r *run) drain(ctx context.Context, nodes []platform.Node) error {
	wasPublished := false
	for _, n := range nodes {
		wasPublished = wasPublished || r.published[n.Name]
		delete(r.published, n.Name)
	}
	if err := r.publish(ctx, r.nodes()); err != nil {
		return err
	}
	if r.shape.DrainTimeout == 0 {
		return nil // not to be drained
	}
	if wasPublished {
		r.Progress("out of DNS: %s; waiting %d s for caches", names(nodes), r.site.TTL)
		if err := sleep(ctx, time.Duration(r.site.TTL)*time.Second); err != nil {
			return err
		}
	}
	if r.shape.Role == config.Store {
		return nil // leaveStore does it; the last store node has nobody to hand over to: its disk is kept or goes with it
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		if n.Running {
			group.Go(func() error { return r.drainOne(groupCtx, n) })
		}
	}
	return group.Wait()
}

// silence is how long a node may leave questions unanswered before it counts as unreachable.
const silence = 30 * time.Second

func (r *run) drainOne(ctx context.Context, n platform.Node) error {
	began := time.Now()
	deadline, heard, told := began.Add(r.shape.DrainTimeout), began, false
	for {
		status, err := r.askDrained(ctx, n, time.Until(deadline))
		last := held(status)
		switch {
		case err != nil:
			last = err.Error()
		case status.State == management.Drained:
			r.Progress("%s is drained (%.1f s)", n.Name, time.Since(began).Seconds())
			return nil
		default:
			heard = time.Now()
		}
		if !told {
			r.Progress("draining %s: %s", n.Name, last)
			told = true
		}
		if now := time.Now(); now.After(deadline) || now.Sub(heard) > silence {
			if r.shape.Force {
				r.Progress("%s is ended although it is not drained: %s", n.Name, last)
				return nil
			}
			return fmt.Errorf("%s after %.0f s: %w: %s. Apply again to go on waiting, or set force_destroy = true", n.Name, now.Sub(began).Seconds(), errDrain, last)
		}
		if err := sleep(ctx, r.Poll); err != nil {
			return fmt.Errorf("draining %s (%s): %w", n.Name, last, err)
		}
	}
}

// askDrained orders the drain, which may be repeated, and asks how far it is.
func (r *run) askDrained(ctx context.Context, n platform.Node, left time.Duration) (management.Status, error) {
	order := r.Nodes.Drain
	if n.Role == config.Store {
		order = r.Nodes.Decommission
	}
	if err := order(ctx, n, left); err != nil {
		return management.Status{}, err
	}
	return r.Nodes.Status(ctx, n)
}

// held says what a drain waits for.
func held(s management.Status) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(s.Held)) {
		if s.Held[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", s.Held[what], what))
		}
	}
	if len(parts) == 0 {
		return "holds nothing, state " + string(s.State)
	}
	return "holds " + strings.Join(parts, ", ")
}

func (r *run) terminate(ctx context.Context, n platform.Node) error {
	if err := r.Platform.DeleteNode(ctx, r.shape.Deployment, n.Name); err != nil {
		return fmt.Errorf("ending %s: %w", n.Name, err)
	}
	if n.Role != config.Store {
		if err := r.Nodes.Forget(ctx, r.world, n.Name); err != nil {
			r.Progress("%s stays in the registry until its lease ends: %v", n.Name, err)
		}
	}
	if err := r.Platform.DeleteSecret(ctx, r.shape.Deployment, tokenName(n.Name)); err != nil {
		return fmt.Errorf("forgetting the token of %s: %w", n.Name, err)
	}
	r.Progress("%s is gone", n.Name)
	return nil
}
