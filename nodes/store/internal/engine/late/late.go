// Package late is an engine that is there before it is open: one whose database has to start and find its peers first.
package late

import (
	"context"
	"errors"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// ErrNotOpen is the error of calls before Open.
var ErrNotOpen = errors.New("the database is not open yet")

// Engine passes its calls on to the engine that Open gave it.
type Engine struct {
	mu     sync.RWMutex
	engine engine.Engine
	closed bool
}

// Open gives it the engine. After Close it is closed at once.
func (l *Engine) Open(e engine.Engine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return e.Close()
	}
	l.engine = e
	return nil
}

func (l *Engine) get() (engine.Engine, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.engine != nil:
		return l.engine, nil
	case l.closed:
		return nil, engine.ErrClosed
	default:
		return nil, ErrNotOpen
	}
}

// Get is engine.Engine.Get.
func (l *Engine) Get(ctx context.Context, table, key string) (engine.Row, error) {
	e, err := l.get()
	if err != nil {
		return engine.Row{}, err
	}
	return e.Get(ctx, table, key)
}

// Commit is engine.Engine.Commit.
func (l *Engine) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	e, err := l.get()
	if err != nil {
		return 0, false, err
	}
	return e.Commit(ctx, writes...)
}

// Scan is engine.Engine.Scan.
func (l *Engine) Scan(ctx context.Context, table string, r engine.Range, limit int) ([]engine.Row, bool, error) {
	e, err := l.get()
	if err != nil {
		return nil, false, err
	}
	return e.Scan(ctx, table, r, limit)
}

// Close is engine.Engine.Close.
func (l *Engine) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.engine == nil {
		return nil
	}
	return l.engine.Close()
}
