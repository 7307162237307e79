package cassandra

import (
	"context"
	"fmt"
	"slices"

	"github.com/gocql/gocql"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// stored is one write of a hint.
type stored struct {
	key             string
	version, writer int64
	value           []byte
}

// removal is a deletion of a hint and what it finds to delete.
type removal struct {
	engine.Write

	found []stored
}

// hint reads a hint: the latest of its writes.
func (e *Engine) hint(ctx context.Context, table, key string) (engine.Row, error) {
	found, err := e.writesOf(ctx, table, key)
	if err != nil || len(found) == 0 {
		return engine.Row{Key: key}, err
	}
	return engine.Row{Key: key, Value: found[0].value, Version: there(found[0].version)}, nil
}

// writesOf reads all writes of a hint that have not been deleted, the latest first.
func (e *Engine) writesOf(ctx context.Context, table, key string) (found []stored, err error) {
	err = again(ctx, func() error {
		found = nil
		iter := e.session.Query(`SELECT version, writer, value FROM clearwater.hints WHERE tbl = ? AND grp = ? AND key = ?`,
			table, []byte(engine.Group(key)), []byte(key)).WithContext(ctx).Consistency(gocql.LocalQuorum).Iter()
		for s := (stored{key: key}); iter.Scan(&s.version, &s.writer, &s.value); s = (stored{key: key}) {
			found = append(found, s)
		}
		return iter.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", key, table, err)
	}
	return found, nil
}

// put writes hints, those of a group together.
func (e *Engine) put(ctx context.Context, puts []engine.Write, version uint64) error {
	for len(puts) > 0 {
		first := puts[0]
		batch := e.session.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
		batch.Cons = gocql.LocalQuorum
		puts = slices.DeleteFunc(slices.Clone(puts), func(w engine.Write) bool {
			if w.Table != first.Table || engine.Group(w.Key) != engine.Group(first.Key) {
				return false
			}
			batch.Query(`INSERT INTO clearwater.hints (tbl, grp, key, version, writer, value) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?`,
				w.Table, []byte(engine.Group(w.Key)), []byte(w.Key), int64(version), e.writer, w.Value, int64(version)) //nolint:gosec // below 2^63
			return true
		})
		if err := e.write(ctx, batch); err != nil {
			return fmt.Errorf("writing hints of %s: %w", first.Table, err)
		}
	}
	return nil
}

// write carries out a batch within one partition; a batch of one is a plain statement.
func (e *Engine) write(ctx context.Context, b *gocql.Batch) error {
	return again(ctx, func() error {
		if len(b.Entries) == 1 {
			return e.session.Query(b.Entries[0].Stmt, b.Entries[0].Args...).WithContext(ctx).Consistency(gocql.LocalQuorum).Exec()
		}
		return e.session.ExecuteBatch(b)
	})
}

// refuse reads what is to be removed, and tells whether a removal's condition does not hold.
func (e *Engine) refuse(ctx context.Context, removes []*removal) (there uint64, refused bool, err error) {
	for _, r := range removes {
		if r.found, err = e.writesOf(ctx, r.Table, r.Key); err != nil {
			return 0, false, err
		}
		if len(r.found) > 0 {
			there = uint64(r.found[0].version) //nolint:gosec // not negative
		}
		if r.If && there != r.Version {
			return there, true, nil
		}
		there = 0
	}
	return 0, false, nil
}

// remove deletes the writes that were found, and no other: one that came since stays.
func (e *Engine) remove(ctx context.Context, removes []*removal) error {
	for _, r := range removes {
		if len(r.found) == 0 {
			continue
		}
		batch := e.session.NewBatch(gocql.UnloggedBatch).WithContext(ctx)
		batch.Cons = gocql.LocalQuorum
		for _, s := range r.found {
			batch.Query(`DELETE FROM clearwater.hints USING TIMESTAMP ? WHERE tbl = ? AND grp = ? AND key = ? AND version = ? AND writer = ?`,
				s.version+1, r.Table, []byte(engine.Group(r.Key)), []byte(r.Key), s.version, s.writer)
		}
		if err := e.write(ctx, batch); err != nil {
			return fmt.Errorf("deleting %s of %s: %w", r.Key, r.Table, err)
		}
	}
	return nil
}
