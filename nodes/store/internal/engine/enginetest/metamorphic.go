package enginetest

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Equal does the same random operations on two engines and demands the same results, down to the order of
// versions. reopen, if not nil, closes and opens b again.
func Equal(t *testing.T, open func() (a, b engine.Engine), reopen func(b engine.Engine) engine.Engine) {
	t.Helper()
	rapid.Check(t, func(rt *rapid.T) {
		a, b := open()
		p := &pair{a: a, b: b, toB: map[uint64]uint64{0: 0}, toA: map[uint64]uint64{0: 0}}
		actions := map[string]func(*rapid.T){"commit": p.commit, "get": p.get, "scan": p.scan}
		if reopen != nil {
			actions["reopen"] = func(*rapid.T) { p.b = reopen(p.b) }
		}
		rt.Repeat(actions)
		if err := p.a.Close(); err != nil {
			rt.Fatal(err)
		}
		if err := p.b.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// pair is two engines and which versions of one are which of the other.
type pair struct {
	a, b     engine.Engine
	toB, toA map[uint64]uint64
	versions []uint64 // of a
	last     uint64   // version of b
}

// write draws one write of a commit, of which at most the first has a condition.
func (p *pair) write(t *rapid.T, used map[string]bool) (a, b engine.Write, ok bool) {
	w := engine.Write{Table: hintTable, Key: key(t), Delete: rapid.IntRange(0, 3).Draw(t, "delete") == 0}
	if len(used) == 0 {
		w.Table = table(t)
		w.If = !engine.Hints(w.Table) || (w.Delete && rapid.Bool().Draw(t, "if"))
	}
	if used[w.Table+" "+w.Key] {
		return a, b, false
	}
	used[w.Table+" "+w.Key] = true
	if !w.Delete {
		w.Value = []byte(rapid.StringN(0, 5, 20).Draw(t, "value"))
	}
	a, b = w, w
	if w.If {
		switch rapid.IntRange(0, 3).Draw(t, "version") {
		case 0:
		case 1:
			if n := len(p.versions); n > 0 {
				a.Version = p.versions[rapid.IntRange(0, n-1).Draw(t, "any")]
			}
		default: // the right one
			row, err := p.a.Get(t.Context(), w.Table, w.Key)
			if err != nil {
				t.Fatal(err)
			}
			a.Version = row.Version
		}
		b.Version = p.toB[a.Version]
	}
	return a, b, true
}

const hintTable = "t_due"

func table(t *rapid.T) string {
	return rapid.SampledFrom([]string{"t", "tt", hintTable}).Draw(t, "table")
}

func key(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "b\x00", "b/", "b/1", "b/2", "ba", "c", "\xff"}).Draw(t, "key")
}

func (p *pair) commit(t *rapid.T) {
	var as, bs []engine.Write
	used := map[string]bool{}
	for range rapid.IntRange(1, 3).Draw(t, "writes") {
		if a, b, ok := p.write(t, used); ok {
			as, bs = append(as, a), append(bs, b)
		}
	}
	if len(as) > 1 && as[0].If {
		row, err := p.a.Get(t.Context(), as[0].Table, as[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		if row.Version != as[0].Version { // what becomes of the others then is each engine's own affair
			as, bs = as[:1], bs[:1]
		}
	}
	va, da, ea := p.a.Commit(t.Context(), as...)
	vb, db, eb := p.b.Commit(t.Context(), bs...)
	if ea != nil || eb != nil || da != db {
		t.Fatalf("Commit(%v): %v, %v and %v, %v", as, da, ea, db, eb)
	}
	if !da {
		if p.toB[va] != vb {
			t.Fatalf("Commit(%v) refused at versions %d and %d (should be %d)", as, va, vb, p.toB[va])
		}
		return
	}
	if vb <= p.last {
		t.Fatalf("version %d after %d", vb, p.last)
	}
	p.last = vb
	p.versions, p.toB[va], p.toA[vb] = append(p.versions, va), vb, va
}

func (p *pair) get(t *rapid.T) {
	name, key := table(t), key(t)
	a, ea := p.a.Get(t.Context(), name, key)
	b, eb := p.b.Get(t.Context(), name, key)
	p.same(t, []engine.Row{a}, []engine.Row{b}, ea, eb)
}

func (p *pair) scan(t *rapid.T) {
	r := engine.Range{From: key(t), To: key(t)}
	if rapid.Bool().Draw(t, "open") {
		r = engine.Range{}
	}
	limit := rapid.IntRange(0, 8).Draw(t, "limit")
	name := table(t)
	as, ma, ea := p.a.Scan(t.Context(), name, r, limit)
	bs, mb, eb := p.b.Scan(t.Context(), name, r, limit)
	if ma != mb {
		t.Fatalf("Scan(%s, %q, %d): more %v and %v", name, r, limit, ma, mb)
	}
	p.same(t, as, bs, ea, eb)
}

func (p *pair) same(t *rapid.T, as, bs []engine.Row, ea, eb error) {
	if ea != nil || eb != nil {
		t.Fatalf("errors %v and %v", ea, eb)
	}
	translated := make([]engine.Row, len(bs))
	for i, row := range bs {
		row.Version = p.toA[row.Version]
		translated[i] = row
	}
	if describe(as) != describe(translated) {
		t.Fatalf("rows %s and %s", describe(as), describe(translated))
	}
}

func describe(rows []engine.Row) string {
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%q=%q@%d ", row.Key, row.Value, row.Version)
	}
	return b.String()
}
