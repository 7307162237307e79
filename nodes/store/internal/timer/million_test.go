//go:build soak

package timer

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
)

// TestMillionTimers holds a million timers on the embedded engine, sets and pops others meanwhile, and tells memory and
// how late the pops are. It fails above 1.5 GiB.
//
//	go test -tags soak -run TestMillionTimers -v ./nodes/store/internal/timer
func TestMillionTimers(t *testing.T) {
	const held = 1_000_000
	e, err := embedded.Open(embedded.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	var mu sync.Mutex
	var late []time.Duration
	pop := func(_ context.Context, _ string, opaque []byte, _ uint32) error {
		at, err := strconv.ParseInt(string(opaque), 10, 64)
		mu.Lock()
		defer mu.Unlock()
		late = append(late, time.Since(time.UnixMilli(at)))
		return err
	}
	s := New(e, due.All{}, pop, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	set := func(n int, interval uint32, opaque string) {
		timer := &Timer{Id: fmt.Sprintf("%016x", n), Replicas: 2, Interval: interval, RepeatFor: interval, Uri: "http://router.example.com:9888/timers",
			Opaque: []byte(opaque), Tags: []*Tag{{Type: "REG", Count: 1}}}
		if err := s.Set(ctx, timer); err != nil {
			t.Error(err)
		}
	}
	parallel := func(n, writers int, each func(i int)) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					each(i)
				}
			})
		}
		wg.Wait()
	}
	body := strings.Repeat("x", 60) // {"aor_id":"sip:6505550123@example.com"} and the like
	began := time.Now()
	parallel(held, 512, func(i int) { set(i, 86400, body) })
	filled := time.Since(began)
	runtime.GC()
	rss := resident(t)
	const load = 20_000
	parallel(load, 64, func(i int) { set(held+i, 1, strconv.FormatInt(time.Now().Add(time.Second).UnixMilli(), 10)) })
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		mu.Lock()
		n := len(late)
		mu.Unlock()
		if n >= load {
			break
		}
	}
	mu.Lock()
	slices.Sort(late)
	if len(late) < load {
		t.Errorf("%d of %d timers popped", len(late), load)
	}
	at := func(q float64) float64 { return float64(late[int(q*float64(len(late)-1))].Microseconds()) / 1000 }
	t.Logf("figures: %d timers: set at %.0f/s, %.0f MiB resident; %d more set and popped beside them: late by %.1f ms (median), %.1f ms (99 %%), %.1f ms (worst)",
		held, held/filled.Seconds(), float64(rss)/(1<<20), load, at(0.5), at(0.99), at(1))
	mu.Unlock()
	if rss > 1536<<20 {
		t.Errorf("%d MiB resident, allowed are 1536", rss>>20)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// resident is the memory of this process in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
