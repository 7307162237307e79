// Package proxy is the transaction-stateful, forking proxy core (RFC 3261 section 16) that IMS functions run on. The
// core owns transactions, forks, the choice of the best response, CANCEL, hops and fail-over between them; a function
// decides what happens to a request and to each response, by returning values. A hop to a function of the same node
// is a call, not a message: nothing is printed or parsed on the way.
package proxy

import (
	"context"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// Flow is where a message came from and where it goes.
type Flow = transaction.Flow

// Function is one network function of a node (an I-CSCF, a BGCF, ...): a service with a name that makes an object for
// each transaction.
type Function interface {
	Name() string
	Serve() Handler
}

// Prompt is a Function that says of a request whether its hooks decide on it without waiting for anything (a back end, a
// name server, a lock that is held for long). They are then called on the goroutine that reads from the transport, which
// saves handing the request over.
type Prompt interface{ Prompt(m *sip.Message) bool }

// Handler sees one transaction through. Embed Forwarding for hooks that need nothing special. Initial and InDialog may
// block on back ends until ctx ends (a CANCEL ends it); Response must not.
type Handler interface {
	// Initial decides on a request outside a dialog.
	Initial(ctx context.Context, r *Request) Decision
	// InDialog decides on a request with a To tag, the ACK of a 2xx among them.
	InDialog(ctx context.Context, r *Request) Decision
	// Response sees each response of each target before the core acts on it. It may change r.Msg.
	Response(r *Reply) Verdict
}

// Forwarding is the default of every hook: requests follow their Route or Request-URI, responses go up.
type Forwarding struct{}

// Initial forwards.
func (Forwarding) Initial(_ context.Context, r *Request) Decision { return Forward(Target{Msg: r.Msg}) }

// InDialog forwards.
func (Forwarding) InDialog(_ context.Context, r *Request) Decision {
	return Forward(Target{Msg: r.Msg})
}

// Response passes up.
func (Forwarding) Response(*Reply) Verdict { return Verdict{} }

// Request is what a hook decides on.
type Request struct {
	Msg   *sip.Message // the hook's own
	Flow  Flow         // on which the request reached this node
	Local bool         // handed over by another function of this node
	Own   sip.URI      // the Route that named this function, already removed; zero when there was none
	Carry any          // what the previous function of this node wants this one to have
}

// Decision is what becomes of a request. Make one with Forward, Answer or AnswerWith.
type Decision struct {
	reply   *sip.Message
	targets []Target
	silent  bool
	once    bool
}

// Target is one place a request goes to.
type Target struct {
	Msg      *sip.Message  // the request as it shall be sent; each target needs its own
	Flow     Flow          // send here; nil follows Route or Request-URI
	Hop      sip.URI       // send here (without a Route for it); zero follows Route or Request-URI
	Carry    any           // for a function of this node
	Liveness time.Duration // no response but 100 within this time counts as 408; 0 = no limit but the transaction's
	Alive    func() bool   // asked when Liveness runs out: true lifts the limit; must be quick; nil is never
	Ring     time.Duration // an INVITE without a final response within this time is cancelled; 0 = no limit but timer C
	Tag      any           // the function's own, to know the target again in Response
}

// Forward sends the request to every target at once.
func Forward(targets ...Target) Decision { return Decision{targets: targets} }

// Answer answers with a status and the standard phrase.
func Answer(r *Request, status int) Decision {
	return AnswerWith(r.Msg.NewResponse(status, "", transaction.NewTag()))
}

// AnswerReason answers with a status and says why in a Warning header (RFC 3261 20.43, code 399).
func AnswerReason(r *Request, status int, agent, why string) Decision {
	m := r.Msg.NewResponse(status, "", transaction.NewTag())
	m.Add(sip.Warning, `399 `+agent+` "`+escapeQuoted(why)+`"`)
	return AnswerWith(m)
}

// AnswerWith answers with a message made by sip.Message.NewResponse.
func AnswerWith(m *sip.Message) Decision { return Decision{reply: m} }

// Once makes an answer one of which nothing is kept (RFC 3261 8.2.7): a retransmission of the request is decided on anew. It
// is for answers that cost no more to make than to keep, such as challenges; they need a To tag of StatelessTag.
func (d Decision) Once() Decision {
	d.once = true
	return d
}

// StatelessTag makes a To tag that is the same for retransmissions of a request.
func StatelessTag(m *sip.Message) string { return transaction.StatelessTag(m) }

// Silence drops the request: an ACK that leads nowhere.
func Silence() Decision { return Decision{silent: true} }

// Message is the response that an Answer decision holds, nil for others; tests and wrappers read it.
func (d Decision) Message() *sip.Message { return d.reply }

// Targets are those of a Forward decision.
func (d Decision) Targets() []Target { return d.targets }

// Reply is one response on its way up.
type Reply struct {
	Msg    *sip.Message
	Target *Target // to which the request had gone; its Msg is the core's, and gone when this is a 2xx that comes late
	Made   Made    // by the core rather than by the target
	Rang   bool    // the target had sent a 1xx other than 100 before
	Flow   Flow    // on which the response came; nil from a function of this node or when made by the core
}

// Made tells why the core itself made up a response.
type Made uint8

// Reasons for a response of the core.
const (
	Received    Made = iota // it did not: this one came from the target
	TimedOut                // no final response
	Unreachable             // no hop took the request
	NotAlive                // Liveness ran out
)

// Verdict is what becomes of a response. The zero value passes it up by the rules of RFC 3261 16.7.
type Verdict struct {
	drop    bool
	instead *Decision
	later   func(ctx context.Context) Decision
}

// Drop forgets a provisional response.
func Drop() Verdict { return Verdict{drop: true} }

// Instead replaces the target by another decision; the response is forgotten.
func Instead(d Decision) Verdict { return Verdict{instead: &d} }

// Later is Instead for a decision that must ask a back end first.
func Later(f func(ctx context.Context) Decision) Verdict { return Verdict{later: f} }

func escapeQuoted(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b)
}
