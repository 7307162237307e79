// Package hss is how the router asks the diameter role about subscribers: Cx (TS 29.228) folded into three
// questions over one multiplexed connection. Authorize is User-Authorization, Multimedia-Auth and the user profile
// of a REGISTER in one operation; Locate is Location-Info, with the profile if wanted; Assign is Server-Assignment.
//
// What is asked of an HSS may fail in ways a SIP answer must tell apart; those are Results. Only when no diameter
// node could be asked do calls return an error, which ResultOf maps as well.
package hss

import (
	"context"
	"errors"

	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Methods on the wire.
const (
	MethodAuthorize rpc.Method = 100 + iota
	MethodLocate
	MethodAssign
)

// MethodNames are the labels of the calls' metrics.
func MethodNames() map[rpc.Method]string {
	return map[rpc.Method]string{MethodAuthorize: "hss_authorize", MethodLocate: "hss_locate", MethodAssign: "hss_assign"}
}

// Request types of Assign (reqtype of the HTTP API).
const (
	Reg              = "reg"
	Call             = "call"
	DeregUser        = "dereg-user"
	DeregAdmin       = "dereg-admin"
	DeregTimeout     = "dereg-timeout"
	DeregAuthFailed  = "dereg-auth-failed"
	DeregAuthTimeout = "dereg-auth-timeout"
)

// Registration states of RegData.
const (
	Registered    = "REGISTERED"
	Unregistered  = "UNREGISTERED" // served for an unregistered user
	NotRegistered = "NOT_REGISTERED"
)

// Result codes of AuthorizeResponse and LocateResponse (TS 29.229 6.2.1).
const (
	FirstRegistration      int32 = 2001
	SubsequentRegistration int32 = 2002
	UnregisteredService    int32 = 2003
)

// Server answers the three questions. Client is one; so is the double in hsstest.
type Server interface {
	Authorize(ctx context.Context, req *AuthorizeRequest) (*AuthorizeResponse, error)
	Locate(ctx context.Context, req *LocateRequest) (*LocateResponse, error)
	Assign(ctx context.Context, req *AssignRequest) (*AssignResponse, error)
}

// Handlers serves s over rpc.
func Handlers(s Server) map[rpc.Method]rpc.Handler {
	return map[rpc.Method]rpc.Handler{
		MethodAuthorize: rpc.Unary(s.Authorize),
		MethodLocate:    rpc.Unary(s.Locate),
		MethodAssign:    rpc.Unary(s.Assign),
	}
}

// Client asks diameter nodes. All three questions may be repeated, so give its rpc.Client RetryInterrupted: then a
// diameter node that dies in mid-call costs nothing as long as another is there.
type Client struct{ rpc *rpc.Client }

// NewClient asks over c, whose Run the caller owns.
func NewClient(c *rpc.Client) *Client { return &Client{c} }

// Authorize asks whether impi may register impu (if the request has an AuthType), and for the challenge data and profile
// that it wants. Of an external HSS both may be missing: challenge data when another S-CSCF may serve the user, the profile
// until Assign has told the HSS of the registration.
// The answer tells no registration state: the router's own swap at the store does.
func (c *Client) Authorize(ctx context.Context, req *AuthorizeRequest) (*AuthorizeResponse, error) {
	return rpc.Invoke[AuthorizeResponse](ctx, c.rpc, MethodAuthorize, req)
}

// Locate asks which S-CSCF serves impu.
func (c *Client) Locate(ctx context.Context, req *LocateRequest) (*LocateResponse, error) {
	return rpc.Invoke[LocateResponse](ctx, c.rpc, MethodLocate, req)
}

// Assign tells the HSS that a set is registered, deregistered or served unregistered, and returns its profile.
func (c *Client) Assign(ctx context.Context, req *AssignRequest) (*AssignResponse, error) {
	return rpc.Invoke[AssignResponse](ctx, c.rpc, MethodAssign, req)
}

// ResultOf maps an error of a call to the result that the caller should act on.
func ResultOf(err error) Result {
	switch {
	case err == nil:
		return Result_RESULT_OK
	case errors.Is(err, rpc.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return Result_RESULT_TIMEOUT
	default:
		return Result_RESULT_UNAVAILABLE
	}
}
