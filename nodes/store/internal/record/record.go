// Package record is the store's record service: the rows of other roles on the engine, table by table. It does not
// look into them.
package record

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Service implements records.Service. Tables of the store itself begin with an underscore, which records refuses,
// so the two cannot meet.
type Service struct {
	engine engine.Engine
	noted  sync.Map // tables whose names are in tablesTable
}

// tablesTable lists the tables that other roles have written, for whoever copies them all.
const tablesTable = "_tables"

// New returns the service on an engine.
func New(e engine.Engine) *Service { return &Service{engine: e} }

// Tables lists the tables of other roles, in order: those that were ever written through this service, and those that
// older versions wrote before they were noted.
func (s *Service) Tables(ctx context.Context) ([]string, error) {
	out := []string{"account", "account_number", "doc_simservs", "number", "number_block", "number_free", "number_listed", "subscribers"}
	r := engine.Range{}
	for {
		rows, more, err := s.engine.Scan(ctx, tablesTable, r, page)
		if err != nil {
			return nil, fmt.Errorf("listing tables: %w", err)
		}
		for _, row := range rows {
			out = append(out, row.Key)
			r.From = row.Key + "\x00"
		}
		if !more {
			slices.Sort(out)
			return slices.Compact(out), nil
		}
	}
}

// Note remembers the name of a table before its first row is written.
func (s *Service) Note(ctx context.Context, table string) error {
	if _, known := s.noted.Load(table); known {
		return nil
	}
	if _, _, err := s.engine.Commit(ctx, engine.Swap(tablesTable, table, 0, nil)); err != nil {
		return fmt.Errorf("noting table %s: %w", table, err)
	}
	s.noted.Store(table, true)
	return nil
}

// Get is records.Service.Get.
func (s *Service) Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error) {
	if err := records.CheckKeys(table, keys...); err != nil {
		return nil, err
	}
	out := make([]*records.Row, len(keys))
	for i, key := range keys {
		row, err := s.engine.Get(ctx, table, key)
		if err != nil {
			return nil, err
		}
		out[i] = wire(row)
	}
	return out, nil
}

// Swap is records.Service.Swap.
func (s *Service) Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error) {
	if err := records.CheckKeys(table, key); err != nil {
		return 0, false, err
	}
	if err := records.CheckValue(value); err != nil {
		return 0, false, err
	}
	if err := s.Note(ctx, table); err != nil {
		return 0, false, err
	}
	return s.engine.Commit(ctx, engine.Swap(table, key, version, value))
}

// Delete is records.Service.Delete.
func (s *Service) Delete(ctx context.Context, table, key string, version uint64) (bool, error) {
	if err := records.CheckKeys(table, key); err != nil {
		return false, err
	}
	_, done, err := s.engine.Commit(ctx, engine.RemoveIf(table, key, version))
	return done, err
}

// page is how many rows are read from the engine at once, so that a table of large rows does not fill the memory.
const page = 100

// answerBytes is about what one answer can carry.
const answerBytes = 3 << 20

// Scan is records.Service.Scan. It may return fewer rows than asked for, with more set.
func (s *Service) Scan(ctx context.Context, table, prefix, after string, limit int) ([]*records.Row, bool, error) {
	if err := records.CheckTable(table); err != nil {
		return nil, false, err
	}
	if limit <= 0 || limit > records.MaxScan {
		limit = records.MaxScan
	}
	r := engine.Prefix(prefix)
	if after != "" {
		r.From = max(r.From, after+"\x00")
	}
	var out []*records.Row
	for size := 0; ; {
		rows, more, err := s.engine.Scan(ctx, table, r, min(page, limit-len(out)))
		if err != nil {
			return nil, false, err
		}
		for _, row := range rows {
			size += len(row.Value) + len(row.Key)
			out = append(out, wire(row))
			r.From = row.Key + "\x00"
		}
		if !more || len(out) >= limit || size >= answerBytes {
			return out, more, nil
		}
	}
}

func wire(row engine.Row) *records.Row {
	return &records.Row{Key: row.Key, Value: row.Value, Version: row.Version}
}
