package transport

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	received, sent [6]prometheus.Counter // by resolve.Transport
	bad            *prometheus.CounterVec
	connections    prometheus.Gauge
	failures       *prometheus.CounterVec
	keepalives     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_transport_messages_total", Help: "SIP messages, by transport and direction.",
	}, []string{"transport", "direction"})
	m := &metrics{
		bad: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_transport_bad_messages_total", Help: "Input that is not a SIP message, by transport and what was done: answered, dropped, closed.",
		}, []string{"transport", "result"}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ims_transport_connections", Help: "Open connections, both directions.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_transport_failures_total", Help: "Connections and sends that failed, by kind: connect, handshake, send, queue, timeout, limit.",
		}, []string{"kind"}),
		keepalives: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_transport_keepalives_total", Help: "Keep-alives answered: double CRLF and STUN (RFC 5626).",
		}),
	}
	for i, name := range []string{"none", "udp", "tcp", "tls", "ws", "wss"} {
		m.received[i] = messages.WithLabelValues(name, "received")
		m.sent[i] = messages.WithLabelValues(name, "sent")
	}
	if reg != nil {
		reg.MustRegister(messages, m.bad, m.connections, m.failures, m.keepalives)
	}
	return m
}

func maxProcs() int { return runtime.GOMAXPROCS(0) }
