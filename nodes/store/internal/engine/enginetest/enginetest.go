// Package enginetest is the suite that every engine passes: what engine.Engine promises, a metamorphic test that
// demands equal results of two engines, and a test that crashes an engine while it is written to.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Run tests the engines that open returns; each case gets a fresh one.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, engine.Engine){
		"absent row":                    absent,
		"compare and swap":              compareAndSwap,
		"versions rise over a deletion": versions,
		"commit is all or nothing":      batch,
		"misuse":                        misuse,
		"hints":                         hints,
		"scan of records":               func(t *testing.T, e engine.Engine) { t.Helper(); scan(t, e, "t", "t2", "s") },
		"scan of hints":                 func(t *testing.T, e engine.Engine) { t.Helper(); scan(t, e, "t_due", "t2_due", "s_due") },
		"values are copies":             copies,
		"no update is lost":             concurrent,
		"commits that share keys":       crossing,
		"no record loses its hint":      hinted,
		"ended context":                 cancelled,
		"closed":                        closed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			e := open(t)
			t.Cleanup(func() {
				if err := e.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test(t, e)
		})
	}
}

func commit(t *testing.T, e engine.Engine, writes ...engine.Write) uint64 {
	t.Helper()
	v, done, err := e.Commit(t.Context(), writes...)
	if err != nil || !done {
		t.Fatalf("Commit: %d, %v, %v", v, done, err)
	}
	return v
}

func refused(t *testing.T, e engine.Engine, there uint64, writes ...engine.Write) {
	t.Helper()
	v, done, err := e.Commit(t.Context(), writes...)
	if err != nil || done || v != there {
		t.Fatalf("Commit: version %d, done %v, error %v; want version %d, refused", v, done, err, there)
	}
}

func get(t *testing.T, e engine.Engine, table, key string) engine.Row {
	t.Helper()
	row, err := e.Get(t.Context(), table, key)
	if err != nil || row.Key != key {
		t.Fatalf("Get(%s, %s): %v, %v", table, key, row, err)
	}
	return row
}

func expect(t *testing.T, e engine.Engine, table, key, value string, version uint64) {
	t.Helper()
	if row := get(t, e, table, key); string(row.Value) != value || row.Version != version {
		t.Fatalf("%s of %s: %q at version %d, want %q at %d", key, table, row.Value, row.Version, value, version)
	}
}

func absent(t *testing.T, e engine.Engine) {
	for _, table := range []string{"t", "t_due"} {
		expect(t, e, table, "k", "", 0)
		commit(t, e, engine.RemoveIf(table, "k", 0))
		expect(t, e, table, "k", "", 0)
		expect(t, e, table, "", "", 0)
	}
	v := commit(t, e, engine.Swap("t", "k", 0, nil))
	expect(t, e, "t", "k", "", v)
	refused(t, e, v, engine.RemoveIf("t", "k", 0))
	expect(t, e, "t2", "k", "", 0)
	commit(t, e, engine.Remove("t_due", "k"))
	v = commit(t, e, engine.Put("t_due", "k", nil))
	expect(t, e, "t_due", "k", "", v)
	expect(t, e, "t2_due", "k", "", 0)
}

func compareAndSwap(t *testing.T, e engine.Engine) {
	v1 := commit(t, e, engine.Swap("t", "k", 0, []byte("one")))
	refused(t, e, v1, engine.Swap("t", "k", 0, []byte("x")))
	refused(t, e, v1, engine.Swap("t", "k", v1+1, []byte("x")))
	v2 := commit(t, e, engine.Swap("t", "k", v1, []byte("two")))
	refused(t, e, v2, engine.RemoveIf("t", "k", v1))
	expect(t, e, "t", "k", "two", v2)
	commit(t, e, engine.RemoveIf("t", "k", v2))
	refused(t, e, 0, engine.Swap("t", "k", v2, []byte("x")))
}

func versions(t *testing.T, e engine.Engine) {
	last := uint64(0)
	for range 5 {
		v := commit(t, e, engine.Swap("t", "k", 0, []byte("x")))
		if v <= last {
			t.Fatalf("version %d after %d", v, last)
		}
		if last = commit(t, e, engine.RemoveIf("t", "k", v)); last < v {
			t.Fatalf("version %d of the deletion of %d", last, v)
		}
	}
}

