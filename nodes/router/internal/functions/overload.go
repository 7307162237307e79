package functions

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload/siplimit"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// limit makes a limiter of requests; nil stays nil.
func (r *Router) limit(l *overload.Limiter) proxy.Overload {
	if l == nil {
		return nil
	}
	return siplimit.Requests{Limiter: l, Class: r.classOf}
}

// classOf tells the requests that overload does not touch: emergency calls and registrations, calls with the priority of
// emergencies (RFC 7135) or one that rph_json gives (the edge lets no phone say such things), and what an application
// server returns, which has been let in before.
func (r *Router) classOf(m *sip.Message, _ proxy.Flow) overload.Class {
	if emergency.Call(m) || emergency.Registration(m) || returned(m) || r.Priority(m) > 0 {
		return overload.Exempt
	}
	for _, v := range m.All(sip.ResourcePriority) {
		for value := range strings.SplitSeq(v, ",") {
			if strings.HasPrefix(strings.ToLower(strings.TrimSpace(value)), "esnet.") {
				return overload.Exempt
			}
		}
	}
	return overload.Ordinary
}

// returned tells a request of which an application server says that it is at work on it (see package scscf).
func returned(m *sip.Message) bool {
	top := m.Get(sip.Route)
	return strings.HasPrefix(top, "<sip:odi_")
}
