// Package engine is where the store keeps its rows: a small interface and what its implementations share. Tables of
// rows ordered by key, each row with a version. The embedded engine keeps them in process on disk, the Cassandra engine
// in the ring of the site's store nodes, the memory engine is for tests; enginetest is the suite that each passes.
// Engines know nothing of what is in a row.
//
// There are two kinds of tables. A table of records is changed only by compare-and-swap (Swap, RemoveIf), and a commit
// changes one record at most: that is what every engine can do whole. A table of hints (see Hints) is an index that may
// hold too much, and is changed without conditions (Put, Remove) or by taking back what was read (RemoveIf); its rows
// are in groups, the part of the key up to the first slash, and a scan within one group is cheap.
package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Errors of all engines.
var (
	// ErrClosed is the error of every call after Close.
	ErrClosed = errors.New("the engine is closed")
	// ErrUnknown says that it could not be found out whether a commit was done.
	ErrUnknown = errors.New("it is unknown whether the commit was done")
	// ErrMisuse is the error of a call that the kind of its table forbids.
	ErrMisuse = errors.New("misuse of the engine")
)

// Row is one row. Version 0 means that it is absent.
type Row struct {
	Key     string
	Value   []byte
	Version uint64
}

// Write is one row's part of a commit.
type Write struct {
	Table, Key string
	Value      []byte
	Delete     bool
	If         bool   // only if the row's version is Version; 0 = absent
	Version    uint64 // of If
}

// Put is an unconditional write, Swap a conditional one, Remove and RemoveIf the deletions.
func Put(table, key string, value []byte) Write { return Write{Table: table, Key: key, Value: value} }

// Swap writes the row if its version is the given one, 0 for absent.
func Swap(table, key string, version uint64, value []byte) Write {
	return Write{Table: table, Key: key, Value: value, If: true, Version: version}
}

// Remove deletes the row, if it is there.
func Remove(table, key string) Write { return Write{Table: table, Key: key, Delete: true} }

// RemoveIf deletes the row if its version is the given one.
func RemoveIf(table, key string, version uint64) Write {
	return Write{Table: table, Key: key, Delete: true, If: true, Version: version}
}

// Hints tells whether a table holds hints: its name says so.
func Hints(table string) bool { return strings.HasSuffix(table, "_due") }

// Group is the part of a hint's key that names its group, with the slash; all of the key if there is none.
func Group(key string) string {
	if i := strings.IndexByte(key, '/'); i >= 0 {
		return key[:i+1]
	}
	return key
}

// Check refuses a commit that its tables forbid, on every engine alike; each calls it first.
func Check(writes []Write) error {
	swaps := 0
	for i, w := range writes {
		switch {
		case Hints(w.Table) && w.If && !w.Delete:
			return fmt.Errorf("%w: hints of %s are not swapped", ErrMisuse, w.Table)
		case !Hints(w.Table) && !w.If:
			return fmt.Errorf("%w: records of %s are only swapped", ErrMisuse, w.Table)
		case strings.IndexByte(w.Table, 0) >= 0:
			return fmt.Errorf("%w: table name %q", ErrMisuse, w.Table)
		case w.If:
			swaps++
		}
		for _, other := range writes[:i] {
			if other.Table == w.Table && other.Key == w.Key {
				return fmt.Errorf("%w: a commit with row %q of %s twice", ErrMisuse, w.Key, w.Table)
			}
		}
	}
	if swaps > 1 {
		return fmt.Errorf("%w: a commit with %d conditions", ErrMisuse, swaps)
	}
	return nil
}

// Range is part of a table: keys from From (inclusive) up to To (exclusive; "" means the end).
type Range struct{ From, To string }

// Prefix is the range of all keys that begin with p.
func Prefix(p string) Range { return Range{From: p, To: After(p)} }

// After is the smallest key above all that begin with p, "" when there is none.
func After(p string) string {
	b := []byte(p)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] < 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// Engine is the interface. All methods are safe for concurrent use. Table names hold no NUL byte.
type Engine interface {
	// Get reads a row; an absent one has version 0.
	Get(ctx context.Context, table, key string) (Row, error)
	// Commit does all writes or, when the condition of its one conditional write does not hold, not that one: done is
	// then false and version that of the row. The unconditional writes of a refused commit may or may not stay (an
	// engine without transactions over partitions does them first, and deletions of hints last), so they must be
	// harmless alone. When it returns done, the writes survive a crash, and version is the one of every row written:
	// higher than any earlier version of these rows. After an error it is unknown whether it was done.
	Commit(ctx context.Context, writes ...Write) (version uint64, done bool, err error)
	// Scan reads rows in bytewise order of their keys, at most limit; more tells whether others follow.
	Scan(ctx context.Context, table string, r Range, limit int) (rows []Row, more bool, err error)
	// Close ends the engine when running calls are done.
	Close() error
}
