package cx

import (
	"sync"
	"time"
)

// memory is a bounded map whose entries end by themselves. When it is full, what has ended goes, and if that is not
// enough, whatever the map yields first. It is safe for concurrent use.
type memory[V any] struct {
	most int
	now  func() time.Time

	mu      sync.Mutex
	entries map[string]entry[V]
}

type entry[V any] struct {
	value     V
	made, end time.Time
}

func (m *memory[V]) put(key string, v V, life time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if m.entries == nil {
		m.entries = map[string]entry[V]{}
	}
	if len(m.entries) >= m.most {
		m.shrink(now)
	}
	m.entries[key] = entry[V]{v, now, now.Add(life)}
}

func (m *memory[V]) shrink(now time.Time) {
	for key, e := range m.entries {
		if now.After(e.end) {
			delete(m.entries, key)
		}
	}
	for key := range m.entries {
		if len(m.entries) < m.most*9/10 {
			return
		}
		delete(m.entries, key)
	}
}

func (m *memory[V]) get(key string) (V, bool) {
	v, _, ok := m.aged(key)
	return v, ok
}

// aged returns an entry with its age.
func (m *memory[V]) aged(key string) (v V, age time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	now := m.now()
	if !ok || !now.Before(e.end) {
		return v, 0, false
	}
	return e.value, now.Sub(e.made), true
}

func (m *memory[V]) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.entries, key)
}
