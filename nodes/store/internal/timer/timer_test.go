package timer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

// bench is a timer service in fake time with the callbacks that it made.
type bench struct {
	*Service
	engine engine.Engine
	reg    *prometheus.Registry
	from   time.Time
	stop   func()

	mu     sync.Mutex
	pops   []string // "opaque#sequence@seconds"
	answer func(opaque string, sequence uint32) error
}

func (b *bench) deliver(ctx context.Context, _ string, opaque []byte, sequence uint32) error {
	b.mu.Lock()
	b.pops = append(b.pops, fmt.Sprintf("%s#%d@%.4g", opaque, sequence, time.Since(b.from).Seconds()))
	answer := b.answer
	b.mu.Unlock()
	if answer == nil {
		return nil
	}
	err := answer(string(opaque), sequence)
	if errors.Is(err, context.DeadlineExceeded) {
		<-ctx.Done()
	}
	return err
}

func (b *bench) answers(f func(opaque string, sequence uint32) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

func (b *bench) popped() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.pops, " ")
}

func (b *bench) start(t *testing.T) {
	t.Helper()
	b.reg = prometheus.NewRegistry()
	b.Service = New(b.engine, due.All{}, b.deliver, slog.New(slog.DiscardHandler), b.reg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func inFakeTime(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{engine: memory.New(), from: time.Now()}
		b.start(t)
		test(t, b)
		b.stop()
	})
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bench) set(t *testing.T, id string, interval, repeat, replicas uint32) {
	t.Helper()
	err := b.Set(t.Context(), &Timer{Id: id, Replicas: replicas, Interval: interval, RepeatFor: repeat, Uri: "http://x/", Opaque: []byte(id)})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) expect(t *testing.T, pops string) {
	t.Helper()
	if got := b.popped(); got != pops {
		t.Errorf("popped %q, want %q", got, pops)
	}
}

func (b *bench) rows(t *testing.T) int {
	t.Helper()
	rows, _, err := b.engine.Scan(t.Context(), table, engine.Range{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return len(rows)
}

func TestPops(t *testing.T) {
	for name, c := range map[string]struct {
		interval, repeat uint32
		want             string
	}{
		"once":                      {10, 10, "t#1@10"},
		"three times":               {10, 30, "t#1@10 t#2@20 t#3@30"},
		"up to the last whole pop":  {10, 29, "t#1@10 t#2@20"},
		"never":                     {10, 9, ""},
		"at once, once":             {0, 0, "t#1@0"},
		"every second for a minute": {30, 60, "t#1@30 t#2@60"},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, b *bench) {
				b.set(t, "t", c.interval, c.repeat, 2)
				after(5 * time.Minute)
				b.expect(t, c.want)
				if n := b.rows(t); n != 0 {
					t.Errorf("%d timers are left", n)
				}
			})
		})
	}
}

func TestFailedPopIsRepeatedPerReplica(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		b.answers(func(string, uint32) error { return errors.New("refused") })
		b.set(t, "t", 10, 100, 3)
		after(2 * time.Minute)
		b.expect(t, "t#1@10 t#1@12.25 t#1@14.5")
		if n := b.rows(t); n != 0 {
			t.Errorf("%d timers are left of one that nobody answers", n)
		}
	})
}

func TestSecondReplicaSavesTheTimer(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		calls := 0
		b.answers(func(string, uint32) error {
			if calls++; calls == 1 {
				return context.DeadlineExceeded // no answer within 2 s
			}
			return nil
		})
		b.set(t, "t", 10, 20, 2)
		after(time.Minute)
		b.expect(t, "t#1@10 t#1@12.25 t#2@20")
	})
}

func TestReplaceAndDelete(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		b.set(t, "t", 10, 10, 2)
		after(5 * time.Second)
		b.set(t, "t", 10, 10, 2)
		b.set(t, "u", 8, 80, 2)
		after(9 * time.Second)
		b.expect(t, "u#1@13")
		if err := b.Delete(t.Context(), "u"); err != nil {
			t.Fatal(err)
		}
		after(time.Minute)
		b.expect(t, "u#1@13 t#1@15")
		if err := b.Delete(t.Context(), "u"); err != nil {
			t.Errorf("deleting again: %v", err)
		}
	})
}

func TestCallbackMaySetItsTimerAnew(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		again := true
		b.answers(func(id string, _ uint32) error {
			if again {
				again = false
				b.set(t, id, 7, 7, 2)
			}
			return nil
		})
		b.set(t, "t", 10, 100, 2)
		after(2 * time.Minute)
		b.expect(t, "t#1@10 t#1@17")
	})
}

