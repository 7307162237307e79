package rpc

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// statusLabel names a status for counters, so that their number stays bounded.
func statusLabel(status uint16) string {
	switch status {
	case StatusOK:
		return "ok"
	case StatusUnavailable:
		return "unavailable"
	case StatusTimeout:
		return "timeout"
	case StatusUnknownMethod:
		return "unknown_method"
	case StatusInternal:
		return "internal"
	case StatusTooLarge:
		return "too_large"
	case StatusInvalid:
		return "invalid"
	default:
		return "refused"
	}
}

func methodLabel(names map[Method]string, m Method) string {
	if name, ok := names[m]; ok {
		return name
	}
	return strconv.Itoa(int(m))
}

// register adds c to reg, or returns the equal collector that is there already (two clients in one process).
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	if err := reg.Register(c); err != nil {
		var already prometheus.AlreadyRegisteredError
		if errors.As(err, &already) {
			if existing, ok := already.ExistingCollector.(C); ok {
				return existing
			}
		}
		panic(err) //nolint:forbidigo // two different metrics of one name: a programming error
	}
	return c
}

// methodMetrics caches a method's counters, so that a call does no lookup by label.
type methodMetrics struct {
	calls    *prometheus.CounterVec
	name     string
	ok       prometheus.Counter
	duration prometheus.Observer
}

func (m *methodMetrics) done(status uint16, took time.Duration) {
	if status == StatusOK {
		m.ok.Inc()
	} else {
		m.calls.WithLabelValues(m.name, statusLabel(status)).Inc()
	}
	m.duration.Observe(took.Seconds())
}

func durationBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
}

type serverMetrics struct {
	connections prometheus.Gauge
	methods     map[Method]*methodMetrics
	unknown     *methodMetrics
}

func newServerMetrics(reg prometheus.Registerer, names map[Method]string, handlers map[Method]Handler) *serverMetrics {
	calls := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_rpc_server_calls_total", Help: "Calls answered to other nodes, by method and status.",
	}, []string{"method", "status"}))
	duration := register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ims_rpc_server_call_duration_seconds", Help: "Time from reading a call to its answer.", Buckets: durationBuckets(),
	}, []string{"method"}))
	m := &serverMetrics{methods: map[Method]*methodMetrics{}, connections: register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ims_rpc_server_connections", Help: "Open connections of calling nodes.",
	}))}
	label := func(name string) *methodMetrics {
		return &methodMetrics{calls, name, calls.WithLabelValues(name, "ok"), duration.WithLabelValues(name)}
	}
	for method := range handlers {
		m.methods[method] = label(methodLabel(names, method))
	}
	m.unknown = &methodMetrics{calls, "unknown", calls.WithLabelValues("unknown", "ok"), duration.WithLabelValues("unknown")}
	return m
}

func (m *serverMetrics) done(method Method, status uint16, took time.Duration) {
	if known, ok := m.methods[method]; ok {
		known.done(status, took)
		return
	}
	m.unknown.done(status, took)
}

type clientMetrics struct {
	connections prometheus.Gauge
	failovers   prometheus.Counter
	calls       *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	names       map[Method]string
	methods     sync.Map // Method -> *methodMetrics
}

func newClientMetrics(cfg ClientConfig) *clientMetrics {
	labels := prometheus.Labels{"cluster": cfg.Name}
	return &clientMetrics{
		names: cfg.MethodNames,
		calls: register(cfg.Metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_rpc_client_calls_total", Help: "Calls to other nodes, by method and outcome.", ConstLabels: labels,
		}, []string{"method", "status"})),
		duration: register(cfg.Metrics, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ims_rpc_client_call_duration_seconds", Help: "Time of a call with all its attempts.", ConstLabels: labels, Buckets: durationBuckets(),
		}, []string{"method"})),
		connections: register(cfg.Metrics, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ims_rpc_client_connections", Help: "Open connections to servers of the cluster.", ConstLabels: labels,
		})),
		failovers: register(cfg.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_rpc_client_failovers_total", Help: "Attempts that a server could not take.", ConstLabels: labels,
		})),
	}
}

func (m *clientMetrics) done(method Method, status uint16, err error, took time.Duration) {
	if errors.Is(err, ErrTimeout) || errors.Is(err, context.Canceled) {
		status = StatusTimeout
	}
	found, ok := m.methods.Load(method)
	if !ok {
		name := methodLabel(m.names, method)
		found, _ = m.methods.LoadOrStore(method, &methodMetrics{m.calls, name, m.calls.WithLabelValues(name, "ok"), m.duration.WithLabelValues(name)})
	}
	known, _ := found.(*methodMetrics)
	known.done(status, took)
}
