package registration

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

type metrics struct {
	applies   *prometheus.CounterVec
	bindings  *prometheus.CounterVec
	reminders *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		applies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_registration_applies_total", Help: "Changes asked for, by outcome.",
		}, []string{"outcome"}),
		bindings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_registration_bindings_total", Help: "Bindings that came and went, by event.",
		}, []string{"event"}),
		reminders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_registration_reminders_total", Help: "Requests to routers to work off lapsed bindings and owed effects, by result.",
		}, []string{"result"}),
	}
	reg.MustRegister(m.applies, m.bindings, m.reminders)
	return m
}

func (m *metrics) applied(r *registrations.ApplyResponse) {
	outcome := map[registrations.Outcome]string{
		registrations.OutcomeDone: "done", registrations.OutcomeNonceUsed: "nonce_used", registrations.OutcomeOutOfOrder: "out_of_order",
	}[r.GetOutcome()]
	m.applies.WithLabelValues(outcome).Inc()
	for event, n := range map[string]int{
		"created": len(r.GetCreated()), "refreshed": len(r.GetRefreshed()), "removed": len(r.GetRemoved()), "lapsed": len(r.GetLapsed()),
	} {
		if n > 0 {
			m.bindings.WithLabelValues(event).Add(float64(n))
		}
	}
}
