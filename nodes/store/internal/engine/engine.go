// Package engine is where the store keeps its rows: a small interface and what its implementations share. Tables of
// rows ordered by key, each row with a version; every change is a commit of writes that may be conditional on
// versions. The embedded engine keeps them in process on disk, the memory engine is for tests; enginetest is the suite
// that each passes. Engines know nothing of what is in a row.
package engine

import (
	"context"
	"errors"
)

// ErrClosed is the error of every call after Close.
var ErrClosed = errors.New("the engine is closed")

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
	// Commit does all writes or, when one's condition does not hold, none that is conditional: done is then false and
	// version that of the first row that differs. Unconditional writes of a refused commit may or may not stay (an
	// engine without transactions over partitions does them first), so they must be harmless alone. When it returns
	// done, the writes survive a crash, and version is the one of every row written: higher than any earlier version
	// of these rows. A key stands in one commit once. After an error it is unknown whether it was done.
	Commit(ctx context.Context, writes ...Write) (version uint64, done bool, err error)
	// Scan reads rows in bytewise order of their keys, at most limit; more tells whether others follow.
	Scan(ctx context.Context, table string, r Range, limit int) (rows []Row, more bool, err error)
	// Close ends the engine when running calls are done.
	Close() error
}
