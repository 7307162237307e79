package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// store keeps records as the store role does: encoded, changed by the rules of package registrations.
type store struct {
	mu      sync.Mutex
	records map[string][]byte
}

func newStore() *store { return &store{records: map[string][]byte{}} }

// Apply implements registrar.Store.
func (s *store) Apply(_ context.Context, req *registrations.ApplyRequest) (*registrations.ApplyResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.read(req.GetAor())
	if err != nil {
		return nil, err
	}
	resp, err := registrations.Alter(old, req, time.Now())
	if err != nil {
		return nil, fmt.Errorf("applying: %w", err)
	}
	if resp.GetOutcome() == registrations.OutcomeDone {
		err = s.write(resp.GetRecord())
	}
	return resp, err
}

// Get implements registrar.Store.
func (s *store) Get(_ context.Context, aor string) (*registrations.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.read(aor)
	if err != nil {
		return nil, err
	}
	if rec == nil {
		return &registrations.Record{Aor: aor}, nil
	}
	return registrations.Live(rec, time.Now()), nil
}

// Settle implements registrar.Store.
func (s *store) Settle(_ context.Context, aor string, ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rec, err := s.read(aor)
	if err != nil || rec == nil {
		return err
	}
	return s.write(registrations.Settled(rec, ids...))
}

func (s *store) read(aor string) (*registrations.Record, error) {
	value := s.records[aor]
	if value == nil {
		return nil, nil
	}
	rec := &registrations.Record{}
	if err := proto.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("decoding the record of %s: %w", aor, err)
	}
	return rec, nil
}

func (s *store) write(rec *registrations.Record) error {
	if registrations.Needless(rec, time.Now()) {
		delete(s.records, rec.GetAor())
		return nil
	}
	value, err := proto.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encoding the record of %s: %w", rec.GetAor(), err)
	}
	s.records[rec.GetAor()] = value
	return nil
}
