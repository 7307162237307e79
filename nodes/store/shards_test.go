package main

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stream sets timers of one second at nodes that run, until it is stopped.
type stream struct {
	pause time.Duration // of each setter between two timers; 0: 5 ms
	late  time.Duration // that a pop may be; 0: 15 s

	mu  sync.Mutex
	set map[string]time.Time // opaque -> when it was acknowledged
}

// begin sets timers through any node of the site from several goroutines. The function that it returns stops that.
func (st *stream) begin(s *siteLab, uri, prefix string) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(max(st.pause, 5*time.Millisecond)):
				}
				l := s.turn(w + n)
				if l == nil {
					continue
				}
				opaque := fmt.Sprint(prefix, "-", w, "-", n)
				if setTimer(s.t, l.address, uri, opaque) == nil {
					st.mu.Lock()
					st.set[opaque] = time.Now()
					st.mu.Unlock()
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// turn is one of the nodes in DNS.
func (s *siteLab) turn(n int) *lab {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*lab
	for i := range 9 {
		if l := s.nodes[i]; l != nil {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[n%len(all)]
}

// popped waits until every acknowledged timer has popped under the number 1, and tells how late they were.
func (st *stream) popped(s *siteLab, c *callbacks) {
	s.t.Helper()
	any := s.any()
	any.eventually(20*time.Second, func() error {
		st.mu.Lock()
		defer st.mu.Unlock()
		for opaque := range st.set {
			if len(c.of(opaque)) == 0 {
				return errors.New("timer " + opaque + " did not pop")
			}
		}
		return nil
	})
	worst, twice := time.Duration(0), 0
	for opaque, at := range st.set {
		pops := c.of(opaque)
		if pops[0].sequence != "1" {
			s.t.Errorf("timer %s popped first under the number %s", opaque, pops[0].sequence)
		}
		if len(pops) > 1 {
			twice++
		}
		worst = max(worst, pops[0].at.Sub(at.Add(time.Second)))
	}
	s.t.Logf("figures: %d timers, every one popped, %d more than once, the latest %.1f s late", len(st.set), twice, worst.Seconds())
	if worst > max(st.late, 15*time.Second) {
		s.t.Errorf("a timer popped %s late", worst)
	}
}

// TestTimersSurviveNodes runs timers over three store nodes while one is killed, comes back, a fourth joins and two leave.
func TestTimersSurviveNodes(t *testing.T) {
	s := newSiteLab(t, "127.37.21")
	c := serveCallbacks(t, "127.37.21.252")
	one := s.add(1)
	s.add(2)
	s.add(3)
	s.voters(3)
	st := &stream{set: map[string]time.Time{}}
	stop := st.begin(s, c.uri, "a")
	defer stop()
	owned := func(min float64) {
		t.Helper()
		one.eventually(20*time.Second, func() error {
			total := 0.0
			for i := range 9 {
				s.mu.Lock()
				l := s.nodes[i]
				s.mu.Unlock()
				if l == nil || l.process == nil {
					continue
				}
				n := l.metric("ims_timer_shards_owned")
				if n < min {
					return fmt.Errorf("store-%d has %v shards", i, n)
				}
				total += n
			}
			if total != 16 {
				return fmt.Errorf("%v shards are owned", total)
			}
			return nil
		})
	}
	owned(5)
	one.kill()
	owned(8)
	one.start()
	one.ready()
	owned(5)
	s.add(4)
	owned(4)
	s.remove(1)
	s.voters(3)
	owned(5)
	s.remove(4)
	s.any().eventually(20*time.Second, func() error { return nil })
	owned(8)
	stop()
	st.popped(s, c)
}

// TestTimersPopWithoutEtcd stops every etcd process: who owns a shard goes on with it.
func TestTimersPopWithoutEtcd(t *testing.T) {
	s := newSiteLab(t, "127.37.22")
	c := serveCallbacks(t, "127.37.22.252")
	nodes := []*lab{s.add(1), s.add(2), s.add(3)}
	s.voters(3)
	nodes[0].eventually(20*time.Second, func() error {
		for _, l := range nodes {
			if n := l.metric("ims_timer_shards_owned"); n < 5 {
				return fmt.Errorf("%s has %v shards", l.address, n)
			}
		}
		return nil
	})
	var children []int
	for _, l := range nodes {
		children = append(children, l.child())
	}
	signal := func(sig syscall.Signal) {
		for _, pid := range children {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Error(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { signal(syscall.SIGCONT) })
	st := &stream{set: map[string]time.Time{}}
	stop := st.begin(s, c.uri, "b")
	<-time.After(8 * time.Second) // longer than the lease, so that every owner has lost it
	stop()
	st.popped(s, c)
	signal(syscall.SIGCONT)
	nodes[0].eventually(30*time.Second, func() error {
		total := 0.0
		for _, l := range nodes {
			total += l.metric("ims_timer_shards_owned")
		}
		if total != 16 {
			return fmt.Errorf("%v shards are owned afterwards", total)
		}
		return nil
	})
	st = &stream{set: map[string]time.Time{}}
	stop = st.begin(s, c.uri, "c")
	<-time.After(time.Second) // load, not synchronisation
	stop()
	st.popped(s, c)
}
