// Package memory is the engine that keeps rows in memory, for tests. Nothing survives Close.
package memory

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Engine implements engine.Engine.
type Engine struct {
	mu      sync.RWMutex
	tables  map[string]map[string]engine.Row
	version uint64
	closed  bool
}

// New returns an empty engine.
func New() *Engine { return &Engine{tables: map[string]map[string]engine.Row{}} }

// Get is engine.Engine.Get.
func (e *Engine) Get(ctx context.Context, table, key string) (engine.Row, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := e.usable(ctx); err != nil {
		return engine.Row{}, err
	}
	row := e.tables[table][key]
	return engine.Row{Key: key, Value: bytes.Clone(row.Value), Version: row.Version}, nil
}

// Commit is engine.Engine.Commit.
func (e *Engine) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := errors.Join(e.usable(ctx), engine.Check(writes)); err != nil {
		return 0, false, err
	}
	for _, w := range writes {
		if there := e.tables[w.Table][w.Key].Version; w.If && there != w.Version {
			return there, false, nil
		}
	}
	e.version++
	for _, w := range writes {
		if w.Delete {
			delete(e.tables[w.Table], w.Key)
			continue
		}
		if e.tables[w.Table] == nil {
			e.tables[w.Table] = map[string]engine.Row{}
		}
		e.tables[w.Table][w.Key] = engine.Row{Key: w.Key, Value: bytes.Clone(w.Value), Version: e.version}
	}
	return e.version, true, nil
}

// Scan is engine.Engine.Scan.
func (e *Engine) Scan(ctx context.Context, table string, r engine.Range, limit int) ([]engine.Row, bool, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if err := e.usable(ctx); err != nil {
		return nil, false, err
	}
	var keys []string
	for key := range e.tables[table] {
		if key >= r.From && (r.To == "" || key < r.To) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	n := min(len(keys), max(limit, 0))
	rows := make([]engine.Row, n)
	for i, key := range keys[:n] {
		row := e.tables[table][key]
		rows[i] = engine.Row{Key: key, Value: bytes.Clone(row.Value), Version: row.Version}
	}
	return rows, len(keys) > n, nil
}

// Close is engine.Engine.Close.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	return nil
}

func (e *Engine) usable(ctx context.Context) error {
	if e.closed {
		return engine.ErrClosed
	}
	return ctx.Err()
}
