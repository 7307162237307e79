// Package wire is Diameter on the wire (RFC 6733 sections 3 and 4): messages are read where they lie, AVP by AVP, and
// written by appending. Nothing is decoded that nobody asks for, which is what the hot answers of Cx need; package
// dictionary knows names and rules, and is for requests and for people.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Sizes of a message in bytes. Lengths outside are refused before memory is taken for them.
const (
	HeaderSize = 20
	MaxSize    = 1 << 20
)

// Command flags (RFC 6733 3).
const (
	FlagRequest       = 0x80
	FlagProxiable     = 0x40
	FlagError         = 0x20
	FlagRetransmitted = 0x10 // T: perhaps sent before, over another peer
	flagsReserved     = 0x0f
)

// Errors of reading. All say that the rest of the stream, or of the message, has no meaning.
var (
	ErrLength  = errors.New("message length refused")
	ErrVersion = errors.New("not Diameter version 1")
	ErrAVP     = errors.New("AVP length refused")
)

// Message is a whole message. Read and Check make sure that the header is there.
type Message []byte

// Read reads one message into new memory. It refuses lengths that cannot be, and versions other than 1, with ErrLength
// and ErrVersion before it takes memory; the stream cannot be read on after either.
func Read(r io.Reader) (Message, error) {
	var head [HeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err //nolint:wrapcheck // io.EOF between messages is not an error of a message
	}
	size, err := frame(head[:])
	if err != nil {
		return nil, err
	}
	m := make(Message, size)
	copy(m, head[:])
	if _, err := io.ReadFull(r, m[HeaderSize:]); err != nil {
		return nil, fmt.Errorf("reading a message of %d bytes: %w", size, err)
	}
	return m, nil
}

// ReadBuffered is Read without memory of its own for the header.
func ReadBuffered(r *bufio.Reader) (Message, error) {
	head, err := r.Peek(HeaderSize)
	if err != nil {
		if len(head) > 0 && errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err //nolint:wrapcheck // io.EOF between messages is not an error of a message
	}
	size, err := frame(head)
	if err != nil {
		return nil, err
	}
	m := make(Message, size)
	if _, err := io.ReadFull(r, m); err != nil {
		return nil, fmt.Errorf("reading a message of %d bytes: %w", size, err)
	}
	return m, nil
}

// frame checks a header and returns the message's length.
func frame(head []byte) (int, error) {
	if head[0] != 1 {
		return 0, fmt.Errorf("%w: %d", ErrVersion, head[0])
	}
	size := int(binary.BigEndian.Uint32(head) & 0xffffff)
	if size < HeaderSize || size > MaxSize || size%4 != 0 {
		return 0, fmt.Errorf("%w: %d bytes", ErrLength, size)
	}
	return size, nil
}

// Check tells whether b is one whole message whose AVPs fill it exactly. AVPs inside grouped ones are checked by who
// reads them.
func Check(b []byte) (Message, error) {
	switch {
	case len(b) < HeaderSize || len(b) > MaxSize || len(b)%4 != 0 || int(binary.BigEndian.Uint32(b)&0xffffff) != len(b):
		return nil, fmt.Errorf("%w: %d bytes", ErrLength, len(b))
	case b[0] != 1:
		return nil, fmt.Errorf("%w: %d", ErrVersion, b[0])
	}
	s := Message(b).AVPs()
	for s.Next() {
	}
	return b, s.Err()
}

// Flags returns the command flags.
func (m Message) Flags() byte { return m[4] }

// SetFlags replaces the command flags.
func (m Message) SetFlags(flags byte) { m[4] = flags }

// Request tells a request from an answer.
func (m Message) Request() bool { return m[4]&FlagRequest != 0 }

// BadFlags tells reserved flags, and those that a request must not have (RFC 6733 3).
func (m Message) BadFlags() bool {
	return m[4]&flagsReserved != 0 || m.Request() && m[4]&FlagError != 0 || !m.Request() && m[4]&FlagRetransmitted != 0
}

// Command returns the command code.
func (m Message) Command() uint32 { return binary.BigEndian.Uint32(m[4:]) & 0xffffff }

// Application returns the application id.
func (m Message) Application() uint32 { return binary.BigEndian.Uint32(m[8:]) }

// HopByHop returns the hop-by-hop id.
func (m Message) HopByHop() uint32 { return binary.BigEndian.Uint32(m[12:]) }

// SetHopByHop replaces the hop-by-hop id.
func (m Message) SetHopByHop(id uint32) { binary.BigEndian.PutUint32(m[12:], id) }

