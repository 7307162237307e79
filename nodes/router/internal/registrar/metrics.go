package registrar

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the registrar.
type Metrics struct {
	registrations *prometheus.CounterVec
	challenges    *prometheus.CounterVec
	proofs        *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_registrations_total", Help: "Registrations by kind and SIP status (0: no request)."}, []string{"kind", "status"}),
		challenges:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_challenges_total", Help: "Challenges sent, by reason."}, []string{"reason"}),
	}
	m.proofs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_request_authentications_total", Help: "Authentications of requests other than REGISTER: challenged, stale, accepted, wrong (the response), refused (by the HSS), failed."}, []string{"outcome"})
	reg.MustRegister(m.registrations, m.challenges, m.proofs)
	return m
}

func (m *Metrics) registration(kind string, status int) {
	m.registrations.WithLabelValues(kind, strconv.Itoa(status)).Inc()
}

func (m *Metrics) proof(outcome string) { m.proofs.WithLabelValues(outcome).Inc() }

func (m *Metrics) challenge(reason string) { m.challenges.WithLabelValues(reason).Inc() }
