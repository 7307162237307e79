// Package siplimit applies a limiter of overload to the SIP requests of a proxy core.
package siplimit

import (
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Requests implements proxy.Overload.
type Requests struct {
	*overload.Limiter

	// Class tells how a request outside a dialog is treated.
	Class func(m *sip.Message, f proxy.Flow) overload.Class
	// Ours tells the flows to nodes whose refusals count: those of this deployment. nil: none does.
	Ours func(f proxy.Flow) bool
}

var _ proxy.Overload = Requests{}

// Admit implements proxy.Overload.
func (r Requests) Admit(m *sip.Message, f proxy.Flow) (time.Duration, bool) {
	return r.Limiter.Admit(r.Class(m, f))
}

// Busy implements proxy.Overload.
func (r Requests) Busy(f proxy.Flow) {
	if r.Ours != nil && r.Ours(f) {
		r.Limiter.Busy()
	}
}