// EndToEnd returns the end-to-end id.
func (m Message) EndToEnd() uint32 { return binary.BigEndian.Uint32(m[16:]) }

// SetEndToEnd replaces the end-to-end id.
func (m Message) SetEndToEnd(id uint32) { binary.BigEndian.PutUint32(m[16:], id) }

// AVPs reads the AVPs of a message in order.
func (m Message) AVPs() Scanner { return Scanner{rest: m[HeaderSize:]} }

// Find returns the data of the first AVP of a kind.
func (m Message) Find(a Attribute) ([]byte, bool) { return Find(m[HeaderSize:], a) }

// Text returns the data of the first AVP of a kind as text, "" if there is none.
func (m Message) Text(a Attribute) string {
	data, _ := m.Find(a)
	return string(data)
}

// Uint32 returns the first AVP of a kind as a number of 32 bits; false if there is none of that size.
func (m Message) Uint32(a Attribute) (uint32, bool) {
	data, ok := m.Find(a)
	if !ok || len(data) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(data), true
}

// Attribute is the kind of an AVP: its code in the low 32 bits, above them the vendor, and at the top whether we send
// it with the M flag. Kinds are compared without that flag.
type Attribute uint64

// Parts of an Attribute.
const (
	Mandatory Attribute = 1 << 63
	TGPP      Attribute = 10415 << 32
)

// Kind makes an Attribute without the M flag.
func Kind(code, vendor uint32) Attribute { return Attribute(vendor)<<32 | Attribute(code) }

// Code returns the AVP code.
func (a Attribute) Code() uint32 { return uint32(a) } //nolint:gosec // the low half is meant

// Vendor returns the vendor id, 0 for the IETF's.
func (a Attribute) Vendor() uint32 { return uint32(a>>32) &^ (1 << 31) }

// Is tells whether two attributes are of one kind.
func (a Attribute) Is(b Attribute) bool { return (a^b)&^Mandatory == 0 }

// Flags of an AVP.
const (
	avpVendor    = 0x80
	avpMandatory = 0x40
)

// Scanner reads AVPs one after the other, in place.
type Scanner struct {
	Kind Attribute // code and vendor, without the M flag
	Data []byte    // part of the message
	Flag byte      // the AVP's flags

	bad  bool
	size int    // of the AVP without padding
	rest []byte // the AVP and what follows it
	next int    // where the following AVP begins in rest
}

// Group reads the AVPs of a grouped one.
func Group(data []byte) Scanner { return Scanner{rest: data} }

// Next goes to the next AVP. It returns false at the end, and where a length cannot be: see Err.
func (s *Scanner) Next() bool {
	rest := s.rest[s.next:]
	s.rest, s.next = rest, 0
	if len(rest) < 8 {
		s.bad = s.bad || len(rest) != 0
		return false
	}
	word := binary.BigEndian.Uint64(rest)
	size, head := int(word&0xffffff), 8 //nolint:gosec // 24 bits
	kind := Attribute(word >> 32)
	if word&(avpVendor<<24) != 0 {
		if head = 12; len(rest) >= head {
			kind |= Attribute(binary.BigEndian.Uint32(rest[8:])&^(1<<31)) << 32
		}
	}
	if size < head || size > len(rest) {
		s.bad = true
		return false
	}
	s.Kind, s.Flag, s.Data, s.size = kind, byte(word>>24), rest[head:size], size //nolint:gosec // the byte is meant
	s.next = min((size+3)&^3, len(rest))                                         // the last AVP of a group may lack its padding in careless stacks
	return true
}

// Whole returns the AVP with its header, without padding.
func (s *Scanner) Whole() []byte { return s.rest[:s.size:s.size] }

// Err returns ErrAVP if the AVPs did not end where they should.
func (s *Scanner) Err() error {
	if s.bad {
		return ErrAVP
	}
	return nil
}

// Rest returns what Next has not read.
func (s *Scanner) Rest() []byte { return s.rest[s.next:] }

// Find returns the data of the first AVP of a kind in a group.
func Find(avps []byte, a Attribute) ([]byte, bool) {
	a &^= Mandatory
	for s := Group(avps); s.Next(); {
		if s.Kind == a {
			return s.Data, true
		}
	}
	return nil, false
}

// Number reads the four bytes of an Unsigned32, Integer32 or Enumerated; false for any other size.
func Number(data []byte) (uint32, bool) {
	if len(data) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(data), true
}
