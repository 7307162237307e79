package peer

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// base begins a request of the base protocol.
func (n *Node) base(command uint32) *wire.Builder {
	return wire.NewRequest(nil, command, wire.Base, 0).Text(wire.OriginHost, n.cfg.Host).Text(wire.OriginRealm, n.cfg.Realm)
}

// request answers a request of the peer. Those of applications are worked on side by side.
func (c *conn) request(ctx context.Context, m wire.Message) {
	if m.Application() == wire.Base {
		c.reply(c.baseRequest(m))
		return
	}
	if f := c.node.refuses(m); f != nil {
		c.node.metrics.refused.WithLabelValues(fmt.Sprint(f.Code)).Inc()
		c.log.Info("Diameter request refused", "command", m.Command(), "application", m.Application(), "error", f)
		c.reply(c.node.Refuse(m, f))
		return
	}
	select {
	case c.serving <- struct{}{}:
	default:
		c.node.metrics.refused.WithLabelValues(fmt.Sprint(wire.TooBusy)).Inc()
		c.reply(c.node.Refuse(m, &dictionary.FaultError{Code: wire.TooBusy, Text: "too many requests in work"}))
		return
	}
	go func() {
		defer func() { <-c.serving }()
		c.node.metrics.received.WithLabelValues(c.node.name(m)).Inc()
		answer, again := c.node.duplicates.once(ctx, m, func() wire.Message { return c.node.deps.Handlers[m.Application()](ctx, m) })
		if again {
			c.node.metrics.duplicates.Inc()
			if answer == nil {
				return
			}
			answer = bytes.Clone(answer)
			answer.SetHopByHop(m.HopByHop())
		}
		c.reply(answer)
	}()
}

func (c *conn) reply(m wire.Message) {
	if m != nil && !c.out.put(m) {
		c.close(fmt.Errorf("the peer does not read"))
	}
}

// refuses finds what is wrong with a request before its application sees it (RFC 6733 6.1, 7).
func (n *Node) refuses(m wire.Message) *dictionary.FaultError {
	if m.BadFlags() {
		return &dictionary.FaultError{Code: wire.InvalidHeaderBits, Text: fmt.Sprintf("flags %#02x", m.Flags())}
	}
	if n.deps.Handlers[m.Application()] == nil {
		return &dictionary.FaultError{Code: wire.ApplicationUnknown, Text: fmt.Sprintf("application %d is not offered", m.Application())}
	}
	if f := n.deps.Dictionary.Validate(m); f != nil {
		return f
	}
	for s := m.AVPs(); s.Next(); {
		switch {
		case s.Kind.Is(wire.RouteRecord) && strings.EqualFold(string(s.Data), n.cfg.Host):
			return &dictionary.FaultError{Code: wire.LoopDetected, Text: "this node is in Route-Record"}
		case s.Kind.Is(wire.DestinationRealm) && !strings.EqualFold(string(s.Data), n.cfg.Realm):
			n.metrics.misdirected.WithLabelValues("realm").Inc()
			return &dictionary.FaultError{Code: wire.RealmNotServed, Text: fmt.Sprintf("realm %q is not served here", s.Data)}
		case s.Kind.Is(wire.DestinationHost) && n.cfg.CheckHost && !strings.EqualFold(string(s.Data), n.cfg.Host):
			n.metrics.misdirected.WithLabelValues("host").Inc()
			return &dictionary.FaultError{Code: wire.UnableToDeliver, Text: fmt.Sprintf("host %q is not this one", s.Data)}
		}
	}
	return nil
}

// Refuse is the answer for a fault. Faults of the protocol (3xxx) carry the E flag (RFC 6733 7.2).
func (n *Node) Refuse(m wire.Message, f *dictionary.FaultError) wire.Message {
	flags := byte(0)
	if f.Code >= 3000 && f.Code < 4000 {
		flags = wire.FlagError
	}
	b := wire.NewAnswer(m, flags).Uint32(wire.ResultCode, f.Code).Text(wire.OriginHost, n.cfg.Host).Text(wire.OriginRealm, n.cfg.Realm)
	if f.Text != "" {
		b.Text(wire.ErrorMessage, f.Text)
	}
	if f.Failed != nil {
		b.Begin(wire.FailedAVP).Raw(f.Failed).End()
	}
	ProxyInfo(b, m)
	answer, err := b.Finish()
	if err != nil {
		return nil // only if the request's Proxy-Info fills a message: then nobody waits
	}
	return answer
}

// ProxyInfo copies what agents on the way want back (RFC 6733 6.2).
func ProxyInfo(b *wire.Builder, req wire.Message) {
	for s := req.AVPs(); s.Next(); {
		if s.Kind.Is(wire.ProxyInfo) {
			b.Raw(s.Whole())
		}
	}
}

// baseRequest answers DWR and DPR.
func (c *conn) baseRequest(m wire.Message) wire.Message {
	n := c.node
	if f := n.deps.Dictionary.Validate(m); f != nil {
		n.metrics.refused.WithLabelValues(fmt.Sprint(f.Code)).Inc()
		return n.Refuse(m, f)
	}
	b := wire.NewAnswer(m, 0).Uint32(wire.ResultCode, wire.Success).Text(wire.OriginHost, n.cfg.Host).Text(wire.OriginRealm, n.cfg.Realm)
	switch m.Command() {
	case wire.DeviceWatchdog:
		b.Uint32(wire.OriginStateID, n.stateID)
	case wire.DisconnectPeer:
		c.told(m)
	default: // capabilities are exchanged once
		return n.Refuse(m, &dictionary.FaultError{Code: wire.UnableToComply, Text: "capabilities have been exchanged"})
	}
	answer, err := b.Finish()
	if err != nil {
		return nil
	}
	return answer
}

// told is the peer's DPR: no more requests to it; it closes the connection when it has our answer, else we do.
func (c *conn) told(m wire.Message) {
	cause, _ := m.Uint32(wire.DisconnectCause)
	c.cause.Store(int32(min(cause, 2)) + 1) //nolint:gosec // at most 3
	c.leaving.Store(true)
	c.mu.Lock()
	c.left = true
	c.mu.Unlock()
	c.log.Info("Diameter peer takes leave", "cause", cause)
	time.AfterFunc(leaveTimeout, func() { c.close(fmt.Errorf("the peer took leave, cause %d", cause)) })
}
