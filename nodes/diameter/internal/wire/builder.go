package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Builder writes a message by appending. The zero value is not ready: begin with NewRequest or NewAnswer.
type Builder struct {
	buf  []byte
	open [4]int // where the grouped AVPs that are being written begin
	deep int
}

// NewRequest begins a request in buf, which may be nil and is overwritten. Ids are set by who sends it.
func NewRequest(buf []byte, command, application uint32, flags byte) *Builder {
	b := &Builder{buf: append(buf[:0], make([]byte, HeaderSize)...)}
	binary.BigEndian.PutUint32(b.buf[4:], command)
	b.buf[4] = flags | FlagRequest
	binary.BigEndian.PutUint32(b.buf[8:], application)
	return b
}

// NewAnswer begins the answer to a request: its ids, its P flag and its Session-Id, which comes first.
func NewAnswer(req Message, flags byte) *Builder {
	b := &Builder{buf: append(make([]byte, 0, 512), req[:HeaderSize]...)}
	b.buf[4] = req.Flags()&FlagProxiable | flags
	if id, ok := req.Find(SessionID); ok {
		b.Bytes(SessionID, id)
	}
	return b
}

// header appends the header of an AVP and returns where it begins.
func (b *Builder) header(a Attribute, size int) int {
	at := len(b.buf)
	flags, head := uint32(0), 8
	if a&Mandatory != 0 {
		flags = avpMandatory
	}
	if a.Vendor() != 0 {
		flags, head = flags|avpVendor, 12
	}
	b.buf = binary.BigEndian.AppendUint32(b.buf, a.Code())
	b.buf = binary.BigEndian.AppendUint32(b.buf, flags<<24|uint32(head+size)&0xffffff) //nolint:gosec // Finish refuses what is longer
	if head == 12 {
		b.buf = binary.BigEndian.AppendUint32(b.buf, a.Vendor())
	}
	return at
}

func (b *Builder) pad() {
	for len(b.buf)%4 != 0 {
		b.buf = append(b.buf, 0)
	}
}

// Bytes adds an AVP of octets.
func (b *Builder) Bytes(a Attribute, data []byte) *Builder {
	b.header(a, len(data))
	b.buf = append(b.buf, data...)
	b.pad()
	return b
}

// Text adds an AVP of text: UTF8String, DiameterIdentity, DiameterURI.
func (b *Builder) Text(a Attribute, text string) *Builder {
	b.header(a, len(text))
	b.buf = append(b.buf, text...)
	b.pad()
	return b
}

// Uint32 adds an AVP of 32 bits: Unsigned32, Integer32, Enumerated.
func (b *Builder) Uint32(a Attribute, v uint32) *Builder {
	b.header(a, 4)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	return b
}

// Address adds an AVP of type Address (RFC 6733 4.3.1).
func (b *Builder) Address(a Attribute, ip netip.Addr) *Builder {
	data := []byte{0, 1}
	if ip.Is6() && !ip.Is4In6() {
		data[1] = 2
	}
	return b.Bytes(a, append(data, ip.Unmap().AsSlice()...))
}

// Raw adds AVPs that are encoded already.
func (b *Builder) Raw(avps []byte) *Builder {
	b.buf = append(b.buf, avps...)
	b.pad()
	return b
}

// Begin opens a grouped AVP; what follows until End is in it. Groups nest up to four deep.
func (b *Builder) Begin(a Attribute) *Builder {
	b.open[b.deep] = b.header(a, 0)
	b.deep++
	return b
}

// End closes the innermost grouped AVP.
func (b *Builder) End() *Builder {
	b.deep--
	at := b.open[b.deep]
	word := binary.BigEndian.Uint32(b.buf[at+4:])
	binary.BigEndian.PutUint32(b.buf[at+4:], word&0xff000000|uint32(len(b.buf)-at)&0xffffff) //nolint:gosec // Finish refuses what is longer
	return b
}

// Finish returns the message. It shares the memory that was given to NewRequest if that was large enough.
func (b *Builder) Finish() (Message, error) {
	if len(b.buf) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrLength, len(b.buf))
	}
	binary.BigEndian.PutUint32(b.buf, uint32(len(b.buf))) //nolint:gosec // bounded by MaxSize
	b.buf[0] = 1
	return b.buf, nil
}
