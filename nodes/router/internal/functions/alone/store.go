package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// store keeps records in memory and changes them by the rules of package registrations. A record that is stored is not
// changed any more, for who asked may still read it: the next change works on a copy.
type store struct {
	mu      sync.Mutex
	records map[string]*registrations.Record
}

func newStore() *store { return &store{records: map[string]*registrations.Record{}} }

// Apply implements registrar.Store.
func (s *store) Apply(_ context.Context, req *registrations.ApplyRequest) (*registrations.ApplyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	resp, err := registrations.Change(s.records[req.GetAor()], req, now)
	if err != nil {
		return nil, fmt.Errorf("applying: %w", err)
	}
	if resp.GetOutcome() == registrations.OutcomeDone {
		s.put(resp.GetRecord(), now)
	}
	return resp, nil
}

// Get implements registrar.Store.
func (s *store) Get(_ context.Context, aor string) (*registrations.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.records[aor]; rec != nil {
		return registrations.Live(rec, time.Now()), nil
	}
	return &registrations.Record{Aor: aor}, nil
}

// Settle implements registrar.Store.
func (s *store) Settle(_ context.Context, aor string, ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rec := s.records[aor]; rec != nil {
		s.put(registrations.Settled(rec, ids...), time.Now())
	}
	return nil
}

func (s *store) put(rec *registrations.Record, now time.Time) {
	if registrations.Needless(rec, now) {
		delete(s.records, rec.GetAor())
		return
	}
	s.records[rec.GetAor()] = rec
}
