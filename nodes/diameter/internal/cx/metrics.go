package cx

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	answers *prometheus.CounterVec
	sent    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	cached  *prometheus.CounterVec
	stale   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_cx_answers_total", Help: "Answers of the HSS, by command (uar, mar, sar, lir) and result code; or no_peer, timeout, malformed.",
		}, []string{"command", "result"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_cx_answers_sent_total", Help: "Answers to the HSS, by command (rtr, ppr) and result code.",
		}, []string{"command", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ims_cx_request_seconds", Help: "Time from a question to the HSS to its answer, by command.",
			Buckets: []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2},
		}, []string{"command"}),
		cached: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_cx_cache_total", Help: "Questions for the HSS that met the cache: hit (answered from it), miss, negative (unknown identity, answered from memory).",
		}, []string{"outcome"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_cx_stale_answers_total", Help: "Questions about users in service that were answered from memory because the HSS did not answer.",
		}),
	}
	for _, command := range []string{"uar", "mar", "sar", "lir"} {
		m.seconds.WithLabelValues(command)
	}
	reg.MustRegister(m.answers, m.sent, m.seconds, m.cached, m.stale)
	return m
}
