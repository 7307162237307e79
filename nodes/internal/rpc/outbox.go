package rpc

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	outboxLimit  = 16 << 20         // bytes waiting to be written before appending waits or is refused
	writeTimeout = 10 * time.Second // a peer that takes nothing for so long is gone
)

// outbox collects frames and writes all that are waiting with one call, so that under load many frames share a
// system call and a TLS record.
type outbox struct {
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	room  sync.Cond // signalled when buf was taken or err set
	buf   []byte
	spare []byte
	err   error
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// append queues a frame. When too much is waiting it blocks if wait is set, else it refuses.
func (o *outbox) append(h header, payload []byte, wait bool) error {
	o.mu.Lock()
	for o.err == nil && len(o.buf) > outboxLimit {
		if !wait {
			o.mu.Unlock()
			return fmt.Errorf("peer does not keep up: %w", ErrUnavailable)
		}
		o.room.Wait()
	}
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	first := len(o.buf) == 0
	o.buf = appendFrame(o.buf, h, payload)
	o.mu.Unlock()
	if first {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// take returns everything that waits, or nil.
func (o *outbox) take(written []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if written != nil && cap(written) <= 1<<20 {
		o.spare = written[:0]
	}
	if len(o.buf) == 0 {
		return nil
	}
	out := o.buf
	o.buf, o.spare = o.spare, nil
	o.room.Broadcast()
	return out
}

// run writes until close or a write fails.
func (o *outbox) run(conn net.Conn) error {
	for range o.wake {
		runtime.Gosched() // callers that are ready add their frames first
		for out := o.take(nil); out != nil; out = o.take(out) {
			if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return fmt.Errorf("writing frames: %w", err)
			}
			if _, err := conn.Write(out); err != nil {
				return fmt.Errorf("writing frames: %w", err)
			}
		}
		o.mu.Lock()
		err := o.err
		o.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// close refuses further frames with err; run returns.
func (o *outbox) close(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.room.Broadcast()
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
