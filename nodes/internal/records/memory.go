package records

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory is the store's record service in memory, for tests of its users. It is safe for concurrent use.
type Memory struct {
	mu      sync.Mutex
	tables  map[string]map[string]*Row
	version uint64
}

// NewMemory returns an empty double.
func NewMemory() *Memory { return &Memory{tables: map[string]map[string]*Row{}} }

// Get is Service.Get.
func (m *Memory) Get(_ context.Context, table string, keys ...string) ([]*Row, error) {
	if err := CheckKeys(table, keys...); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Row, len(keys))
	for i, key := range keys {
		if out[i] = copied(m.tables[table][key]); out[i] == nil {
			out[i] = &Row{Key: key}
		}
	}
	return out, nil
}

// Swap is Service.Swap.
func (m *Memory) Swap(_ context.Context, table, key string, version uint64, value []byte) (uint64, bool, error) {
	if err := CheckKeys(table, key); err != nil {
		return 0, false, err
	}
	if err := CheckValue(value); err != nil {
		return 0, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if there := m.tables[table][key].GetVersion(); there != version {
		return there, false, nil
	}
	if m.tables[table] == nil {
		m.tables[table] = map[string]*Row{}
	}
	m.version++
	m.tables[table][key] = &Row{Key: key, Value: bytes.Clone(value), Version: m.version}
	return m.version, true, nil
}

// Delete is Service.Delete.
func (m *Memory) Delete(_ context.Context, table, key string, version uint64) (bool, error) {
	if err := CheckKeys(table, key); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if there := m.tables[table][key].GetVersion(); there != version {
		return false, nil
	}
	delete(m.tables[table], key)
	return true, nil
}

// Scan is Service.Scan.
func (m *Memory) Scan(_ context.Context, table, prefix, after string, limit int) ([]*Row, bool, error) {
	if err := CheckTable(table); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > MaxScan {
		limit = MaxScan
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.tables[table] {
		if strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	more := len(keys) > limit
	out := make([]*Row, 0, min(len(keys), limit))
	for _, key := range keys[:min(len(keys), limit)] {
		out = append(out, copied(m.tables[table][key]))
	}
	return out, more, nil
}

func copied(r *Row) *Row {
	if r == nil {
		return nil
	}
	return &Row{Key: r.GetKey(), Value: bytes.Clone(r.GetValue()), Version: r.GetVersion()}
}
