// Package embedded is the engine of one store node: rows in process on disk, in a Pebble database, with no other
// software. A commit returns when the write-ahead log is on disk; concurrent commits share the wait (group commit).
// It serves one process: a lock file keeps a second one out.
package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	stripes       = 256
	versionsAhead = 1 << 20 // versions that one durable reservation covers
	cacheBytes    = 64 << 20
	memTableBytes = 16 << 20
)

// reservedKey holds the first version that is not reserved. Rows' keys have a NUL after a table's name, so it is none.
var reservedKey = []byte("\x00reserved") //nolint:gochecknoglobals // a constant that Go cannot write

// Config says where and how.
type Config struct {
	Dir string
	FS  vfs.FS // the disk unless a test gives another
	Log *slog.Logger
}

// Engine implements engine.Engine.
type Engine struct {
	db    *pebble.DB
	cache *pebble.Cache
	seed  maphash.Seed
	locks [stripes]sync.Mutex // a commit holds those of its keys between the check and the write

	next     atomic.Uint64 // last version given
	reserved atomic.Uint64 // versions up to here may be given
	reserve  sync.Mutex

	calls sync.RWMutex // read-held by calls, so that Close waits
	over  bool
}

// Open opens or creates the database in cfg.Dir.
func Open(cfg Config) (*Engine, error) {
	cache := pebble.NewCache(cacheBytes)
	opts := &pebble.Options{
		FS: cfg.FS, Cache: cache, MemTableSize: memTableBytes,
		FormatMajorVersion: pebble.FormatNewest, Logger: logger{cfg.Log},
	}
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		cache.Unref()
		return nil, fmt.Errorf("opening the database in %s: %w", cfg.Dir, err)
	}
	e := &Engine{db: db, cache: cache, seed: maphash.MakeSeed()}
	if err := e.start(); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// start takes up versions where no earlier process can have given one.
func (e *Engine) start() error {
	value, closer, err := e.db.Get(reservedKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return e.extend(0)
	}
	if err != nil {
		return fmt.Errorf("reading the reserved versions: %w", err)
	}
	from := binary.BigEndian.Uint64(value)
	_ = closer.Close()
	e.next.Store(from)
	e.reserved.Store(from)
	return e.extend(from)
}

// extend reserves further versions, unless somebody else did since reserved was seen.
func (e *Engine) extend(seen uint64) error {
	e.reserve.Lock()
	defer e.reserve.Unlock()
	if e.reserved.Load() != seen {
		return nil
	}
	to := seen + versionsAhead
	if err := e.db.Set(reservedKey, binary.BigEndian.AppendUint64(nil, to), pebble.Sync); err != nil {
		return fmt.Errorf("reserving versions: %w", err)
	}
	e.reserved.Store(to)
	return nil
}

func (e *Engine) version() (uint64, error) {
	v := e.next.Add(1)
	for {
		reserved := e.reserved.Load()
		if v <= reserved {
			return v, nil
		}
		if err := e.extend(reserved); err != nil {
			return 0, err
		}
	}
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
	return e.get(table, key)
}

func (e *Engine) get(table, key string) (engine.Row, error) {
	var buf [128]byte
	stored, closer, err := e.db.Get(appendKey(buf[:0], table, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return engine.Row{Key: key}, nil
	}
	if err != nil {
		return engine.Row{}, fmt.Errorf("reading %s of %s: %w", key, table, err)
	}
	defer func() { _ = closer.Close() }()
	return decode(key, stored)
}

// Commit is engine.Engine.Commit: all writes or none.
func (e *Engine) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	if err := e.enter(ctx); err != nil {
		return 0, false, err
	}
	defer e.leave()
	if err := engine.Check(writes); err != nil {
		return 0, false, err
	}
	batch := e.db.NewBatch()
	defer func() { _ = batch.Close() }()
	version, done, err := e.apply(batch, writes)
	if err != nil || !done {
		return version, false, err
	}
	// The rows are visible from here on, to readers and to later commits, whose log entries follow this one's:
	// nothing that builds on them can survive a crash that they do not.
	if err := batch.SyncWait(); err != nil {
		return 0, false, fmt.Errorf("writing the log: %w", err)
	}
	return version, true, nil
}

