package resolve

import (
	"sync"
	"sync/atomic"
	"time"
)

// blacklist remembers hops that failed. A hop is black for a duration, then grey for as long: while it is grey one
// request may try it; success whitens it, failure blacks it again.
type blacklist struct {
	duration time.Duration
	size     atomic.Int64 // lets the usual case, nothing black, go without a lock
	mu       sync.Mutex
	hops     map[Hop]mark
}

type mark struct {
	greyFrom time.Time
	probing  bool
}

// place is what a hop is remembered by: how it was named makes no difference.
func place(hop Hop) Hop {
	hop.Stateless = false
	return hop
}

func (b *blacklist) report(hop Hop, ok bool, now time.Time) {
	if b.duration <= 0 || (ok && b.size.Load() == 0) {
		return
	}
	hop = place(hop)
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		delete(b.hops, hop)
	} else {
		if b.hops == nil {
			b.hops = map[Hop]mark{}
		}
		if len(b.hops) >= maxEntries {
			b.sweep(now)
		}
		b.hops[hop] = mark{greyFrom: now.Add(b.duration)}
	}
	b.size.Store(int64(len(b.hops)))
}

// sweep forgets hops whose grey time is over, and some other if that frees nothing.
func (b *blacklist) sweep(now time.Time) {
	for hop, m := range b.hops {
		if now.After(m.greyFrom.Add(b.duration)) {
			delete(b.hops, hop)
		}
	}
	for hop := range b.hops {
		if len(b.hops) < maxEntries {
			return
		}
		delete(b.hops, hop)
	}
}

// order puts a grey hop that nobody probes yet first, then white hops, then the rest: black ones are still better
// than giving up.
func (b *blacklist) order(hops []Hop, now time.Time) []Hop {
	if b.size.Load() == 0 || len(hops) < 2 {
		return hops
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var probe, white, black []Hop
	for _, hop := range hops {
		at := place(hop)
		m, marked := b.hops[at]
		switch {
		case marked && now.After(m.greyFrom.Add(b.duration)):
			delete(b.hops, at)
			b.size.Store(int64(len(b.hops)))
			white = append(white, hop)
		case !marked:
			white = append(white, hop)
		case !now.Before(m.greyFrom) && !m.probing && probe == nil:
			m.probing = true
			b.hops[at] = m
			probe = append(probe, hop)
		default:
			black = append(black, hop)
		}
	}
	return append(append(probe, white...), black...)
}

// without leaves out the hops that are black; grey ones stay.
func (b *blacklist) without(hops []Hop, now time.Time) []Hop {
	if b.size.Load() == 0 {
		return hops
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := hops[:0]
	for _, hop := range hops {
		if m, marked := b.hops[place(hop)]; !marked || !now.Before(m.greyFrom) {
			out = append(out, hop)
		}
	}
	return out
}
