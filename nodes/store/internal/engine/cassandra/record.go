package cassandra

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gocql/gocql"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// graveSeconds is how long the version of a deleted record is remembered, so that the next one's is above it. After
// that the clocks of the nodes see to it, which are not that far apart.
const graveSeconds = 3600

// record is a row of records. A deleted one keeps its version for a while, negative.
type record struct {
	version, writer, base int64
	value                 []byte
}

func (r record) row(key string) engine.Row {
	if r.version <= 0 {
		return engine.Row{Key: key}
	}
	return engine.Row{Key: key, Value: r.value, Version: uint64(r.version)}
}

// there is the version as the callers know it: 0 when absent.
func there(version int64) uint64 { return uint64(max(0, version)) } //nolint:gosec // not negative

func magnitude(version int64) uint64 {
	if version < 0 {
		version = -version
	}
	return uint64(version) //nolint:gosec // not negative
}

// record reads a record. A serial read finishes what is under way, so that what it does not see did not happen yet.
func (e *Engine) record(ctx context.Context, table, key string, c gocql.Consistency) (r record, err error) {
	err = again(ctx, func() error {
		r = record{}
		return e.session.Query(`SELECT version, writer, base, value FROM clearwater.records WHERE tbl = ? AND key = ?`, table, []byte(key)).
			WithContext(ctx).Consistency(c).Scan(&r.version, &r.writer, &r.base, &r.value)
	})
	if err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return record{}, fmt.Errorf("reading %s of %s: %w", key, table, err)
	}
	return r, nil
}

// attempt is one compare-and-swap: from what is there to a version of ours.
type attempt struct {
	engine.Write
	from    int64 // the version in the row: 0 nothing, negative a deleted record's
	version uint64
}

// swap does a conditional write of a record, with the version that is given or, if the row's is not below it, a higher
// one, which it returns; or the row's version when the condition does not hold.
func (e *Engine) swap(ctx context.Context, w engine.Write, version uint64) (uint64, bool, error) {
	defer e.busy.lock(w.Table + "\x00" + w.Key)()
	a := attempt{Write: w, from: int64(w.Version), version: version} //nolint:gosec // below 2^63
	for {
		if magnitude(a.from) >= a.version {
			a.version = e.clock.next(magnitude(a.from))
		}
		if w.Delete && w.Version == 0 { // nothing to delete: only look
			r, err := e.record(ctx, w.Table, w.Key, gocql.Consistency(gocql.LocalSerial))
			return max(there(r.version), a.version*bit(r.version <= 0)), err == nil && r.version <= 0, err
		}
		if w.Version == 0 {
			if err := e.name(ctx, w.Table, w.Key, a.version); err != nil {
				return 0, false, err
			}
		}
		done, found, err := e.try(ctx, a)
		switch {
		case err != nil:
			return 0, false, fmt.Errorf("swapping %s of %s: %w", w.Key, w.Table, err)
		case done && w.Delete:
			return a.version, true, e.unname(ctx, w.Table, w.Key, a.version)
		case done:
			return a.version, true, nil
		case w.Version != 0 || found > 0:
			return there(found), false, nil
		}
		a.from = found // it is absent, but was there not long ago
	}
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// try does the attempt; found is the version in the row if it was not done.
func (e *Engine) try(ctx context.Context, a attempt) (done bool, found int64, err error) {
	done, found, err = e.cas(ctx, a)
	if err == nil || forGood(err) {
		return done, found, err
	}
	return e.settle(ctx, a, err)
}

// settle finds out what became of an attempt without a clear answer, and repeats it when it was not done.
func (e *Engine) settle(ctx context.Context, a attempt, cause error) (done bool, found int64, err error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 320*time.Millisecond) {
		if err := wait(ctx, pause, cause); err != nil {
			return false, 0, errors.Join(engine.ErrUnknown, err)
		}
		r, err := e.record(ctx, a.Table, a.Key, gocql.Consistency(gocql.LocalSerial))
		switch {
		case err != nil:
			return false, 0, errors.Join(engine.ErrUnknown, err)
		case magnitude(r.version) == a.version && r.writer == e.writer, magnitude(r.base) == a.version:
			return true, 0, nil // done, or done and changed again
		case r.version == a.from:
			if done, _, err = e.cas(ctx, a); done {
				return true, 0, nil
			}
			if err != nil {
				if forGood(err) {
					return false, 0, err
				}
				cause = err
			}
		case magnitude(r.base) == magnitude(a.from):
			return false, r.version, nil // somebody else replaced what we wanted to
		default:
			return false, 0, fmt.Errorf("%w: the row has been changed several times since (%w)", engine.ErrUnknown, cause)
		}
	}
}

// cas is the lightweight transaction.
func (e *Engine) cas(ctx context.Context, a attempt) (done bool, found int64, err error) {
	var from *int64
	if a.from != 0 {
		from = &a.from
	}
	var q *gocql.Query
	version, base := int64(a.version), int64(magnitude(a.from)) //nolint:gosec // below 2^63
	if a.Delete {
		q = e.session.Query(`UPDATE clearwater.records USING TTL ? SET version = ?, writer = ?, base = ?, value = null WHERE tbl = ? AND key = ? IF version = ?`,
			graveSeconds, -version, e.writer, base, a.Table, []byte(a.Key), from)
	} else {
		value := a.Value
		if value == nil {
			value = []byte{} // nil would be no value
		}
		q = e.session.Query(`UPDATE clearwater.records SET version = ?, writer = ?, base = ?, value = ? WHERE tbl = ? AND key = ? IF version = ?`,
			version, e.writer, base, value, a.Table, []byte(a.Key), from)
	}
	done, err = q.WithContext(ctx).Consistency(gocql.LocalQuorum).SerialConsistency(gocql.LocalSerial).ScanCAS(&found)
	return done, found, err
}
