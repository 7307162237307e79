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
	touched map[string]bool // ids that changed while the engine's are counted; nil when they are not
	cursor  string          // the last id that was counted
	active  float64
	sums    map[string]float64 // by tag
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
		known: map[string]bool{}, sums: map[string]float64{},
	}
	reg.MustRegister(m.set, m.tagged, m.pops, m.dropped, m.late)
	return m
}

// begin starts to count anew.
func (m *metrics) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touched, m.cursor, m.active = map[string]bool{}, "", 0
	clear(m.sums)
}

// end shows what was counted.
func (m *metrics) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touched = nil
	m.set.Set(m.active)
	for name := range m.known {
		m.tagged.WithLabelValues(name).Set(m.sums[name])
	}
}

// found counts a timer that the engine has, in the order of ids, unless it has changed since begin.
func (m *metrics) found(t *Timer, mine bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cursor = t.GetId()
	if mine && !m.touched[t.GetId()] {
		m.add(t, 1)
	}
}

// changed counts a timer out and another (or the same, changed) in; either may be nil.
func (m *metrics) changed(old, t *Timer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := t.GetId()
	if t == nil {
		id = old.GetId()
	}
	counted := m.touched == nil || m.touched[id] || id <= m.cursor
	if m.touched != nil {
		m.touched[id] = true
	}
	if old != nil && counted {
		m.add(old, -1)
	}
	if t != nil {
		m.add(t, 1)
	}
	if m.touched == nil {
		m.show(old)
		m.show(t)
	}
}

func (m *metrics) add(t *Timer, sign float64) {
	m.active += sign
	for _, tag := range t.GetTags() {
		m.sums[m.name(tag)] += sign * float64(tag.GetCount())
	}
}

// show sets what a timer has part in.
func (m *metrics) show(t *Timer) {
	m.set.Set(m.active)
	for _, tag := range t.GetTags() {
		name := m.name(tag)
		m.tagged.WithLabelValues(name).Set(m.sums[name])
	}
}

// name is the label of a tag: there is a limit to how many callers can make us keep.
func (m *metrics) name(tag *Tag) string {
	name := tag.GetType()
	if !m.known[name] && len(m.known) >= maxTags {
		name = "other"
	}
	m.known[name] = true
	return name
}

func (m *metrics) popped(err error, late time.Duration) {
	result := "answered"
	if err != nil {
		result = "unanswered"
	}
	m.pops.WithLabelValues(result).Inc()
	m.late.Observe(max(0, late.Seconds()))
}
