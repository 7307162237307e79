// Package overload keeps a process useful when it is asked for more than it can do: it refuses what is too much, early
// and cheaply, so that what it takes on is finished in time. A Limiter is a bucket of tokens, one for each request; the
// rate that fills it is steered by how long requests wait. It knows no protocol: package siplimit applies it to SIP,
// package httpserver to HTTP.
//
// # What is measured
//
// The signal is the time for which work stands in line in this process, never the time that others take to answer:
//   - of each request, from when it was read to when work on it began (SIP), or to its answer (HTTP);
//   - a probe that sleeps and measures how much too late it wakes: that is what a request pays that is not even read;
//   - for how long the sockets have not been seen empty: what is waiting in the kernel has no other trace.
//
// Of the first two the lower quartile of a window counts, as a queue that vanishes now and then is only a burst; one that
// is there for three of four requests is standing (the idea of CoDel, RFC 8289). So a hiccup of the machine, during which
// everything waits for a moment, refuses nothing.
//
// # How the rate is steered
//
// Once for each window of at least 250 ms and 20 requests:
//   - standing latency over the target: the rate is multiplied by target/latency (at least 0.1, at most 0.9), but not
//     below 0.9 of what was really done in the window and, smoothed, before: that is the capacity itself. Then nothing new is let in until what stands
//     in line is done (at most ten seconds). Requests from before that do not count against the new rate, so one
//     overload is answered by one cut and the rate cannot run down to nothing.
//   - a next hop refused more than a tenth because it is overloaded (Busy): the rate goes to what it took. Less than
//     that keeps the rate from growing.
//   - otherwise, if the rate refused something, or was made use of and the bucket has become half empty: it grows by a
//     tenth, and by a fiftieth only where it comes near to what could be done before (as CUBIC does, RFC 9438); less the
//     nearer the latency is to the target. It doubles while there has never been an overload, because then it is only a
//     guess.
//   - otherwise it stays: a rate that nobody has tried says nothing.
//
// It never leaves min_token_rate and max_token_rate.
package overload

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Class is how a request is treated.
type Class int

// Ordinary requests need a token. Committed ones, on which this network has already spent work, take one on credit and are
// refused only when that is used up. Exempt ones are never refused, but leave fewer tokens for the others.
const (
	Ordinary Class = iota
	Committed
	Exempt
)

const (
	window     = 250 * time.Millisecond // a rate is in force for at least this long
	patience   = 2 * time.Second        // and for this long when there are few requests
	enough     = 20                     // requests in a window
	probe      = 20 * time.Millisecond  // between two looks at how late we are
	longest    = 10 * time.Second       // for which nothing is let in so that a queue drains
	credit     = 2                      // seconds' worth of tokens that committed and exempt requests may take in advance
	defaultPer = 250                    // tokens a second for each core
)

// Deps of a Limiter.
type Deps struct {
	Metrics prometheus.Registerer
	Waiting func() bool // something unread is in the sockets right now; nil: nobody looks
}

// Limiter decides what a process takes on. Its methods are safe for concurrent use and quick.
type Limiter struct {
	deps    Deps
	metrics *metrics

	mu       sync.Mutex
	cfg      config.Throttle
	rate     float64 // tokens a second
	tokens   float64 // below zero: what has been taken in advance
	filled   time.Time
	since    time.Time // requests that arrived before say nothing of the rate in force
	pending  int       // admitted and not done
	draining time.Time // until then, or until nothing is in line, nothing is let in; zero when that is over
	met      bool      // there has been an overload
	able     float64   // requests a second that were done in windows in which the rate mattered, smoothed
	top      float64   // able when the rate was last cut
	smoothed time.Duration
	unread   time.Duration // for how long the sockets have not been empty
	lateness time.Duration // the last one of the probe
	now      counted       // the window that is open
}

// counted is what happened in one window.
type counted struct {
	begun             time.Time
	waits, lags       []time.Duration
	done              int // requests, whether or not their wait counts
	let, refused, hit int // admitted, refused here, refused by a next hop
}

// New makes a limiter; name is that of its metrics, ims_<name>_overload_*. Run must be running.
func New(name string, t config.Throttle, deps Deps) *Limiter {
	l := &Limiter{deps: deps, cfg: t, metrics: newMetrics(name, deps.Metrics)}
	now := time.Now()
	l.rate = l.bounded(initial(t))
	l.tokens, l.filled, l.since, l.now.begun = float64(t.MaxTokens), now, now, now
	l.metrics.show(l)
	return l
}

func initial(t config.Throttle) float64 {
	if t.InitRate > 0 {
		return t.InitRate
	}
	return defaultPer * float64(runtime.GOMAXPROCS(0))
}

func (l *Limiter) bounded(rate float64) float64 {
	if l.cfg.MaxRate > 0 {
		rate = min(rate, l.cfg.MaxRate)
	}
	return max(rate, l.cfg.MinRate, 0.1) // without any rate nothing would ever be learnt again
}

// SetOptions takes changed options; the rate that has been found stays, within the new bounds.
func (l *Limiter) SetOptions(t config.Throttle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.InitRate != l.cfg.InitRate {
		l.rate = initial(t)
	}
	l.cfg = t
	l.rate = l.bounded(l.rate)
	l.tokens = min(l.tokens, float64(t.MaxTokens))
	l.metrics.show(l)
}

