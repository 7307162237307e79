package proxy

import (
	"context"
	"sync"
	"time"
)

// life is the context of one transaction. Most transactions end without anybody having waited for their end, so what a
// real context costs is spent only when somebody asks.
type life struct {
	parent context.Context //nolint:containedctx // the core's
	limit  time.Duration   // 0: none; counts from the first question
	mu     sync.Mutex
	real   context.Context //nolint:containedctx // nil until it is needed
	cancel context.CancelFunc
	ended  bool
}

var _ context.Context = (*life)(nil)

func (l *life) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.real == nil {
		if l.limit > 0 {
			l.real, l.cancel = context.WithTimeout(l.parent, l.limit)
		} else {
			l.real, l.cancel = context.WithCancel(l.parent)
		}
		if l.ended {
			l.cancel()
		}
	}
	return l.real
}

// end is the end of the transaction.
func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.cancel != nil {
		l.cancel()
	}
}

// Deadline implements context.Context.
func (l *life) Deadline() (time.Time, bool) { return l.context().Deadline() }

// Done implements context.Context.
func (l *life) Done() <-chan struct{} { return l.context().Done() }

// Value implements context.Context.
func (l *life) Value(key any) any { return l.context().Value(key) }

// Err implements context.Context.
func (l *life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.real != nil:
		return l.real.Err()
	case l.ended:
		return context.Canceled
	}
	return l.parent.Err()
}
