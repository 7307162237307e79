// Package transaction is the SIP transaction layer (RFC 3261 section 17 with the INVITE states of RFC 6026): it
// absorbs and makes retransmissions, matches responses, CANCEL and ACK, and acknowledges final errors. One compact
// table holds every transaction; one timer wheel drives them. It decides nothing: a User does.
package transaction

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// Flow is where a message came from and where it goes: a UDP address pair or one connection.
type Flow = *transport.Flow

// User is told of requests. Its methods are called on the transport's reader and must not block.
type User interface {
	Request(tx *Server)                  // a new request other than ACK and CANCEL
	Cancel(tx *Server, why *sip.Message) // an INVITE is to be cancelled; the CANCEL itself has been answered
	Ack(m *sip.Message, f Flow)          // an ACK that belongs to no transaction: that of a 2xx
}

// Receiver gets what a client transaction brings. Its methods must not block.
type Receiver interface {
	Response(c *Client, m *sip.Message) // without our Via; in order
	Failed(c *Client, err error)        // ErrTimeout, or what the transport said; nothing follows
}

// Errors of a client transaction.
var (
	ErrTimeout = errors.New("no final response in time")
	ErrClosed  = errors.New("flow closed")
)

// Config holds the timers of RFC 3261 table 4. Zero values take the defaults.
type Config struct {
	T1, T2, T4 time.Duration
	Log        *slog.Logger
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.T1, 500*time.Millisecond)
	set(&c.T2, 4*time.Second)
	set(&c.T4, 5*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Layer is the transaction table of one node.
type Layer struct {
	cfg     Config
	user    User
	wheel   wheel
	table   table
	flows   flows
	strange func(m *sip.Message) // a response without a transaction
}

// New makes a layer. Run must be running for timers to fire.
func New(cfg Config, user User) *Layer {
	cfg.defaults()
	l := &Layer{cfg: cfg, user: user}
	l.wheel.init(l.table.past.sweep)
	l.table.init(64 * cfg.T1)
	l.flows.init()
	return l
}

// OnStray sets what gets responses that match no transaction (late 2xx after Timer M); nil drops them.
func (l *Layer) OnStray(f func(m *sip.Message)) { l.strange = f }

// Run drives the timers until ctx ends.
func (l *Layer) Run(ctx context.Context) error { return l.wheel.run(ctx) }

// Live counts server transactions that have no final response yet, and client transactions likewise.
func (l *Layer) Live() int64 { return l.table.live.Load() }

// Len counts every transaction that is remembered.
func (l *Layer) Len() int { return l.table.len() }

// Receive takes a message from the transport.
func (l *Layer) Receive(m *sip.Message, f Flow) {
	if !m.IsRequest() {
		l.response(m)
		return
	}
	via, err := sip.ParseVia(m.Get(sip.Via))
	if err != nil {
		return // Parse has checked it
	}
	switch m.Method {
	case sip.ACK:
		if tx := l.table.server(serverKey(m, via, sip.INVITE)); tx != nil && tx.acknowledged() {
			return
		}
		l.user.Ack(m, f)
	case sip.CANCEL:
		l.cancel(m, via, f)
	default:
		l.request(m, via, f)
	}
}

func (l *Layer) request(m *sip.Message, via sip.ViaHop, f Flow) {
	key := serverKey(m, via, m.Method)
	tx := &Server{layer: l, key: key, flow: f, Request: m, method: m.Method}
	if live, known := l.table.addServer(key, tx); known {
		if live != nil {
			live.retransmitted(f)
			return
		}
		if answer, _ := l.table.past.find(key, nil); len(answer) > 0 {
			_ = f.Send(answer, nil) // the next retransmission tries again
		}
		return
	}
	l.table.live.Add(1)
	l.user.Request(tx)
	tx.promise()
}

func (l *Layer) cancel(m *sip.Message, via sip.ViaHop, f Flow) {
	key := serverKey(m, via, sip.INVITE)
	tx := l.table.server(key)
	status := 200
	if tx == nil && !l.table.past.has(key) {
		status = 481
	}
	answer := m.NewResponse(status, "", NewTag())
	if err := send(answer, f, nil); err != nil {
		l.cfg.Log.Debug("answering CANCEL", "call_id", m.CallID(), "error", err)
	}
	if tx != nil && tx.takeCancel(m) {
		l.user.Cancel(tx, m)
	}
}

func (l *Layer) response(m *sip.Message) {
	via, err := sip.ParseVia(m.Get(sip.Via))
	if err != nil {
		return
	}
	_, method := m.CSeq()
	c := l.table.client(clientKey(via.Branch(), method))
	if c == nil {
		if l.strange != nil {
			l.strange(m)
		}
		return
	}
	m.Pop(sip.Via)
	c.received(m)
}

// entry is what both kinds of transaction share: a lock, a state and one timer with two deadlines.
type entry struct {
	mu       sync.Mutex
	timer    timer
	resendAt time.Time // zero: none
	endAt    time.Time // zero: none
	interval time.Duration
	state    state
}

type state uint8

const (
	trying     state = iota // request seen, or sent; no response yet
	proceeding              // provisional response
	completed               // final response other than 2xx to INVITE
	confirmed               // server INVITE: ACK seen
	accepted                // INVITE with 2xx (RFC 6026)
	terminated
)

// arm sets the timer to the nearer of the two deadlines. The lock is held.
func (e *entry) arm(w *wheel, owner firer) {
	next := e.endAt
	if !e.resendAt.IsZero() && (next.IsZero() || e.resendAt.Before(next)) {
		next = e.resendAt
	}
	if next.IsZero() {
		w.stop(&e.timer)
		return
	}
	w.schedule(&e.timer, owner, next)
}

// buffers are those that messages are printed into: sending takes a copy.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }} //nolint:gochecknoglobals // a pool

// SendMessage prints a message and sends it outside of any transaction; for failed see transport.Flow.Send.
func SendMessage(m *sip.Message, f Flow, failed func(error)) error { return send(m, f, failed) }

// send prints a message and sends it; for failed see Flow.Send.
func send(m *sip.Message, f Flow, failed func(error)) error {
	b, _ := buffers.Get().(*[]byte)
	*b = m.AppendTo((*b)[:0])
	err := f.Send(*b, failed)
	release(b)
	return err
}

func release(b *[]byte) {
	if cap(*b) <= 64<<10 {
		buffers.Put(b)
	}
}
