package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pingInterval = time.Second
	pingTimeout  = 4 * time.Second // silence after which a server is given up, though its TCP connection stands
)

// errNotSent says that a connection could not take a call: another server may.
var errNotSent = fmt.Errorf("connection closing: %w", ErrUnavailable)

// call waits for one answer. It is pooled: whoever takes it out of conn.pending signals done exactly once.
type call struct {
	done   chan struct{} // capacity 1
	status uint16
	answer *buffer
	err    error
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }} //nolint:gochecknoglobals // a pool holds no state

// conn is a client's connection to one server.
type conn struct {
	nc       net.Conn
	in       *bufio.Reader
	out      *outbox
	lastRead atomic.Int64 // Unix nanoseconds

	mu      sync.Mutex
	pending map[uint64]*call
	nextID  uint64
	leaving bool // no new calls; closes when the last pending one is done
	closed  bool
}

// newConn takes over nc, on which the server's greeting was read through in.
func newConn(nc net.Conn, in *bufio.Reader) *conn {
	c := &conn{nc: nc, in: in, out: newOutbox(), pending: map[uint64]*call{}}
	c.lastRead.Store(time.Now().UnixNano())
	return c
}

// usable tells whether new calls are taken.
func (c *conn) usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.leaving && !c.closed
}

// leave takes no new calls and closes once the pending ones are answered.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return
	}
	c.leaving = true
	if len(c.pending) == 0 {
		_ = c.nc.Close()
	}
}

// run reads answers and writes calls until the connection ends or ctx does; then every pending call fails.
func (c *conn) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.out.run(c.nc); err != nil {
			_ = c.nc.Close()
		}
	})
	wg.Go(func() { c.ping(ended) })
	err := c.read()
	close(ended)
	_ = c.nc.Close()
	c.out.close(errNotSent)
	c.fail(fmt.Errorf("%w: %w", ErrInterrupted, err))
	wg.Wait()
	return err
}

func (c *conn) read() error {
	for {
		h, answer, err := readFrame(c.in)
		if err != nil {
			return err
		}
		c.lastRead.Store(time.Now().UnixNano())
		if h.id == 0 {
			answer.release()
			if h.code == statusGoingAway {
				c.leave()
			}
			continue
		}
		waiting := c.remove(h.id)
		if waiting == nil { // it timed out here
			answer.release()
			continue
		}
		waiting.status, waiting.answer = h.code, answer
		waiting.done <- struct{}{}
	}
}

// ping keeps asking for a sign of life, so that a server that stopped without closing is noticed.
func (c *conn) ping(ended <-chan struct{}) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if time.Now().UnixNano()-c.lastRead.Load() > int64(pingTimeout) {
			_ = c.nc.Close()
			return
		}
		_ = c.out.append(header{code: uint16(methodPing)}, nil, false)
	}
}

func (c *conn) remove(id uint64) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting, ok := c.pending[id]
	if !ok {
		return nil
	}
	delete(c.pending, id)
	if c.leaving && len(c.pending) == 0 {
		_ = c.nc.Close()
	}
	return waiting
}

func (c *conn) fail(err error) {
	c.mu.Lock()
	c.closed = true
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, waiting := range pending {
		waiting.err = err
		waiting.done <- struct{}{}
	}
}

// roundTrip sends a call and waits for its answer, a pooled buffer that the caller releases.
func (c *conn) roundTrip(ctx context.Context, m Method, payload []byte) (uint16, *buffer, error) {
	h := header{code: uint16(m)}
	if deadline, ok := ctx.Deadline(); ok {
		h.left = timeLeft(deadline)
	}
	waiting, _ := calls.Get().(*call)
	c.mu.Lock()
	if c.leaving || c.closed {
		c.mu.Unlock()
		calls.Put(waiting)
		return 0, nil, errNotSent
	}
	c.nextID++
	h.id = c.nextID
	c.pending[h.id] = waiting
	c.mu.Unlock()

	if err := c.out.append(h, payload, false); err != nil {
		c.abandon(h.id, waiting)
		return 0, nil, err
	}
	select {
	case <-waiting.done:
	case <-ctx.Done():
		c.abandon(h.id, waiting)
		return 0, nil, timeoutError(ctx)
	}
	status, answer, err := waiting.status, waiting.answer, waiting.err
	recycle(waiting)
	return status, answer, err
}

// abandon gives up waiting; an answer that is just coming is thrown away.
func (c *conn) abandon(id uint64, waiting *call) {
	if c.remove(id) == nil {
		<-waiting.done
		waiting.answer.release()
	}
	recycle(waiting)
}

func recycle(waiting *call) {
	waiting.status, waiting.answer, waiting.err = 0, nil, nil
	calls.Put(waiting)
}

func timeoutError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrTimeout, ctx.Err())
	}
	return fmt.Errorf("call given up: %w", ctx.Err())
}
