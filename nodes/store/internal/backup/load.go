package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// load is one restore under way.
type load struct {
	*Source
	Restored

	ctx    context.Context //nolint:containedctx // it lives for one call
	wanted func(database string) bool
	author string

	table string          // that is being put back
	keys  map[string]bool // of it, in the file
	seen  map[string]bool // tables in the file
}

// take puts one entry back.
func (l *load) take(e entry) error {
	if e.Document != "" {
		if !l.wanted(Configuration) {
			return nil
		}
		return l.document(e)
	}
	if database := databaseOf(e.Table); database == "" || !l.wanted(database) {
		return nil
	}
	if e.Table != l.table {
		if err := l.endTable(); err != nil {
			return err
		}
		if err := l.Note(l.ctx, e.Table); err != nil {
			return err
		}
		if l.seen == nil {
			l.seen = map[string]bool{}
		}
		l.table, l.keys, l.seen[e.Table] = e.Table, map[string]bool{}, true
	}
	l.keys[e.Key] = true
	return l.row(e)
}

// row makes one row what the file says.
func (l *load) row(e entry) error {
	for {
		row, err := l.Engine.Get(l.ctx, e.Table, e.Key)
		if err != nil {
			return fmt.Errorf("putting %s of %s back: %w", e.Key, e.Table, err)
		}
		if row.Version != 0 && bytes.Equal(row.Value, e.Value) {
			return nil
		}
		_, done, err := l.Engine.Commit(l.ctx, engine.Swap(e.Table, e.Key, row.Version, e.Value))
		if err != nil {
			return fmt.Errorf("putting %s of %s back: %w", e.Key, e.Table, err)
		}
		if done {
			l.Rows++
			return nil
		}
	}
}

// endTable removes the rows that the file does not have.
func (l *load) endTable() error {
	if l.table == "" {
		return nil
	}
	return l.prune(l.table, l.keys)
}

func (l *load) prune(table string, keep map[string]bool) error {
	err := l.each(l.ctx, table, func(row engine.Row) error {
		if keep[row.Key] {
			return nil
		}
		_, done, err := l.Engine.Commit(l.ctx, engine.RemoveIf(table, row.Key, row.Version))
		if done {
			l.Removed++
		}
		return err //nolint:wrapcheck // below
	})
	if err != nil {
		return fmt.Errorf("clearing table %s: %w", table, err)
	}
	return nil
}

// finish removes the rows of tables that the file does not have at all.
func (l *load) finish() error {
	if err := l.endTable(); err != nil {
		return err
	}
	tables, err := l.Tables(l.ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if database := databaseOf(table); database == "" || !l.wanted(database) || l.seen[table] {
			continue
		}
		if err := l.prune(table, nil); err != nil {
			return err
		}
	}
	return nil
}

// document puts a configuration document in force again.
func (l *load) document(e entry) error {
	for {
		now, err := l.Config.Document(l.ctx, e.Document)
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			return err //nolint:wrapcheck // says what
		}
		if now.Text == string(e.Value) {
			return nil
		}
		now.Type, now.Text, now.Author = e.Document, string(e.Value), l.author
		_, err = l.Config.PutDocument(l.ctx, now)
		if errors.Is(err, cluster.ErrConflict) {
			continue
		}
		if err != nil {
			return err //nolint:wrapcheck // says what
		}
		l.Documents++
		return nil
	}
}
