package proxy

import (
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// Overload decides what a node takes on. Its methods are called on the transport's readers and must be quick.
type Overload interface {
	// Admit decides on a request outside a dialog, before anything is spent on it. One that is refused gets a 503 that
	// asks to come back after retryAfter.
	Admit(m *sip.Message, f Flow) (retryAfter time.Duration, ok bool)
	// Done tells for how long an admitted request waited for a processor.
	Done(arrived time.Time, waited time.Duration)
	// Busy tells of a 503 with Retry-After from the next hop of a request, over a flow of this node's.
	Busy(f Flow)
}

// shedTag begins the To tags of refusals. Nothing is kept of those (RFC 3261 8.2.7), so their ACKs are known by it alone.
const shedTag = "shed-"

// shed refuses a request of a new transaction if the node has too much to do: the transaction is forgotten at once, so a
// retransmission comes here again. metered tells that the request was let in and that its wait is to be told.
func (c *Core) shed(tx *transaction.Server) (shed, metered bool) {
	m := tx.Request
	if c.cfg.Overload == nil || (m.Method != sip.REGISTER && m.ToTag() != "") {
		return false, false
	}
	retryAfter, ok := c.cfg.Overload.Admit(m, tx.Flow())
	if ok {
		return false, true
	}
	answer := m.NewResponse(503, "", shedTag+transaction.NewTag())
	answer.Add(sip.RetryAfter, strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
	_ = tx.Flow().Send(answer.AppendTo(make([]byte, 0, 512)), nil) // the peer repeats
	tx.Abandon()
	return true, false
}

// isShed tells a refusal of a node of this deployment, and its ACK.
func isShed(m *sip.Message) bool { return strings.HasPrefix(m.ToTag(), shedTag) }

// busy takes a refusal of the next hop: one other hop may try, not every one that there is, for they share the load. The
// lock of the exchange is held.
func (b *branch) busy(f Flow) {
	b.hops = b.hops[:min(len(b.hops), 1)]
	if b.shed { // the second one
		b.hops = nil
	}
	b.shed = true
	if o := b.s.x.core.cfg.Overload; o != nil {
		o.Busy(f)
	}
}

// begun tells how long an admitted request waited for its turn. For others arrived is zero.
func (c *Core) begun(arrived time.Time) {
	if c.cfg.Overload != nil && !arrived.IsZero() {
		c.cfg.Overload.Done(arrived, time.Since(arrived))
	}
}
