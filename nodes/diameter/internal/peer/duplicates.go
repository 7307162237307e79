package peer

import (
	"context"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// duplicates remembers answers, so that a request that comes twice, because a connection broke on its way, is worked on
// once (RFC 6733 3, 5.5.4). Origin-Host and End-to-End Identifier name a request. Only where one of the two says that it
// may be a repetition (T flag) are they taken for one: stacks that restart begin their identifiers anew.
type duplicates struct {
	life time.Duration
	most int

	mu    sync.Mutex
	known map[duplicateKey]*remembered
	order []duplicateKey // oldest first
}

type duplicateKey struct {
	origin   string
	endToEnd uint32
}

type remembered struct {
	repeated bool // had the T flag
	at       time.Time
	done     chan struct{}
	answer   wire.Message // once done is closed
}

// once answers a request with work, or with what work has answered to the same one; again tells the latter. The answer is
// nil when that has not come before ctx ended.
func (d *duplicates) once(ctx context.Context, m wire.Message, work func() wire.Message) (answer wire.Message, again bool) {
	key := duplicateKey{m.Text(wire.OriginHost), m.EndToEnd()}
	r := &remembered{repeated: m.Flags()&wire.FlagRetransmitted != 0, at: time.Now(), done: make(chan struct{})}
	d.mu.Lock()
	if old := d.known[key]; old != nil && (old.repeated || r.repeated) && r.at.Sub(old.at) < d.life {
		d.mu.Unlock()
		select {
		case <-old.done:
			return old.answer, true
		case <-ctx.Done():
			return nil, true
		}
	}
	if d.known == nil {
		d.known = map[duplicateKey]*remembered{}
	}
	d.known[key] = r
	d.order = append(d.order, key)
	d.forget(r.at)
	d.mu.Unlock()
	defer close(r.done)
	r.answer = work()
	return r.answer, false
}

// forget drops what is too old or too much.
func (d *duplicates) forget(now time.Time) {
	for len(d.order) > 0 {
		first := d.order[0]
		r := d.known[first]
		if r != nil && len(d.order) <= d.most && now.Sub(r.at) < d.life {
			return
		}
		delete(d.known, first)
		d.order = d.order[1:]
	}
}
