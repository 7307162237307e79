package registration

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	lapseTimeout = 2 * time.Second  // of a request to a router
	firstRetry   = 2 * time.Second  // after a request, whether it was answered or not
	lastRetry    = 30 * time.Second // the pauses double up to this
)

// Run drives expiry until ctx ends: a record with lapsed bindings or owed effects is shown to a router again and
// again, with growing pauses, until it has neither.
func (s *Service) Run(ctx context.Context) error { return s.index.Run(ctx, s.look) }

// look verifies one hint against the record.
func (s *Service) look(ctx context.Context, h due.Hint) error {
	rec, version, err := s.read(ctx, h.ID)
	if err != nil {
		return err
	}
	now := time.Now()
	at, some := registrations.Due(rec)
	switch {
	case !some:
		return s.index.Done(ctx, h)
	case at.After(now):
		return s.index.Move(ctx, h, at, nil)
	case registrations.Needless(rec, now): // only nonces that have run out
		if _, _, err := s.engine.Commit(ctx, engine.RemoveIf(table, h.ID, version)); err != nil {
			return fmt.Errorf("deleting an empty record: %w", err)
		}
		return s.index.Done(ctx, h)
	}
	return s.remind(ctx, h)
}

// remind asks a router to work the record off, and comes back later to see whether it did. The hint is moved first:
// it outlives this process, and comes again however the request ends.
func (s *Service) remind(ctx context.Context, h due.Hint) error {
	attempts, _ := binary.Uvarint(h.Note)
	pause := min(lastRetry, firstRetry<<min(attempts, 10))
	if err := s.index.Move(ctx, h, time.Now().Add(pause), binary.AppendUvarint(nil, attempts+1)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lapseTimeout)
	defer cancel()
	if err := s.cfg.Lapse(ctx, h.ID); err != nil {
		s.metrics.reminders.WithLabelValues("failed").Inc()
		s.cfg.Log.Warn("no router took a lapsed registration", "aor", h.ID, "attempt", attempts+1, "retry_in", pause.String(), "error", err)
		return nil
	}
	s.metrics.reminders.WithLabelValues("taken").Inc()
	return nil
}
