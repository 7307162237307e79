package transaction

import (
	"context"
	"sync"
	"time"
)

const (
	wheelSlots = 4096
	wheelTick  = 10 * time.Millisecond
)

// timer is one pending deadline; it lives inside its owner, so scheduling allocates nothing. The wheel's lock guards it.
type timer struct {
	next, prev *timer
	due        int64 // tick
	owner      firer
}

type firer interface{ fire(now time.Time) }

// wheel is a hashed timer wheel. A fired owner checks its own deadlines under its own lock, so a stop that comes too
// late does no harm.
type wheel struct {
	mu    sync.Mutex
	start time.Time
	now   int64 // tick up to which everything has fired
	slots [wheelSlots]timer
	each  func(now time.Time) // called with every tick
}

func (w *wheel) init(each func(now time.Time)) {
	w.each = each
	w.start = time.Now()
	for i := range w.slots {
		w.slots[i].next, w.slots[i].prev = &w.slots[i], &w.slots[i]
	}
}

func (w *wheel) schedule(t *timer, owner firer, at time.Time) {
	due := int64((at.Sub(w.start) + wheelTick - 1) / wheelTick)
	w.mu.Lock()
	defer w.mu.Unlock()
	t.unlink()
	t.due, t.owner = max(due, w.now+1), owner
	head := &w.slots[t.due%wheelSlots]
	t.next, t.prev = head, head.prev
	head.prev.next, head.prev = t, t
}

func (w *wheel) stop(t *timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.unlink()
}

func (t *timer) unlink() {
	if t.next != nil {
		t.next.prev, t.prev.next = t.prev, t.next
		t.next, t.prev = nil, nil
	}
}

func (w *wheel) run(ctx context.Context) error {
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			now := time.Now()
			w.advance(now)
			w.each(now)
		}
	}
}

// advance fires everything due up to now.
func (w *wheel) advance(now time.Time) {
	until := int64(now.Sub(w.start) / wheelTick)
	var due []firer
	w.mu.Lock()
	for ; w.now < until; w.now++ {
		head := &w.slots[(w.now+1)%wheelSlots]
		for t := head.next; t != head; {
			next := t.next
			if t.due <= w.now+1 {
				t.unlink()
				due = append(due, t.owner)
			}
			t = next
		}
	}
	w.mu.Unlock()
	for _, owner := range due {
		owner.fire(now)
	}
}
