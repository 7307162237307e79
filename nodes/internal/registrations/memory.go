package registrations

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// Memory is the store's registration service in memory, for tests of its users. It is safe for concurrent use.
type Memory struct {
	Now func() time.Time // the clock; set it before the first call

	mu      sync.Mutex
	records map[string]*Record
	swaps   int
}

// NewMemory returns an empty double on the system clock.
func NewMemory() *Memory { return &Memory{Now: time.Now, records: map[string]*Record{}} }

// Apply is Client.Apply.
func (m *Memory) Apply(_ context.Context, req *ApplyRequest) (*ApplyResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.records[req.GetAor()]
	resp, err := Change(old, req, m.Now())
	if err != nil {
		return nil, fmt.Errorf("applying to %s: %w", req.GetAor(), err)
	}
	if resp.GetOutcome() == OutcomeDone {
		m.store(old, resp.GetRecord())
	}
	return detached(resp), nil
}

// Get is Client.Get.
func (m *Memory) Get(_ context.Context, aor string) (*Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[aor]
	if !ok {
		return &Record{Aor: aor}, nil
	}
	return Live(rec, m.Now()), nil
}

// Settle is Client.Settle.
func (m *Memory) Settle(_ context.Context, aor string, ids ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rec, ok := m.records[aor]; ok {
		m.store(rec, Settled(rec, ids...))
	}
	return nil
}

// Put stores a record as it is, for tests of records that others have written.
func (m *Memory) Put(rec *Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, _ := proto.Clone(rec).(*Record)
	m.records[rec.GetAor()] = c
}

// Swaps is the number of records written so far.
func (m *Memory) Swaps() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.swaps
}

func (m *Memory) store(old, next *Record) {
	if proto.Equal(old, next) || (old == nil && Needless(next, m.Now())) {
		return
	}
	m.swaps++
	if Needless(next, m.Now()) {
		delete(m.records, next.GetAor())
		return
	}
	m.records[next.GetAor()] = next
}

func detached(r *ApplyResponse) *ApplyResponse {
	c, _ := proto.Clone(r).(*ApplyResponse)
	return c
}
