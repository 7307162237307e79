package registrar

import (
	"container/list"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

const (
	// answerTime is how long the answer to a challenge is waited for before the HSS hears of its absence: as long as it would
	// be taken, and a little for one that another router has taken (the timer reg-await-auth of TS 24.229 table 7.8).
	answerTime  = challengeLife + 5*time.Second
	telltime    = 10 * time.Second
	mostAwaited = 50_000 // at once; whoever asks for more challenges than that is not going to answer them
)

// awaiting are the challenges of this node that an external HSS is to hear of if nobody answers them: the user was not
// registered, so that the HSS has an authentication pending (TS 24.229 5.4.1.2.1, TS 29.228 6.1.2.1). They are a node's
// own: who answers at another router is found out when the time is over, and what a node that dies has waited for the HSS
// gives up by itself.
type awaiting struct {
	mu    sync.Mutex
	order list.List // of *awaited, the oldest first
	by    map[string]*list.Element
	begun chan struct{} // tells Run that there is one where there was none
}

type awaited struct {
	nonce, impi, impu string
	due               time.Time
}

// add waits for the answer to a challenge.
func (w *awaiting) add(a *awaited) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.by) >= mostAwaited {
		return
	}
	w.by[a.nonce] = w.order.PushBack(a)
	if len(w.by) == 1 {
		select {
		case w.begun <- struct{}{}:
		default:
		}
	}
}

// answered forgets a challenge, whether the answer is right or wrong.
func (w *awaiting) answered(nonce string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.by[nonce]; e != nil {
		w.order.Remove(e)
		delete(w.by, nonce)
	}
}

// overdue takes out one whose time is over; else it tells when the next one's is, false if there is none.
func (w *awaiting) overdue(now time.Time) (a *awaited, next time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	front := w.order.Front()
	if front == nil {
		return nil, 0, false
	}
	a, _ = front.Value.(*awaited)
	if left := a.due.Sub(now); left > 0 {
		return nil, left, true
	}
	w.order.Remove(front)
	delete(w.by, a.nonce)
	return a, 0, true
}

// await notes a challenge that was sent.
func (r *Registrar) await(a *attempt, nonce string) {
	if !a.pending {
		return
	}
	r.awaiting.add(&awaited{strings.Clone(nonce), strings.Clone(a.impi), strings.Clone(a.impu), r.deps.Now().Add(answerTime)})
}

// Run watches over challenges that nobody answers, until ctx ends.
func (r *Registrar) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a, next, ok := r.awaiting.overdue(r.deps.Now())
		switch {
		case a != nil:
			r.deps.Background(telltime, func(ctx context.Context) { r.unanswered(ctx, a) })
			continue
		case ok:
			timer.Reset(next)
		default:
			timer.Reset(time.Hour)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.awaiting.begun:
		}
	}
}

// unanswered tells the HSS that nobody has answered a challenge, unless the user has registered meanwhile by another one.
func (r *Registrar) unanswered(ctx context.Context, a *awaited) {
	known, err := r.deps.HSS.Authorize(ctx, &hss.AuthorizeRequest{Impi: a.impi, Impu: a.impu, WantProfile: true})
	if err != nil || known.GetResult() != hss.Result_RESULT_OK || known.GetRegData() != nil {
		return
	}
	r.deps.Metrics.registration("auth-timeout", 0)
	answer, err := r.deps.HSS.Assign(ctx, &hss.AssignRequest{Impi: a.impi, Impu: a.impu, Reqtype: hss.DeregAuthTimeout, ServerName: r.deps.Settings().Names.ServerName()})
	if err != nil || answer.GetResult() != hss.Result_RESULT_OK {
		r.deps.Log.Info("telling the HSS of a challenge that nobody has answered", "impi", a.impi, "detail", answer.GetDetail(), "error", err)
	}
}