func TestRestart(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		b.set(t, "t", 10, 50, 2)
		b.set(t, "u", 100, 100, 2)
		after(15 * time.Second)
		b.stop()
		after(20 * time.Second) // pops 2 and 3 are missed
		b.start(t)
		synctest.Wait()
		b.expect(t, "t#1@10 t#2@35 t#3@35")
		after(2 * time.Minute)
		b.expect(t, "t#1@10 t#2@35 t#3@35 t#4@40 t#5@50 u#1@100")
	})
}

// TestCrashInMidPop starts on what a process leaves that died between sending a pop and hearing the answer: the pop is
// repeated under its number, even if it was the last attempt.
func TestCrashInMidPop(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		b.stop()
		left := &Timer{Id: "t", Replicas: 2, Interval: 10, RepeatFor: 50, Uri: "http://x/", Opaque: []byte("t"),
			StartedAt: b.from.Add(-20 * time.Second).UnixMilli(), Sequence: 2, Attempts: 2, NextAt: b.from.Add(2 * time.Second).UnixMilli()}
		if done, err := b.write(t.Context(), left, 0, b.index.Put(left.next(), "t", nil)); err != nil || !done {
			t.Fatal(done, err)
		}
		b.start(t)
		after(time.Minute)
		b.expect(t, "t#2@2 t#3@10 t#4@20 t#5@30")
	})
}

// TestStopInMidPop ends the service in order while a callback is under way: the answer is waited for.
func TestStopInMidPop(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		b.answers(func(string, uint32) error { return context.DeadlineExceeded })
		b.set(t, "t", 10, 20, 2)
		after(11 * time.Second)
		b.answers(nil)
		b.stop()
		b.start(t)
		after(time.Minute)
		b.expect(t, "t#1@10 t#1@12.25 t#2@20")
	})
}

// TestEveryPopOnce sets, replaces and deletes random timers, restarts at random, and expects every timer that was left
// alone to pop at its times, once for each interval.
func TestEveryPopOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 1, 25).Draw(rt, "steps")
		inFakeTime(t, func(t *testing.T, b *bench) {
			for i, step := range steps {
				switch {
				case step < 6:
					b.set(t, fmt.Sprint("t", i), uint32(step+1), uint32(3*(step+1)), 2)
				case step == 6:
					b.stop()
					b.start(t)
				default:
					after(time.Duration(step) * time.Second)
				}
			}
			after(time.Minute)
			for i, step := range steps {
				if step >= 6 {
					continue
				}
				for n := 1; n <= 3; n++ {
					if got := strings.Count(b.popped(), fmt.Sprintf("t%d#%d@", i, n)); got != 1 {
						rt.Errorf("pop %d of timer %d happened %d times: %s", n, i, got, b.popped())
					}
				}
			}
		})
	})
}

