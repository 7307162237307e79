package due_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

const table = "_due"

// work runs an index in fake time and records what it hands out.
type work struct {
	*due.Index
	engine engine.Engine

	mu    sync.Mutex
	begun map[string][]string // id -> seconds since the start
	from  time.Time
}

func inFakeTime(t *testing.T, handle func(w *work, ctx context.Context, h due.Hint) error, test func(t *testing.T, w *work)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := memory.New()
		w := &work{Index: due.New(e, table, due.All{}, slog.New(slog.DiscardHandler)), engine: e, begun: map[string][]string{}, from: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- w.Run(ctx, func(ctx context.Context, h due.Hint) error {
				w.mu.Lock()
				w.begun[h.ID] = append(w.begun[h.ID], fmt.Sprintf("%.1f", time.Since(w.from).Seconds()))
				w.mu.Unlock()
				return handle(w, ctx, h)
			})
		}()
		synctest.Wait()
		test(t, w)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func (w *work) put(t *testing.T, at time.Duration, id string) {
	t.Helper()
	when := w.from.Add(at)
	if _, _, err := w.engine.Commit(t.Context(), w.Put(when, id, nil)); err != nil {
		t.Fatal(err)
	}
	w.Written(when, id)
}

func (w *work) times(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.begun[id])
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func done(w *work, ctx context.Context, h due.Hint) error { return w.Done(ctx, h) }

func TestInTime(t *testing.T) {
	inFakeTime(t, done, func(t *testing.T, w *work) {
		w.put(t, 10*time.Second, "a")
		w.put(t, 1500*time.Millisecond, "a") // earlier than what the shard sleeps for
		w.put(t, -time.Second, "b")
		after(time.Minute)
		if a, b := w.times("a"), w.times("b"); a != "[1.5 10.0]" || b != "[0.0]" {
			t.Errorf("a at %s, b at %s", a, b)
		}
	})
}

func TestFailedWorkComesAgain(t *testing.T) {
	failures := 3
	inFakeTime(t, func(w *work, ctx context.Context, h due.Hint) error {
		if failures--; failures >= 0 {
			return errors.New("the engine is away")
		}
		return w.Done(ctx, h)
	}, func(t *testing.T, w *work) {
		w.put(t, time.Second, "a")
		after(time.Minute)
		if got := w.times("a"); got != "[1.0 2.0 3.0 4.0]" {
			t.Errorf("at %s", got)
		}
	})
}

// TestSlowWorkHoldsNothingUp has more slow work in one index than its shards take at once, and none is lost or doubled.
func TestSlowWorkHoldsNothingUp(t *testing.T) {
	const n = 3000
	inFakeTime(t, func(w *work, ctx context.Context, h due.Hint) error {
		<-time.After(2 * time.Second)
		return w.Done(ctx, h)
	}, func(t *testing.T, w *work) {
		for i := range n {
			w.put(t, time.Second, fmt.Sprint(i))
		}
		after(time.Minute)
		var wrong []string
		for i := range n {
			if id := fmt.Sprint(i); len(w.begun[id]) != 1 {
				wrong = append(wrong, id+w.times(id))
			}
		}
		if len(wrong) > 0 {
			slices.Sort(wrong)
			t.Errorf("%d of %d not done once: %v", len(wrong), n, wrong[:min(5, len(wrong))])
		}
	})
}

func TestHintWrittenAgainStays(t *testing.T) {
	first := true
	inFakeTime(t, func(w *work, ctx context.Context, h due.Hint) error {
		if first { // somebody needs the same hint while it is being worked on
			first = false
			if _, _, err := w.engine.Commit(ctx, w.Put(h.At, h.ID, nil)); err != nil {
				return err
			}
		}
		return w.Done(ctx, h)
	}, func(t *testing.T, w *work) {
		w.put(t, time.Second, "a")
		after(time.Minute)
		if got := w.times("a"); got != "[1.0 1.0]" {
			t.Errorf("at %s", got)
		}
	})
}

func TestDamagedHintIsPassedOver(t *testing.T) {
	inFakeTime(t, done, func(t *testing.T, w *work) {
		for n := range due.Shards {
			if _, _, err := w.engine.Commit(t.Context(), engine.Put(table, fmt.Sprintf("%02x/nonsense", n), nil)); err != nil {
				t.Fatal(err)
			}
		}
		w.put(t, time.Second, "a")
		after(time.Minute)
		if got := w.times("a"); got != "[1.0]" {
			t.Errorf("at %s", got)
		}
	})
}
