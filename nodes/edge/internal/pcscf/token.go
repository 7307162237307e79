package pcscf

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"

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

func mac(key []byte, size int, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // hashes do not fail
		_, _ = h.Write([]byte{0})
	}
	return h.Sum(nil)[:size]
}

// token names a flow; seal may be nil.
func token(key []byte, id transport.ID, seal []byte) string {
	raw, _ := id.AppendBinary(make([]byte, 0, 80)) // it has no error
	raw = append(raw, mac(key, macSize, "flow", string(raw))...)
	return base64.RawURLEncoding.EncodeToString(append(raw, seal...))
}

// open reads a token and checks its MAC. seal is what follows.
func open(key []byte, user string) (id transport.ID, seal []byte, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(user)
	if err != nil {
		return transport.ID{}, nil, errToken
	}
	for _, size := range [...]int{0, sealSize} {
		end := len(raw) - macSize - size
		if end <= 0 || !hmac.Equal(raw[end:end+macSize], mac(key, macSize, "flow", string(raw[:end]))) {
			continue
		}
		id, err = transport.ParseID(raw[:end])
		return id, raw[end+macSize:], err
	}
	return transport.ID{}, nil, errToken
}

// sealRoutes computes the seal of a route set behind the edge's own two entries, first hop first.
func sealRoutes(key []byte, id transport.ID, callID string, routes []string) []byte {
	raw, _ := id.AppendBinary(make([]byte, 0, 80))
	parts := make([]string, 0, len(routes)+3)
	parts = append(parts, "route", string(raw), callID)
	for _, r := range routes {
		parts = append(parts, bareRoute(r))
	}
	return mac(key, sealSize, parts...)
}

// bareRoute is a Route value without what a phone may legitimately change: display name, header parameters.
func bareRoute(value string) string {
	a, err := sip.ParseAddress(value)
	if err != nil {
		return value
	}
	return strings.ToLower(a.URI)
}
