package timer

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxTags bounds the label values that callers can make us keep; further types are counted as "other".
const maxTags = 200

type metrics struct {
	set     prometheus.Gauge
	tagged  *prometheus.GaugeVec
	pops    *prometheus.CounterVec
	dropped prometheus.Counter
	late    prometheus.Histogram

	mu      sync.Mutex
	known   map[string]bool
	counted map[string]bool // ids counted since the start, so that count and Set do not both count one
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		set: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ims_timer_active", Help: "Timers that are set."}),
		tagged: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ims_timer_tagged", Help: "Sum of the counts of active timers' statistics tags, by type.",
		}, []string{"type"}),
		pops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_timer_pops_total", Help: "Callbacks sent, by result.",
		}, []string{"result"}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_timer_dropped_total", Help: "Timers that ended because their callback never answered.",
		}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ims_timer_pop_delay_seconds", Help: "How late pops were sent.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		known: map[string]bool{}, counted: map[string]bool{},
	}
	reg.MustRegister(m.set, m.tagged, m.pops, m.dropped, m.late)
	return m
}

// found counts a timer that the engine had at the start.
func (m *metrics) found(t *Timer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counted[t.GetId()] {
		return
	}
	m.add(t, 1)
}

// changed counts a timer out and another (or the same, changed) in; either may be nil.
func (m *metrics) changed(old, t *Timer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old != nil && m.counted[old.GetId()] {
		m.add(old, -1)
	}
	if t != nil {
		m.add(t, 1)
	}
}

func (m *metrics) add(t *Timer, sign float64) {
	if sign > 0 {
		m.counted[t.GetId()] = true
	} else {
		delete(m.counted, t.GetId())
	}
	m.set.Add(sign)
	for _, tag := range t.GetTags() {
		name := tag.GetType()
		if !m.known[name] && len(m.known) >= maxTags {
			name = "other"
		}
		m.known[name] = true
		m.tagged.WithLabelValues(name).Add(sign * float64(tag.GetCount()))
	}
}

func (m *metrics) popped(err error, late time.Duration) {
	result := "answered"
	if err != nil {
		result = "unanswered"
	}
	m.pops.WithLabelValues(result).Inc()
	m.late.Observe(max(0, late.Seconds()))
}