func batch(t *testing.T, e engine.Engine) {
	v := commit(t, e, engine.Swap("t", "a", 0, []byte("1")), engine.Put("u_due", "b", []byte("2")), engine.Remove("u_due", "c"))
	expect(t, e, "t", "a", "1", v)
	expect(t, e, "u_due", "b", "2", v)
	refused(t, e, v, engine.Put("u_due", "d", nil), engine.Swap("t", "a", 0, []byte("x")))
	refused(t, e, v, engine.Put("u_due", "d", nil), engine.RemoveIf("t", "a", v-1))
	expect(t, e, "t", "a", "1", v)
	v = commit(t, e, engine.Swap("t", "a", v, []byte("3")), engine.Put("u_due", "e", nil), engine.Remove("u_due", "b"))
	expect(t, e, "t", "a", "3", v)
	expect(t, e, "u_due", "b", "", 0)
	expect(t, e, "u_due", "e", "", v)
	v = commit(t, e, engine.RemoveIf("t", "a", v), engine.Put("u_due", "b", []byte("4")))
	expect(t, e, "t", "a", "", 0)
	expect(t, e, "u_due", "b", "4", v)
}

// misuse demands that every engine refuses what one cannot do.
func misuse(t *testing.T, e engine.Engine) {
	for _, writes := range [][]engine.Write{
		{engine.Put("t", "k", nil)},
		{engine.Remove("t", "k")},
		{engine.Swap("t", "k", 0, nil), engine.Swap("t", "l", 0, nil)},
		{engine.Swap("t", "k", 0, nil), engine.RemoveIf("u_due", "l", 0)},
		{engine.Swap("t_due", "k", 0, nil)},
		{engine.Put("t_due", "k", nil), engine.Remove("t_due", "k")},
		{engine.Put("t\x00_due", "k", nil)},
	} {
		if _, done, err := e.Commit(t.Context(), writes...); done || !errors.Is(err, engine.ErrMisuse) {
			t.Errorf("Commit(%v): %v, %v", writes, done, err)
		}
	}
	expect(t, e, "t", "k", "", 0)
}

// hints are put over each other and taken back only as they were read.
func hints(t *testing.T, e engine.Engine) {
	v1 := commit(t, e, engine.Put("t_due", "00/k", []byte("one")))
	v2 := commit(t, e, engine.Put("t_due", "00/k", []byte("two")))
	expect(t, e, "t_due", "00/k", "two", v2)
	refused(t, e, v2, engine.RemoveIf("t_due", "00/k", v1))
	refused(t, e, v2, engine.RemoveIf("t_due", "00/k", 0))
	expect(t, e, "t_due", "00/k", "two", v2)
	commit(t, e, engine.RemoveIf("t_due", "00/k", v2))
	expect(t, e, "t_due", "00/k", "", 0)
	refused(t, e, 0, engine.RemoveIf("t_due", "00/k", v2))
	v3 := commit(t, e, engine.Put("t_due", "00/k", []byte("three")), engine.Put("t_due", "00/l", nil), engine.Put("t_due", "01/l", nil))
	if v3 <= v2 {
		t.Errorf("version %d after %d", v3, v2)
	}
	commit(t, e, engine.Put("t_due", "00/m", nil), engine.Remove("t_due", "00/k"))
	rows, more, err := e.Scan(t.Context(), "t_due", engine.Prefix("00/"), 10)
	if err != nil || more || len(rows) != 2 || rows[0].Key != "00/l" || rows[1].Key != "00/m" {
		t.Errorf("%v, %v, %v", rows, more, err)
	}
}

