// Package records is versioned rows that the store keeps for the other roles: subscribers, documents, accounts,
// numbers. Every change is a compare-and-swap on the row's version. It holds the wire types, the client of the store
// and an in-memory double, and knows nothing of what is in a row.
package records

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"
)

// ErrInvalid is a request that no store can answer: a bad table name, an empty or over-long key, too large a value.
var ErrInvalid = errors.New("invalid record request")

// Limits of a request.
const (
	MaxKey   = 1024    // bytes of a key
	MaxValue = 1 << 20 // bytes of a value
	MaxKeys  = 1000    // keys of one Get
	MaxScan  = 1000    // rows of one Scan; a higher or no limit means this
)

// Service is what a server answers the calls with; the store implements it, and Memory for tests. Versions rise
// with every write of a key and never come back, not even after a deletion; 0 is the version of an absent row.
type Service interface {
	// Get reads rows, one for each key, in order; an absent one has version 0 and no value.
	Get(ctx context.Context, table string, keys ...string) ([]*Row, error)
	// Swap writes a row if its version is the given one (0: it must be absent) and returns the new version, else the
	// one that is there.
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (now uint64, swapped bool, err error)
	// Delete deletes a row if its version is the given one.
	Delete(ctx context.Context, table, key string, version uint64) (deleted bool, err error)
	// Scan reads rows in the order of their keys (bytewise) that begin with prefix and come after a key.
	Scan(ctx context.Context, table, prefix, after string, limit int) (rows []*Row, more bool, err error)
}

var tablePattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// CheckTable refuses names that are not lower-case identifiers of at most 32 characters.
func CheckTable(table string) error {
	if !tablePattern.MatchString(table) {
		return fmt.Errorf("%w: table %q", ErrInvalid, table)
	}
	return nil
}

// CheckKeys checks the table and the keys of a request.
func CheckKeys(table string, keys ...string) error {
	if err := CheckTable(table); err != nil {
		return err
	}
	if len(keys) > MaxKeys {
		return fmt.Errorf("%w: %d keys, at most %d can be asked for", ErrInvalid, len(keys), MaxKeys)
	}
	for _, key := range keys {
		if key == "" || len(key) > MaxKey || !utf8.ValidString(key) {
			return fmt.Errorf("%w: a key of %d bytes, allowed are 1 to %d bytes of UTF-8", ErrInvalid, len(key), MaxKey)
		}
	}
	return nil
}

// CheckValue checks the size of a value.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("%w: a value of %d bytes, allowed are %d", ErrInvalid, len(value), MaxValue)
	}
	return nil
}
