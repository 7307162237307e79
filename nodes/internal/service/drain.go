package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// readiness is the list of conditions under which a node may get traffic.
type readiness struct {
	mu     sync.Mutex
	names  []string
	checks []func() error
}

func (r *readiness) add(name string, check func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names, r.checks = append(r.names, name), append(r.checks, check)
}

// reasons says why the node is not ready; none when it is.
func (r *readiness) reasons() []string {
	r.mu.Lock()
	names, checks := r.names, r.checks
	r.mu.Unlock()
	var out []string
	for i, check := range checks {
		if err := check(); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", names[i], err))
		}
	}
	return out
}

// drains runs at most one drain at a time.
type drains struct {
	log *slog.Logger

	mu       sync.Mutex
	held     map[string]func() int64
	running  Running // nil until the role is started
	ordered  bool
	leaving  bool // for good
	drained  bool
	err      error
	deadline time.Time // of the present drain; zero = none
	cancel   context.CancelFunc
	done     chan struct{} // closed when the present drain has ended
}

func newDrains(log *slog.Logger) *drains {
	return &drains{log: log, held: map[string]func() int64{}}
}

func (d *drains) hold(name string, count func() int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held[name] = count
}

// counts returns what is held now.
func (d *drains) counts() map[string]int64 {
	d.mu.Lock()
	held := make(map[string]func() int64, len(d.held))
	for k, f := range d.held {
		held[k] = f
	}
	d.mu.Unlock()
	out := make(map[string]int64, len(held))
	for k, f := range held {
		out[k] = f()
	}
	return out
}

// state tells whether a drain was ordered, whether it is complete, and why it ended incomplete.
func (d *drains) state() (ordered, drained bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ordered, d.drained, d.err
}

// started gives the role to drain; a drain that was ordered before begins now.
func (d *drains) started(r Running) {
	d.mu.Lock()
	d.running = r
	ordered, deadline := d.ordered, d.deadline
	d.mu.Unlock()
	if ordered {
		left := time.Duration(0)
		if !deadline.IsZero() {
			left = max(time.Until(deadline), time.Millisecond)
		}
		d.order(left)
	}
}

// decommission is order for a node that does not come back. One that is under way or complete goes on.
func (d *drains) decommission(limit time.Duration) {
	d.mu.Lock()
	already := d.leaving && d.err == nil
	d.leaving = true
	d.mu.Unlock()
	if !already {
		d.order(limit)
	}
}

// order starts a drain, or replaces the deadline of the present one. limit zero means: as long as it takes. A node
// that serves nothing yet is drained at once.
func (d *drains) order(limit time.Duration) (done <-chan struct{}) {
	d.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ordered, d.drained, d.err = true, false, nil
	ctx, cancel := context.WithCancel(context.Background())
	d.deadline = time.Time{}
	if limit > 0 {
		d.deadline = time.Now().Add(limit)
		ctx, cancel = context.WithDeadline(context.Background(), d.deadline)
	}
	finished := make(chan struct{})
	d.cancel, d.done = cancel, finished
	running, leaving := d.running, d.leaving
	go func() {
		defer close(finished)
		defer cancel()
		var err error
		if running != nil {
			err = running.Drain(ctx)
		}
		if leaver, can := running.(Leaver); can && leaving && err == nil {
			err = leaver.Leave(ctx)
		}
		d.finish(err)
	}()
	return finished
}

func (d *drains) finish(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drained = err == nil
	switch {
	case err == nil:
		d.log.Info("drained: nothing is held")
	case errors.Is(err, context.Canceled):
	default:
		d.err = fmt.Errorf("the drain ended before everything was given up: %w", err)
		d.log.Warn("drain", "error", d.err)
	}
}

// stop ends the present drain and waits until the role has noticed.
func (d *drains) stop() {
	d.mu.Lock()
	cancel, done := d.cancel, d.done
	d.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// present returns the end of a drain that was ordered and its deadline, if one was.
func (d *drains) present() (done <-chan struct{}, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done, d.ordered
}

var errCannotResume = errors.New("this role cannot take work again once it drains: restart the node")

// undo takes an order back.
func (d *drains) undo() error {
	d.mu.Lock()
	running, ordered := d.running, d.ordered
	d.mu.Unlock()
	if !ordered {
		return nil
	}
	resumer, can := running.(Resumer)
	if running != nil && !can {
		return errCannotResume
	}
	d.stop()
	if can {
		resumer.Resume()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ordered, d.leaving, d.drained, d.err, d.cancel, d.done = false, false, false, nil, nil, nil
	return nil
}
