package overload

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	rejected, penalties   prometheus.Counter
	admitted              [3]prometheus.Counter // by class
	rate, latency, target prometheus.Gauge
}

func newMetrics(name string, reg prometheus.Registerer) *metrics {
	prefix := "ims_" + name + "_overload_"
	admitted := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "admitted_total", Help: "Requests let in: ordinary, committed (already admitted elsewhere in this network), exempt (emergency and priority)."}, []string{"class"})
	m := &metrics{
		rejected:  prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "rejected_total", Help: "Requests refused because of overload."}),
		penalties: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "penalties_total", Help: "Requests that a next hop refused because of overload."}),
		rate:      prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "permitted_rate", Help: "Requests a second that are let in at most."}),
		latency:   prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "latency_seconds", Help: "Standing latency when the permitted rate was last looked at."}),
		target:    prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "target_latency_seconds", Help: "Latency above which the permitted rate goes down."}),
	}
	for class, label := range []string{"ordinary", "committed", "exempt"} {
		m.admitted[class] = admitted.WithLabelValues(label)
	}
	if reg != nil {
		reg.MustRegister(m.rejected, m.penalties, admitted, m.rate, m.latency, m.target)
	}
	return m
}

// show sets the gauges. The limiter's lock is held, or nobody else has it yet.
func (m *metrics) show(l *Limiter) {
	m.rate.Set(l.rate)
	m.latency.Set(l.smoothed.Seconds())
	m.target.Set(l.target().Seconds())
}