// scan scans the first of the tables.
func scan(t *testing.T, e engine.Engine, tables ...string) {
	keys := []string{"a", "b", "b\x00", "b\x00c", "b/", "b/1", "b/2", "b\xff", "c", "\xff\xff"}
	for _, table := range tables {
		for _, key := range keys {
			w := engine.Swap(table, key, 0, []byte(table+key))
			w.If = !engine.Hints(table)
			commit(t, e, w)
		}
	}
	for _, c := range []struct {
		r     engine.Range
		limit int
		want  []string
		more  bool
	}{
		{engine.Range{}, 100, keys, false},
		{engine.Range{}, 10, keys, false},
		{engine.Range{}, 6, keys[:6], true},
		{engine.Range{From: "b"}, 2, keys[1:3], true},
		{engine.Range{From: "b", To: "c"}, 100, keys[1:8], false},
		{engine.Prefix("b\x00"), 100, keys[2:4], false},
		{engine.Prefix("b/"), 100, keys[4:7], false},
		{engine.Prefix("b/"), 2, keys[4:6], true},
		{engine.Range{From: "b/1", To: "b/2"}, 2, keys[5:6], false},
		{engine.Range{From: "b/1", To: "b0"}, 2, keys[5:7], false},
		{engine.Range{From: "b/1"}, 100, keys[5:], false},
		{engine.Prefix("\xff"), 100, keys[9:], false},
		{engine.Range{From: "x", To: "y"}, 100, nil, false},
		{engine.Range{From: "c", To: "a"}, 100, nil, false},
		{engine.Range{}, 0, nil, true},
	} {
		rows, more, err := e.Scan(t.Context(), tables[0], c.r, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range rows {
			got = append(got, row.Key)
			if string(row.Value) != tables[0]+row.Key || row.Version == 0 {
				t.Errorf("row %v", row)
			}
		}
		if strings.Join(got, "|") != strings.Join(c.want, "|") || more != c.more {
			t.Errorf("Scan(%q, %d) = %q, %v; want %q, %v", c.r, c.limit, got, more, c.want, c.more)
		}
	}
}

func copies(t *testing.T, e engine.Engine) {
	value := []byte("abc")
	v := commit(t, e, engine.Swap("t", "k", 0, value))
	value[0] = 'X'
	get(t, e, "t", "k").Value[1] = 'X'
	rows, _, err := e.Scan(t.Context(), "t", engine.Range{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	rows[0].Value[2] = 'X'
	expect(t, e, "t", "k", "abc", v)
}

func concurrent(t *testing.T, e engine.Engine) {
	const writers, each = 8, 30
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				for done := false; !done; {
					row, err := e.Get(t.Context(), "t", "counter")
					if err == nil {
						_, done, err = e.Commit(t.Context(), engine.Swap("t", "counter", row.Version, append(row.Value, 'x')))
					}
					if err != nil {
						t.Errorf("incrementing: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if got := len(get(t, e, "t", "counter").Value); got != writers*each {
		t.Errorf("%d increments kept of %d", got, writers*each)
	}
}

// crossing commits overlapping sets of keys in every order, which would lock up an engine that locks carelessly, and
// checks that no half of a commit is ever seen to win.
func crossing(t *testing.T, e engine.Engine) {
	const table, keys, writers, each = "t_due", 4, 6, 40
	key := func(i int) string { return fmt.Sprint("k", i%keys) }
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				a, b := key(w+i), key(w+2*i+1)
				if a == b {
					b = key(w + 2*i + 2)
				}
				value := []byte(fmt.Sprint(w, ".", i))
				if _, _, err := e.Commit(t.Context(), engine.Put(table, a, value), engine.Put(table, b, value)); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	byVersion := map[uint64]string{}
	for i := range keys {
		row := get(t, e, table, key(i))
		if other, ok := byVersion[row.Version]; ok && other != string(row.Value) {
			t.Errorf("version %d has values %q and %q", row.Version, other, row.Value)
		}
		byVersion[row.Version] = string(row.Value)
	}
}

// hinted creates records with a hint each, while somebody takes away hints whose record is not there: in the end every
// record must have its hint, though an engine may show the hint first.
func hinted(t *testing.T, e engine.Engine) {
	const writers, each = 4, 25
	written := make(chan struct{})
	var takers, wg sync.WaitGroup
	takers.Go(func() {
		for {
			select {
			case <-written:
				return
			default:
			}
			rows, _, err := e.Scan(t.Context(), "t_due", engine.Prefix("00/"), writers*each)
			if err != nil {
				t.Errorf("Scan: %v", err)
				return
			}
			for _, row := range rows {
				if record, err := e.Get(t.Context(), "t", row.Key); err != nil || record.Version != 0 {
					continue
				}
				if _, _, err := e.Commit(t.Context(), engine.RemoveIf("t_due", row.Key, row.Version)); err != nil {
					t.Errorf("RemoveIf: %v", err)
				}
			}
		}
	})
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprint("00/", w, ".", i)
				if _, done, err := e.Commit(t.Context(), engine.Put("t_due", key, nil), engine.Swap("t", key, 0, nil)); err != nil || !done {
					t.Errorf("Commit: %v, %v", done, err)
				}
			}
		})
	}
	wg.Wait()
	close(written)
	takers.Wait()
	for w := range writers {
		for i := range each {
			if key := fmt.Sprint("00/", w, ".", i); get(t, e, "t_due", key).Version == 0 {
				t.Errorf("record %s has lost its hint", key)
			}
		}
	}
}

func cancelled(t *testing.T, e engine.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Get(ctx, "t", "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := e.Commit(ctx, engine.Swap("t", "k", 0, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := e.Scan(ctx, "t", engine.Range{}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: %v", err)
	}
	expect(t, e, "t", "k", "", 0)
}

func closed(t *testing.T, e engine.Engine) {
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Get(t.Context(), "t", "k"); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := e.Commit(t.Context(), engine.Swap("t", "k", 0, nil)); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := e.Scan(t.Context(), "t", engine.Range{}, 1); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Scan: %v", err)
	}
}
