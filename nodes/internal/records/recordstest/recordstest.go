// Package recordstest is the suite that every implementation of the record service passes: the in-memory double, the
// store, and the client in front of either. It holds no implementation of its own.
package recordstest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
)

// Run tests the implementations that open returns; each case gets a fresh one.
func Run(t *testing.T, open func(t *testing.T) records.Service) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, records.Service){
		"get in order":               get,
		"swap needs the version":     swap,
		"versions never come back":   rising,
		"scan in order and in pages": scan,
		"large rows in pages":        large,
		"tables are apart":           tables,
		"invalid requests":           invalid,
		"no update is lost":          concurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			test(t, open(t))
		})
	}
}

const table = "documents"

func put(t *testing.T, s records.Service, table, key string, version uint64, value string) uint64 {
	t.Helper()
	now, swapped, err := s.Swap(t.Context(), table, key, version, []byte(value))
	if err != nil || !swapped || now == 0 {
		t.Fatalf("Swap(%s, %d) = %d, %v, %v", key, version, now, swapped, err)
	}
	return now
}

func get(t *testing.T, s records.Service) {
	v := put(t, s, table, "b", 0, "two")
	rows, err := s.Get(t.Context(), table, "c", "b", "b")
	if err != nil || len(rows) != 3 {
		t.Fatalf("Get: %v, %v", rows, err)
	}
	if rows[0].GetVersion() != 0 || rows[0].GetKey() != "c" {
		t.Errorf("absent row: %v", rows[0])
	}
	if rows[1].GetVersion() != v || string(rows[2].GetValue()) != "two" {
		t.Errorf("present row: %v", rows[1])
	}
	if rows, err := s.Get(t.Context(), table); err != nil || len(rows) != 0 {
		t.Errorf("Get of no keys: %v, %v", rows, err)
	}
}

func swap(t *testing.T, s records.Service) {
	v1 := put(t, s, table, "k", 0, "one")
	if now, swapped, err := s.Swap(t.Context(), table, "k", 0, []byte("x")); err != nil || swapped || now != v1 {
		t.Errorf("creating what exists: %d, %v, %v", now, swapped, err)
	}
	v2 := put(t, s, table, "k", v1, "two")
	if _, swapped, err := s.Swap(t.Context(), table, "k", v1, []byte("x")); err != nil || swapped {
		t.Errorf("swap on an old version: %v, %v", swapped, err)
	}
	if deleted, err := s.Delete(t.Context(), table, "k", v1); err != nil || deleted {
		t.Errorf("delete on an old version: %v, %v", deleted, err)
	}
	if deleted, err := s.Delete(t.Context(), table, "k", v2); err != nil || !deleted {
		t.Errorf("delete: %v, %v", deleted, err)
	}
	if _, swapped, err := s.Swap(t.Context(), table, "k", v2, []byte("x")); err != nil || swapped {
		t.Errorf("swap of a deleted row: %v, %v", swapped, err)
	}
}

func rising(t *testing.T, s records.Service) {
	last := uint64(0)
	for range 5 {
		v := put(t, s, table, "k", 0, "x")
		if v <= last {
			t.Fatalf("version %d after %d", v, last)
		}
		last = v
		if _, err := s.Delete(t.Context(), table, "k", v); err != nil {
			t.Fatal(err)
		}
	}
}

func scan(t *testing.T, s records.Service) {
	for _, key := range []string{"a/1", "b/3", "b/1", "b/2", "b0", "c/1", "b/é"} {
		put(t, s, table, key, 0, key)
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          string
		more          bool
	}{
		{"b/", "", 0, "b/1 b/2 b/3 b/é", false},
		{"b/", "", 2, "b/1 b/2", true},
		{"b/", "b/2", 2, "b/3 b/é", false},
		{"", "b/3", 2, "b/é b0", true},
		{"x", "", 10, "", false},
		{"b/", "c", 10, "", false},
	} {
		rows, more, err := s.Scan(t.Context(), table, c.prefix, c.after, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.GetKey())
			if string(r.GetValue()) != r.GetKey() || r.GetVersion() == 0 {
				t.Errorf("row %v", r)
			}
		}
		if strings.Join(got, " ") != c.want || more != c.more {
			t.Errorf("Scan(%q, %q, %d) = %q, %v; want %q, %v", c.prefix, c.after, c.limit, got, more, c.want, c.more)
		}
	}
}

func large(t *testing.T, s records.Service) {
	value := strings.Repeat("x", records.MaxValue)
	for i := range 6 {
		put(t, s, table, fmt.Sprint(i), 0, value)
	}
	seen, after := 0, ""
	for {
		rows, more, err := s.Scan(t.Context(), table, "", after, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if !bytes.Equal(r.GetValue(), []byte(value)) {
				t.Errorf("value of %s has %d bytes", r.GetKey(), len(r.GetValue()))
			}
			seen, after = seen+1, r.GetKey()
		}
		if !more {
			break
		}
	}
	if seen != 6 {
		t.Errorf("%d of 6 large rows seen", seen)
	}
}

func tables(t *testing.T, s records.Service) {
	put(t, s, "one", "k", 0, "1")
	put(t, s, "one_more", "k", 0, "2")
	rows, _, err := s.Scan(t.Context(), "one", "", "", 0)
	if err != nil || len(rows) != 1 || string(rows[0].GetValue()) != "1" {
		t.Errorf("scan of one table: %v, %v", rows, err)
	}
}

func invalid(t *testing.T, s records.Service) {
	long := strings.Repeat("k", records.MaxKey+1)
	for name, do := range map[string]func() error{
		"table": func() error { _, err := s.Get(t.Context(), "No Table", "k"); return err },
		"empty key": func() error {
			_, _, err := s.Swap(t.Context(), table, "", 0, nil)
			return err
		},
		"key that is not UTF-8": func() error { _, err := s.Get(t.Context(), table, "\xff"); return err },
		"long key":              func() error { _, err := s.Delete(t.Context(), table, long, 1); return err },
		"large value": func() error {
			_, _, err := s.Swap(t.Context(), table, "k", 0, make([]byte, records.MaxValue+1))
			return err
		},
		"scan of no table": func() error { _, _, err := s.Scan(t.Context(), "", "", "", 0); return err },
	} {
		if err := do(); !errors.Is(err, records.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", name, err)
		}
	}
}

func concurrent(t *testing.T, s records.Service) {
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				for swapped := false; !swapped; {
					rows, err := s.Get(t.Context(), table, "counter")
					if err != nil {
						t.Errorf("Get: %v", err)
						return
					}
					next := append(rows[0].GetValue(), 'x')
					if _, swapped, err = s.Swap(t.Context(), table, "counter", rows[0].GetVersion(), next); err != nil {
						t.Errorf("Swap: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	rows, err := s.Get(t.Context(), table, "counter")
	if err != nil || len(rows[0].GetValue()) != writers*each {
		t.Errorf("%d increments kept of %d, %v", len(rows[0].GetValue()), writers*each, err)
	}
}
