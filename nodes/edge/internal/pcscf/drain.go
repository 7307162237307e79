package pcscf

import (
	"context"
	"sync"
	"time"
)

// sweepTime is how often lapsed registrations and calls are forgotten.
const sweepTime = 3 * time.Second

// Run forgets what has lapsed, and watches users, until ctx ends.
func (e *Edge) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepTime)
	defer tick.Stop()
	var workers sync.WaitGroup
	for range watchWorkers {
		workers.Go(func() { e.watchUsers(ctx) })
	}
	for {
		select {
		case <-ctx.Done():
			workers.Wait()
			return nil
		case <-tick.C:
			e.sweep()
		}
	}
}

func (e *Edge) sweep() {
	now := e.deps.Now()
	e.users.sweep(now)
	e.emergency.users.sweep(now)
	e.dialogs.sweep(now, e.alive)
	e.sweepWatches(now)
}

// Registrations counts the users that are registered through this edge, Dialogs the calls that it carries.
func (e *Edge) Registrations() int64 { return e.users.held() }

// Dialogs counts the calls that this edge carries.
func (e *Edge) Dialogs() int64 { return e.dialogs.held() }

// Quiesce makes the edge send registering phones elsewhere (on) or take them again. Phones that are registered here
// are served on, and calls go on.
func (e *Edge) Quiesce(on bool) { e.draining.Store(on) }

// Idle returns when no registration and no call is left, or with the context's error.
func (e *Edge) Idle(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for e.Registrations() > 0 || e.Dialogs() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
