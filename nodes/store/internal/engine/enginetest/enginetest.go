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
		"scan":                          scan,
		"values are copies":             copies,
		"no update is lost":             concurrent,
		"commits that share keys":       crossing,
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
	expect(t, e, "t", "k", "", 0)
	commit(t, e, engine.Remove("t", "k"))
	expect(t, e, "t", "k", "", 0)
	v := commit(t, e, engine.Put("t", "k", nil))
	expect(t, e, "t", "k", "", v)
	expect(t, e, "t2", "k", "", 0)
	expect(t, e, "t", "", "", 0)
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
		last = v
		commit(t, e, engine.Remove("t", "k"))
	}
}

func batch(t *testing.T, e engine.Engine) {
	v := commit(t, e, engine.Swap("t", "a", 0, []byte("1")), engine.Put("u", "b", []byte("2")), engine.Remove("u", "c"))
	expect(t, e, "t", "a", "1", v)
	expect(t, e, "u", "b", "2", v)
	refused(t, e, v, engine.Swap("t", "new", 0, []byte("x")), engine.RemoveIf("u", "b", v), engine.Swap("t", "a", 0, []byte("x")))
	expect(t, e, "t", "new", "", 0)
	expect(t, e, "u", "b", "2", v)
}

func scan(t *testing.T, e engine.Engine) {
	keys := []string{"a", "b", "b\x00", "b\x00c", "b\xff", "c", "\xff\xff"}
	for _, table := range []string{"t", "t2", "s"} {
		for _, key := range keys {
			commit(t, e, engine.Put(table, key, []byte(table+key)))
		}
	}
	for _, c := range []struct {
		r     engine.Range
		limit int
		want  []string
		more  bool
	}{
		{engine.Range{}, 100, keys, false},
		{engine.Range{}, 7, keys, false},
		{engine.Range{}, 6, keys[:6], true},
		{engine.Range{From: "b"}, 2, keys[1:3], true},
		{engine.Range{From: "b", To: "c"}, 100, keys[1:5], false},
		{engine.Prefix("b\x00"), 100, keys[2:4], false},
		{engine.Prefix("\xff"), 100, keys[6:], false},
		{engine.Range{From: "x", To: "y"}, 100, nil, false},
		{engine.Range{From: "c", To: "a"}, 100, nil, false},
		{engine.Range{}, 0, nil, true},
	} {
		rows, more, err := e.Scan(t.Context(), "t", c.r, c.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, row := range rows {
			got = append(got, row.Key)
			if string(row.Value) != "t"+row.Key || row.Version == 0 {
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
	v := commit(t, e, engine.Put("t", "k", value))
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
	const writers, each = 8, 50
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
	const keys, writers, each = 4, 6, 40
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
				if _, _, err := e.Commit(t.Context(), engine.Put("t", a, value), engine.Put("t", b, value)); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wg.Wait()
	byVersion := map[uint64]string{}
	for i := range keys {
		row := get(t, e, "t", key(i))
		if other, ok := byVersion[row.Version]; ok && other != string(row.Value) {
			t.Errorf("version %d has values %q and %q", row.Version, other, row.Value)
		}
		byVersion[row.Version] = string(row.Value)
	}
}

func cancelled(t *testing.T, e engine.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Get(ctx, "t", "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := e.Commit(ctx, engine.Put("t", "k", nil)); !errors.Is(err, context.Canceled) {
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
	if _, _, err := e.Commit(t.Context(), engine.Put("t", "k", nil)); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Commit: %v", err)
	}
	if _, _, err := e.Scan(t.Context(), "t", engine.Range{}, 1); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Scan: %v", err)
	}
}
