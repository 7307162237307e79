package proxy

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// markOf is the part of our branches that says what a request was when it came (RFC 5393 4.2.1): a request that comes
// back the same loops, one that comes back changed spirals.
func markOf(m *sip.Message) string {
	h := fnv.New64a()
	write := func(s string) { _, _ = h.Write([]byte(s)); _, _ = h.Write([]byte{0}) }
	write(m.Method)
	write(m.URI)
	write(m.CallID())
	write(m.Get(sip.From))
	write(m.Get(sip.To))
	write(m.Get(sip.CSeq))
	for i := range m.Headers {
		if h := &m.Headers[i]; h.ID == sip.Route || h.ID == sip.ProxyAuthorization {
			write(h.Value)
		}
	}
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, h.Sum64()))
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
