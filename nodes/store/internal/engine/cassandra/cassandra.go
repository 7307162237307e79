// Package cassandra is the engine of a site with three or more store nodes: rows in the ring of their Cassandras.
//
// A record is a partition of its own and is only changed by lightweight transactions at LOCAL_SERIAL (record.go). One
// that got no clear answer is looked for with a serial read: the row names its writer and the version that it replaced.
// The names of a table's records are in an index beside it, in order, for scans (scan.go): hints themselves, written
// before the record and verified when read. Hints are plain rows, each write a row of its own that only a deletion of
// exactly this row takes away, so that no clock can hide one (hint.go). Versions are times that never go back
// (clock.go).
package cassandra

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gocql/gocql"

	driver "github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// patience is for one call while nodes come and go; its caller may have less.
const patience = 6 * time.Second

// Schema is what the engine needs of the keyspace. A deleted hint that comes back is only work, so Cassandra need not
// remember the deletions for long: a scan would have to read over them.
func Schema() []driver.Migration {
	return []driver.Migration{{Version: 1, Statements: []string{
		`CREATE TABLE IF NOT EXISTS $keyspace.records (tbl text, key blob, version bigint, writer bigint, base bigint, value blob,
			PRIMARY KEY ((tbl, key)))`,
		`CREATE TABLE IF NOT EXISTS $keyspace.names (tbl text, shard int, key blob, PRIMARY KEY ((tbl, shard), key))
			WITH gc_grace_seconds = 86400`,
		`CREATE TABLE IF NOT EXISTS $keyspace.hints (tbl text, grp blob, key blob, version bigint, writer bigint, value blob,
			PRIMARY KEY ((tbl, grp), key, version, writer)) WITH CLUSTERING ORDER BY (key ASC, version DESC, writer ASC)
			AND gc_grace_seconds = 600 AND memtable_flush_period_in_ms = 600000
			AND compaction = {'class': 'LeveledCompactionStrategy', 'tombstone_compaction_interval': '600', 'unchecked_tombstone_compaction': 'true'}`,
	}}}
}

// Engine implements engine.Engine.
type Engine struct {
	session *gocql.Session
	clock   clock
	writer  int64 // of this engine's writes, as rows name it
	busy    keyed

	calls sync.RWMutex // read-held by calls, so that Close waits
	over  bool
}

// New returns the engine on a session with the site's nodes, whose keyspace has Schema. Close closes the session.
func New(session *gocql.Session) *Engine {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	writer := binary.BigEndian.Uint64(id[:])
	return &Engine{session: session, writer: int64(writer), clock: clock{id: writer % step}, busy: keyed{held: map[string]*waiters{}}} //nolint:gosec // any number will do
}

// enter counts a call in; leave is called when it returned nil.
func (e *Engine) enter(ctx context.Context) error {
	e.calls.RLock()
	err := ctx.Err()
	if e.over {
		err = engine.ErrClosed
	}
	if err != nil {
		e.calls.RUnlock()
	}
	return err
}

func (e *Engine) leave() { e.calls.RUnlock() }

// Get is engine.Engine.Get.
func (e *Engine) Get(ctx context.Context, table, key string) (engine.Row, error) {
	if err := e.enter(ctx); err != nil {
		return engine.Row{}, err
	}
	defer e.leave()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if engine.Hints(table) {
		return e.hint(ctx, table, key)
	}
	r, err := e.record(ctx, table, key, gocql.Consistency(gocql.LocalSerial))
	return r.row(key), err
}

// Commit is engine.Engine.Commit. Hints are put first and taken away last, so that a commit which ends in between
// leaves more than it should, never less. With a swap they are put once more after it: whoever came to a hint before
// the record was there has found it useless and taken it away.
func (e *Engine) Commit(ctx context.Context, writes ...engine.Write) (version uint64, done bool, err error) {
	if err := e.enter(ctx); err != nil {
		return 0, false, err
	}
	defer e.leave()
	if err := engine.Check(writes); err != nil {
		return 0, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := sort(writes)
	if there, refused, err := e.refuse(ctx, c.removes); err != nil || refused {
		return there, false, err
	}
	version = e.clock.next(0)
	if err := e.put(ctx, c.puts, version); err != nil {
		return 0, false, err
	}
	if c.swap != nil {
		if version, done, err = e.swap(ctx, *c.swap, e.clock.next(0)); err != nil || !done {
			return version, false, err
		}
		if err := e.put(ctx, c.puts, version); err != nil {
			return 0, false, err
		}
	}
	return version, true, e.remove(ctx, c.removes)
}

// sorted is a commit by kinds of writes.
type sorted struct {
	puts    []engine.Write
	removes []*removal
	swap    *engine.Write
}

func sort(writes []engine.Write) (c sorted) {
	for i, w := range writes {
		switch {
		case !engine.Hints(w.Table):
			c.swap = &writes[i]
		case w.Delete:
			c.removes = append(c.removes, &removal{Write: w})
		default:
			c.puts = append(c.puts, w)
		}
	}
	return c
}

// Close is engine.Engine.Close.
func (e *Engine) Close() error {
	e.calls.Lock()
	defer e.calls.Unlock()
	if !e.over {
		e.over = true
		e.session.Close()
	}
	return nil
}

// again calls f until it succeeds, fails for good, or ctx ends: nodes come and go, and f may be repeated.
func again(ctx context.Context, f func() error) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 320*time.Millisecond) {
		err := f()
		if err == nil || errors.Is(err, gocql.ErrNotFound) || forGood(err) {
			return err
		}
		if err := wait(ctx, pause, err); err != nil {
			return err
		}
	}
}

// wait pauses before another attempt; the error is cause and why there is none.
func wait(ctx context.Context, pause time.Duration, cause error) error {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		if errors.Is(cause, ctx.Err()) {
			return cause
		}
		return fmt.Errorf("%w (%w)", cause, ctx.Err())
	case <-t.C:
		return nil
	}
}

// forGood tells whether an error will be the same next time.
func forGood(err error) bool {
	if errors.Is(err, gocql.ErrSessionClosed) || errors.Is(err, gocql.ErrUnsupported) {
		return true
	}
	var answer gocql.RequestError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code() {
	case gocql.ErrCodeProtocol, gocql.ErrCodeCredentials, gocql.ErrCodeSyntax, gocql.ErrCodeUnauthorized, gocql.ErrCodeInvalid, gocql.ErrCodeConfig:
		return true
	default:
		return false
	}
}
