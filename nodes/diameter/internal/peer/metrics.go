package peer

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reg         prometheus.Registerer
	sent        *prometheus.CounterVec
	received    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	misdirected *prometheus.CounterVec
	failovers   prometheus.Counter
	duplicates  prometheus.Counter
	unmatched   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_diameter_" + name, Help: help}, []string{label})
	}
	one := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ims_diameter_" + name, Help: help})
	}
	m := &metrics{
		reg:         reg,
		sent:        vec("requests_sent_total", "Diameter requests sent to peers, by command; repetitions are not counted.", "command"),
		received:    vec("requests_received_total", "Diameter requests of peers that were taken, by command.", "command"),
		refused:     vec("requests_refused_total", "Diameter requests refused before their application saw them, by result code; framing: connections closed.", "code"),
		misdirected: vec("requests_misdirected_total", "Diameter requests with another Destination-Realm or Destination-Host.", "what"),
		failovers:   one("failovers_total", "Diameter requests that left a lost or suspect peer."),
		duplicates:  one("duplicates_total", "Diameter requests that came twice and were answered from memory."),
		unmatched:   one("unmatched_answers_total", "Diameter answers that nobody waited for: late, or never asked for."),
	}
	m.misdirected.WithLabelValues("realm")
	m.misdirected.WithLabelValues("host")
	reg.MustRegister(m.sent, m.received, m.refused, m.misdirected, m.failovers, m.duplicates, m.unmatched)
	return m
}

// connections shows how many peers are connected.
func (m *metrics) connections(count func() float64) {
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ims_diameter_peer_connections", Help: "Open Diameter connections."}, count))
}
