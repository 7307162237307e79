package transport

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// ID is what makes a flow this one (RFC 5626 section 3): comparable, and the base of flow tokens. Serial is 0 for UDP
// and different for every connection.
type ID struct {
	Transport     resolve.Transport
	Local, Remote netip.AddrPort
	Serial        uint64
}

// AppendBinary encodes the identity; ParseID reads it back.
func (id ID) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, byte(id.Transport))
	for _, ap := range [...]netip.AddrPort{id.Local, id.Remote} {
		addr := ap.Addr().AsSlice()
		b = append(b, byte(len(addr)))
		b = append(b, addr...)
		b = binary.BigEndian.AppendUint16(b, ap.Port())
	}
	return binary.BigEndian.AppendUint64(b, id.Serial), nil
}

var errID = errors.New("malformed flow identity")

// ParseID reads what AppendBinary wrote.
func ParseID(b []byte) (ID, error) {
	if len(b) < 1 {
		return ID{}, errID
	}
	id := ID{Transport: resolve.Transport(b[0])}
	b = b[1:]
	for _, ap := range [...]*netip.AddrPort{&id.Local, &id.Remote} {
		if len(b) < 1 || len(b) < 3+int(b[0]) {
			return ID{}, errID
		}
		n := int(b[0])
		addr, ok := netip.AddrFromSlice(b[1 : 1+n])
		if !ok {
			return ID{}, errID
		}
		*ap = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[1+n:]))
		b = b[3+n:]
	}
	if len(b) != 8 {
		return ID{}, errID
	}
	id.Serial = binary.BigEndian.Uint64(b)
	return id, nil
}

// Link is what a flow sends on. This package has two, transporttest one.
type Link interface {
	// Send takes a whole message; the buffer is the caller's again when it returns. See Flow.Send.
	Send(f *Flow, buf []byte, failed func(error)) error
	// Close ends a connection; on UDP it does nothing.
	Close()
}

// Flow is a way to one peer: a UDP address pair or a connection. Two Flow values with equal ID are the same flow.
type Flow struct {
	id       ID
	listener string
	link     Link
	closed   atomic.Bool
	mu       sync.Mutex
	onClose  []func()
}

// NewFlow is for implementations of Link.
func NewFlow(id ID, listener string, link Link) *Flow {
	return &Flow{id: id, listener: listener, link: link}
}

// ID returns the identity.
func (f *Flow) ID() ID { return f.id }

// Transport tells UDP from TCP.
func (f *Flow) Transport() resolve.Transport { return f.id.Transport }

// Local is our address, Remote the peer's. The local port of a connection that we opened is that of its socket.
func (f *Flow) Local() netip.AddrPort { return f.id.Local }

// Remote is the peer's address.
func (f *Flow) Remote() netip.AddrPort { return f.id.Remote }

// Hop is the peer as a hop, for reports to the resolver.
func (f *Flow) Hop() resolve.Hop { return resolve.Hop{Addr: f.id.Remote, Transport: f.id.Transport} }

// Listener is the name of the listener that the flow belongs to: where it came in, or from whose address it was opened.
func (f *Flow) Listener() string { return f.listener }

// Reliable tells whether the transport repeats by itself (RFC 3261 section 17).
func (f *Flow) Reliable() bool { return f.id.Transport != resolve.UDP }

// Send sends one message; the buffer may be reused at once. An error means that it was not sent. If it was queued and
// turns out to be undeliverable (connecting failed, connection lost before it was written), failed is called once, on
// another goroutine; it may be nil.
func (f *Flow) Send(buf []byte, failed func(error)) error { return f.link.Send(f, buf, failed) }

// Close ends the connection of a flow; messages that wait are lost.
func (f *Flow) Close() { f.link.Close() }

// Closed tells whether the flow has ended; UDP flows never do.
func (f *Flow) Closed() bool { return f.closed.Load() }

// OnClose has a function called once when the flow ends, at once if it has. It must not block.
func (f *Flow) OnClose(call func()) {
	if !f.Reliable() {
		return
	}
	f.mu.Lock()
	if !f.closed.Load() {
		f.onClose = append(f.onClose, call)
		f.mu.Unlock()
		return
	}
	f.mu.Unlock()
	call()
}

// MarkClosed is for implementations of Link: it runs what OnClose collected, the first time.
func (f *Flow) MarkClosed() {
	f.mu.Lock()
	if f.closed.Swap(true) {
		f.mu.Unlock()
		return
	}
	calls := f.onClose
	f.onClose = nil
	f.mu.Unlock()
	for _, call := range calls {
		call()
	}
}