// Admit decides on a request before anything is spent on it. One that is refused should be told to come back after
// retryAfter, which is not the same for everybody.
func (l *Limiter) Admit(class Class) (retryAfter time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.fill(now)
	floor := -credit * l.rate
	switch class {
	case Ordinary:
		ok = l.tokens >= 1 && l.draining.IsZero() && !l.stale()
	case Committed:
		ok = l.tokens-1 > floor
	default:
		ok = true
	}
	if ok {
		l.tokens = max(l.tokens-1, floor)
		l.now.let++
		l.pending++
		l.metrics.admitted[class].Inc()
		return 0, true
	}
	l.now.refused++
	l.metrics.rejected.Inc()
	return l.retryAfter(), false
}

// stale tells whether what arrives now has waited for longer than request_queue_timeout, so that nobody waits for its
// answer any more.
func (l *Limiter) stale() bool {
	return l.cfg.QueueTimeout > 0 && max(l.lateness, l.unread) > l.cfg.QueueTimeout
}

// retryAfter is one second for each time that demand exceeds what is let in, at most 30, and spread by half: those who are
// refused together must not come back together.
func (l *Limiter) retryAfter() time.Duration {
	times := float64(l.now.refused+l.now.let) / float64(l.now.let+1)
	spread := 0.5 + rand.Float64() //nolint:gosec // no secret
	return time.Duration(min(max(times, 1), 30) * spread * float64(time.Second))
}

func (l *Limiter) fill(now time.Time) {
	if d := now.Sub(l.filled); d > 0 && l.draining.IsZero() {
		l.tokens = min(l.tokens+l.rate*d.Seconds(), float64(l.cfg.MaxTokens))
		l.filled = now
	}
}

// Done tells for how long an admitted request waited in this process, and when it arrived. It is owed for each of them.
func (l *Limiter) Done(arrived time.Time, waited time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.done++
	l.pending--
	if arrived.After(l.since) {
		l.now.waits = append(l.now.waits, waited)
	}
}

// Busy tells that a next hop of this deployment refused a request because it is overloaded itself.
func (l *Limiter) Busy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.hit++
	l.metrics.penalties.Inc()
}

// Run steers the rate until ctx ends.
func (l *Limiter) Run(ctx context.Context) error {
	timer := time.NewTimer(probe)
	defer timer.Stop()
	due, empty := time.Now().Add(probe), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := time.Now()
		if l.deps.Waiting == nil || !l.deps.Waiting() {
			empty = now
		}
		l.tick(now, max(now.Sub(due), 0), now.Sub(empty))
		due = now.Add(probe)
		timer.Reset(probe)
	}
}

// tick takes what the probe has seen and closes the window when it is full.
func (l *Limiter) tick(now time.Time, late, unread time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lateness, l.unread = late, unread
	w := &l.now
	if !l.draining.IsZero() {
		l.drained(now)
		return
	}
	w.lags = append(w.lags, late)
	age := now.Sub(w.begun)
	if age < window || (age < patience && w.done+w.hit < enough) {
		return
	}
	l.steer(now, age)
	*w = counted{begun: now, waits: w.waits[:0], lags: w.lags[:0]}
	l.metrics.show(l)
}

// drained lets requests in again when no more is in line than can be done within the target.
func (l *Limiter) drained(now time.Time) {
	if float64(l.pending) > max(1, l.rate*l.target().Seconds()) && now.Before(l.draining) {
		return
	}
	l.draining, l.since, l.filled, l.tokens = time.Time{}, now, now, 0
	l.now = counted{begun: now, waits: l.now.waits[:0], lags: l.now.lags[:0]}
}

func (l *Limiter) target() time.Duration {
	return time.Duration(l.cfg.TargetLatency) * time.Microsecond
}

// steer finds the rate of the next window.
func (l *Limiter) steer(now time.Time, age time.Duration) {
	w, target := &l.now, l.target()
	done := float64(w.done) / age.Seconds()
	standing := max(quartile(w.waits), quartile(w.lags))
	if len(w.waits) == 0 && l.pending > 0 { // nothing that was let in at this rate has had its turn yet
		standing = max(standing, now.Sub(l.since))
	}
	if l.unread >= window { // the sockets were never empty
		standing = max(standing, l.unread)
	}
	l.smoothed = standing
	used := w.refused > 0 || (l.tokens < float64(l.cfg.MaxTokens)/2 && float64(w.let) > 0.7*l.rate*age.Seconds())
	good := max(done-float64(w.hit)/age.Seconds(), 0)
	if used || standing > target {
		l.able += (good - l.able) / 4
	}
	switch {
	case standing > target && w.let+l.pending > 0:
		factor := min(max(float64(target)/float64(standing), 0.1), 0.9)
		l.rate = l.bounded(min(max(l.rate*factor, 0.9*good, 0.9*l.able), 0.95*l.rate))
		l.tokens = min(l.tokens, 0)
		l.draining, l.met, l.top = now.Add(longest), true, max(good, l.able)
	case w.hit > w.done/10:
		l.rate = l.bounded(min(l.rate, max(good, 0.9*l.able, 0.5*l.rate)))
		l.tokens, l.met, l.top = min(l.tokens, 0), true, max(good, l.able)
	case w.hit > 0:
	case used:
		l.rate = l.bounded(l.rate*(1+l.growth(standing)) + 0.1)
	}
}

// growth is by how much the rate goes up.
func (l *Limiter) growth(standing time.Duration) float64 {
	room := 1 - float64(standing)/float64(l.target())
	switch near := l.rate / max(l.top, 1); {
	case !l.met && room > 0.5:
		return 1
	case l.met && near > 0.9 && near < 1.3:
		return 0.02 * room
	default:
		return 0.1 * room
	}
}

// quartile is the value below which a quarter of the samples lie; 0 of none. It sorts them.
func quartile(samples []time.Duration) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	slices.Sort(samples)
	return samples[len(samples)/4]
}

// Rate is the rate in force, tokens a second.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate
}
