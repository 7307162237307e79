package turn

import (
	"net/netip"
	"sync"
	"time"
)

// tuple names a relay: the client's protocol and address, and ours.
type tuple struct{ from, to string }

// quota counts relays, in all and of each holder.
type quota struct {
	limits func() Limits
	mu     sync.Mutex
	relays map[tuple]string
	by     map[string]int
}

func newQuota(limits func() Limits) *quota {
	return &quota{limits: limits, relays: map[tuple]string{}, by: map[string]int{}}
}

func (q *quota) admits(holder string) bool {
	limits := q.limits()
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.relays) < limits.Total && q.by[holder] < limits.PerUser
}

func (q *quota) take(t tuple, holder string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, again := q.relays[t]; !again {
		q.relays[t] = holder
		q.by[holder]++
	}
}

func (q *quota) give(t tuple) {
	q.mu.Lock()
	defer q.mu.Unlock()
	holder, ok := q.relays[t]
	if !ok {
		return
	}
	delete(q.relays, t)
	if q.by[holder]--; q.by[holder] <= 0 {
		delete(q.by, holder)
	}
}

func (q *quota) held() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.relays))
}

// buckets give each source so many tries at once and so many more each second. A network of IPv6 counts as one.
type buckets struct {
	burst, rate float64
	mu          sync.Mutex
	by          map[netip.Addr]bucket
	swept       time.Time
}

type bucket struct {
	used float64
	at   time.Time
}

func newBuckets(burst, rate float64) *buckets {
	return &buckets{burst: burst, rate: rate, by: map[netip.Addr]bucket{}}
}

func network(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func (b *buckets) now(host netip.Addr, now time.Time) float64 {
	k, ok := b.by[host]
	if !ok {
		return 0
	}
	return max(0, k.used-b.rate*now.Sub(k.at).Seconds())
}

func (b *buckets) left(host netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now(network(host), now) < b.burst
}

func (b *buckets) take(host netip.Addr, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	host = network(host)
	b.by[host] = bucket{b.now(host, now) + 1, now}
	if now.Sub(b.swept) < 10*time.Second {
		return
	}
	b.swept = now
	for other := range b.by {
		if b.now(other, now) == 0 {
			delete(b.by, other)
		}
	}
}
