package background_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/router/internal/background"
)

func TestTasksEndWithTheirOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := background.New()
		began, ended := make(chan struct{}), false
		w.Go(time.Hour, func(ctx context.Context) {
			close(began)
			<-ctx.Done()
			time.Sleep(time.Second) // what it has to clean up
			ended = true
		})
		<-began
		if w.Held() != 1 {
			t.Errorf("%d tasks are held", w.Held())
		}
		start := time.Now()
		w.End()
		if !ended || w.Held() != 0 || time.Since(start) != time.Second {
			t.Errorf("ended=%v with %d tasks left after %v", ended, w.Held(), time.Since(start))
		}
		w.Go(time.Hour, func(context.Context) { t.Error("a task begins after the end") })
		synctest.Wait()
	})
}

func TestTasksAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := background.New()
		start, took := time.Now(), make(chan time.Duration, 1)
		w.Go(5*time.Second, func(ctx context.Context) { <-ctx.Done(); took <- time.Since(start) })
		if d := <-took; d != 5*time.Second {
			t.Errorf("it had %v", d)
		}
		w.End()
	})
}
