// Package due is an index of what has to be done when: hints, ordered by time, in shards. A hint says only that
// somebody should look at a row at that time; the row is the truth, so hints may be early, doubled or stale, never
// missing. Registrations and timers are driven by it. It does not know what is done.
package due

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	// Shards is the number of parts that are worked on independently.
	Shards = 16

	atOnce  = 64                     // hints of one shard in work
	look    = 5 * time.Second        // longest sleep of a shard
	peek    = 500 * time.Millisecond // the same where other nodes write hints, too, which cannot wake us
	again   = time.Second            // pause of a hint whose handling failed here
	digits  = 13                     // of milliseconds since 1970, enough until the year 2286
	farAway = int64(1<<63 - 1)       // nothing to wait for
)

// Hint is one row of the index.
type Hint struct {
	ID    string
	At    time.Time
	Note  []byte // what the last handler left for the next
	Owner int64  // revision under which this node works on the shard

	key     string
	version uint64
}

// Owner tells which shards this node works on.
type Owner interface {
	// Owns tells whether a shard is this node's, and since which revision: a later owner's is higher.
	Owns(shard int) (revision int64, mine bool)
	// OnChange has f called when that changes.
	OnChange(f func())
	// Sole tells that no other node writes hints.
	Sole() bool
}

// All is the owner of every shard, where there is one store node.
type All struct{}

// Owns implements Owner.
func (All) Owns(int) (int64, bool) { return 1, true }

// OnChange implements Owner.
func (All) OnChange(func()) {}

// Sole implements Owner.
func (All) Sole() bool { return true }

// Index is one table of hints.
type Index struct {
	engine  engine.Engine
	table   string
	owner   Owner
	longest time.Duration // sleep of a shard
	log     *slog.Logger
	shards  [Shards]shard
}

type shard struct {
	sleeping atomic.Int64 // until when, Unix milliseconds
	wake     chan struct{}

	mu   sync.Mutex
	busy map[string]bool // keys in work or paused
}

// New returns the index in a table of e, of which this node works on the shards that owner says.
func New(e engine.Engine, table string, owner Owner, log *slog.Logger) *Index {
	x := &Index{engine: e, table: table, owner: owner, log: log, longest: peek}
	if owner.Sole() {
		x.longest = look
	}
	for i := range x.shards {
		x.shards[i].wake, x.shards[i].busy = make(chan struct{}, 1), map[string]bool{}
	}
	owner.OnChange(func() {
		for i := range x.shards {
			x.shards[i].nudge()
		}
	})
	return x
}

// Mine tells whether this node works on the shard of an id, and since which revision.
func (x *Index) Mine(id string) (revision int64, mine bool) { return x.owner.Owns(shardOf(id)) }

// Put is the write of a hint, to be committed with (or before) the row that needs it; call Written afterwards.
func (x *Index) Put(at time.Time, id string, note []byte) engine.Write {
	return engine.Put(x.table, key(at, id), note)
}

// Written tells the shard that a hint has been committed.
func (x *Index) Written(at time.Time, id string) {
	s := &x.shards[shardOf(id)]
	if at.UnixMilli() < s.sleeping.Load() {
		s.nudge()
	}
}

// Moved are the writes that replace a hint by one at another time.
func (x *Index) Moved(h Hint, at time.Time, note []byte) []engine.Write {
	writes := []engine.Write{x.Put(at, h.ID, note)}
	if writes[0].Key != h.key {
		writes = append(writes, engine.Remove(x.table, h.key))
	}
	return writes
}

// Move replaces a hint by one at another time, in one commit.
func (x *Index) Move(ctx context.Context, h Hint, at time.Time, note []byte) error {
	writes := x.Moved(h, at, note)
	for i, w := range writes {
		if w.Delete { // one that has been written again since is needed again
			writes[i] = engine.RemoveIf(w.Table, w.Key, h.version)
		}
	}
	if _, _, err := x.engine.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("moving a hint of %s: %w", x.table, err)
	}
	x.Written(at, h.ID)
	return nil
}

// Done deletes a hint that is of no use any more, unless it has been written again since it was read.
func (x *Index) Done(ctx context.Context, h Hint) error {
	if _, _, err := x.engine.Commit(ctx, engine.RemoveIf(x.table, h.key, h.version)); err != nil {
		return fmt.Errorf("deleting a hint of %s: %w", x.table, err)
	}
	return nil
}

