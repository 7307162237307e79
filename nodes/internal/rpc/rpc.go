// Package rpc carries calls between roles: length-prefixed frames, many calls multiplexed on one TCP connection
// with mutual TLS. A server maps method numbers to handlers; a client keeps one connection to each server that
// its resolver names, spreads calls over them and moves to another server when one is away. Payloads are
// protobuf messages of the package that owns the methods; rpc does not look into them.
//
// It is not the public interface of any role (those are HTTP) and knows nothing of what is called.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// Method numbers a call. Each package that defines calls owns a range: registrations 1-9, records 10-19,
// hss 100-119, others from 200. 0xff00 and above are kept for the protocol itself.
type Method uint16

const methodPing Method = 0xffff

// Handler answers one call. It must not keep payload after it returns; the answer is copied before Handler's
// caller goes on. ctx ends at the deadline that the client sent. An error that is (or wraps) a *StatusError
// reaches the client as that status; ErrUnavailable makes the client try another server; anything else is
// StatusInternal with the error's text.
type Handler func(ctx context.Context, payload []byte) ([]byte, error)

// Status codes of an answer. From 100 on they belong to the methods' owners.
const (
	StatusOK            uint16 = 0
	StatusUnavailable   uint16 = 1 // try another server
	StatusTimeout       uint16 = 2 // the deadline passed at the server
	StatusUnknownMethod uint16 = 3
	StatusInternal      uint16 = 4
	StatusTooLarge      uint16 = 5 // a payload above MaxPayload
	StatusInvalid       uint16 = 6 // the payload could not be decoded
	statusGoingAway     uint16 = 0xfff0
)

// Errors of Call. A StatusError of the matching code is one of them for errors.Is.
var (
	// ErrUnavailable says that no server could take the call; it was not executed, unless it is also ErrInterrupted.
	ErrUnavailable = errors.New("no server available")
	// ErrTimeout says that the deadline passed; whether the call was executed is unknown.
	ErrTimeout = errors.New("call timed out")
	// ErrInterrupted says that the connection died after the call was sent; whether it was executed is unknown.
	// Such an error is ErrUnavailable as well.
	ErrInterrupted = fmt.Errorf("connection lost in mid-call: %w", ErrUnavailable)
)

// StatusError is an answer other than StatusOK.
type StatusError struct {
	Code    uint16
	Message string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Code, e.Message) }

// Is makes errors.Is(err, ErrUnavailable) and errors.Is(err, ErrTimeout) work for statuses.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case StatusUnavailable:
		return target == ErrUnavailable
	case StatusTimeout:
		return target == ErrTimeout
	}
	return false
}

// statusOf maps a handler's error to what crosses the wire.
func statusOf(err error) (uint16, string) {
	var status *StatusError
	switch {
	case err == nil:
		return StatusOK, ""
	case errors.As(err, &status):
		return status.Code, status.Message
	case errors.Is(err, ErrUnavailable):
		return StatusUnavailable, err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrTimeout):
		return StatusTimeout, err.Error()
	default:
		return StatusInternal, err.Error()
	}
}

// Peer is who called, taken from the client's certificate.
type Peer struct {
	Name string // common name of the certificate, such as router-1.site1
	Role string // its organisational unit
	Addr net.Addr
}

type peerKey struct{}

// PeerFrom returns the caller of the call that ctx belongs to. Without TLS only the address is known.
func PeerFrom(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}
