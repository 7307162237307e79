package pcscf

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// emergencies is what the options say about emergency calls.
type emergencies struct {
	numbers       emergency.Numbers
	registrations bool // allow_emergency_registration
	unregistered  bool // allow_unregistered_emergency_calls
}

func newEmergencies(o *config.Options) emergencies {
	return emergencies{emergency.ParseNumbers(o.EmergencyNumbers), o.EmergencyRegistration, o.EmergencyUnregistered}
}

// service tells the emergency service that an INVITE of a phone asks for, by URN or by a number that is dialled for it.
// Calls of trunks are not our users'.
func (s *settings) service(m *sip.Message, f proxy.Flow) (service string, ok bool) {
	if m.Method != sip.INVITE || s.trunks[f.Remote().Addr().Unmap()] {
		return "", false
	}
	if service, ok = emergency.Service(m.URI); ok {
		return service, true
	}
	return s.emergencies.numbers.Dialled(m.URI, func(host string) bool {
		host = strings.ToLower(host)
		return s.homes[host] || s.hosts[host]
	})
}

// emergencyCall passes an emergency call to the E-CSCF (TS 24.229 5.2.10). Nothing that a phone says wrongly about itself
// stops it: who cannot be identified is anonymous, and whether those may call is a matter of options.
func (h *handler) emergencyCall(r *proxy.Request, service string) proxy.Decision {
	m := r.Msg
	identity := h.emergencyCaller(r)
	switch {
	case identity != "":
		h.edge.emergency.calls.WithLabelValues("registered").Inc()
	case h.set.emergencies.unregistered:
		h.edge.emergency.calls.WithLabelValues("unregistered").Inc()
	default:
		h.edge.emergency.calls.WithLabelValues("refused").Inc()
		return refuse(r, 403, "no registration on this flow, and emergency calls need one here")
	}
	h.stripUntrusted(m)
	m.Del(sip.PPreferredIdentity, sip.PAssertedIdentity, sip.Route, sip.RecordRoute, sip.Path)
	m.URI = emergency.URN(service)
	if identity != "" {
		m.Set(sip.PAssertedIdentity, "<"+identity+">")
	}
	m.Set(sip.ResourcePriority, emergency.Priority)
	h.charge(m)
	m.Push(sip.Route, h.set.upstream) // any router is an E-CSCF
	h.recordFromPhone(m, r.Flow)
	return proxy.Forward(proxy.Target{Msg: m})
}

// emergencyCaller is the identity to assert, "" when nobody is known on the flow: that which the phone prefers if it is
// its own, else the default one, of its registration or its emergency registration.
func (h *handler) emergencyCaller(r *proxy.Request) string {
	id, now, from := r.Flow.ID(), h.edge.deps.Now(), ""
	if u, err := sip.AddressURI(r.Msg.Get(sip.From)); err == nil {
		from = u.Canonical()
	}
	for _, registered := range []*users{&h.edge.users, &h.edge.emergency.users} {
		for _, v := range r.Msg.All(sip.PPreferredIdentity) {
			if u, err := sip.AddressURI(v); err == nil {
				if _, name := registered.with(id, now, u.Canonical()); name != "" {
					return name
				}
			}
		}
		if u, _ := registered.any(id, now, from); u != nil {
			return u.identities[0]
		}
	}
	return ""
}

// emergencyUsers are those with an emergency registration, which lets them make emergency calls and nothing else.
type emergencyUsers struct {
	users users
	calls *prometheus.CounterVec
}

func (e *emergencyUsers) init(reg prometheus.Registerer) {
	e.users.init()
	e.calls = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_edge_emergency_calls_total", Help: "Emergency calls of phones that are registered, that are not, and refused because they are not."}, []string{"caller"})
	for _, caller := range []string{"registered", "unregistered", "refused"} {
		e.calls.WithLabelValues(caller)
	}
	if reg != nil {
		reg.MustRegister(e.calls)
	}
}

// registry is where a registration is remembered.
func (e *Edge) registry(reg *registering) *users {
	if reg.sos {
		return &e.emergency.users
	}
	return &e.users
}

// Class tells how overload treats a request outside a dialog: emergencies are never refused, and what comes from the core
// has been let in there.
func (e *Edge) Class(m *sip.Message, f proxy.Flow) overload.Class {
	if f.Listener() == Core {
		if emergency.Call(m) || m.Has(sip.ResourcePriority) {
			return overload.Exempt
		}
		return overload.Committed
	}
	if _, ok := e.settings.Load().service(m, f); ok || emergency.Registration(m) {
		return overload.Exempt
	}
	return overload.Ordinary
}