func TestStatistics(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		tagged := func(id string, count uint32) *Timer {
			return &Timer{Id: id, Replicas: 1, Interval: 60, RepeatFor: 60, Uri: "http://x/", Tags: []*Tag{{Type: "REG", Count: count}, {Type: "BIND", Count: 1}}}
		}
		for id, count := range map[string]uint32{"a": 1, "b": 2} {
			if err := b.Set(t.Context(), tagged(id, count)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Set(t.Context(), tagged("a", 5)); err != nil {
			t.Fatal(err)
		}
		b.gauges(t, "7 2 2")
		b.stop()
		b.start(t)
		synctest.Wait()
		b.gauges(t, "7 2 2")
		if err := b.Delete(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		b.gauges(t, "5 1 1")
		after(2 * time.Minute)
		b.gauges(t, "0 0 0")
		if problems, err := testutil.GatherAndLint(b.reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v, %v", problems, err)
		}
	})
}

func (b *bench) gauges(t *testing.T, want string) {
	t.Helper()
	m := b.metrics
	got := fmt.Sprint(testutil.ToFloat64(m.tagged.WithLabelValues("REG")), testutil.ToFloat64(m.tagged.WithLabelValues("BIND")), testutil.ToFloat64(m.set))
	if got != want {
		t.Errorf("REG, BIND and timers: %s, want %s", got, want)
	}
}

func TestTagsAreBounded(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	for n := range 3 * maxTags {
		m.changed(nil, &Timer{Id: fmt.Sprint(n), Tags: []*Tag{{Type: fmt.Sprint("tag", n), Count: 1}}})
	}
	if got := testutil.CollectAndCount(m.tagged); got > maxTags+1 {
		t.Errorf("%d label values are kept", got)
	}
}

func TestHTTP(t *testing.T) {
	s := New(memory.New(), due.All{}, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	h := s.Handler()
	const good = `{"timing":{"interval":100,"repeat-for":300},"callback":{"http":{"uri":"http://x/y","opaque":"o"}}`
	for name, c := range map[string]struct {
		method, path, body string
		code               int
		location, says     string // location: a prefix or suffix
	}{
		"set":                     {"POST", "/timers", good + `}`, 200, "-2", ""},
		"set with slash":          {"POST", "/timers/", good + `}`, 200, "-2", ""},
		"replicas":                {"POST", "/timers", good + `,"reliability":{"replication-factor":3}}`, 200, "-3", ""},
		"tags":                    {"POST", "/timers", good + `,"statistics":{"tag-info":[{"type":"T","count":1}]}}`, 200, "-2", ""},
		"unknown members":         {"POST", "/timers", good + `,"more":{"x":1}}`, 200, "-2", ""},
		"never pops":              {"POST", "/timers", `{"timing":{"interval":9,"repeat-for":3},"callback":{"http":{"uri":"http://x","opaque":""}}}`, 200, "-2", ""},
		"put unknown":             {"PUT", "/timers/0123456789abcdef-2", good + `}`, 200, "/timers/0123456789abcdef-2", ""},
		"put capital id":          {"PUT", "/timers/0123456789ABCDEF-2", good + `}`, 200, "/timers/0123456789abcdef-2", ""},
		"put takes id's replicas": {"PUT", "/timers/0123456789abcdef-4", good + `}`, 200, "/timers/0123456789abcdef-4", ""},
		"put without replicas":    {"PUT", "/timers/0123456789abcdef", good + `}`, 200, "/timers/0123456789abcdef-2", ""},
		"text after the id":       {"PUT", "/timers/0123456789abcdef-2-and/more", good + `}`, 200, "/timers/0123456789abcdef-2", ""},
		"replicas disagree":       {"PUT", "/timers/0123456789abcdef-4", good + `,"reliability":{"replication-factor":3}}`, 400, "", "the timer's id says 4"},
		"id with zero replicas":   {"PUT", "/timers/0123456789abcdef-0", good + `}`, 400, "", "1 to 64"},
		"delete":                  {"DELETE", "/timers/0123456789abcdef-2", "", 200, "", ""},
		"delete unknown":          {"DELETE", "/timers/ffffffffffffffff-2", "", 200, "", ""},
		"bad id":                  {"PUT", "/timers/xyz", good + `}`, 404, "", "16 hexadecimal digits"},
		"delete bad id":           {"DELETE", "/timers/123", "", 404, "", "16 hexadecimal digits"},
		"other path":              {"POST", "/timer", good + `}`, 404, "", ""},
		"get":                     {"GET", "/timers", "", 405, "", "method"},
		"get one":                 {"GET", "/timers/0123456789abcdef-2", "", 405, "", "method"},
		"post one":                {"POST", "/timers/0123456789abcdef-2", good + `}`, 405, "", "method"},
		"delete all":              {"DELETE", "/timers", "", 405, "", "method"},
		"empty":                   {"POST", "/timers", "", 400, "", "ends too early"},
		"cut off":                 {"POST", "/timers", good, 400, "", "ends too early"},
		"not JSON":                {"POST", "/timers", "{]", 400, "", "not JSON"},
		"array":                   {"POST", "/timers", "[]", 400, "", "JSON object"},
		"more":                    {"POST", "/timers", good + `} {}`, 400, "", "more after"},
		"no interval":             {"POST", "/timers", `{"callback":{"http":{"uri":"http://x","opaque":""}}}`, 400, "", "timing.interval is missing"},
		"interval text":           {"POST", "/timers", `{"timing":{"interval":"9"}}`, 400, "", "timing.interval must not be a JSON string"},
		"interval fraction":       {"POST", "/timers", `{"timing":{"interval":1.5}}`, 400, "", "timing.interval"},
		"interval negative":       {"POST", "/timers", strings.Replace(good, "100", "-1", 1) + `}`, 400, "", "timing.interval is -1"},
		"interval huge":           {"POST", "/timers", strings.Replace(good, "100", "99999999999", 1) + `}`, 400, "", "timing.interval"},
		"zero with repeat":        {"POST", "/timers", strings.Replace(good, "100", "0", 1) + `}`, 400, "", "interval is 0"},
		"no callback":             {"POST", "/timers", `{"timing":{"interval":1}}`, 400, "", "callback.http needs"},
		"callback not a URL":      {"POST", "/timers", strings.Replace(good, "http://x/y", "x:y", 1) + `}`, 400, "", "not an http"},
		"callback over ftp":       {"POST", "/timers", strings.Replace(good, "http://x/y", "ftp://x/y", 1) + `}`, 400, "", "not an http"},
		"no replicas":             {"POST", "/timers", good + `,"reliability":{"replication-factor":0}}`, 400, "", "replication-factor is 0"},
		"tag without type":        {"POST", "/timers", good + `,"statistics":{"tag-info":[{"count":1}]}}`, 400, "", "needs a type"},
		"tag without count":       {"POST", "/timers", good + `,"statistics":{"tag-info":[{"type":"T"}]}}`, 400, "", "needs a count"},
		"too large":               {"POST", "/timers", strings.Replace(good, `"o"`, `"`+strings.Repeat("o", maxBody)+`"`, 1) + `}`, 413, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, c.path, strings.NewReader(c.body)))
			body, _ := io.ReadAll(w.Body)
			if w.Code != c.code || !strings.Contains(string(body), c.says) {
				t.Errorf("%d %q, want %d with %q", w.Code, body, c.code, c.says)
			}
			location := w.Header().Get("Location")
			if (location == "") != (c.location == "") || !strings.HasSuffix(location, c.location) {
				t.Errorf("Location %q, want %q", location, c.location)
			}
		})
	}
}

