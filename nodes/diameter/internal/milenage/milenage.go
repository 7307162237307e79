// Package milenage is the example algorithm set of 3GPP TS 35.206 for the authentication and key generation functions
// f1, f1*, f2, f3, f4, f5 and f5* of TS 33.102, and the two uses that an authentication centre makes of it: vectors and
// resynchronisation.
package milenage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
)

// Sizes in octets.
const (
	KeySize  = 16
	RANDSize = 16
	AMFSize  = 2
	SQNSize  = 6
	MACSize  = 8
	AUTNSize = SQNSize + AMFSize + MACSize
	AUTSSize = SQNSize + MACSize
)

// MaxSQN is the highest sequence number, of 48 bits.
const MaxSQN = 1<<48 - 1

// ErrMAC says that a MAC-S is not of this key.
var ErrMAC = errors.New("the MAC-S of the AUTS is wrong")

type block = [16]byte

// Cipher computes the functions for one subscriber.
type Cipher struct {
	aes cipher.Block
	opc block
}

// New takes the subscriber's key and the OPc.
func New(k, opc []byte) (*Cipher, error) {
	if len(k) != KeySize || len(opc) != KeySize {
		return nil, fmt.Errorf("a key of %d octets and an OPc of %d, both have %d", len(k), len(opc), KeySize)
	}
	c, err := aes.NewCipher(k)
	if err != nil {
		return nil, fmt.Errorf("preparing the key: %w", err)
	}
	return &Cipher{c, block(opc)}, nil
}

// OPc derives the subscriber's constant from the operator's (TS 35.206 8.2).
func OPc(k, op []byte) ([]byte, error) {
	c, err := New(k, op)
	if err != nil {
		return nil, err
	}
	out := c.encrypt(c.opc)
	xor(&out, c.opc)
	return out[:], nil
}

func (c *Cipher) encrypt(in block) block {
	var out block
	c.aes.Encrypt(out[:], in[:])
	return out
}

func xor(a *block, b block) {
	for i := range a {
		a[i] ^= b[i]
	}
}

// rotate moves a block to the left by a number of octets; all of the rotations of TS 35.206 4.1 are whole octets.
func rotate(in block, octets int) block {
	var out block
	for i := range out {
		out[i] = in[(i+octets)%len(in)]
	}
	return out
}

// temp is E[RAND xor OPc].
func (c *Cipher) temp(rand [RANDSize]byte) block {
	xor(&rand, c.opc)
	return c.encrypt(rand)
}

// out is OUT2 to OUT5 (TS 35.206 4.1): the constant differs in its last octet only.
func (c *Cipher) out(rand [RANDSize]byte, octets int, constant byte) block {
	in := c.temp(rand)
	xor(&in, c.opc)
	in = rotate(in, octets)
	in[15] ^= constant
	in = c.encrypt(in)
	xor(&in, c.opc)
	return in
}

// F1 returns MAC-A and MAC-S (f1 and f1*).
func (c *Cipher) F1(rand [RANDSize]byte, sqn uint64, amf [AMFSize]byte) (macA, macS [MACSize]byte) {
	s := octets(sqn)
	var in block
	for _, half := range [][]byte{in[:8], in[8:]} {
		copy(half, s[:])
		copy(half[SQNSize:], amf[:])
	}
	xor(&in, c.opc)
	in = rotate(in, 8)
	xor(&in, c.temp(rand)) // the constant of OUT1 is zero
	in = c.encrypt(in)
	xor(&in, c.opc)
	return [MACSize]byte(in[:8]), [MACSize]byte(in[8:])
}

// F2 returns RES.
func (c *Cipher) F2(rand [RANDSize]byte) [8]byte {
	out := c.out(rand, 0, 1)
	return [8]byte(out[8:])
}

// F3 returns CK.
func (c *Cipher) F3(rand [RANDSize]byte) [16]byte { return c.out(rand, 4, 2) }

// F4 returns IK.
func (c *Cipher) F4(rand [RANDSize]byte) [16]byte { return c.out(rand, 8, 4) }

// F5 returns the anonymity key of AUTN.
func (c *Cipher) F5(rand [RANDSize]byte) [SQNSize]byte {
	out := c.out(rand, 0, 1)
	return [SQNSize]byte(out[:SQNSize])
}

// F5Star returns the anonymity key of AUTS.
func (c *Cipher) F5Star(rand [RANDSize]byte) [SQNSize]byte {
	out := c.out(rand, 12, 8)
	return [SQNSize]byte(out[:SQNSize])
}

// octets is a sequence number as it is sent.
func octets(sqn uint64) (out [SQNSize]byte) {
	for i := range out {
		out[SQNSize-1-i] = byte(sqn >> (8 * i)) //nolint:gosec // the low octet is meant
	}
	return out
}

func number(sqn [SQNSize]byte) (n uint64) {
	for _, b := range sqn {
		n = n<<8 | uint64(b)
	}
	return n
}

func conceal(sqn, key [SQNSize]byte) [SQNSize]byte {
	for i := range sqn {
		sqn[i] ^= key[i]
	}
	return sqn
}

// Vector is an authentication vector (TS 33.102 6.3.2).
type Vector struct {
	RAND   [RANDSize]byte
	AUTN   [AUTNSize]byte
	XRES   [8]byte
	CK, IK [16]byte
}

// Vector makes the vector of a random number and a sequence number.
func (c *Cipher) Vector(rand [RANDSize]byte, sqn uint64, amf [AMFSize]byte) Vector {
	v := Vector{RAND: rand, XRES: c.F2(rand), CK: c.F3(rand), IK: c.F4(rand)}
	hidden := conceal(octets(sqn), c.F5(rand))
	mac, _ := c.F1(rand, sqn, amf)
	copy(v.AUTN[:], hidden[:])
	copy(v.AUTN[SQNSize:], amf[:])
	copy(v.AUTN[SQNSize+AMFSize:], mac[:])
	return v
}

// AUTS makes the answer of a card that does not take a sequence number (TS 33.102 6.3.3); sqn is that of the card.
func (c *Cipher) AUTS(rand [RANDSize]byte, sqn uint64) (auts [AUTSSize]byte) {
	hidden := conceal(octets(sqn), c.F5Star(rand))
	_, mac := c.F1(rand, sqn, [AMFSize]byte{}) // the AMF is zero here
	copy(auts[:], hidden[:])
	copy(auts[SQNSize:], mac[:])
	return auts
}

// Resynchronise returns the card's sequence number out of an AUTS; ErrMAC if it was not made with this key.
func (c *Cipher) Resynchronise(rand [RANDSize]byte, auts [AUTSSize]byte) (sqn uint64, err error) {
	sqn = number(conceal([SQNSize]byte(auts[:SQNSize]), c.F5Star(rand)))
	_, mac := c.F1(rand, sqn, [AMFSize]byte{})
	if subtle.ConstantTimeCompare(mac[:], auts[SQNSize:]) != 1 {
		return 0, ErrMAC
	}
	return sqn, nil
}
