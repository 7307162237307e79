// Package background is what a router still does after it has answered: paying what a registration owes, dropping a
// binding whose flow is gone. Run owns all of it. What a node that stops leaves undone is noted in the store, which asks
// another node for it.
package background

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Work is a set of tasks. The zero value is not usable; see New.
type Work struct {
	ctx    context.Context //nolint:containedctx // the life of Run, from which that of each task derives
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	ending sync.RWMutex // guards ended: no task may begin while End waits
	ended  bool
	held   atomic.Int64
}

// New makes an empty set.
func New() *Work {
	w := &Work{}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Go runs f in the background for at most limit. After End it does nothing.
func (w *Work) Go(limit time.Duration, f func(ctx context.Context)) {
	w.ending.RLock()
	defer w.ending.RUnlock()
	if w.ended {
		return
	}
	w.held.Add(1)
	w.tasks.Go(func() {
		defer w.held.Add(-1)
		ctx, cancel := context.WithTimeout(w.ctx, limit)
		defer cancel()
		f(ctx)
	})
}

// Held is how many tasks run; a drain waits for them.
func (w *Work) Held() int64 { return w.held.Load() }

// End cancels what runs and returns when all of it has returned.
func (w *Work) End() {
	w.cancel()
	w.ending.Lock()
	w.ended = true
	w.ending.Unlock()
	w.tasks.Wait()
}
