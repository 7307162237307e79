package enginetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Crash writes to e from several goroutines, calls crash when each has done some, in the middle of others, and
// checks on the engine that crash returns (what a new process would find) that every commit acknowledged before is
// there, whole, and that versions go on above. Each commit is a pair of rows in two tables.
func Crash(t *testing.T, e engine.Engine, crash func() engine.Engine) {
	t.Helper()
	const writers = 8
	var (
		wg           sync.WaitGroup
		acknowledged [writers]atomic.Int64 // commits of the writer
		highest      [writers]atomic.Uint64
		warm         atomic.Int64
		enough       = make(chan struct{})
		stop         atomic.Bool
	)
	for w := range writers {
		wg.Go(func() {
			last := uint64(0)
			for i := int64(1); !stop.Load(); i++ {
				value, key := []byte(fmt.Sprint(i)), fmt.Sprint("w", w)
				v, done, err := e.Commit(t.Context(), engine.Swap("a", key, last, value), engine.Put("b_due", key, value))
				if err != nil || !done {
					t.Errorf("Commit: %v, %v", done, err)
					return
				}
				last = v
				acknowledged[w].Store(i)
				highest[w].Store(v)
				if i == 20 && warm.Add(1) == writers {
					close(enough)
				}
			}
		})
	}
	<-enough
	var sure [writers]int64
	var versions [writers]uint64
	for w := range writers {
		versions[w], sure[w] = highest[w].Load(), acknowledged[w].Load()
	}
	after := crash()
	stop.Store(true)
	wg.Wait()
	for w := range writers {
		key := fmt.Sprint("w", w)
		a, b := get(t, after, "a", key), get(t, after, "b_due", key)
		var n int64
		if _, err := fmt.Sscan(string(a.Value), &n); err != nil || n < sure[w] {
			t.Errorf("writer %d: commit %d acknowledged, %q found after the crash", w, sure[w], a.Value)
		}
		if string(a.Value) != string(b.Value) || a.Version != b.Version {
			t.Errorf("writer %d: half a commit survived: %v and %v", w, a, b)
		}
		if v := commit(t, after, engine.Swap("a", key, a.Version, []byte("0"))); v <= versions[w] || v <= a.Version {
			t.Errorf("version %d given after %d", v, max(versions[w], a.Version))
		}
	}
	if err := after.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
