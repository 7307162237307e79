package transport

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// STUN, so much of it as keep-alives on UDP need (RFC 5626 section 4.4.2): Binding requests without credentials (RFC
// 8489), which tell a phone the address that its NAT shows, and so whether the flow is still the same.
const (
	stunHeader         = 20
	stunCookie         = 0x2112A442
	stunBinding        = 0x0001
	stunSuccess        = 0x0101
	stunError          = 0x0111
	stunErrorCode      = 0x0009
	stunUnknown        = 0x000A
	stunXORMapped      = 0x0020
	stunFingerprint    = 0x8028
	stunFingerprintXOR = 0x5354554e
	stunOptional       = 0x8000 // attributes from here on may be ignored
	stunMaxUnknown     = 16     // as many are listed in an answer
)

// isSTUN tells STUN from SIP: SIP starts with a letter (RFC 8489 section 5, 14.7).
func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && b[0]&0xC0 == 0 && binary.BigEndian.Uint32(b[4:]) == stunCookie &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader && len(b)%4 == 0
}

// answerSTUN returns the answer to a Binding request from an address, or nil when there is none: to indications,
// responses, and what is malformed (RFC 8489 6.3).
func answerSTUN(req []byte, from netip.AddrPort) []byte {
	if binary.BigEndian.Uint16(req) != stunBinding {
		return nil
	}
	var unknown []byte
	fingerprint := false
	for at := stunHeader; at < len(req); {
		if fingerprint || len(req)-at < 4 {
			return nil // a fingerprint is the last attribute
		}
		kind, size := binary.BigEndian.Uint16(req[at:]), int(binary.BigEndian.Uint16(req[at+2:]))
		padded := (size + 3) &^ 3
		if len(req)-at-4 < padded {
			return nil
		}
		switch {
		case kind == stunFingerprint:
			if size != 4 || binary.BigEndian.Uint32(req[at+4:]) != stunSum(req[:at]) {
				return nil
			}
			fingerprint = true
		case kind < stunOptional && !credential(kind) && len(unknown) < 2*stunMaxUnknown:
			unknown = binary.BigEndian.AppendUint16(unknown, kind)
		}
		at += 4 + padded
	}
	out := make([]byte, 0, 96)
	if unknown != nil {
		out = append(out, req[:stunHeader]...)
		binary.BigEndian.PutUint16(out, stunError)
		out = appendSTUN(out, stunErrorCode, append([]byte{0, 0, 4, 20}, "Unknown Attribute"...))
		out = appendSTUN(out, stunUnknown, unknown)
	} else {
		out = append(out, req[:stunHeader]...)
		binary.BigEndian.PutUint16(out, stunSuccess)
		out = appendSTUN(out, stunXORMapped, xorAddress(from, req[4:stunHeader]))
	}
	length := len(out) - stunHeader
	if fingerprint {
		length += 8
	}
	binary.BigEndian.PutUint16(out[2:], uint16(length)) //nolint:gosec // under 96
	if fingerprint {
		out = appendSTUN(out, stunFingerprint, binary.BigEndian.AppendUint32(nil, stunSum(out)))
	}
	return out
}

// credential tells the attributes of authentication, which nobody asks for here and so are ignored.
func credential(kind uint16) bool {
	switch kind {
	case 0x0006, 0x0008, 0x0014, 0x0015, 0x001C, 0x001D, 0x001E:
		return true
	}
	return false
}

// stunSum is the fingerprint over what stands before it; the length there must already count it.
func stunSum(b []byte) uint32 { return crc32.ChecksumIEEE(b) ^ stunFingerprintXOR }

func appendSTUN(out []byte, kind uint16, value []byte) []byte {
	out = binary.BigEndian.AppendUint16(out, kind)
	out = binary.BigEndian.AppendUint16(out, uint16(len(value))) //nolint:gosec // a few bytes
	out = append(out, value...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

// xorAddress is the value of XOR-MAPPED-ADDRESS (RFC 8489 14.2); key is the cookie and the transaction ID.
func xorAddress(a netip.AddrPort, key []byte) []byte {
	addr := a.Addr().Unmap()
	family := byte(1)
	if addr.Is6() {
		family = 2
	}
	value := binary.BigEndian.AppendUint16([]byte{0, family}, a.Port()^uint16(stunCookie>>16))
	for i, b := range addr.AsSlice() {
		value = append(value, b^key[i])
	}
	return value
}
