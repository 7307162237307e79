package registrar

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the registrar.
type Metrics struct {
	registrations *prometheus.CounterVec
	challenges    *prometheus.CounterVec
	proofs        *prometheus.CounterVec

	mu        sync.RWMutex
	succeeded map[string]prometheus.Counter // registrations with status 200 by kind: looking labels up costs
	reasons   map[string]prometheus.Counter // challenges
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		succeeded: map[string]prometheus.Counter{}, reasons: map[string]prometheus.Counter{},
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_registrations_total", Help: "Registrations by kind and SIP status (0: no request)."}, []string{"kind", "status"}),
		challenges:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_challenges_total", Help: "Challenges sent, by reason."}, []string{"reason"}),
	}
	m.proofs = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_registrar_request_authentications_total", Help: "Authentications of requests other than REGISTER: challenged, stale, accepted, wrong (the response), refused (by the HSS), failed."}, []string{"outcome"})
	reg.MustRegister(m.registrations, m.challenges, m.proofs)
	return m
}

func (m *Metrics) registration(kind string, status int) {
	if status == 200 {
		m.count(m.succeeded, m.registrations, kind, "200")
		return
	}
	m.registrations.WithLabelValues(kind, strconv.Itoa(status)).Inc()
}

// count counts one of few labels, the first of which tells them apart.
func (m *Metrics) count(known map[string]prometheus.Counter, vec *prometheus.CounterVec, labels ...string) {
	m.mu.RLock()
	c := known[labels[0]]
	m.mu.RUnlock()
	if c == nil {
		c = vec.WithLabelValues(labels...)
		m.mu.Lock()
		known[labels[0]] = c
		m.mu.Unlock()
	}
	c.Inc()
}

func (m *Metrics) proof(outcome string) { m.proofs.WithLabelValues(outcome).Inc() }

func (m *Metrics) challenge(reason string) { m.count(m.reasons, m.challenges, reason) }
