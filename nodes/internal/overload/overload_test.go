package overload

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// throttle is the router's by default.
func throttle() config.Throttle { return config.Defaults().RouterThrottle }

// server is a process that does so much work a second, in order, and refuses by its limiter; refusing costs it too.
type server struct {
	*Limiter
	mu       sync.Mutex
	service  time.Duration // of a request that is let in
	refusal  time.Duration // of one that is not
	free     time.Time     // when it has done what it has
	good     int           // done within a second
	late     int
	refused  int
	emergent int // emergency calls that were done
}

// arrive is a request of a class.
func (s *server) arrive(class Class) {
	arrived := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	start := arrived
	if s.free.After(start) {
		start = s.free
	}
	if _, ok := s.Admit(class); !ok {
		s.refused++
		s.free = start.Add(s.refusal)
		return
	}
	s.free = start.Add(s.service)
	waits := start.Sub(arrived)
	time.AfterFunc(waits, func() { s.Done(arrived, waits) })
	time.AfterFunc(waits+s.service, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case class == Exempt:
			s.emergent++
			s.good++
		case time.Since(arrived) > time.Second:
			s.late++
		default:
			s.good++
		}
	})
}

// offer sends requests evenly, one in fifty an emergency call, and tells what was done a second.
func (s *server) offer(rate float64, d time.Duration) (goodput float64, emergencies int) {
	s.mu.Lock()
	before := s.good
	s.mu.Unlock()
	gap := time.Duration(float64(time.Second) / rate)
	end, n := time.Now().Add(d), 0
	for ; time.Now().Before(end); n++ {
		class := Ordinary
		if n%50 == 49 {
			class, emergencies = Exempt, emergencies+1
		}
		s.arrive(class)
		time.Sleep(gap)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.good-before) / d.Seconds(), emergencies
}

func serve(t *testing.T, cfg config.Throttle, capacity float64, test func(s *server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		service := time.Duration(float64(time.Second) / capacity)
		s := &server{Limiter: New("test", cfg, Deps{}), service: service, refusal: service / 100, free: time.Now()}
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Run(ctx) }()
		test(s)
		cancel()
		<-done
		time.Sleep(time.Minute) // what is on its way ends
	})
}

func TestOverloadConvergesWhateverTheCapacity(t *testing.T) {
	for _, capacity := range []float64{30, 200, 2000} {
		for _, times := range []float64{2, 5, 10} {
			serve(t, throttle(), capacity, func(s *server) {
				s.offer(capacity*times, 10*time.Second)
				lowest := capacity
				var goodput float64
				for range 30 { // seconds
					g, _ := s.offer(capacity*times, time.Second)
					goodput += g / 30
					lowest = min(lowest, s.Rate())
				}
				if goodput < 0.8*capacity || lowest < 0.4*capacity {
					t.Errorf("capacity %.0f, %.0f times as much: goodput %.1f, the rate was %.1f at its lowest", capacity, times, goodput, lowest)
				}
				if rate := s.Rate(); rate > 1.3*capacity {
					t.Errorf("capacity %.0f: the rate is %.1f", capacity, rate)
				}
			})
		}
	}
}

func TestEmergencyCallsAreAllTaken(t *testing.T) {
	serve(t, throttle(), 100, func(s *server) {
		_, n := s.offer(500, 20*time.Second)
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.emergent != n {
			t.Errorf("%d of %d emergency calls were done", s.emergent, n)
		}
	})
}

func TestRecovery(t *testing.T) {
	serve(t, throttle(), 100, func(s *server) {
		s.offer(500, 60*time.Second)
		s.offer(80, 5*time.Second)
		refused := s.refused
		if goodput, _ := s.offer(80, 10*time.Second); s.refused != refused || goodput < 75 {
			t.Errorf("after the overload %d are refused, goodput %.1f of 80", s.refused-refused, goodput)
		}
	})
}

// The rate follows a capacity that comes and goes: a neighbour on the machine.
func TestCapacityThatChanges(t *testing.T) {
	serve(t, throttle(), 200, func(s *server) {
		s.offer(400, 20*time.Second)
		s.service *= 4
		s.offer(400, 10*time.Second)
		if goodput, _ := s.offer(400, 10*time.Second); goodput < 40 {
			t.Errorf("goodput %.1f where 50 can be done", goodput)
		}
		s.service /= 4
		s.offer(400, 10*time.Second)
		if goodput, _ := s.offer(400, 10*time.Second); goodput < 160 {
			t.Errorf("goodput %.1f where 200 can be done", goodput)
		}
	})
}

// A process that can do far more than the rate it begins with refuses next to nothing of a sudden demand.
func TestSuddenDemandThatCanBeMet(t *testing.T) {
	cfg := throttle()
	cfg.InitRate = 500
	serve(t, cfg, 10000, func(s *server) {
		s.offer(5000, 10*time.Second)
		if s.refused > 3000 { // within the first second
			t.Errorf("%d of 50000 refused", s.refused)
		}
		s.refused = 0
		s.offer(5000, 10*time.Second)
		if s.refused > 0 {
			t.Errorf("%d refused later", s.refused)
		}
	})
}

