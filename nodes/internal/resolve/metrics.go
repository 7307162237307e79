package resolve

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	queries *prometheus.CounterVec
	stale   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, black *blacklist) metrics {
	m := metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_resolve_queries_total", Help: "Questions put to name servers, by result: found, absent, failure.",
		}, []string{"result"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_resolve_stale_answers_total", Help: "Answers served past their TTL because no server answered.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.queries, m.stale, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ims_resolve_blacklisted_hops", Help: "SIP hops that are black or grey.",
		}, func() float64 { return float64(black.size.Load()) }))
	}
	return m
}
