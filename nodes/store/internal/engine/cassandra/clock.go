package cassandra

import (
	"sync"
	"sync/atomic"
	"time"
)

// step is how far versions of one engine are apart at least; the rest of a division by it tells engines apart.
const step = 1024

// clock gives versions: nanoseconds since 1970 as long as the system's clock goes on, and always above the last.
type clock struct {
	id   uint64 // below step
	last atomic.Uint64
}

// next is a version above every earlier one of this clock and above the given one.
func (c *clock) next(above uint64) uint64 {
	for {
		last := c.last.Load()
		v := uint64(time.Now().UnixNano())/step*step + c.id //nolint:gosec // after 1970
		if floor := max(last, above); v <= floor {
			if v = floor/step*step + c.id; v <= floor {
				v += step
			}
		}
		if c.last.CompareAndSwap(last, v) {
			return v
		}
	}
}

// keyed is a lock for each key: two swaps of one record that come through this node go one after the other, since in
// Cassandra they would only be in each other's way.
type keyed struct {
	mu   sync.Mutex
	held map[string]*waiters
}

type waiters struct {
	turn chan struct{}
	n    int
}

func (k *keyed) lock(key string) (unlock func()) {
	k.mu.Lock()
	w := k.held[key]
	if w == nil {
		w = &waiters{turn: make(chan struct{}, 1)}
		k.held[key] = w
	}
	w.n++
	k.mu.Unlock()
	w.turn <- struct{}{}
	return func() {
		<-w.turn
		k.mu.Lock()
		defer k.mu.Unlock()
		if w.n--; w.n == 0 {
			delete(k.held, key)
		}
	}
}
