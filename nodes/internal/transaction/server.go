package transaction

import (
	"bytes"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Server is a server transaction (RFC 3261 17.2).
type Server struct {
	entry
	layer   *Layer
	key     key
	flow    Flow
	method  string
	last    []byte       // final response, for retransmissions
	ringing *sip.Message // provisional response, for the same
	Request *sip.Message // nil once a final response has been sent
	owner   any
	cancel  *sip.Message // a CANCEL that came before the owner
	forget  bool         // nothing is kept of the final response
}

// SetOwner keeps something of the User's with the transaction while it lives. A CANCEL that has overtaken it on another
// reader of the transport reaches the User now.
func (tx *Server) SetOwner(v any) {
	tx.mu.Lock()
	tx.owner = v
	early := tx.cancel
	tx.cancel = nil
	tx.mu.Unlock()
	if early != nil {
		tx.layer.user.Cancel(tx, early)
	}
}

// takeCancel tells whether a CANCEL concerns the User now: no final response has been sent, and the User knows of the
// request.
func (tx *Server) takeCancel(m *sip.Message) bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state != trying && tx.state != proceeding {
		return false
	}
	if tx.owner == nil {
		tx.cancel = m
		return false
	}
	return true
}

// Owner returns what SetOwner kept; nil after the final response.
func (tx *Server) Owner() any {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.owner
}

// Flow is where the request came from.
func (tx *Server) Flow() Flow { return tx.flow }

// Method of the request; it outlives Request.
func (tx *Server) Method() string { return tx.method }

// Respond sends a response, which must not be changed afterwards. After a final one only 2xx to INVITE are still sent
// (RFC 6026 7.1); others are dropped.
func (tx *Server) Respond(m *sip.Message) error {
	buf, _ := buffers.Get().(*[]byte)
	defer release(buf)
	*buf = m.AppendTo((*buf)[:0])
	tx.mu.Lock()
	send := tx.advance(m, *buf)
	tx.mu.Unlock()
	if !send {
		return nil
	}
	return tx.flow.Send(*buf, nil)
}

// advance moves the state machine for a response to be sent, b in print. The lock is held.
func (tx *Server) advance(m *sip.Message, b []byte) (send bool) {
	switch tx.state {
	case trying, proceeding:
	case accepted:
		return m.Status >= 200 && m.Status < 300
	default:
		return false
	}
	if m.Status < 200 {
		tx.state, tx.ringing = proceeding, m
		return true
	}
	tx.layer.table.live.Add(-1)
	tx.Request, tx.owner, tx.ringing, tx.resendAt = nil, nil, nil, time.Time{}
	now, t1 := time.Now(), tx.layer.cfg.T1
	switch {
	case tx.method == sip.INVITE && m.Status < 300:
		tx.state = accepted
		tx.pass(nil, now) // timer L
	case tx.method == sip.INVITE:
		tx.state, tx.last = completed, bytes.Clone(b)
		if !tx.flow.Reliable() {
			tx.interval, tx.resendAt = t1, now.Add(t1) // timer G
		}
		tx.end(now.Add(64 * t1)) // timer H
	case tx.flow.Reliable(), tx.forget:
		tx.finish()
	default:
		tx.state = terminated
		tx.pass(b, now) // timer J
	}
	return true
}

// pass leaves the table to a record that answers retransmissions with b. The lock is held.
func (tx *Server) pass(b []byte, now time.Time) {
	tx.layer.wheel.stop(&tx.timer)
	tx.layer.table.pass(tx.key, b, now)
}

// promise sees to it that a request other than INVITE gets a 100 when the peer's Timer E has come to T2, and not before
// (RFC 4320 4.1).
func (tx *Server) promise() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state != trying || tx.method == sip.INVITE {
		return
	}
	wait := time.Duration(0)
	for d := tx.layer.cfg.T1; d < tx.layer.cfg.T2; d *= 2 {
		wait += d
	}
	tx.resendAt = time.Now().Add(wait)
	tx.arm(&tx.layer.wheel, tx)
}

func (tx *Server) end(at time.Time) {
	tx.endAt = at
	tx.arm(&tx.layer.wheel, tx)
}

// finish forgets the transaction. The lock is held.
func (tx *Server) finish() {
	tx.state, tx.last, tx.ringing, tx.Request, tx.owner, tx.cancel = terminated, nil, nil, nil, nil, nil
	tx.layer.wheel.stop(&tx.timer)
	tx.layer.table.removeServer(tx.key)
}

// Forget has nothing kept of the final response to a request other than INVITE: a retransmission makes a transaction of its
// own (RFC 3261 8.2.7).
func (tx *Server) Forget() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.forget = true
}

// Abandon ends a transaction without an answer: a non-INVITE request that timed out (RFC 4320 4.2).
func (tx *Server) Abandon() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state == trying || tx.state == proceeding {
		tx.layer.table.live.Add(-1)
		tx.finish()
	}
}

// retransmitted answers a repeated request with the last response.
func (tx *Server) retransmitted(f Flow) {
	tx.mu.Lock()
	last, ringing := tx.last, tx.ringing
	tx.mu.Unlock()
	switch { // the next retransmission tries again
	case last != nil:
		_ = f.Send(last, nil)
	case ringing != nil:
		_ = send(ringing, f, nil)
	}
}

// acknowledged takes an ACK with the branch of the INVITE. It returns false when that is not the ACK of an error.
func (tx *Server) acknowledged() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	switch tx.state {
	case completed:
		tx.state, tx.resendAt = confirmed, time.Time{}
		if tx.flow.Reliable() {
			tx.finish()
			return true
		}
		tx.end(time.Now().Add(tx.layer.cfg.T4)) // timer I
		return true
	case confirmed, terminated:
		return true
	default:
		return false
	}
}

func (tx *Server) fire(now time.Time) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state == terminated {
		return
	}
	if !tx.endAt.IsZero() && !now.Before(tx.endAt) {
		tx.finish()
		return
	}
	switch {
	case tx.resendAt.IsZero() || now.Before(tx.resendAt):
	case tx.state == trying || tx.state == proceeding:
		tx.resendAt = time.Time{}
		if tx.state == trying {
			tx.state, tx.ringing = proceeding, tx.Request.NewResponse(100, "", "")
			_ = send(tx.ringing, tx.flow, nil) // a retransmission gets it again
		}
	default:
		_ = tx.flow.Send(tx.last, nil)
		tx.interval = min(2*tx.interval, tx.layer.cfg.T2)
		tx.resendAt = now.Add(tx.interval)
	}
	tx.arm(&tx.layer.wheel, tx)
}
