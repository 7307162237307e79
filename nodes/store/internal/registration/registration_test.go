package registration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations/registrationstest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/metered"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/registration"
)

var quiet = slog.New(slog.DiscardHandler) //nolint:gochecknoglobals // says nothing

type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time          { return time.UnixMilli(1_800_000_000_000 + c.offset.Load()) }
func (c *clock) Advance(d time.Duration) { c.offset.Add(d.Milliseconds()) }

func newService(e engine.Engine, now func() time.Time, lapse func(context.Context, string) error) *registration.Service {
	return registration.New(registration.Config{Writer: "store-1", Now: now, Log: quiet, Lapse: lapse}, e, prometheus.NewRegistry())
}

func TestConformsOnMemory(t *testing.T) {
	registrationstest.Run(t, func(*testing.T) registrationstest.Subject {
		c := &clock{}
		return registrationstest.Subject{Service: newService(memory.New(), c.Now, nil), Now: c.Now, Advance: c.Advance}
	})
}

func openEmbedded(t testing.TB) engine.Engine {
	t.Helper()
	e, err := embedded.Open(embedded.Config{Dir: t.TempDir(), Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func TestConformsOnEmbedded(t *testing.T) {
	registrationstest.Run(t, func(t *testing.T) registrationstest.Subject {
		t.Helper()
		c := &clock{}
		return registrationstest.Subject{Service: newService(openEmbedded(t), c.Now, nil), Now: c.Now, Advance: c.Advance}
	})
}

func bind(aor, id string, life time.Duration) *registrations.ApplyRequest {
	return &registrations.ApplyRequest{Aor: aor, Impi: "i", Bindings: []*registrations.Binding{
		{Id: id, Impi: "i", Uri: "sip:x@127.0.0.1", ExpiresAt: time.Now().Add(life).UnixMilli()},
	}}
}

func apply(t *testing.T, s registrations.Service, req *registrations.ApplyRequest) *registrations.ApplyResponse {
	t.Helper()
	resp, err := s.Apply(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// router is one that works off what it is shown, as long as it is up.
type router struct {
	t       *testing.T
	service registrations.Service
	up      atomic.Bool

	mu   sync.Mutex
	seen []string // "aor seconds since the start"
	done []string // "aor reason"
	from time.Time
}

func (r *router) lapse(ctx context.Context, aor string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s %.0f", aor, time.Since(r.from).Seconds()))
	if !r.up.Load() {
		return errors.New("connection refused")
	}
	resp, err := r.service.Apply(ctx, &registrations.ApplyRequest{Aor: aor})
	if err != nil {
		return err
	}
	for _, e := range resp.GetRecord().GetOwed() {
		r.done = append(r.done, aor+" "+e.GetReason())
		if err := r.service.Settle(ctx, aor, e.GetId()); err != nil {
			return err
		}
	}
	return nil
}

func (r *router) list(of *[]string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(*of)
}

// drive runs a service in fake time with a router, and test beside it.
func drive(t *testing.T, test func(t *testing.T, s *registration.Service, r *router, e engine.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e, r := memory.New(), &router{t: t, from: time.Now()}
		r.up.Store(true)
		s := newService(e, nil, r.lapse)
		r.service = s
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		test(t, s, r, e)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func left(t *testing.T, e engine.Engine) (n int) {
	t.Helper()
	for _, table := range []string{"_registrations", "_registrations_due"} {
		rows, _, err := e.Scan(t.Context(), table, engine.Range{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		n += len(rows)
	}
	return n
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestLapseIsWorkedOff(t *testing.T) {
	drive(t, func(t *testing.T, s *registration.Service, r *router, e engine.Engine) {
		apply(t, s, bind("a", "1", 10*time.Second))
		apply(t, s, bind("a", "2", 20*time.Second))
		apply(t, s, bind("b", "1", 15*time.Second))
		after(12 * time.Second)
		apply(t, s, bind("b", "1", 60*time.Second)) // refreshed in time: must not be shown at 15
		if got := r.list(&r.seen); got != "[a 10]" {
			t.Errorf("after 12 s the router had seen %s", got)
		}
		after(13 * time.Second)
		if seen, done := r.list(&r.seen), r.list(&r.done); seen != "[a 10 a 20]" || done != "[a dereg-timeout]" {
			t.Errorf("after 25 s the router had seen %s and done %s", seen, done)
		}
		after(60 * time.Second)
		if done := r.list(&r.done); done != "[a dereg-timeout b dereg-timeout]" {
			t.Errorf("after 85 s the router had done %s", done)
		}
		if n := left(t, e); n != 0 {
			t.Errorf("%d rows are left of nothing", n)
		}
	})
}

func TestReminderWithoutRouter(t *testing.T) {
	drive(t, func(t *testing.T, s *registration.Service, r *router, _ engine.Engine) {
		r.up.Store(false)
		apply(t, s, bind("a", "1", 10*time.Second))
		after(85 * time.Second)
		if got := r.list(&r.seen); got != "[a 10 a 12 a 16 a 24 a 40 a 70]" {
			t.Errorf("reminders at %s", got)
		}
		r.up.Store(true)
		after(30 * time.Second)
		if got := r.list(&r.done); got != "[a dereg-timeout]" {
			t.Errorf("done %s", got)
		}
	})
}

func TestEarlierExpiryIsSeen(t *testing.T) {
	drive(t, func(t *testing.T, s *registration.Service, r *router, _ engine.Engine) {
		apply(t, s, bind("a", "1", time.Hour))
		apply(t, s, bind("a", "1", 5*time.Second))
		after(6 * time.Second)
		if got := r.list(&r.seen); got != "[a 5]" {
			t.Errorf("seen %s", got)
		}
	})
}

func TestOwedEffectIsRemembered(t *testing.T) {
	drive(t, func(t *testing.T, s *registration.Service, r *router, _ engine.Engine) {
		apply(t, s, bind("a", "1", time.Hour))
		apply(t, s, &registrations.ApplyRequest{Aor: "a", Impi: "i", RemoveAll: true}) // and the router dies before it told the HSS
		after(time.Second)
		if got := r.list(&r.seen); got != "[]" {
			t.Errorf("reminded at once: %s", got)
		}
		after(2 * time.Second)
		if got := r.list(&r.done); got != "[a dereg-user]" {
			t.Errorf("done %s", got)
		}
	})
}

func TestUsedNonceIsForgotten(t *testing.T) {
	drive(t, func(t *testing.T, s *registration.Service, r *router, e engine.Engine) {
		apply(t, s, &registrations.ApplyRequest{Aor: "a", Nonce: &registrations.NonceUse{Id: []byte("n"), Nc: 1, ExpiresAt: time.Now().Add(30 * time.Second).UnixMilli()}})
		after(35 * time.Second)
		if n := left(t, e); n != 2 {
			t.Errorf("%d rows, want the record and its hint", n)
		}
		after(10 * time.Second)
		if n := left(t, e); n != 0 {
			t.Errorf("%d rows are left", n)
		}
		if got := r.list(&r.seen); got != "[]" {
			t.Errorf("the router was bothered: %s", got)
		}
	})
}

// TestNoLapseIsMissed does random registrations for a while and then expects every set to have been worked off, and
// nothing to be left.
func TestNoLapseIsMissed(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) [4]int {
			return [4]int{rapid.IntRange(0, 2).Draw(rt, "set"), rapid.IntRange(0, 2).Draw(rt, "binding"),
				rapid.IntRange(0, 20).Draw(rt, "life"), rapid.IntRange(0, 9).Draw(rt, "wait")}
		}), 1, 30).Draw(rt, "steps")
		down := rapid.Bool().Draw(rt, "router down meanwhile")
		drive(t, func(t *testing.T, s *registration.Service, r *router, e engine.Engine) {
			r.up.Store(!down)
			for _, step := range steps {
				apply(t, s, bind(fmt.Sprint(step[0]), fmt.Sprint(step[1]), time.Duration(step[2])*time.Second))
				after(time.Duration(step[3]) * time.Second)
			}
			r.up.Store(true)
			after(2 * time.Minute)
			if n := left(t, e); n != 0 {
				rt.Errorf("%d rows are left; the router had seen %s", n, r.list(&r.seen))
			}
		})
	})
}

func TestOneSwapEach(t *testing.T) {
	reg := prometheus.NewRegistry()
	e := metered.New(memory.New(), reg)
	s := newService(e, nil, nil)
	for n := range 3 {
		apply(t, s, bind("a", "1", time.Duration(n+1)*time.Hour))
		if got := swaps(t, reg); got != float64(n+1) {
			t.Errorf("%v swaps after %d registrations", got, n+1)
		}
	}
	apply(t, s, &registrations.ApplyRequest{Aor: "a"})
	if _, err := s.Get(t.Context(), "a"); err != nil || swaps(t, reg) != 3 {
		t.Errorf("reading costs swaps: %v, %v", swaps(t, reg), err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func swaps(t *testing.T, reg *prometheus.Registry) (n float64) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ims_store_swaps_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func BenchmarkApply(b *testing.B) {
	s := newService(openEmbedded(b), nil, nil)
	var n atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		aor := fmt.Sprint("sip:user", n.Add(1), "@example.com")
		for i := 0; pb.Next(); i++ {
			req := bind(aor, "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>:1", time.Hour)
			req.Bindings[0].Path = []string{"<sip:tokentokentokentoken@edge-1.site1.example.com:5058;lr;ob>"}
			req.Associated = []string{aor, "tel:+15550100"}
			req.Nonce = &registrations.NonceUse{Id: fmt.Append(nil, i), Nc: 1, ExpiresAt: time.Now().Add(10*time.Millisecond - 10*time.Second).UnixMilli()}
			if _, err := s.Apply(b.Context(), req); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestUnknownFieldsOfNewerRecordsSurvive changes a record that a newer version has written with a field of its own.
func TestUnknownFieldsOfNewerRecordsSurvive(t *testing.T) {
	e := memory.New()
	s := newService(e, time.Now, nil)
	apply(t, s, bind("sip:a@example.com", "one", time.Hour))
	row, err := e.Get(t.Context(), "_registrations", "sip:a@example.com")
	if err != nil {
		t.Fatal(err)
	}
	newer := append(row.Value, 0xa2, 0x06, 0x03, 'n', 'e', 'w') // field 100, text "new"
	if _, done, err := e.Commit(t.Context(), engine.Swap("_registrations", "sip:a@example.com", row.Version, newer)); err != nil || !done {
		t.Fatal(done, err)
	}
	apply(t, s, bind("sip:a@example.com", "two", time.Hour))
	apply(t, s, &registrations.ApplyRequest{Aor: "sip:a@example.com", Impi: "i", Remove: []string{"one"}})
	if row, err = e.Get(t.Context(), "_registrations", "sip:a@example.com"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(row.Value), "\xa2\x06\x03new") || !strings.Contains(string(row.Value), "two") {
		t.Errorf("the record is %q", row.Value)
	}
}
