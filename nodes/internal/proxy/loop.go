package proxy

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// markOf is the part of our branches that says what a request was when it came (RFC 5393 4.2.1): a request that comes
// back the same loops, one that comes back changed spirals.
func markOf(m *sip.Message) string {
	h := uint64(offset64)
	h = hash(h, m.Method)
	h = hash(h, m.URI)
	for _, id := range [...]sip.ID{sip.CallID, sip.From, sip.To, sip.CSeq} {
		h = hash(h, m.Get(id))
	}
	for i := range m.Headers {
		if f := &m.Headers[i]; f.ID == sip.Route || f.ID == sip.ProxyAuthorization {
			h = hash(h, f.Value)
		}
	}
	var raw [8]byte
	binary.BigEndian.PutUint64(raw[:], h)
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

const offset64 = 0xcbf29ce484222325

// hash is the same on every node and at all times, for a request may come back to another node of a cluster. It takes eight
// bytes at a time.
func hash(h uint64, s string) uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xe7037ed1a0b428db
	h ^= uint64(len(s)) * k1
	for ; len(s) >= 8; s = s[8:] {
		v := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		hi, lo := bits.Mul64(h^v, k0)
		h = hi ^ lo
	}
	var tail uint64
	for i := range len(s) {
		tail = tail<<8 | uint64(s[i])
	}
	hi, lo := bits.Mul64(h^tail^k1, k0)
	return hi ^ lo
}

// loops tells whether one of the Vias is ours with the same mark. 64 bits of mark need no look at sent-by.
func loops(m *sip.Message, mark string) bool {
	for i := range m.Headers {
		if h := &m.Headers[i]; h.ID == sip.Via && strings.Contains(h.Value, "."+mark) {
			return true
		}
	}
	return false
}

// defaultBreadth is Max-Breadth of a request that has none (RFC 5393 5.3.3).
const defaultBreadth = 60

// breadth shares the Max-Breadth of a request among its forks; false when it does not suffice for them.
func breadth(m *sip.Message, targets []Target) bool {
	have := defaultBreadth
	if v := m.Get(sip.MaxBreadth); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			n = defaultBreadth
		}
		have = int(n)
	} else if len(targets) == 1 {
		return true // nothing to share, nothing to say
	}
	if len(targets) > have {
		return false
	}
	for i, t := range targets {
		share := have / len(targets)
		if i < have%len(targets) {
			share++
		}
		t.Msg.Set(sip.MaxBreadth, strconv.Itoa(share))
	}
	return true
}
