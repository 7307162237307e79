package transport

import (
	"bytes"
	"net"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// reader is the receiving half of a connection.
type reader struct {
	conn    *conn
	sock    net.Conn
	frame   framer
	buf     []byte
	start   int // first byte not consumed
	end     int // behind the last byte read
	partial bool
	since   time.Time // when the partial message, or the wait for the first one, began; else when the deadline was set
	armed   time.Time // the deadline that is set
	crlf    int       // CR and LF bytes since the last message
}

func (r *reader) run() error {
	for {
		if err := r.fill(); err != nil {
			return err
		}
		if err := r.consume(); err != nil {
			return err
		}
	}
}

// fill reads once. A partial message must be complete FrameTimeout after it began; else IdleTimeout holds, which
// writes prolong.
func (r *reader) fill() error {
	r.room()
	for {
		r.arm()
		n, err := r.sock.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			return nil
		}
		if err == nil {
			continue
		}
		last := time.Unix(0, r.conn.used.Load())
		if !r.partial && isTimeout(err) && time.Since(last) < r.conn.layer.cfg.IdleTimeout {
			r.since = last
			r.armed = time.Time{}
			continue
		}
		return err
	}
}

func (r *reader) arm() {
	cfg := &r.conn.layer.cfg
	var deadline time.Time
	if r.partial {
		deadline = r.since.Add(cfg.FrameTimeout)
	} else {
		deadline = r.since.Add(cfg.IdleTimeout)
	}
	if !deadline.Equal(r.armed) {
		_ = r.sock.SetReadDeadline(deadline)
		r.armed = deadline
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // straight from the socket
	return ok && ne.Timeout()
}

// room makes space to read into: moves a partial message to the front, grows for a large one, shrinks after it.
func (r *reader) room() {
	if r.start == r.end {
		r.start, r.end = 0, 0
		if len(r.buf) > 4*readBuffer {
			r.buf = make([]byte, readBuffer)
		}
		return
	}
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.end -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		grown := make([]byte, 2*len(r.buf))
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
}

// consume hands over every complete message in the buffer.
func (r *reader) consume() error {
	handed := false
	for r.start < r.end {
		if r.frame.scanned == 0 && r.blank() {
			continue
		}
		data := r.buf[r.start:r.end]
		size, err := r.frame.next(data)
		if err != nil {
			r.conn.broken(r.sock, data, err)
			return err
		}
		if size == 0 {
			break
		}
		r.take(data[:size])
		handed = true
		r.start += size
		r.frame.reset()
		r.crlf = 0
	}
	r.clock(handed)
	return nil
}

// clock decides which timer runs until the next byte.
func (r *reader) clock(handed bool) {
	now := time.Now()
	begun := r.start < r.end // part of a message is here
	switch {
	case begun && (handed || !r.partial):
		r.partial, r.since = true, now
	case begun:
	case handed || !r.partial || r.crlf > 0:
		// Setting a deadline costs, so an idle timer is moved on only now and then.
		if r.partial || now.Sub(r.since) > r.conn.layer.cfg.IdleTimeout/8 {
			r.since = now
		}
		r.partial = false
	}
}

// blank skips a CR or LF between messages (RFC 3261 7.5) and answers a double CRLF with one (RFC 5626 4.4.1).
func (r *reader) blank() bool {
	c := r.buf[r.start]
	if c != '\r' && c != '\n' {
		return false
	}
	r.start++
	r.crlf++
	if r.crlf%4 == 0 && c == '\n' {
		r.conn.layer.metrics.keepalives.Inc()
		_ = r.conn.Send(r.conn.flow, []byte("\r\n"), nil)
	}
	return true
}

// take parses one framed message. A fault inside it leaves the stream in step, so the connection lives.
func (r *reader) take(data []byte) {
	c := r.conn
	c.layer.metrics.received[c.flow.id.Transport].Inc()
	m, err := sip.Parse(data)
	switch {
	case err == nil:
		c.layer.handler.Message(m, c.flow)
	case Refuse(m, err, c.flow):
		c.layer.bad(c.flow.id.Transport, "answered")
	default:
		c.layer.bad(c.flow.id.Transport, "dropped")
	}
}

// headerEnd returns where the headers end, or 0 when they do not yet.
func headerEnd(data []byte) int {
	if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}
