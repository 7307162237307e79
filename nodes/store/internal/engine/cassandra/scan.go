package cassandra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"

	"github.com/gocql/gocql"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	shards     = 16   // partitions of a table's names
	readAtOnce = 32   // records that a scan reads at the same time
	maxPage    = 1000 // names read at once from a partition
)

func shardOf(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % shards)
}

// name enters a record into the index, unname takes it out. Their timestamps are the record's versions, so that the
// order of the record's changes decides, whenever they arrive.
func (e *Engine) name(ctx context.Context, table, key string, version uint64) error {
	return e.index(ctx, `INSERT INTO clearwater.names (tbl, shard, key) VALUES (?, ?, ?) USING TIMESTAMP ?`,
		table, shardOf(key), []byte(key), int64(version)) //nolint:gosec // below 2^63
}

func (e *Engine) unname(ctx context.Context, table, key string, version uint64) error {
	return e.index(ctx, `DELETE FROM clearwater.names USING TIMESTAMP ? WHERE tbl = ? AND shard = ? AND key = ?`,
		int64(version), table, shardOf(key), []byte(key)) //nolint:gosec // below 2^63
}

func (e *Engine) index(ctx context.Context, statement string, args ...any) error {
	err := again(ctx, func() error {
		return e.session.Query(statement, args...).WithContext(ctx).Consistency(gocql.LocalQuorum).Exec()
	})
	if err != nil {
		return fmt.Errorf("writing the index of names: %w", err)
	}
	return nil
}

// Scan is engine.Engine.Scan.
func (e *Engine) Scan(ctx context.Context, table string, r engine.Range, limit int) (rows []engine.Row, more bool, err error) {
	if err := e.enter(ctx); err != nil {
		return nil, false, err
	}
	defer e.leave()
	if r.To != "" && r.From >= r.To {
		return nil, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	limit = max(0, limit)
	scan := e.scanRecords
	if engine.Hints(table) {
		scan = e.scanHints
	}
	err = again(ctx, func() (err error) {
		rows, err = scan(ctx, table, r, limit+1)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("scanning %s: %w", table, err)
	}
	if len(rows) > limit {
		return rows[:limit], true, nil
	}
	return rows, false, nil
}

// scanHints reads up to limit hints.
func (e *Engine) scanHints(ctx context.Context, table string, r engine.Range, limit int) (rows []engine.Row, err error) {
	groups := []string{engine.Group(r.From)}
	if g := groups[0]; !strings.HasSuffix(g, "/") || (r.To != engine.After(g) && engine.Group(r.To) != g) {
		if groups, err = e.groups(ctx, table, r); err != nil {
			return nil, err
		}
	}
	for _, group := range groups {
		if rows, err = e.scanGroup(ctx, table, group, r, rows, limit); err != nil || len(rows) >= limit {
			return rows, err
		}
	}
	return rows, nil
}

// scanGroup adds the hints of one group to rows; the latest write of each comes first.
func (e *Engine) scanGroup(ctx context.Context, table, group string, r engine.Range, rows []engine.Row, limit int) ([]engine.Row, error) {
	iter := e.between(`SELECT key, version, value FROM clearwater.hints WHERE tbl = ? AND grp = ?`, r, table, []byte(group)).
		WithContext(ctx).PageSize(min(limit+1, maxPage)).Iter()
	var key, value []byte
	var version int64
	for len(rows) < limit && iter.Scan(&key, &version, &value) {
		if n := len(rows); n == 0 || rows[n-1].Key != string(key) {
			rows = append(rows, engine.Row{Key: string(key), Value: value, Version: there(version)})
		}
		key, value = nil, nil
	}
	return rows, iter.Close()
}

// between is a query for the part of a partition.
func (e *Engine) between(statement string, r engine.Range, args ...any) *gocql.Query {
	if r.From != "" {
		statement, args = statement+` AND key >= ?`, append(args, []byte(r.From))
	}
	if r.To != "" {
		statement, args = statement+` AND key < ?`, append(args, []byte(r.To))
	}
	return e.session.Query(statement, args...).Consistency(gocql.LocalQuorum)
}

// groups lists the groups of a table of hints that may have keys in the range, in order. It reads the names of all
// groups: for copies and tests, not for every day.
func (e *Engine) groups(ctx context.Context, table string, r engine.Range) (groups []string, err error) {
	iter := e.session.Query(`SELECT DISTINCT tbl, grp FROM clearwater.hints`).WithContext(ctx).Consistency(gocql.LocalQuorum).PageSize(maxPage).Iter()
	var name string
	var group []byte
	for iter.Scan(&name, &group) {
		if name == table && (r.To == "" || string(group) < r.To) {
			groups = append(groups, string(group))
		}
		group = nil
	}
	slices.Sort(groups)
	return groups, iter.Close()
}

// scanRecords reads up to limit records: their names from the index, then each of them.
func (e *Engine) scanRecords(ctx context.Context, table string, r engine.Range, limit int) (rows []engine.Row, err error) {
	names := e.names(ctx, table, r, limit)
	defer func() { err = errors.Join(err, names.close()) }()
	for len(rows) < limit {
		keys := names.next(limit - len(rows))
		if len(keys) == 0 {
			return rows, nil
		}
		found, err := e.records(ctx, table, keys)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			if row.Version != 0 {
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// records reads several records at the same time.
func (e *Engine) records(ctx context.Context, table string, keys []string) ([]engine.Row, error) {
	rows, errs := make([]engine.Row, len(keys)), make([]error, len(keys))
	var wg sync.WaitGroup
	slots := make(chan struct{}, readAtOnce)
	for i, key := range keys {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			r, err := e.record(ctx, table, key, gocql.LocalQuorum)
			rows[i], errs[i] = r.row(key), err
		})
	}
	wg.Wait()
	return rows, errors.Join(errs...)
}

// names reads the index of names, all its partitions merged.
type names struct {
	iters [shards]*gocql.Iter
	heads [shards][]byte // nil: at the end
}

func (e *Engine) names(ctx context.Context, table string, r engine.Range, limit int) *names {
	n := &names{}
	var wg sync.WaitGroup
	for i := range n.iters {
		wg.Go(func() {
			n.iters[i] = e.between(`SELECT key FROM clearwater.names WHERE tbl = ? AND shard = ?`, r, table, i).
				WithContext(ctx).PageSize(max(4, min(2*limit/shards, maxPage))).Iter()
			n.advance(i)
		})
	}
	wg.Wait()
	return n
}

func (n *names) advance(i int) {
	var key []byte
	if !n.iters[i].Scan(&key) {
		n.heads[i] = nil
		return
	}
	n.heads[i] = append([]byte{}, key...) // never nil, though a key may be empty
}

// next returns the next keys in order, at most limit; none at the end or after an error.
func (n *names) next(limit int) (keys []string) {
	for len(keys) < limit {
		first := -1
		for i, head := range n.heads {
			if head != nil && (first < 0 || bytes.Compare(head, n.heads[first]) < 0) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		keys = append(keys, string(n.heads[first]))
		n.advance(first)
	}
	return keys
}

func (n *names) close() error {
	var errs []error
	for _, iter := range n.iters {
		errs = append(errs, iter.Close())
	}
	return errors.Join(errs...)
}