// A machine that stands still now and then is not overloaded.
func TestHiccupsRefuseNothing(t *testing.T) {
	serve(t, throttle(), 500, func(s *server) {
		for range 60 {
			s.offer(100, 900*time.Millisecond)
			s.mu.Lock()
			s.free = s.free.Add(100 * time.Millisecond)
			s.mu.Unlock()
		}
		if s.refused != 0 || s.Rate() < 400 {
			t.Errorf("%d refused, rate %.1f", s.refused, s.Rate())
		}
	})
}

func TestRateStaysWithinItsBounds(t *testing.T) {
	cfg := throttle()
	cfg.MaxRate, cfg.MinRate, cfg.InitRate = 50, 40, 45
	serve(t, cfg, 1000, func(s *server) {
		s.offer(500, 30*time.Second)
		if r := s.Rate(); r != 50 {
			t.Errorf("rate %.1f, the most is 50", r)
		}
	})
	serve(t, cfg, 10, func(s *server) {
		s.offer(100, 30*time.Second)
		if r := s.Rate(); r != 40 {
			t.Errorf("rate %.1f, the least is 40", r)
		}
		cfg.MinRate = 5
		s.SetOptions(cfg)
		s.offer(100, 60*time.Second)
		if r := s.Rate(); r > 15 {
			t.Errorf("rate %.1f where 10 can be done", r)
		}
	})
}

// A process whose next hop is overloaded lets in what that takes.
func TestRefusalsOfTheNextHop(t *testing.T) {
	serve(t, throttle(), 10000, func(s *server) {
		behind := New("behind", throttle(), Deps{})
		behind.rate, behind.tokens, behind.cfg.MaxTokens = 100, 0, 1
		wasted := 0
		offer := func(d time.Duration) (good int) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
				if _, ok := s.Admit(Ordinary); !ok {
					continue
				}
				s.Done(time.Now(), 0)
				if _, ok := behind.Admit(Ordinary); !ok {
					wasted++
					s.Busy()
					continue
				}
				good++
			}
			return good
		}
		offer(10 * time.Second)
		wasted = 0
		if good := offer(20 * time.Second); good < 1700 || wasted > good/4 {
			t.Errorf("%d of 2000 got through, %d were refused behind", good, wasted)
		}
	})
}

// What is in the sockets counts although nobody has read it.
func TestUnreadSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cfg := throttle()
		cfg.QueueTimeout = 3 * time.Second
		l := New("test", cfg, Deps{Waiting: func() bool { return true }})
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		before := l.Rate()
		for range 500 {
			l.Admit(Ordinary)
			l.Done(time.Now(), 0)
			time.Sleep(5 * time.Millisecond)
		}
		if l.Rate() >= before {
			t.Error("sockets that are never empty leave the rate as it is")
		}
		time.Sleep(time.Second)
		if _, ok := l.Admit(Ordinary); ok {
			t.Error("what has waited for longer than request_queue_timeout is let in")
		}
		if _, ok := l.Admit(Exempt); !ok {
			t.Error("an emergency call is refused")
		}
		cancel()
		<-done
	})
}

func TestCommittedRequestsHaveCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := throttle()
		cfg.MaxTokens, cfg.InitRate = 10, 100
		l := New("test", cfg, Deps{})
		count := func(c Class, most int) (n int) {
			for range most {
				retry, ok := l.Admit(c)
				if !ok {
					if retry <= 0 || retry > 45*time.Second {
						t.Errorf("to come back after %v", retry)
					}
					return n
				}
				n++
			}
			return n
		}
		if n := count(Ordinary, 1000); n != 10 {
			t.Errorf("%d ordinary requests with 10 tokens", n)
		}
		if n := count(Committed, 1000); n != 199 {
			t.Errorf("%d committed requests on a credit of 200", n)
		}
		if n := count(Exempt, 1000); n != 1000 {
			t.Errorf("%d exempt requests of 1000", n)
		}
		time.Sleep(2*time.Second + 20*time.Millisecond)
		if n := count(Ordinary, 1000); n == 0 || n > 3 {
			t.Errorf("%d ordinary requests when the credit has just been paid back", n)
		}
	})
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := New("router", throttle(), Deps{Metrics: reg})
	l.tokens = 1
	l.Admit(Ordinary)
	l.Admit(Ordinary)
	l.Busy()
	want := `
# HELP ims_router_overload_penalties_total Requests that a next hop refused because of overload.
# TYPE ims_router_overload_penalties_total counter
ims_router_overload_penalties_total 1
# HELP ims_router_overload_rejected_total Requests refused because of overload.
# TYPE ims_router_overload_rejected_total counter
ims_router_overload_rejected_total 1
# HELP ims_router_overload_target_latency_seconds Latency above which the permitted rate goes down.
# TYPE ims_router_overload_target_latency_seconds gauge
ims_router_overload_target_latency_seconds 0.01
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "ims_router_overload_rejected_total", "ims_router_overload_penalties_total", "ims_router_overload_target_latency_seconds"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
