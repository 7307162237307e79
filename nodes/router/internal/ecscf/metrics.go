package ecscf

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	calls     *prometheus.CounterVec
	failovers prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		calls:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_ecscf_calls_total", Help: "Emergency calls by result: answered, failed, cancelled by the caller, unrouted."}, []string{"result"}),
		failovers: prometheus.NewCounter(prometheus.CounterOpts{Name: "ims_ecscf_failovers_total", Help: "Answering points that did not take an emergency call, so that another one was tried."}),
	}
	for _, result := range []string{"answered", "failed", "cancelled", "unrouted"} {
		m.calls.WithLabelValues(result)
	}
	if reg != nil {
		reg.MustRegister(m.calls, m.failovers)
	}
	return m
}
