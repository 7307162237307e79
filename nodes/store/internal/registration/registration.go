// Package registration is the store's registration service: every change of a record is one compare-and-swap on the
// engine, and lapsed bindings and owed effects are brought to the router's attention until they are gone. What a
// change does is nodes/internal/registrations' Change; this package decides nothing about registrations itself.
package registration

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	table    = "_registrations"
	dueTable = "_registrations_due"
)

// Config says who we are and what time it is.
type Config struct {
	Writer string           // id of this node
	Now    func() time.Time // nil: the system clock; the expiry driver always runs on the system clock
	Log    *slog.Logger
	Owner  due.Owner // of the shards of expiry; nil: this node, of all
	// Lapse asks a router to work off the record of an address of record: interfaces of the router, POST /timers.
	Lapse func(ctx context.Context, aor string) error
}

// Service implements registrations.Service on an engine.
type Service struct {
	cfg     Config
	engine  engine.Engine
	index   *due.Index
	metrics *metrics
}

// New returns the service. Run drives expiry.
func New(cfg Config, e engine.Engine, reg prometheus.Registerer) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Owner == nil {
		cfg.Owner = due.All{}
	}
	return &Service{cfg: cfg, engine: e, index: due.New(e, dueTable, cfg.Owner, cfg.Log), metrics: newMetrics(reg)}
}

// Apply is registrations.Service.Apply.
func (s *Service) Apply(ctx context.Context, req *registrations.ApplyRequest) (*registrations.ApplyResponse, error) {
	for {
		old, version, err := s.read(ctx, req.GetAor())
		if err != nil {
			return nil, err
		}
		now := s.cfg.Now()
		before := planned(old, now)
		resp, err := change(old, req, now)
		if err != nil {
			return nil, fmt.Errorf("applying: %w", err)
		}
		next := resp.GetRecord()
		unchanged := resp.GetOutcome() != registrations.OutcomeDone ||
			(old == nil && registrations.Needless(next, now)) || (asksOnly(req) && proto.Equal(old, next))
		if !unchanged {
			done, err := s.swap(ctx, before, next, version)
			if err != nil {
				return nil, err
			}
			if !done {
				continue // somebody else was faster: look again
			}
		}
		s.metrics.applied(resp)
		return resp, nil
	}
}

// asksOnly tells whether the request changes nothing but what time has changed.
func asksOnly(req *registrations.ApplyRequest) bool {
	return len(req.GetBindings()) == 0 && len(req.GetRemove()) == 0 && !req.GetRemoveAll() && req.GetNonce() == nil
}

// change alters the record that was read, unless it may have to be compared with it afterwards.
func change(old *registrations.Record, req *registrations.ApplyRequest, now time.Time) (*registrations.ApplyResponse, error) {
	if asksOnly(req) {
		return registrations.Change(old, req, now)
	}
	return registrations.Alter(old, req, now)
}

// Get is registrations.Service.Get.
func (s *Service) Get(ctx context.Context, aor string) (*registrations.Record, error) {
	rec, _, err := s.read(ctx, aor)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return &registrations.Record{Aor: aor}, nil
	}
	return registrations.Live(rec, s.cfg.Now()), nil
}

// Settle is registrations.Service.Settle.
func (s *Service) Settle(ctx context.Context, aor string, ids ...string) error {
	for {
		old, version, err := s.read(ctx, aor)
		if err != nil || old == nil {
			return err
		}
		next := registrations.Settled(old, ids...)
		if len(next.GetOwed()) == len(old.GetOwed()) {
			return nil
		}
		done, err := s.swap(ctx, planned(old, s.cfg.Now()), next, version)
		if err != nil || done {
			return err
		}
	}
}

// read returns the stored record, nil when there is none.
func (s *Service) read(ctx context.Context, aor string) (*registrations.Record, uint64, error) {
	row, err := s.engine.Get(ctx, table, aor)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the record: %w", err)
	}
	if row.Version == 0 {
		return nil, 0, nil
	}
	rec := &registrations.Record{}
	if err := proto.Unmarshal(row.Value, rec); err != nil {
		return nil, 0, fmt.Errorf("decoding the record: %w", err)
	}
	return rec, row.Version, nil
}

// swap writes next over the version that was read, with the hint that it needs; before is what planned said of that.
func (s *Service) swap(ctx context.Context, before time.Time, next *registrations.Record, version uint64) (done bool, err error) {
	now := s.cfg.Now()
	next.Writer = s.cfg.Writer
	if registrations.Needless(next, now) {
		_, done, err = s.engine.Commit(ctx, engine.RemoveIf(table, next.GetAor(), version))
		return done, wrap(err)
	}
	value, err := proto.Marshal(next)
	if err != nil {
		return false, fmt.Errorf("encoding the record: %w", err)
	}
	writes := make([]engine.Write, 0, 2)
	at, needed := hint(before, next, now)
	if needed {
		writes = append(writes, s.index.Put(at, next.GetAor(), nil))
	}
	writes = append(writes, engine.Swap(table, next.GetAor(), version, value))
	_, done, err = s.engine.Commit(ctx, writes...)
	if needed && err == nil {
		s.index.Written(at, next.GetAor())
	}
	return done, wrap(err)
}

func wrap(err error) error {
	if err != nil {
		return fmt.Errorf("writing the record: %w", err)
	}
	return nil
}

// grace is left to whoever caused an owed effect before a router is reminded of it.
const grace = 2 * time.Second

// planned is the latest time at which somebody looks at a stored record: a record with something due in the future has
// a hint at that time or before. Zero means that there may be none: the record has nothing due, or had it in the past.
func planned(rec *registrations.Record, now time.Time) time.Time {
	if at, some := registrations.Due(rec); some && at.After(now) {
		return at
	}
	return time.Time{}
}

// hint says when somebody must look at next, and whether a hint has to be written for it. One that is planned no
// later will do: the driver moves it along.
func hint(before time.Time, next *registrations.Record, now time.Time) (at time.Time, needed bool) {
	at, some := registrations.Due(next)
	if !some || (!before.IsZero() && !at.Before(before)) {
		return at, false
	}
	if len(next.GetOwed()) > 0 {
		at = now.Add(grace)
	}
	return at, true
}
