package pcscf

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

type metrics struct {
	refused    *prometheus.CounterVec
	redirected prometheus.Counter
	requests   *prometheus.CounterVec
	finals     *prometheus.CounterVec
	subscribes *prometheus.CounterVec
	ended      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, e *Edge) *metrics {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_edge_refused_requests_total", Help: "Requests refused at the boundary, by cause: identity, route, flow.",
		}, []string{"cause"}),
		redirected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_edge_redirected_registrations_total", Help: "REGISTERs sent to another edge while this one drains.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_edge_requests_total", Help: "SIP requests by method.",
		}, []string{"method"}),
		subscribes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_edge_subscribes_total", Help: "SUBSCRIBEs to the registration state of users, by SIP status; 0 is no answer.",
		}, []string{"status"}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ims_edge_ended_registrations_total", Help: "Registrations that the network has ended while they lasted here.",
		}),
		finals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_edge_final_responses_total", Help: "Final responses by method and class.",
		}, []string{"method", "class"}),
	}
	if reg != nil {
		reg.MustRegister(m.refused, m.redirected, m.requests, m.finals, m.subscribes, m.ended,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ims_edge_registrations", Help: "Users registered through this edge."},
				func() float64 { return float64(e.Registrations()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ims_edge_subscriptions", Help: "Users whose registration state is watched."},
				func() float64 { return float64(e.watches.held()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ims_edge_dialogs", Help: "Calls that this edge carries."},
				func() float64 { return float64(e.Dialogs()) }))
	}
	return m
}

// label keeps the label set small whatever methods strangers send.
func label(method string) string {
	switch method {
	case "INVITE", "ACK", "BYE", "REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PRACK", "UPDATE", "INFO", "REFER", "PUBLISH":
		return method
	}
	return "other"
}

// Request implements proxy.Observer.
func (e *Edge) Request(_, method string, _ bool) {
	e.metrics.requests.WithLabelValues(label(method)).Inc()
}

// Final implements proxy.Observer.
func (e *Edge) Final(_, method string, status int) {
	e.metrics.finals.WithLabelValues(label(method), strconv.Itoa(status/100)+"xx").Inc()
}

func (e *Edge) alive(id transport.ID) bool {
	_, ok := e.deps.Flows.Lookup(id)
	return ok
}
