// Package rows is what the portal keeps in the store, and the one way in which it changes a row: read, alter,
// compare-and-swap, again if another node was faster. It knows nothing of what accounts and numbers mean.
package rows

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
)

// Store is the store's record service.
type Store interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error)
	Delete(ctx context.Context, table, key string, version uint64) (bool, error)
	Scan(ctx context.Context, table, prefix, after string, limit int) ([]*records.Row, bool, error)
}

var (
	// ErrNotFound means that there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrExists means that there is such a row already.
	ErrExists = errors.New("exists already")
)

// message is a pointer to a row's type.
type message[T any] interface {
	*T
	proto.Message
}

// Table is the rows of one kind.
type Table[T any, P message[T]] struct {
	Store Store
	Name  string
}

// Get reads one row; ErrNotFound if there is none.
func (t Table[T, P]) Get(ctx context.Context, key string) (P, error) {
	value, _, err := t.read(ctx, key)
	if err == nil && value == nil {
		err = fmt.Errorf("%s %s: %w", t.Name, key, ErrNotFound)
	}
	return value, err
}

// GetAll reads rows in the order of keys; an absent one is nil.
func (t Table[T, P]) GetAll(ctx context.Context, keys []string) ([]P, error) {
	out := make([]P, 0, len(keys))
	for len(keys) > 0 {
		n := min(len(keys), 500)
		rows, err := t.Store.Get(ctx, t.Name, keys[:n]...)
		if err != nil {
			return nil, err //nolint:wrapcheck // it names the table
		}
		for _, row := range rows {
			value, err := t.decode(row)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		keys = keys[n:]
	}
	return out, nil
}

// Create writes a row that is not there yet; ErrExists if it is.
func (t Table[T, P]) Create(ctx context.Context, key string, value P) error {
	text, err := proto.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding %s %s: %w", t.Name, key, err)
	}
	_, swapped, err := t.Store.Swap(ctx, t.Name, key, 0, text)
	if err != nil {
		return err //nolint:wrapcheck // it names table and key
	}
	if !swapped {
		return fmt.Errorf("%s %s: %w", t.Name, key, ErrExists)
	}
	return nil
}

var errDelete = errors.New("delete this row")

// Delete tells Update to delete the row.
func Delete() error { return errDelete }

// Update alters a row under compare-and-swap and returns what is there afterwards (nil if it was deleted). alter may run several
// times, each on a fresh reading; its error ends the update and comes back. ErrNotFound if there is no row.
func (t Table[T, P]) Update(ctx context.Context, key string, alter func(P) error) (P, error) {
	for {
		value, version, err := t.read(ctx, key)
		if err != nil {
			return nil, err
		}
		if value == nil {
			return nil, fmt.Errorf("%s %s: %w", t.Name, key, ErrNotFound)
		}
		if err := alter(value); errors.Is(err, errDelete) { //nolint:govet // the outer err is done with
			if deleted, err := t.Store.Delete(ctx, t.Name, key, version); err != nil || deleted {
				return nil, err //nolint:wrapcheck // it names table and key
			}
			continue
		} else if err != nil {
			return nil, err
		}
		text, err := proto.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("encoding %s %s: %w", t.Name, key, err)
		}
		if _, swapped, err := t.Store.Swap(ctx, t.Name, key, version, text); err != nil {
			return nil, err //nolint:wrapcheck // it names table and key
		} else if swapped {
			return value, nil
		}
	}
}

// Scan calls each for every row whose key has a prefix, in order, until each returns an error.
func (t Table[T, P]) Scan(ctx context.Context, prefix string, each func(key string, value P) error) error {
	for after, more := "", true; more; {
		var rows []*records.Row
		var err error
		if rows, more, err = t.Store.Scan(ctx, t.Name, prefix, after, 500); err != nil {
			return err //nolint:wrapcheck // it names the table
		}
		for _, row := range rows {
			value, err := t.decode(row)
			if err != nil {
				return err
			}
			if err := each(row.GetKey(), value); err != nil {
				return err
			}
			after = row.GetKey()
		}
	}
	return nil
}

func (t Table[T, P]) read(ctx context.Context, key string) (P, uint64, error) {
	found, err := t.Store.Get(ctx, t.Name, key)
	if err != nil {
		return nil, 0, err //nolint:wrapcheck // it names the table
	}
	value, err := t.decode(found[0])
	return value, found[0].GetVersion(), err
}

func (t Table[T, P]) decode(row *records.Row) (P, error) {
	if row.GetVersion() == 0 {
		return nil, nil
	}
	value := P(new(T))
	if err := proto.Unmarshal(row.GetValue(), value); err != nil {
		return nil, fmt.Errorf("decoding %s %s: %w", t.Name, row.GetKey(), err)
	}
	return value, nil
}
