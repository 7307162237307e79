package overload

import (
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// SIP applies a Limiter to the requests of a proxy core.
type SIP struct {
	*Limiter
	// Class tells how a request outside a dialog is treated.
	Class func(m *sip.Message, f proxy.Flow) Class
	// Ours tells the flows to nodes whose refusals count: those of this deployment. nil: none does.
	Ours func(f proxy.Flow) bool
}

var _ proxy.Overload = SIP{}

// Admit implements proxy.Overload.
func (s SIP) Admit(m *sip.Message, f proxy.Flow) (time.Duration, bool) {
	return s.Limiter.Admit(s.Class(m, f))
}

// Busy implements proxy.Overload.
func (s SIP) Busy(f proxy.Flow) {
	if s.Ours != nil && s.Ours(f) {
		s.Limiter.Busy()
	}
}
