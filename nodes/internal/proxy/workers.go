package proxy

import (
	"context"
	"sync"
	"time"
)

// workers run what may block. Goroutines that have nothing to do wait for more: their stacks have grown to what functions
// need, and growing is a good part of what a fresh one costs.
type workers struct {
	mu    sync.Mutex
	idle  []chan func() // the last to have worked is the first to work again
	least int           // idle ones at the least since they were last looked at
	ended bool
	group sync.WaitGroup
}

// maxIdle is how many wait at most; who is not needed for trimTime ends.
const (
	maxIdle  = 256
	trimTime = 5 * time.Second
)

// do runs f on another goroutine; not once end has been called.
func (w *workers) do(f func()) {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return
	}
	if n := len(w.idle); n > 0 {
		c := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.least = min(w.least, n-1)
		w.mu.Unlock()
		c <- f
		return
	}
	w.group.Add(1)
	w.mu.Unlock()
	go w.work(make(chan func(), 1), f)
}

func (w *workers) work(more chan func(), f func()) {
	defer w.group.Done()
	for f != nil {
		f()
		w.mu.Lock()
		if w.ended || len(w.idle) >= maxIdle {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, more)
		w.mu.Unlock()
		f = <-more
	}
}

// trim ends workers that nobody needs, until ctx does.
func (w *workers) trim(ctx context.Context) {
	tick := time.NewTicker(trimTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		for _, c := range w.idle[:w.least] {
			close(c)
		}
		w.idle = append(w.idle[:0], w.idle[w.least:]...)
		w.least = len(w.idle)
		w.mu.Unlock()
	}
}

// end lets nothing new begin and waits for what runs.
func (w *workers) end() {
	w.mu.Lock()
	w.ended = true
	for _, c := range w.idle {
		close(c)
	}
	w.idle, w.least = nil, 0
	w.mu.Unlock()
	w.group.Wait()
}
