package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Errors of Send beside those of its context.
var (
	ErrEnded  = errors.New("the core has ended")
	ErrMethod = errors.New("requests of a node's own are neither INVITE nor ACK nor CANCEL")
)

// Send sends a request of the node itself (the user agent client of RFC 3261 8.1) and returns its final response. It goes
// the way of any other request: to the target's flow or hop, else by Route or Request-URI, to a function of this node or
// to the wire, from hop to hop until one takes it. Who does not answer makes a 408, who cannot be reached a 404 or 503,
// as Made in the reply tells. t.Msg is a whole request but for its Via and is the callee's from now on. When ctx ends
// before, its error comes back; the request may have been acted on nevertheless.
func (c *Core) Send(ctx context.Context, t Target) (*Reply, error) {
	m := t.Msg
	if m.Method == sip.INVITE || m.Method == sip.ACK || m.Method == sip.CANCEL {
		return nil, fmt.Errorf("%w: %s", ErrMethod, m.Method)
	}
	// It has no mark: it did not come here, and the next proxy of ours would take it for one that comes back.
	x := &exchange{core: c, method: m.Method, life: life{parent: c.ctx}}
	own := &origin{answer: make(chan *Reply, 1)}
	s := &stage{x: x, fn: "client", h: own, req: m.Outline(), pending: 1, counted: true}
	x.root = s
	c.background(func() { s.apply(Forward(t)) })
	select {
	case r := <-own.answer:
		return r, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("sending %s: %w", m.Method, ctx.Err())
	case <-c.ctx.Done():
		return nil, fmt.Errorf("sending %s: %w", m.Method, ErrEnded)
	}
}

// origin is the handler above a request of the node's own.
type origin struct {
	Forwarding
	answer chan *Reply
}

// Response takes the final response.
func (o *origin) Response(r *Reply) Verdict {
	if r.Msg.Status >= 200 {
		own := *r
		own.Msg = r.Msg.Clone() // the core goes on with this one
		select {
		case o.answer <- &own:
		default: // one is enough
		}
	}
	return Verdict{}
}
