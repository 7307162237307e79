package transport

import (
	"errors"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Refuse answers a request that could be read in part with 400 and tells whether it did (RFC 3261 8.2, 16.3: the
// reason phrase names the fault). ACKs, responses, and requests without what an answer needs get none.
func Refuse(m *sip.Message, fault error, f *Flow) bool {
	answer := refusal(m, fault)
	return answer != nil && f.Send(answer.AppendTo(nil), nil) == nil
}

// refusal is the 400, or nil when there is nobody to tell.
func refusal(m *sip.Message, fault error) *sip.Message {
	if m == nil || !m.IsRequest() || m.Method == sip.ACK {
		return nil
	}
	for _, id := range [...]sip.ID{sip.Via, sip.From, sip.To, sip.CallID, sip.CSeq} {
		if !m.Has(id) {
			return nil
		}
	}
	return m.NewResponse(400, reason(fault), "bad")
}

// reason is a phrase for the status line: printable, one line, short.
func reason(fault error) string {
	text := fault.Error()
	var inner interface{ Unwrap() error }
	if errors.As(fault, &inner) {
		text = strings.TrimPrefix(text, sip.ErrSyntax.Error()+": ")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return "Bad Request: " + text[:min(len(text), 120)]
}
