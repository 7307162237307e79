package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// A frame is: u32 length of what follows, u64 call id, u16 method (request) or status (answer), u32 time left in
// milliseconds (request; 0 = none), payload. All big-endian. Call id 0 is the protocol's own (ping, going away).
const (
	lengthSize = 4
	headerSize = 8 + 2 + 4
	// MaxFrame bounds a frame without its length field, in bytes.
	MaxFrame = 4 << 20
	// MaxPayload bounds a request or an answer, in bytes.
	MaxPayload = MaxFrame - headerSize

	readBuffer   = 64 << 10
	keptCapacity = 64 << 10 // larger buffers go back to the garbage collector
)

type header struct {
	id   uint64
	code uint16 // method or status
	left uint32 // milliseconds
}

var errFrame = errors.New("broken frame")

func appendFrame(buf []byte, h header, payload []byte) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(headerSize+len(payload))) //nolint:gosec // bounded by MaxPayload
	buf = binary.BigEndian.AppendUint64(buf, h.id)
	buf = binary.BigEndian.AppendUint16(buf, h.code)
	buf = binary.BigEndian.AppendUint32(buf, h.left)
	return append(buf, payload...)
}

// readFrame returns the next frame; its payload is a pooled buffer that the caller releases.
func readFrame(r *bufio.Reader) (header, *buffer, error) {
	head, err := r.Peek(lengthSize + headerSize)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return header{}, nil, err
	}
	length := binary.BigEndian.Uint32(head)
	if length < headerSize || length > MaxFrame {
		return header{}, nil, fmt.Errorf("%w: length %d is not between %d and %d", errFrame, length, headerSize, MaxFrame)
	}
	h := header{
		id:   binary.BigEndian.Uint64(head[4:]),
		code: binary.BigEndian.Uint16(head[12:]),
		left: binary.BigEndian.Uint32(head[14:]),
	}
	_, _ = r.Discard(lengthSize + headerSize) // cannot fail: it was peeked
	b := newBuffer(int(length) - headerSize)
	if _, err := io.ReadFull(r, b.bytes); err != nil {
		b.release()
		return header{}, nil, fmt.Errorf("reading a frame's payload: %w", err)
	}
	return h, b, nil
}

// timeLeft turns a deadline into the header's milliseconds, rounding up so that no call is cut short; the longest
// that can be said is 49 days.
func timeLeft(deadline time.Time) uint32 {
	left := time.Until(deadline)
	return uint32(min(max(int64((left+time.Millisecond-1)/time.Millisecond), 1), 1<<32-1)) //nolint:gosec // clamped
}

// buffer is a pooled byte slice with one owner.
type buffer struct{ bytes []byte }

var buffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, 0, 1024)} }} //nolint:gochecknoglobals // a pool holds no state

func newBuffer(size int) *buffer {
	b, _ := buffers.Get().(*buffer)
	if cap(b.bytes) < size {
		b.bytes = make([]byte, size)
	}
	b.bytes = b.bytes[:size]
	return b
}

func (b *buffer) release() {
	if b != nil && cap(b.bytes) <= keptCapacity {
		buffers.Put(b)
	}
}
