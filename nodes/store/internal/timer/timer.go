// Package timer is the timer service of the store: timers with a callback, set over HTTP (http.go), kept in the engine
// and popped at their time (pop.go). The engine holds the truth, so a timer survives a restart; an index of hints
// says when to look. What a callback is good for it does not know.
package timer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	table    = "_timers"
	dueTable = "_timers_due"
)

// Pop delivers one pop: POST to uri with the opaque body and the sequence number. An error is any answer other than
// 200, or none by the end of ctx.
type Pop func(ctx context.Context, uri string, opaque []byte, sequence uint32) error

// Service keeps timers and pops them.
type Service struct {
	engine  engine.Engine
	index   *due.Index
	owner   due.Owner
	pop     Pop
	log     *slog.Logger
	metrics *metrics
	popping atomic.Int64
}

// New returns the service, which pops the timers of the shards that owner says. Run pops.
func New(e engine.Engine, owner due.Owner, pop Pop, log *slog.Logger, reg prometheus.Registerer) *Service {
	return &Service{engine: e, index: due.New(e, dueTable, owner, log), owner: owner, pop: pop, log: log, metrics: newMetrics(reg)}
}

// recount is how often timers are counted where other nodes set and end them, too.
const recount = time.Minute

// Run counts the timers that are there and pops due ones until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.counting(ctx) })
	g.Go(func() error { return s.index.Run(ctx, s.look) })
	return g.Wait() //nolint:wrapcheck // says what failed
}

// Popping is the number of pops that are under way.
func (s *Service) Popping() int64 { return s.popping.Load() }

// counting sets the statistics from the engine: once where nobody else changes timers, else of the shards of this node,
// again and again.
func (s *Service) counting(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	s.owner.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for {
		if err := s.count(ctx); err != nil && ctx.Err() == nil {
			if s.owner.Sole() {
				return err
			}
			s.log.Warn("timer statistics", "error", err)
		}
		if s.owner.Sole() {
			return nil
		}
		pause := time.NewTimer(recount)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case <-pause.C:
		case <-changed:
			pause.Stop()
		}
	}
}

// count counts once. Timers that change meanwhile are counted where they change.
func (s *Service) count(ctx context.Context) error {
	s.metrics.begin()
	defer s.metrics.end()
	r := engine.Range{}
	for {
		rows, more, err := s.engine.Scan(ctx, table, r, 1000)
		if err != nil {
			return fmt.Errorf("counting timers: %w", err)
		}
		for _, row := range rows {
			t, err := decode(row.Value)
			if err != nil {
				return err
			}
			_, mine := s.index.Mine(t.GetId())
			s.metrics.found(t, mine)
			r.From = row.Key + "\x00"
		}
		if !more {
			return nil
		}
	}
}

// changed tells the statistics of a timer that was set, ended or both, if its shard is this node's.
func (s *Service) changed(old, t *Timer) {
	id := t.GetId()
	if t == nil {
		id = old.GetId()
	}
	if _, mine := s.index.Mine(id); mine {
		s.metrics.changed(old, t)
	}
}

// Set creates the timer or replaces the one of the same id; it starts now.
func (s *Service) Set(ctx context.Context, t *Timer) error {
	now := time.Now()
	t.StartedAt, t.Sequence, t.Attempts = now.UnixMilli(), 0, 0
	if !t.pops() {
		return s.Delete(ctx, t.GetId())
	}
	t.NextAt = t.nextPop().UnixMilli()
	for {
		old, version, err := s.read(ctx, t.GetId())
		if err != nil {
			return err
		}
		done, err := s.write(ctx, t, version, s.index.Put(t.next(), t.GetId(), nil))
		if err != nil {
			return err
		}
		if done {
			s.index.Written(t.next(), t.GetId())
			s.changed(old, t)
			return nil
		}
	}
}

// Delete ends a timer; one that is not there is no error. Its hint goes when it comes up.
func (s *Service) Delete(ctx context.Context, id string) error {
	for {
		old, version, err := s.read(ctx, id)
		if err != nil || old == nil {
			return err
		}
		done, err := s.remove(ctx, old, version)
		if err != nil || done {
			return err
		}
	}
}

func (s *Service) remove(ctx context.Context, t *Timer, version uint64) (done bool, err error) {
	_, done, err = s.engine.Commit(ctx, engine.RemoveIf(table, t.GetId(), version))
	if err != nil {
		return false, fmt.Errorf("deleting timer %s: %w", t.GetId(), err)
	}
	if done {
		s.changed(t, nil)
	}
	return done, nil
}

func (s *Service) read(ctx context.Context, id string) (*Timer, uint64, error) {
	row, err := s.engine.Get(ctx, table, id)
	if err != nil {
		return nil, 0, fmt.Errorf("reading timer %s: %w", id, err)
	}
	if row.Version == 0 {
		return nil, 0, nil
	}
	t, err := decode(row.Value)
	return t, row.Version, err
}

// write swaps the timer in, together with changes of its hints.
func (s *Service) write(ctx context.Context, t *Timer, version uint64, hints ...engine.Write) (done bool, err error) {
	value, err := proto.Marshal(t)
	if err != nil {
		return false, fmt.Errorf("encoding timer %s: %w", t.GetId(), err)
	}
	_, done, err = s.engine.Commit(ctx, append(hints, engine.Swap(table, t.GetId(), version, value))...)
	if err != nil {
		return false, fmt.Errorf("writing timer %s: %w", t.GetId(), err)
	}
	return done, nil
}

func decode(value []byte) (*Timer, error) {
	t := &Timer{}
	if err := proto.Unmarshal(value, t); err != nil {
		return nil, errors.Join(errors.New("a timer in the engine is damaged"), err)
	}
	return t, nil
}

// pops tells whether the timer has a pop left: the n-th is at n intervals, up to repeat_for. One without interval
// pops once, at once.
func (t *Timer) pops() bool {
	n := uint64(t.GetSequence()) + 1
	if t.GetInterval() == 0 {
		return n == 1
	}
	return n*uint64(t.GetInterval()) <= uint64(t.GetRepeatFor())
}

// nextPop is when the pop after the last begun one is due, counted from the start so that nothing drifts.
func (t *Timer) nextPop() time.Time {
	n := int64(t.GetSequence()) + 1
	return time.UnixMilli(t.GetStartedAt() + n*int64(t.GetInterval())*1000)
}

func (t *Timer) next() time.Time { return time.UnixMilli(t.GetNextAt()) }