// Run hands due hints to handle until ctx ends, each shard in time order and several at once. handle must Move the
// hint or end it with Done; if it does not, or fails, the hint comes again. Run returns when all handlers have.
func (x *Index) Run(ctx context.Context, handle func(context.Context, Hint) error) error {
	var wg sync.WaitGroup
	for i := range x.shards {
		wg.Go(func() { x.drive(ctx, i, handle) })
	}
	wg.Wait()
	return nil
}

// drive works on one shard.
func (x *Index) drive(ctx context.Context, n int, handle func(context.Context, Hint) error) {
	s := &x.shards[n]
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, atOnce)
	for ctx.Err() == nil {
		s.sleeping.Store(farAway) // whoever writes a hint while we look nudges us to look again
		now := time.Now()
		revision, mine := x.owner.Owns(n)
		if !mine {
			s.sleep(ctx, now, now.Add(look), look)
			continue
		}
		hints, next, err := x.due(ctx, n, now)
		if err != nil && ctx.Err() == nil {
			x.log.Error("looking for due work", "table", x.table, "shard", n, "error", err)
		}
		for _, h := range hints {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			h.Owner = revision
			s.take(h.key)
			wg.Go(func() {
				x.work(ctx, s, h, handle)
				<-slots
			})
		}
		s.sleep(ctx, now, next, x.longest)
	}
}

// work handles one hint. A failed one is left alone for a moment.
func (x *Index) work(ctx context.Context, s *shard, h Hint, handle func(context.Context, Hint) error) {
	err := handle(ctx, h)
	if err == nil {
		s.leave(h.key)
		return
	}
	if ctx.Err() == nil {
		x.log.Error("due work", "table", x.table, "id", h.ID, "error", err)
	}
	time.AfterFunc(again, func() { s.leave(h.key) })
}

// due reads what is due now and not in work, and when the next is.
func (x *Index) due(ctx context.Context, n int, now time.Time) (hints []Hint, next time.Time, err error) {
	// What is in work now is left out, even if it ends during the scan, which then may still show its row.
	busy := x.shards[n].inWork()
	limit := atOnce + len(busy) + 1
	rows, more, err := x.engine.Scan(ctx, x.table, engine.Prefix(prefix(n)), limit)
	if err != nil {
		return nil, now.Add(again), fmt.Errorf("scanning: %w", err)
	}
	next = now.Add(look)
	for _, row := range rows {
		h, ok := parse(row)
		if !ok {
			x.log.Error("a hint that cannot be read", "table", x.table, "key", row.Key)
			continue
		}
		if h.At.After(now) {
			return hints, h.At, nil
		}
		if !busy[h.key] {
			hints = append(hints, h)
		}
	}
	if more && len(hints) > 0 {
		next = now
	}
	return hints, next, nil
}

// sleep waits until at, a nudge, or longest has passed.
func (s *shard) sleep(ctx context.Context, now, at time.Time, longest time.Duration) {
	at = time.UnixMilli(min(at.UnixMilli(), now.Add(longest).UnixMilli()))
	// A hint written after our scan and before this line found farAway and left a nudge.
	s.sleeping.Store(at.UnixMilli())
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-s.wake:
	case <-t.C:
	}
}

func (s *shard) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) take(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[key] = true
}

func (s *shard) leave(key string) {
	s.mu.Lock()
	delete(s.busy, key)
	s.mu.Unlock()
	s.nudge()
}

func (s *shard) inWork() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.busy)
}

func shardOf(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % Shards)
}

func prefix(n int) string { return fmt.Sprintf("%02x/", n) }

// key is shard/time/id, the time in milliseconds with leading zeros.
func key(at time.Time, id string) string {
	return fmt.Sprintf("%s%0*d/%s", prefix(shardOf(id)), digits, max(0, at.UnixMilli()), id)
}

func parse(row engine.Row) (Hint, bool) {
	parts := strings.SplitN(row.Key, "/", 3)
	if len(parts) != 3 {
		return Hint{}, false
	}
	ms, err := strconv.ParseInt(parts[1], 10, 64)
	return Hint{ID: parts[2], At: time.UnixMilli(ms), Note: row.Value, key: row.Key, version: row.Version}, err == nil
}