func TestEngineAwayIs503(t *testing.T) {
	e := memory.New()
	s := New(e, due.All{}, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/timers",
		strings.NewReader(`{"timing":{"interval":1},"callback":{"http":{"uri":"http://x","opaque":""}}}`)))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHTTPPop(t *testing.T) {
	var got *http.Request
	var body []byte
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(code)
	}))
	defer server.Close()
	pop := HTTPPop(server.Client())
	if err := pop(t.Context(), server.URL+"/x?y=z", []byte("opaque"), 7); err != nil {
		t.Fatal(err)
	}
	if got.Method != http.MethodPost || got.RequestURI != "/x?y=z" || string(body) != "opaque" ||
		got.Header.Get("X-Sequence-Number") != "7" || got.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%s %s %v %q", got.Method, got.RequestURI, got.Header, body)
	}
	for _, code = range []int{201, 302, 404, 503} {
		if err := pop(t.Context(), server.URL, nil, 1); err == nil {
			t.Errorf("an answer of %d counts as one", code)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"timing":{"interval":100,"repeat-for":300},"callback":{"http":{"uri":"http://x/y","opaque":"o"}}}`)
	f.Add(`{"timing":{"interval":0},"statistics":{"tag-info":[{"type":"T","count":1}]}}`)
	f.Fuzz(func(t *testing.T, body string) {
		timer, err := parse(strings.NewReader(body), 0)
		if err == nil && (timer.GetUri() == "" || timer.GetReplicas() < 1 || timer.GetReplicas() > maxReplicas || timer.GetInterval() > maxSeconds) {
			t.Errorf("%q was taken as %v", body, timer)
		}
	})
}

// TestUnknownFieldsOfNewerTimersSurvive changes and pops a timer that a newer version has written with a field of its own.
func TestUnknownFieldsOfNewerTimersSurvive(t *testing.T) {
	inFakeTime(t, func(t *testing.T, b *bench) {
		timer := &Timer{Id: "00000000000000aa", Replicas: 2, Interval: 10, RepeatFor: 30, Uri: "http://x/", Opaque: []byte("o")}
		if err := b.Set(t.Context(), timer); err != nil {
			t.Fatal(err)
		}
		row, err := b.engine.Get(t.Context(), table, timer.GetId())
		if err != nil {
			t.Fatal(err)
		}
		newer := append(row.Value, 0xa2, 0x06, 0x03, 'n', 'e', 'w') // field 100, text "new"
		if _, done, err := b.engine.Commit(t.Context(), engine.Swap(table, timer.GetId(), row.Version, newer)); err != nil || !done {
			t.Fatal(done, err)
		}
		time.Sleep(15 * time.Second)
		if row, err = b.engine.Get(t.Context(), table, timer.GetId()); err != nil {
			t.Fatal(err)
		}
		got, err := decode(row.Value)
		if err != nil || got.GetSequence() != 1 || !strings.HasSuffix(string(got.ProtoReflect().GetUnknown()), "new") {
			t.Errorf("after a pop: %v, unknown %q, %v", got, got.ProtoReflect().GetUnknown(), err)
		}
	})
}
