package pcscf

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// A flow token (RFC 5626 5.2) is the user part of our Path and Record-Route: the flow's identity, its MAC, and, in the
// Record-Route that a phone sees, a seal. The seal binds the rest of the phone's route set and the Call-ID, so that a
// phone can follow the Routes that it was given, and no others.
const (
	macSize  = 10
	sealSize = 10
)

var errToken = errors.New("flow token is not ours")

// signer makes and checks tokens under one key.
type signer struct{ hashes sync.Pool }

func newSigner(key []byte) *signer {
	s := &signer{}
	s.hashes.New = func() any { return hmac.New(sha256.New, key) }
	return s
}

// mac appends the first size bytes of the MAC of the parts; a length before each part keeps them apart.
func (s *signer) mac(out []byte, size int, parts ...string) []byte {
	h, _ := s.hashes.Get().(hash.Hash) // New makes nothing else
	h.Reset()
	buf := make([]byte, 0, 256)
	for _, p := range parts {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(p))) //nolint:gosec // a message is under 64 KiB
		buf = append(buf, p...)
	}
	_, _ = h.Write(buf) // hashes do not fail
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	s.hashes.Put(h)
	return append(out, sum[:size]...)
}

// token names a flow; seal may be nil.
func (s *signer) token(id transport.ID, seal []byte) string {
	raw, _ := id.AppendBinary(make([]byte, 0, 80)) // it has no error
	raw = s.mac(raw, macSize, "flow", string(raw))
	return base64.RawURLEncoding.EncodeToString(append(raw, seal...))
}

// open reads a token and checks its MAC. seal is what follows.
func (s *signer) open(user string) (id transport.ID, seal []byte, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(user)
	if err != nil {
		return transport.ID{}, nil, errToken
	}
	end := idSize(raw)
	seal = raw[min(end+macSize, len(raw)):]
	if end == 0 || len(raw) < end+macSize || (len(seal) != 0 && len(seal) != sealSize) {
		return transport.ID{}, nil, errToken
	}
	if !hmac.Equal(raw[end:end+macSize], s.mac(make([]byte, 0, macSize), macSize, "flow", string(raw[:end]))) {
		return transport.ID{}, nil, errToken
	}
	id, err = transport.ParseID(raw[:end])
	return id, seal, err
}

// idSize finds the end of the identity (see transport.ID.AppendBinary): a byte, two addresses with their lengths and
// ports, eight bytes. 0 means that it does not end.
func idSize(raw []byte) int {
	at := 1
	for range 2 {
		if at >= len(raw) {
			return 0
		}
		at += 1 + int(raw[at]) + 2
	}
	return at + 8
}

// sealRoutes computes the seal of a route set behind the edge's own two entries, first hop first.
func (s *signer) sealRoutes(id transport.ID, callID string, routes []string) []byte {
	raw, _ := id.AppendBinary(make([]byte, 0, 80))
	parts := make([]string, 0, 16)
	parts = append(parts, "route", string(raw), callID)
	for _, r := range routes {
		parts = append(parts, bareRoute(r))
	}
	return s.mac(nil, sealSize, parts...)
}

// bareRoute is a Route value without what a phone may legitimately change: display name, header parameters.
func bareRoute(value string) string {
	a, err := sip.ParseAddress(value)
	if err != nil {
		return value
	}
	return a.URI
}