// apply checks the conditions and writes, with the keys locked, and does not wait for the disk.
func (e *Engine) apply(batch *pebble.Batch, writes []engine.Write) (version uint64, done bool, err error) {
	locked := e.lock(writes)
	defer e.unlock(locked)
	for _, w := range writes {
		if !w.If {
			continue
		}
		row, err := e.get(w.Table, w.Key)
		if err != nil {
			return 0, false, err
		}
		if row.Version != w.Version {
			return row.Version, false, nil
		}
	}
	if version, err = e.version(); err != nil {
		return 0, false, err
	}
	for _, w := range writes {
		if err := stage(batch, w, version); err != nil {
			return 0, false, fmt.Errorf("preparing a commit: %w", err)
		}
	}
	if err := e.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return 0, false, fmt.Errorf("committing: %w", err)
	}
	return version, true, nil
}

func stage(batch *pebble.Batch, w engine.Write, version uint64) error {
	if w.Delete {
		var buf [128]byte
		return batch.Delete(appendKey(buf[:0], w.Table, w.Key), nil)
	}
	op := batch.SetDeferred(len(w.Table)+1+len(w.Key), uvarintLen(version)+len(w.Value))
	appendKey(op.Key[:0], w.Table, w.Key)
	n := binary.PutUvarint(op.Value, version)
	copy(op.Value[n:], w.Value)
	return op.Finish()
}

// lockSet is a set of stripes.
type lockSet [stripes / 64]uint64

func (e *Engine) lock(writes []engine.Write) (set lockSet) {
	for _, w := range writes {
		n := maphash.Comparable(e.seed, [2]string{w.Table, w.Key}) % stripes
		set[n/64] |= 1 << (n % 64)
	}
	e.each(set, (*sync.Mutex).Lock) // in one order, so that two commits cannot wait for each other
	return set
}

func (e *Engine) unlock(set lockSet) { e.each(set, (*sync.Mutex).Unlock) }

func (e *Engine) each(set lockSet, do func(*sync.Mutex)) {
	for word, left := range set {
		for ; left != 0; left &= left - 1 {
			do(&e.locks[word*64+bits.TrailingZeros64(left)])
		}
	}
}

// Scan is engine.Engine.Scan.
func (e *Engine) Scan(ctx context.Context, table string, r engine.Range, limit int) (rows []engine.Row, more bool, err error) {
	if err := e.enter(ctx); err != nil {
		return nil, false, err
	}
	defer e.leave()
	opts := &pebble.IterOptions{LowerBound: appendKey(nil, table, r.From), UpperBound: appendKey(nil, table, r.To)}
	if r.To == "" {
		opts.UpperBound = append([]byte(table), 1)
	}
	iter, err := e.db.NewIterWithContext(ctx, opts)
	if err != nil {
		return nil, false, fmt.Errorf("scanning %s: %w", table, err)
	}
	defer func() { err = errors.Join(err, iter.Close()) }()
	for ok := iter.First(); ok; ok = iter.Next() {
		if len(rows) >= limit {
			return rows, true, nil
		}
		stored, err := iter.ValueAndErr()
		if err != nil {
			return nil, false, fmt.Errorf("scanning %s: %w", table, err)
		}
		row, err := decode(string(iter.Key()[len(table)+1:]), stored)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, row)
	}
	return rows, false, nil
}

// Close is engine.Engine.Close.
func (e *Engine) Close() error {
	e.calls.Lock()
	defer e.calls.Unlock()
	if e.over {
		return nil
	}
	e.over = true
	defer e.cache.Unref()
	if err := e.db.Close(); err != nil {
		return fmt.Errorf("closing the database: %w", err)
	}
	return nil
}
