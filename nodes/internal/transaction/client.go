package transaction

import (
	"strconv"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Client is a client transaction (RFC 3261 17.1, RFC 6026 7.2).
type Client struct {
	entry
	layer    *Layer
	key      key
	flow     Flow
	method   string
	receiver Receiver
	request  *sip.Message // with our Via; kept for retransmissions and while CANCEL or ACK may have to be built
	cancel   *sip.Message // a CANCEL that waits for the first provisional response
	canceled bool
}

// Send starts a client transaction. m gets a Via with a fresh branch on top (sentBy names this node, RFC 3261 18.1.1)
// and must not be changed afterwards. An error means that nothing was sent; otherwise the receiver hears of the end.
// mark, when not empty, ends the branch; see newBranch.
func (l *Layer) Send(m *sip.Message, f Flow, sentBy, mark string, r Receiver) (*Client, error) {
	via, branch := newVia(f, sentBy, mark)
	m.Push(sip.Via, via)
	c := &Client{layer: l, key: clientKey(branch, m.Method), flow: f, method: m.Method, receiver: r, request: m}
	var failed func(error)
	if f.Reliable() {
		failed = c.undeliverable
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.table.addClient(c.key, c)
	if err := send(m, f, failed); err != nil {
		c.state = terminated
		l.table.removeClient(c.key)
		m.Pop(sip.Via)
		return nil, err
	}
	l.flows.add(c)
	l.table.live.Add(1)
	now := time.Now()
	if !f.Reliable() {
		c.interval, c.resendAt = l.cfg.T1, now.Add(l.cfg.T1) // timer A or E
	}
	c.end(now.Add(64 * l.cfg.T1)) // timer B or F
	return c, nil
}

// Flow is where the request went.
func (c *Client) Flow() Flow { return c.flow }

func (c *Client) end(at time.Time) {
	c.endAt = at
	c.arm(&c.layer.wheel, c)
}

// finish forgets the transaction. The lock is held.
func (c *Client) finish() {
	if c.state < completed {
		c.layer.table.live.Add(-1)
	}
	c.state, c.request, c.cancel = terminated, nil, nil
	c.layer.wheel.stop(&c.timer)
	c.layer.table.removeClient(c.key)
	c.layer.flows.remove(c)
}

func (c *Client) received(m *sip.Message) {
	c.mu.Lock()
	up := c.advance(m)
	c.mu.Unlock()
	if up {
		c.receiver.Response(c, m)
	}
}

// advance moves the state machine for a response and tells whether it goes up. The lock is held.
func (c *Client) advance(m *sip.Message) (up bool) {
	switch c.state {
	case terminated:
		return false
	case completed:
		if c.method == sip.INVITE && m.Status >= 300 {
			c.acknowledge(m)
		}
		return false
	case accepted:
		return m.Status >= 200 && m.Status < 300
	}
	if m.Status < 200 {
		c.provisional()
		return true
	}
	c.final(m)
	return true
}

func (c *Client) provisional() {
	first := c.state == trying
	c.state = proceeding
	if c.method != sip.INVITE {
		if !c.resendAt.IsZero() {
			c.interval = c.layer.cfg.T2
		}
		return
	}
	c.resendAt = time.Time{}
	if !c.canceled {
		c.endAt = time.Time{} // the proxy's timer C watches from here
	}
	c.arm(&c.layer.wheel, c)
	if first && c.cancel != nil {
		c.sendCancel()
	}
}

func (c *Client) final(m *sip.Message) {
	c.layer.table.live.Add(-1)
	now, t1 := time.Now(), c.layer.cfg.T1
	c.resendAt = time.Time{}
	c.cancel = nil
	switch {
	case c.method == sip.INVITE && m.Status < 300:
		c.state, c.request = accepted, nil
		c.layer.flows.remove(c)
		c.end(now.Add(64 * t1)) // timer M
	case c.method == sip.INVITE:
		c.state = completed
		c.acknowledge(m)
		if c.flow.Reliable() {
			c.finish() // timer D is 0
			return
		}
		c.end(now.Add(64 * t1)) // timer D
	case c.flow.Reliable() || c.layer.strange == nil:
		c.state = completed
		c.finish() // timer K is 0; on UDP repeated responses are dropped as well when they meet nobody
	default:
		c.state, c.request = completed, nil
		c.end(now.Add(c.layer.cfg.T4)) // timer K
	}
}

// acknowledge sends the ACK of a final error (RFC 3261 17.1.1.3). The lock is held.
func (c *Client) acknowledge(m *sip.Message) {
	ack := c.sibling(sip.ACK)
	ack.Set(sip.To, m.Get(sip.To))
	_ = send(ack, c.flow, nil) // lost: the peer repeats the response and we the ACK
}

// sibling builds an ACK or CANCEL to the request: same Via, Request-URI, Route, From, To, Call-ID and CSeq number.
func (c *Client) sibling(method string) *sip.Message {
	m := &sip.Message{Method: method, URI: c.request.URI, Headers: make([]sip.Header, 0, 10)}
	seenVia := false
	for _, h := range c.request.Headers {
		switch h.ID {
		case sip.Via:
			if seenVia {
				continue
			}
			seenVia = true
		case sip.From, sip.To, sip.CallID, sip.Route, sip.MaxForwards:
		case sip.CSeq:
			number, _ := c.request.CSeq()
			h.Value = strconv.FormatUint(uint64(number), 10) + " " + method
		default:
			continue
		}
		m.Headers = append(m.Headers, h)
	}
	return m
}

// Cancel asks for the end of an INVITE (RFC 3261 9.1): at once if a provisional response is there, else with the first.
// reason, when not empty, becomes the Reason header. It does nothing once a final response is there.
func (c *Client) Cancel(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled || c.method != sip.INVITE || c.state > proceeding {
		return
	}
	c.canceled = true
	c.cancel = c.sibling(sip.CANCEL)
	if reason != "" {
		c.cancel.Set(sip.Reason, reason)
	}
	if c.state == proceeding {
		c.sendCancel()
	}
}

// sendCancel sends the CANCEL as a transaction of its own and gives the INVITE 64*T1 to end. The lock is held.
func (c *Client) sendCancel() {
	m := c.cancel
	c.cancel = nil
	via, _ := sip.ParseVia(m.Get(sip.Via))
	tx := &Client{layer: c.layer, key: clientKey(via.Branch(), sip.CANCEL), flow: c.flow, method: sip.CANCEL, receiver: nobody{}, request: m}
	c.end(time.Now().Add(64 * c.layer.cfg.T1))
	tx.mu.Lock()
	defer tx.mu.Unlock()
	c.layer.table.addClient(tx.key, tx)
	c.layer.table.live.Add(1)
	if err := send(m, c.flow, nil); err != nil {
		tx.finish()
		return
	}
	if !c.flow.Reliable() {
		tx.interval, tx.resendAt = c.layer.cfg.T1, time.Now().Add(c.layer.cfg.T1)
	}
	tx.end(time.Now().Add(64 * c.layer.cfg.T1))
}

// nobody receives what comes of a CANCEL: nothing depends on it.
type nobody struct{}

func (nobody) Response(*Client, *sip.Message) {}
func (nobody) Failed(*Client, error)          {}

// Lost ends the transaction because its flow is gone.
func (c *Client) Lost() { c.fail(ErrClosed) }

func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.state > proceeding {
		c.mu.Unlock()
		return
	}
	c.finish()
	c.mu.Unlock()
	c.receiver.Failed(c, err)
}

func (c *Client) fire(now time.Time) {
	c.mu.Lock()
	if c.state == terminated {
		c.mu.Unlock()
		return
	}
	if !c.endAt.IsZero() && !now.Before(c.endAt) {
		if c.state <= proceeding {
			c.mu.Unlock()
			c.fail(ErrTimeout)
			return
		}
		c.finish()
		c.mu.Unlock()
		return
	}
	if !c.resendAt.IsZero() && !now.Before(c.resendAt) {
		c.resend(now)
	}
	c.arm(&c.layer.wheel, c)
	c.mu.Unlock()
}

func (c *Client) resend(now time.Time) {
	_ = send(c.request, c.flow, nil) // the next one tries again; timer B or F ends it
	c.interval *= 2
	if c.method != sip.INVITE {
		c.interval = min(c.interval, c.layer.cfg.T2)
	}
	c.resendAt = now.Add(c.interval)
}

// undeliverable hears from the transport that the request was queued and could not be sent.
func (c *Client) undeliverable(error) { c.Lost() }

// StampVia puts a Via with a fresh branch on a message that starts no transaction: the ACK of a 2xx (RFC 3261 16.6 step 8).
func (l *Layer) StampVia(m *sip.Message, f Flow, sentBy string) {
	via, _ := newVia(f, sentBy, "")
	m.Push(sip.Via, via)
}
